// A network and a clock that exist only in memory: Transport for any number of hosts, in one thread, from one seed.
//
// Bytes take a while, arrive in pieces of random size and never reorder within a stream; a stream takes only so many
// bytes that the other end has not read. Time passes only in run_until().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "common/base/transport.h"
#include "tests/sim/trace.h"

namespace mesh::sim {

class VirtualHost;
class VirtualStream;
struct Pipe;

class VirtualNetwork {
 public:
  explicit VirtualNetwork(uint64_t seed) : prng_(seed) {}

  Instant now() const { return now_; }
  // Runs everything that is due until then, in order of time.
  void run_until(Instant until);
  void run_for(Duration span) { run_until(now_ + span); }
  Prng& prng() { return prng_; }
  Trace& trace() { return trace_; }
  // Calls back at that time, or now if it is past.
  void at(Instant when, std::function<void()> what);

  // From now on the clock of a site runs faster than time itself by so many parts in a million, or slower.
  void set_drift(int site, int64_t ppm);
  // What the clock of a site shows now: no two computers began to count at the same time.
  void set_clock(int site, Instant shows) { clocks_[site] = {.since = now_, .showed = shows, .ppm = 0}; }
  Instant local_now(int site) const;
  // What people take for the time there; somebody may set it.
  void set_wall_clock(int site, Duration by) { wall_offsets_[site] += by; }
  Instant wall_now(int site) const {
    const auto offset = wall_offsets_.find(site);
    return local_now(site) + (offset == wall_offsets_.end() ? Duration{0} : offset->second);
  }
  // When the site's clock will show that, or a little later.
  Instant when_local(int site, Instant local) const;

  // A site without current: its processes must be destroyed while it is dark, and nobody is told.
  void set_dark(int site, bool dark);
  bool is_dark(int site) const { return dark_.contains(site); }
  // Ends one of the connections for which `is_meant` is true of its two ends, wherever its bytes are. False if there is
  // none.
  bool reset_one(const std::function<bool(const VirtualHost& from, const VirtualHost& to)>& is_meant, uint64_t which);
  size_t open_streams() const { return streams_.size(); }
  // Of a host that is there; 0 or one that is gone: null.
  const VirtualHost* process(uint32_t pid) const;
  const std::map<uint32_t, const VirtualHost*>& processes() const { return processes_; }
  // Called when one ends, as long as `alive` is.
  void watch_processes(std::weak_ptr<bool> alive, std::function<void(const VirtualHost&)> ended) {
    process_watchers_.emplace_back(std::move(alive), std::move(ended));
  }

  // What a stream takes before it refuses.
  size_t window_bytes = 256 * 1024;
  // The largest piece that arrives at once.
  size_t piece_bytes = 64 * 1024;
  // How often a stream may be read in one turn, as a kernel gives what has come meanwhile.
  size_t reads_per_turn = 1;
  Duration delay = microseconds(50);
  Duration jitter = microseconds(20);
  // Bytes that a stream between two sites other than 0 delivers in a second; 0: as many as there are.
  size_t bytes_per_second = 0;
  // (from, to) for which nothing arrives until taken out; as with tcp, nothing is lost either.
  std::set<std::pair<int, int>> cut;

 private:
  friend class VirtualHost;
  friend class VirtualStream;
  struct Happening {
    Instant at;
    uint64_t order;
    std::function<void()> what;
    bool operator>(const Happening& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  // What a connection goes over; the default is inside a site.
  struct Path {
    size_t window_bytes = 256 * 1024;
    Duration delay = microseconds(50);
    Duration jitter = microseconds(20);
  };
  Path path(const Pipe& pipe) const;
  struct Clock {
    Instant since{};
    Instant showed{};
    int64_t ppm = 0;
  };
  bool is_cut(int from, int to) const { return cut.contains({from, to}) || is_dark(from) || is_dark(to); }

  Instant now_{milliseconds(1'000'000)};
  uint64_t order_ = 0;
  std::priority_queue<Happening, std::vector<Happening>, std::greater<>> happenings_;
  std::map<std::string, std::pair<VirtualHost*, AcceptObserver*>> listeners_;
  std::map<std::string, int> sites_;  // of endpoints that somebody listened on
  std::map<int, Clock> clocks_;
  std::map<int, Duration> wall_offsets_;
  std::set<int> dark_;
  std::vector<VirtualStream*> streams_;  // in the order of their making
  std::map<uint32_t, const VirtualHost*> processes_;
  uint32_t last_pid_ = 0;
  std::vector<std::pair<std::weak_ptr<bool>, std::function<void(const VirtualHost&)>>> process_watchers_;
  Prng prng_;
  Trace trace_;
};

// One direction of a connection.
struct Pipe {
  std::deque<Slice> bytes;  // under way, or arrived and unread
  size_t unread = 0;
  bool ended = false;    // the sender is gone
  bool is_lost = false;  // the reader is gone, and nobody said so
  bool delivery_planned = false;
  Instant free_at{};  // from the bytes delivered last, where a link carries only so many per second
  int from_site = 0;
  int to_site = 0;
  VirtualStream* reader = nullptr;  // null once it is gone
  VirtualStream* writer = nullptr;
};

class VirtualHost final : public Transport {
 public:
  // `site` is where it stands, for VirtualNetwork::cut; `name` is for the trace.
  explicit VirtualHost(VirtualNetwork& network, int site = 0, std::string name = "");
  ~VirtualHost() override;

