// The chunks themselves: descriptors by number, made and closed by a worker, and kept by the keeper, too.
//
// A chunk is created, exported and let go of as a handle: what keeps it is its descriptor alone, here and at the
// keeper. So granting one is passing a descriptor on, without the driver, and a restarted arbiter stands where this one
// did.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "sidecar/arbiter/chunk_book.h"
#include "sidecar/arbiter/engine.h"
#include "sidecar/io/descriptor_keeper.h"
#include "sidecar/io/gpu/device_memory.h"
#include "sidecar/io/worker.h"

namespace mesh::arbiter {

using Devices = std::vector<std::unique_ptr<io::DeviceMemory>>;
// Event, whom it is about, a sentence.
using LogLine = std::function<void(std::string_view event, std::string_view who, std::string_view text)>;

class DriverMemory {
 public:
  // `keeper` is null where nobody keeps anything beyond this process. `on_settled` is called whenever nothing is under
  // way any more that a grant has to wait for.
  DriverMemory(io::Loop& loop, Devices devices, std::unique_ptr<io::DescriptorKeeper> keeper, LogLine log,
               std::function<void()> on_settled);

  // What the keeper has of the arbiter before. False if it was not understood: then nothing is taken over.
  bool recover();
  // Drops what belongs to no lease and no segment.
  void drop_unowned(const Engine& engine);

  // Whether all cards export memory; otherwise only budgets can be leased.
  bool can_export() const;
  const ChunkBook& book() const { return book_; }
  ChunkBook& book() { return book_; }
  // -1 if there is no such chunk. Valid until it is released.
  int descriptor(ChunkNumber number) const;

  // For a user; `done` is told what could not be created, never within this call. Where all of it is at hand, the next
  // finish_at_hand() tells it.
  void create(const CreateChunks& order, uint32_t user, std::function<void(const Extents& missing)> done);
  void take_back(const ReturnChunks& order);
  void release(const ReleaseChunks& order);
  // To be called when all is carried out that the engine said, and before it is told of anything else.
  void finish_at_hand();
  // Of a segment that is complete: nobody maps it writable from now on, as far as the device can.
  void seal(LeaseId segment);
  // What the lease has beside these is nobody's.
  void keep_only(LeaseId lease, std::span<const ChunkNumber> kept);
  // Whether all that was released is free and all that was sealed is sealed.
  bool is_settled() const { return unsettled_ == 0; }
  // On that card, since the start: what was to be closed, and what is closed by now. The engine does not count as its
  // own what lies in between, and a measurement may.
  Units closing(GpuIndex gpu) const { return closing_[gpu]; }
  Units closed(GpuIndex gpu) const { return closed_[gpu]; }
  // Chunks that were made, and that could not be, since the start.
  uint64_t made() const { return made_; }
  uint64_t not_made() const { return not_made_; }

 private:
  struct Work;
  using SharedWork = std::shared_ptr<Work>;
  void retire(ChunkNumber number, Work& work);
  ChunkRecord fresh(GpuIndex gpu, uint8_t size, LeaseId owner, uint32_t user);
  void take(const CreateChunks& order, uint8_t size, uint32_t user, Work& work);
  // Closes, then creates, then labels; on the worker.
  void carry_out(Work& work);
  void make(const ChunkRecord& chunk, Work& work);
  void seal_chunk(const ChunkRecord& chunk, int fd, Work& work);
  void finish(Work& work);
  void enqueue(std::function<void()> order);
  void end_order();
  void plan_release(const ReleaseChunks& order, Work& work);
  void submit(const SharedWork& work, std::function<void()> done);
  // True if that was all of it.
  bool label_at_once(const SharedWork& work);
  void submit_settling(const SharedWork& work);
  void begin_closing(GpuIndex gpu, Units units, Work& work);

  Devices devices_;
  std::unique_ptr<io::DescriptorKeeper> keeper_;
  LogLine log_;
  std::function<void()> on_settled_;
  ChunkBook book_;
  std::map<ChunkNumber, io::OwnedFd> descriptors_;
  ChunkNumber next_number_ = 1;
  // Orders about free chunks, the first under way. The engine counts what one of them makes as free for the next, so
  // the next begins when it is there.
  std::deque<std::function<void()>> orders_;
  std::deque<std::function<void()>> at_hand_;  // ends of what needed no worker
  std::vector<Units> closing_;
  std::vector<Units> closed_;
  int unsettled_ = 0;
  uint64_t made_ = 0;
  uint64_t not_made_ = 0;
  io::Worker worker_;
};

}  // namespace mesh::arbiter
