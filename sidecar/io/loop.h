// The one place that talks to the kernel about sockets and time: a Transport on libuv.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/transport.h"

struct uv_loop_s;

namespace mesh::io {

class LmdbReplyStore;
class LmdbStore;
class UvStream;

class Loop final : public Transport {
 public:
  Loop();
  ~Loop() override;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Must be set before run() and outlive it.
  void set_turn_observer(TurnObserver* observer) { observer_ = observer; }
  // Runs until stop(), or until nothing is open.
  void run();
  void stop();
  // Calls `handler` in a turn of the loop whenever the process gets this signal.
  void on_signal(int signum, std::function<void()> handler);
  // For what lies beside it in sidecar/io; valid as long as the loop.
  uv_loop_s* handle();

  Instant now() override;
  Instant refresh() override {
    now_known_ = false;
    return now();
  }
  void arm_timer(Instant when) override;
  Result<std::unique_ptr<Listener>> listen(const Endpoint& endpoint, uint32_t mode, AcceptObserver& observer) override;
  std::unique_ptr<Stream> connect(const Endpoint& endpoint, StreamObserver& observer) override;
  // A store in the directory `path`, which is made if need be; its files take a little more than `map_bytes` at most.
  // The loop must outlive it. An Error says why it cannot be used, e.g. that another process has it, and what to do.
  Result<std::unique_ptr<LmdbStore>> open_store(const std::string& path, size_t map_bytes);
  // Replies in the directory `path`, which takes `budget_bytes` at most (8 MiB at least). It is opened behind the loop:
  // until then, and where that fails, it is an empty one that tries again every `retry_ms`. The loop must outlive it.
  std::unique_ptr<LmdbReplyStore> open_reply_store(const std::string& path, uint64_t budget_bytes,
                                                   int64_t retry_ms = 30'000);

 private:
  friend class UvStream;
  struct Handles;
  void end_turn();
  void submit_stores();

  std::unique_ptr<Handles> handles_;
  TurnObserver* observer_ = nullptr;
  bool now_known_ = false;
  Instant now_{};
  Instant armed_ = kNever;
};

}  // namespace mesh::io
