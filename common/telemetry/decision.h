// What happened to one call and why: fixed size, written once, when the call ends.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "common/base/code.h"
#include "common/base/instant.h"
#include "common/base/limits.h"
#include "common/base/priority.h"
#include "common/wire/batch.h"
#include "common/wire/envelope.h"

namespace mesh::telemetry {

// Where the time of a call went, in the order in which it goes.
enum class Stage : uint8_t {
  kCache,            // looking up, and waiting for a fetch under way
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
enum class Why : uint8_t {
  kNobody,
  kOnlyOne,
  kOwnHost,
  kFewestInFlight,
  kNextAfterFailure,
  kSameAgain,
  kHomeOfKey,
  kHedge,
  kSoonest,  // of a method that computes with a model
  kStays     // likewise; another one is sooner, but not by enough
};
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

// How soon an instance would have answered a call that computes with a model, as far as it was known.
struct Forecast {
  bool is_known = false;  // it has said so; else it was guessed from the contract
  bool never_fits = false;
  wire::ModelPlace place = wire::ModelPlace::kUnknown;
  uint8_t pressure = 0;  // as in wire::Standing
  uint8_t band = 0;
  uint32_t wait_us = 0;
  uint32_t load_us = 0;
  uint32_t way_us = 0;
  uint32_t serve_us = 0;
  uint32_t age_ms = 0;
};
std::string_view to_string(wire::ModelPlace place);

// The choice among instances; of more than fit the first are kept.
struct Choices {
  static constexpr size_t kMax = 8;
  std::array<Choice, kMax> seen{};
  uint8_t count = 0;
  uint8_t chosen_instance = 0;
  Why why = Why::kNobody;
  uint32_t forecasts = 0;  // of those that were seen, see ForecastLog; 0: there were none
};
using Forecasts = std::array<Forecast, Choices::kMax>;

// The last ones: they are too large to be in the record of every call.
class ForecastLog {
 public:
  static constexpr size_t kMax = 1024;
  // Its number, not 0.
  uint32_t add(const Forecasts& forecasts) {
    if (++last_ == 0) ++last_;
    if (kept_.size() < kMax) kept_.resize(last_ % kMax + 1);
    kept_[last_ % kMax] = {last_, forecasts};
    return last_;
  }
  // Null if it is there no more.
  const Forecasts* find(uint32_t number) const {
    const size_t at = number % kMax;
    return number != 0 && at < kept_.size() && kept_[at].number == number ? &kept_[at].forecasts : nullptr;
  }

 private:
  struct Kept {
    uint32_t number = 0;
    Forecasts forecasts{};
  };
  std::vector<Kept> kept_;
  uint32_t last_ = 0;
};

// A short text of bounded length; what does not fit is cut.
template <size_t kBytes>
class ShortText {
 public:
  ShortText() : size_(0) {}  // the bytes stay as they are
  void set(std::string_view text) {
    size_ = static_cast<uint8_t>(std::min(text.size(), kBytes));
    if (size_ > 0) std::memcpy(bytes_, text.data(), size_);
  }
  std::string_view view() const { return {bytes_, size_}; }

