// The GPU arbiter of a simulated host: the real engine and the real sessions over packets on virtual time, and a card
// that holds what its agents really have, whatever the books say.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/packet_channel.h"
#include "sidecar/arbiter/engine.h"
#include "sidecar/arbiter/session.h"
#include "tests/sim/virtual_network.h"

namespace mesh::sim {

class VirtualArbiter {
 public:
  // Of one card.
  VirtualArbiter(VirtualNetwork& network, int site, gpu::Units card);
  ~VirtualArbiter();
  void start();
  // As kill -9: what it wrote down stays, those who wait or hold something are hung up on.
  void kill();
  // The host went with it: nobody holds anything, and what was written down is of another time.
  void forget();
  bool lives() const { return running_ != nullptr; }

  // What a process says to the arbiter; it ends with the process. The arbiter outlives it.
  class Channel;
  std::unique_ptr<Channel> connect(VirtualHost& host);

  // What must never be: more in use than there is, or books that do not agree; empty if all is well.
  std::string audit() const;
  // Who holds or wants something; empty if nobody does.
  std::string unrest() const;
  uint64_t grants() const { return grants_; }

 private:
  struct Running;
  struct Asked {
    std::string model;
    arbiter::ProcessId used_by = 0;
  };
  struct Use {  // of the card, by somebody who was told so
    arbiter::ProcessId process = 0;
    arbiter::ProcessId used_by = 0;
    gpu::Units units = 0;
    std::string model;
    bool is_over = false;  // given back, and still there
  };
  void take_packet(arbiter::ConnectionId connection, const std::string& bytes);
  template <class Event>
  void tell(const Event& event);
  void note_end(arbiter::ProcessId process);
  void end_use(const std::string& lease);
  void carry_out(const arbiter::Actions& actions);
  void arm();
  arbiter::GpuSampled reading() const;
  void sample();
  void sample_later(Duration span);
  gpu::Units in_use() const;
  Channel* channel_of(arbiter::ConnectionId connection);
  void close(Channel& channel);

  VirtualNetwork& network_;
  int site_;
  gpu::Units card_;
  std::unique_ptr<Running> running_;
  uint64_t life_ = 0;
  std::vector<arbiter::JournalEntry> journal_;
  std::map<std::string, Use> uses_;  // by lease
  std::set<arbiter::ProcessId> ended_;
  std::vector<Channel*> channels_;
  uint64_t last_connection_ = 0;
  uint64_t grants_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class VirtualArbiter::Channel final : public PacketChannel {
 public:
  Channel(VirtualArbiter& arbiter, VirtualHost& host);
  ~Channel() override;
  void open(PacketChannelObserver& observer) override;
  bool send(std::string_view bytes) override;
  // Whether its process was granted memory for the model, for who uses it now, and has not given it back; also if that
  // was taken from it.
  bool has(const std::string& model, uint32_t user) const;

 private:
  friend class VirtualArbiter;
  void try_open();
  void receive(std::string bytes);  // by its process, when that runs
  void pump();
  void hang_up();
  void note_reply(const std::string& bytes);

  VirtualArbiter& arbiter_;
  VirtualHost& host_;
  arbiter::ProcessId process_ = host_.pid();
  arbiter::ConnectionId connection_ = 0;  // 0: closed
  PacketChannelObserver* observer_ = nullptr;
  std::deque<std::function<void()>> inbox_;
  bool is_pumping_ = false;
  std::map<uint64_t, Asked> asked_;          // by number of the request
  std::map<uint64_t, std::string> claimed_;  // leases, likewise
  std::set<std::string> released_;           // leases
  std::set<std::string> taken_;              // models whose memory the arbiter knew nothing of
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
