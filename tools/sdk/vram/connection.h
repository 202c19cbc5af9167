// A connection to the arbiter that outlives arbiters: a thread reads the socket, gives answers to whoever waits for
// them, and when the arbiter is gone connects to the next one, shows it every lease and lets the callers ask again.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tools/sdk/vram/lease_memory.h"
#include "tools/sdk/vram/packet_line.h"

namespace mesh::sdk {

// Guarded by its connection's mutex, but for what is const.
struct Lease {
  const std::string hex;
  const pb::Kind kind;
  const std::vector<std::string> gpus;
  const bool is_writer;
  pb::Lease name{};
  uint64_t bytes = 0;
  LeaseMemory memory{};
  uint32_t users = 0;  // that compute with it
  bool is_sealed = false;
  bool is_lost = false;
  bool is_over = false;  // released, or all of it given back: it is not shown to the next arbiter
};

struct Yield {
  std::string hex;
  pb::Lease name;
  pb::How how{};
  uint64_t bytes = 0;
  Clock::time_point until{};
};

// How an order ended, if there was no reply.
enum class Ended : uint8_t { kReply, kUnreachable, kTimedOut, kShut };

struct Outcome {
  Ended ended = Ended::kUnreachable;
  Packet packet{};
  Lease* lease = nullptr;     // of an Ask that was granted
  bool was_repeated = false;  // an arbiter may have done it and been killed before it said so
};

class Connection {
 public:
  // How long an order waits for an arbiter that is away.
  static constexpr std::chrono::seconds kPatience{15};

  Connection(std::string path, std::string client) : path_(std::move(path)), client_(std::move(client)) {}
  ~Connection() { shut(); }

  // False if no arbiter answered in time; errno says why the last try failed.
  bool start(Clock::time_point until);
  void shut();

  // `make` is called with the mutex held, again for each arbiter that is asked, and never while there is none.
  using Make = std::function<void(pb::Request&)>;
  Outcome order(const Make& make, Clock::time_point until);
  // An Ask: what was queued and is not waited for any more is taken back.
  Outcome ask(const Make& make, Clock::time_point until);
  // Sends it if there is an arbiter, and waits for nothing.
  void send(const Make& make);

  // Tells that nothing of it is left, now or when there is an arbiter again, and frees the handle.
  void release(Lease* lease);
  // With the mutex held: its memory goes, and it is not shown to another arbiter.
  void give_up(Lease& lease);

  // 1: there is one; 0: none in time; -1: it was shut.
  int next_yield(Clock::time_point until, Yield& yield);

  std::mutex& mutex() { return mutex_; }
  uint64_t epoch();
  std::vector<pb::Gpu> gpus();

 private:
  struct Waiting {
    bool is_ask = false;
    Packet packet{};
    bool is_answered = false;
    bool is_cut = false;  // the arbiter is gone
    pb::Lease queued{};
    Lease* lease = nullptr;
  };

  void run();
  bool greet(Clock::time_point until);
  bool show_leases(Clock::time_point until);
  bool claim(Lease& lease, Clock::time_point until);
  std::optional<Packet> answer_to(pb::Request& request, Clock::time_point until);
  void take(Packet packet);
  Lease* add(Packet& granted);
  void drop_line();
  Outcome order_with(const Make& make, Clock::time_point until, bool is_ask);
  bool post(pb::Request& request);
  void wait_until(std::unique_lock<std::mutex>& lock, Clock::time_point until);

  const std::string path_;
  const std::string client_;
  std::mutex mutex_;
  std::condition_variable changed_;
  PacketLine line_;
  io::OwnedFd wake_;
  std::thread reader_;
  pb::Welcome welcome_;
  uint64_t next_number_ = 1;
  std::map<uint64_t, Waiting*> waiting_;
  std::list<Lease> leases_;
  std::vector<pb::Lease> over_;  // nothing of them is left, and no arbiter was told
  std::deque<Yield> yields_;
  int last_errno_ = 0;
  bool is_up_ = false;
  bool is_shut_ = false;
};

std::string hex_of(const std::string& id);

}  // namespace mesh::sdk