  void set_turn_observer(TurnObserver* observer) { observer_ = observer; }
  // Called behind each turn, when all is done that belongs to it.
  void watch_turns(std::function<void()> watcher) { watcher_ = std::move(watcher); }
  // One turn of the loop in which `what` happens.
  void turn(const std::function<void()>& what);

  // Stopped like by SIGSTOP: nothing happens in it until then.
  void pause_until(Instant until) { paused_until_ = until; }
  bool is_paused() const { return paused_until_ > network_.now(); }
  // By its own clock, which may run faster.
  Duration pause_left() const { return (paused_until_ - network_.now()) / 20 * 21; }
  int site() const { return site_; }
  // No two have the same, ever.
  uint32_t pid() const { return pid_; }
  const std::string& name() const { return name_; }

  Instant now() override;
  void arm_timer(Instant when) override;
  Result<std::unique_ptr<Listener>> listen(const Endpoint& endpoint, uint32_t mode, AcceptObserver& observer) override;
  std::unique_ptr<Stream> connect(const Endpoint& endpoint, StreamObserver& observer) override;

 private:
  friend class VirtualStream;
  void fire_at(Instant at, Instant when);
  void begin_connect(Instant at, VirtualStream* near, std::shared_ptr<Pipe> there, std::shared_ptr<Pipe> back,
                     const std::string& text);

  VirtualNetwork& network_;
  int site_;
  std::string name_;
  uint32_t pid_;
  Instant paused_until_{};
  TurnObserver* observer_ = nullptr;
  std::function<void()> watcher_;
  Instant armed_ = kNever;
  bool in_turn_ = false;
  std::vector<VirtualStream*> to_flush_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class VirtualStream final : public Stream {
 public:
  VirtualStream(VirtualHost& host, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out);
  ~VirtualStream() override;

  void open(StreamObserver* observer);
  bool is_open() const { return open_; }
  StreamObserver* observer() const { return observer_; }
  void set_observer(StreamObserver* observer) { observer_ = observer; }
  VirtualHost& host() { return host_; }
  std::weak_ptr<bool> life() const { return life_; }
  void end(std::string_view reason);

  Outbox& out() override { return outbox_; }
  void flush() override;
  void flush_later() override;
  size_t unsent_bytes() const override { return outbox_.bytes(); }
  uint64_t handed_bytes() const override { return handed_bytes_; }
  uint64_t accepted_bytes() const override { return handed_bytes_; }
  uint64_t acknowledged_bytes() const override { return handed_bytes_ - out_->unread; }
  void abandon() override {
    ended_ = true;
    outbox_.drop_front(outbox_.bytes());
  }
  void pause_reading() override { paused_ = true; }
  void resume_reading() override;
  bool is_reading() const override { return !paused_; }
  bool has_unread() const override { return in_->unread > 0; }
  std::optional<PeerCredentials> credentials() const override { return std::nullopt; }
  // Of the same computer only.
  uint32_t peer_pid() const override;

 private:
  friend class VirtualHost;
  friend class VirtualNetwork;
  void fail_soon(std::string_view reason);
  void write();
  void write_on();
  void plan_delivery(const std::shared_ptr<Pipe>& pipe);
  static void deliver(VirtualNetwork& network, const std::shared_ptr<Pipe>& pipe);

  VirtualHost& host_;
  std::shared_ptr<Pipe> in_;
  std::shared_ptr<Pipe> out_;
  StreamObserver* observer_ = nullptr;
  Outbox outbox_;
  uint64_t handed_bytes_ = 0;
  bool open_ = false;
  bool paused_ = false;
  bool ended_ = false;
  bool refused_ = false;
  std::shared_ptr<bool> life_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
