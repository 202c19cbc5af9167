// An agent's end of the lease protocol, blocking, for tests.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lease.pb.h"
#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::arbiter {

namespace pb = mesh::lease::v1;

inline constexpr uint64_t kMi = uint64_t{1} << 20;

struct HeldChunk {
  uint64_t number = 0;
  uint64_t bytes = 0;
  io::OwnedFd fd{};
};

struct HeldLease {
  pb::Granted grant;
  std::vector<HeldChunk> chunks;

  uint64_t bytes() const { return grant.bytes(); }
};

// An answer, with the chunks that came beside it.
struct Answer {
  pb::Reply reply;
  std::vector<HeldChunk> chunks;
};

class LeaseClient {
 public:
  explicit LeaseClient(std::string path) : path_(std::move(path)) {}

  // Connects and says hello; tries for so long.
  bool connect(int64_t within_ms = 5000);
  bool connect_silently();
  void hang_up() { socket_.reset(); }
  bool is_connected() const { return static_cast<bool>(socket_); }

  // Sends it with a number, and gives that. 0: the arbiter is gone, and it hung up.
  uint64_t send(pb::Request request);
  bool send_raw(const std::string& bytes, const std::vector<int>& descriptors = {});
  // The next packet; nothing if none comes in time, or the arbiter is gone, which hangs up.
  std::optional<Answer> receive(int64_t within_ms = 10'000);
  // The answer with that number, a grant in several packets as one; Queued and what is asked meanwhile go to on_other.
  std::optional<Answer> answer_to(uint64_t number, int64_t within_ms = 10'000);
  std::optional<Answer> order(const pb::Request& request, int64_t within_ms = 10'000) {
    return answer_to(send(request), within_ms);
  }

  // Nothing if it was refused, or the arbiter is gone.
  std::optional<HeldLease> ask(const pb::Ask& ask, int64_t within_ms = 10'000);
  // True if it was answered with Done.
  bool commit(const HeldLease& lease, uint64_t bytes);
  bool seal(const HeldLease& lease);
  // Its memory is unmapped and closed before.
  bool release(HeldLease& lease);
  // After the arbiter was restarted: true if it is ours as before; its epoch is the new one.
  bool claim(HeldLease& lease);

  uint64_t epoch() const { return welcome_.epoch(); }
  const pb::Welcome& welcome() const { return welcome_; }
  std::function<void(const pb::Reply&)> on_other;

 private:
  std::string path_;
  io::OwnedFd socket_;
  pb::Welcome welcome_;
  uint64_t next_number_ = 1;
};

pb::Ask ask_for(pb::Kind kind, uint64_t bytes);

}  // namespace mesh::arbiter