 private:
  static_assert(kBytes < 256);
  char bytes_[kBytes];
  uint8_t size_;
};

// What became of a call whose reply may be kept.
enum class CacheVerdict : uint8_t {
  kNone,        // replies of its method are not kept
  kHit,         // answered with what was kept
  kStale,       // likewise with what is fetched anew meanwhile
  kStaleError,  // likewise as nothing new could be had
  kFetched,     // it was the first to ask
  kJoined,      // another had asked for the same
  kUntagged,    // a field that its tags name is missing: nobody could say when it becomes wrong
};
// e.g. "stale_error". Static storage.
std::string_view to_string(CacheVerdict verdict);
inline bool is_hit(CacheVerdict verdict) {
  return verdict == CacheVerdict::kHit || verdict == CacheVerdict::kStale || verdict == CacheVerdict::kStaleError;
}

// Why nothing that was kept was given.
enum class CacheMiss : uint8_t {
  kNone,
  kAbsent,    // nothing was kept of it
  kExpired,   // it had run out
  kPurged,    // it had become wrong
  kUnleased,  // it could not be known whether it had become wrong
  kKeyed,     // a call with an idempotency key is answered from the books of that
};
// e.g. "expired"; empty for none. Static storage.
std::string_view to_string(CacheMiss miss);

// What became of the reply that was fetched.
enum class CacheKeeping : uint8_t {
  kNone,  // there was none
  kKept,
  kFailed,        // an error of the mesh
  kUnsuccessful,  // no success, by the contract
  kTooLarge,
  kPurged,    // it became wrong on its way
  kUnleased,  // who gave it, or another that makes it wrong, would not have told when it becomes wrong
  kElsewhere  // the contract's tiers are others
};
// e.g. "too_large"; empty for none. Static storage.
std::string_view to_string(CacheKeeping keeping);

struct CacheTrace {
  CacheVerdict verdict = CacheVerdict::kNone;
  uint8_t tier = 0;  // of a hit: contract::Tier
  CacheMiss miss = CacheMiss::kNone;
  CacheKeeping keeping = CacheKeeping::kNone;
  uint32_t age_ms = 0;   // of what it was answered with
  uint64_t fetch = 0;    // the call that fetched it, if that was under way; a number as Trace::number
  uint64_t key_low = 0;  // of the key's hash
  uint64_t key_high = 0;
};

// What a peer says of a reply that it kept; null if this version does not know what it says.
std::unique_ptr<CacheTrace> trace_of(const wire::KeptMark& kept);

// An attempt before the last.
struct Attempt {
  uint8_t instance = 0;
  Code code = Code::kOk;  // what it gave
  uint32_t took_us = 0;
};

// What is known of a call's way while it is open.
struct Trace {
  uint64_t number = 0;  // counts the requests of this process, from 1
  Instant started{};
  Instant attempt_at{};      // the instance it is with now was chosen
  Instant left_at = kNever;  // for the peer
  int64_t batch_wait_us = 0;
  int64_t budget_us = 0;       // when the request came
  int64_t sent_budget_us = 0;  // what travelled to the peer; 0: nothing did
  uint8_t attempts = 0;
  std::array<Attempt, limits::attempts_max - 1> earlier{};  // those that there were
  wire::BatchShape request_batch{};                         // with 0 envelopes: it never left
  Choices choices{};
  CacheTrace cache{};
};

// Written down as it was measured; what it means, stages_of() works out when somebody asks.
struct Decision {
  Trace trace;
  Instant ended{};
  uint64_t client = 0;
  uint32_t port = 0;  // position among the ports; see the engine
  uint32_t service = kNoService;
  static constexpr uint32_t kNoService = UINT32_MAX;
  Priority priority = Priority::kNormal;
  wire::Lane lane = wire::Lane::kInteractive;
  Code code = Code::kOk;
  uint64_t request_bytes = 0;
  uint64_t reply_bytes = 0;
  bool at_peer = false;    // the last attempt, if there was one
  bool has_spans = false;  // of the callee, as it says
  wire::CalleeSpans spans{};
  uint32_t decompress_us = 0;  // of the reply
  wire::BatchShape reply_batch{};
  bool has_clock = false;
  int64_t clock_offset_us = 0;
  int64_t clock_bound_us = 0;
  ShortText<31> method{};
  // Where and by which rule it ended, if not with OK.
  ShortText<47> hop{};
  ShortText<15> stage{};
  ShortText<31> rule{};

  Duration total() const { return ended - trace.started; }
};

// Microseconds at each stage that a call came to.
class Stages {
 public:
  void spend(Stage at, int64_t us) {
    const auto i = static_cast<size_t>(at);
    us_[i] += static_cast<uint64_t>(std::max<int64_t>(us, 0));
    came_to_ |= uint32_t{1} << i;
  }
  bool came_to(Stage at) const { return (came_to_ >> static_cast<size_t>(at) & 1) != 0; }
  uint64_t operator[](Stage at) const { return us_[static_cast<size_t>(at)]; }

 private:
  std::array<uint64_t, kStageCount> us_{};
  uint32_t came_to_ = 0;
};

// How long a call that was answered by a peer was neither in this process's queue nor on the link.
inline uint64_t away_us_of(const Decision& decision) {
  const wire::CalleeSpans& spans = decision.spans;
  const bool reached = spans.agent_us != wire::CalleeSpans::kAgentNotReached;
  return uint64_t{spans.decompress_us} + spans.queue_us + (reached ? spans.agent_us : 0) +
         decision.reply_batch.sealing_us + decision.decompress_us;
}

// Ours is what lies before the call left and after its reply came; the callee's is what it says; the link's is the
// rest. Which part of that was which direction is known as well as the clocks are.
Stages stages_of(const Decision& decision);

}  // namespace mesh::telemetry
