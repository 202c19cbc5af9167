// Packets of an agent, each two bytes of length and the packet; of its ids and numbers some are right.

#include <cstddef>
#include <cstdint>
#include <variant>

#include "common/base/check.h"
#include "sidecar/arbiter/session.h"

using namespace mesh;
using namespace mesh::arbiter;

namespace {

struct Host {
  Host() : engine(config()), terms{engine, book, {"GPU-a"}, true, [this] { return LeaseId{0, ++ids}; }, pids} {
    engine.begin({}, now, actions);
    GpuSampled sampled;
    engine.on(sampled, now, actions);
  }
  static ArbiterConfig config() {
    ArbiterConfig made;
    made.sees_processes = false;
    made.gpus.push_back({{0, 1}, {gpu::units_of(gpu::kGiB), 0, 0}, {}});
    return made;
  }

  void tell(ByteView packet) {
    Frames frames;
    const Order order = session.on_packet({packet, false, false}, now, frames);
    if (const auto* presented = std::get_if<LeasePresented>(&order)) MESH_CHECK(presented->name.connection == 1);
    std::visit(
        [&](const auto& event) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(event)>, std::monostate>) follow(event, frames);
        },
        order);
    session.settle(frames);
    MESH_CHECK(engine.holds());
    for (const Frame& frame : frames) MESH_CHECK(frame.bytes.size() <= packet_bytes_max);
  }

  template <class Event>
  void follow(const Event& event, Frames& frames) {
    actions.clear();
    now += milliseconds(1);
    engine.on(event, now, actions);
    for (const Action& action : Actions(actions)) {
      if (const auto* create = std::get_if<CreateChunks>(&action)) create_all(*create);
      if (const auto* grant = std::get_if<SendGrant>(&action)) session.on(*grant, frames);
      if (const auto* refusal = std::get_if<SendRefusal>(&action)) session.on(*refusal, frames);
      if (const auto* error = std::get_if<SendError>(&action)) session.on(*error, frames);
      if (const auto* yield = std::get_if<AskYield>(&action)) session.on(*yield, told_later);
      if (const auto* back = std::get_if<ReturnChunks>(&action)) book.take_back(back->id, back->gpu, back->extents);
    }
    told_later.clear();
  }
  void create_all(const CreateChunks& create) {
    for (uint8_t size = 0; size < gpu::kExtentSizes; ++size) {
      for (uint32_t i = 0; i < create.plan.take.count[size]; ++i) {
        const ChunkNumber free = book.choose(0, size, 0);
        if (free != 0) {
          book.give(free, create.id, 0);
        } else {
          book.add({++chunks, 0, size, create.id, 0, false});
        }
      }
    }
    Actions after;
    engine.on(ChunksCreated{create.id, 0, {}}, now, after);
    for (const Action& action : after) {
      if (const auto* grant = std::get_if<SendGrant>(&action)) session.on(*grant, told_later);
    }
  }

  // Every other one is of this user.
  static ProcessId pids(uint32_t pid, ProcessId) { return pid % 2 == 0 ? pid : 0; }

  Instant now{milliseconds(1000)};
  uint64_t ids = 0;
  ChunkNumber chunks = 0;
  Actions actions;
  Frames told_later;
  Engine engine;
  ChunkBook book;
  SessionTerms terms;
  Session session{terms, 1, 1};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Host host;
  ByteView left(data, size);
  while (left.size() >= 2) {
    const size_t length = std::min<size_t>(left[0] | left[1] << 8, left.size() - 2);
    host.tell(left.subspan(2, length));
    left = left.subspan(2 + length);
  }
  return 0;
}
