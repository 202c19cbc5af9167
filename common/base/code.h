// The closed set of terminal results, and the error a caller is shown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mesh {

// How a call ended. A new code is only for a caller that would act differently on it.
// The numbers travel on the wire: never renumber.
enum class Code : uint8_t {
  kOk = 0,
  kAppError = 1,
  kInvalid = 2,
  kUnauthenticated = 3,
  kDenied = 4,
  kNoRoute = 5,
  kOverloaded = 6,
  kDraining = 7,
  kDeadline = 8,
  kNotSent = 9,          // no byte of the call reached the target agent: safe to repeat blindly
  kOutcomeUnknown = 10,  // the call may have run: nobody can know
  kTooLarge = 11,
  kStorage = 12,
  kInternal = 13,
};
inline constexpr int kCodeCount = 14;

// The name as agents and operators see it, e.g. "NOT_SENT". Static storage.
std::string_view to_string(Code code);
// The code of that name or number; nothing if there is none.
std::optional<Code> code_from_name(std::string_view name);
std::optional<Code> code_from_number(uint64_t number);

// What went wrong, told so that a person knows which hop, which stage, which rule and what to do.
// `stage` and `rule` come from small fixed vocabularies (they become counter labels); `text` and `hint` are prose.
struct Error {
  Code code = Code::kInternal;
  std::string text;     // one sentence for people
  std::string service;  // empty where no service was named
  std::string hop;      // "host/sidecar" that decided
  std::string stage;    // e.g. "admission", "queue", "link", "agent"
  std::string rule;     // e.g. "queue_full", "deadline_passed"
  std::string hint;     // what to do about it
  // Of a purge: "host/sidecar" of each who may still give it.
  std::vector<std::string> not_confirmed;
  std::string
      call;  // by which the caller's sidecar explains it, e.g. "mainpc/main-4711"; does not travel between sidecars
};

}  // namespace mesh
