// What happened to one call and why: fixed size, written once, when the call ends.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/base/code.h"
#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/wire/batch.h"

namespace mesh::telemetry {

// Where the time of a call went, in the order in which it goes.
enum class Stage : uint8_t {
  kEarlierAttempts,  // at instances that gave NOT_SENT
  kQueue,            // in the caller's sidecar: no connection yet, or one that takes no more
  kBatchWait,        // held back for company, as linger_ms asks
  kCompress,
  kLinkOut,  // from the caller's kernel to the callee's loop
  kCalleeDecompress,
  kCalleeQueue,  // in front of the agent
  kAgent,
  kCalleeCompress,
  kLinkBack,
  kDecompress,
  kUnanswered,  // it left, and nothing is known of it
  kCount,
};
inline constexpr size_t kStageCount = static_cast<size_t>(Stage::kCount);
// e.g. "callee_queue". Static storage.
std::string_view to_string(Stage stage);

// Why an instance was chosen.
enum class Why : uint8_t { kNobody, kOnlyOne, kOwnHost, kFewestInFlight, kNextAfterNotSent };
std::string_view to_string(Why why);

// One instance as the balancer saw it.
struct Choice {
  enum class State : uint8_t { kAvailable, kDraining, kFailing, kTried };
  uint8_t instance = 0;
  State state = State::kAvailable;
  bool own_host = false;
  uint16_t in_flight = 0;  // the score: fewer is better
};
std::string_view to_string(Choice::State state);

// The choice among instances; of more than fit the first are kept.
struct Choices {
  static constexpr size_t kMax = 8;
  std::array<Choice, kMax> seen{};
  uint8_t count = 0;
  uint8_t chosen_instance = 0;
  Why why = Why::kNobody;
};

// A short text of bounded length; what does not fit is cut.
template <size_t kBytes>
class ShortText {
 public:
  void set(std::string_view text) {
    size_ = static_cast<uint8_t>(std::min(text.size(), kBytes));
    if (size_ > 0) std::memcpy(bytes_, text.data(), size_);
  }
  std::string_view view() const { return {bytes_, size_}; }

 private:
  static_assert(kBytes < 256);
  char bytes_[kBytes];
  uint8_t size_ = 0;
};

struct Decision {
  uint64_t number = 0;  // counts the requests of this process, from 1
  Instant started{};
  uint64_t total_us = 0;
  uint64_t client = 0;
  uint32_t port = 0;  // position among the ports; see the engine
  uint32_t service = kNoService;
  static constexpr uint32_t kNoService = UINT32_MAX;
  ShortText<31> method;
  Priority priority = Priority::kNormal;
  wire::Lane lane = wire::Lane::kInteractive;
  uint8_t attempts = 0;
  Code code = Code::kOk;
  Choices choices;
  uint64_t request_bytes = 0;
  uint64_t reply_bytes = 0;
  wire::BatchShape request_batch;  // with 0 envelopes: it never left
  wire::BatchShape reply_batch;
  int64_t budget_us = 0;       // when the request came
  int64_t sent_budget_us = 0;  // what travelled to the peer; 0: nothing did
  std::array<uint32_t, kStageCount> stage_us{};
  uint16_t stages = 0;  // bit per stage that the call came to
  bool has_clock = false;
  int64_t clock_offset_us = 0;
  int64_t clock_bound_us = 0;
  // Where and by which rule it ended, if not with OK.
  ShortText<47> hop;
  ShortText<15> stage;
  ShortText<31> rule;

  void spend(Stage at, int64_t us) {
    const auto i = static_cast<size_t>(at);
    stage_us[i] += static_cast<uint32_t>(std::clamp<int64_t>(us, 0, UINT32_MAX));
    stages = static_cast<uint16_t>(stages | 1u << i);
  }
  bool came_to(Stage at) const { return (stages >> static_cast<size_t>(at) & 1) != 0; }
};

}  // namespace mesh::telemetry
