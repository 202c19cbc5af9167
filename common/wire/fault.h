// What can be wrong with a batch from outside. One static value each, so that the hot path carries a pointer and only
// the end of a connection builds an Error. The rules become counter labels.
#pragma once

#include "common/base/result.h"

namespace mesh::wire {

struct Fault {
  Code code;
  const char* rule;
  const char* text;
};

namespace fault {

inline constexpr Fault kBatchHeader{Code::kInvalid, "batch_header",
                                    "the batch has no header of 8 bytes that begins with 'M'"};
inline constexpr Fault kBatchVersion{Code::kInvalid, "batch_version",
                                     "the batch has a version that is not spoken here"};
inline constexpr Fault kBatchCodec{Code::kInvalid, "batch_codec", "the batch has an unknown codec"};
inline constexpr Fault kBatchFlags{Code::kInvalid, "batch_flags", "the batch has unknown flags"};
inline constexpr Fault kBatchCount{Code::kInvalid, "batch_count", "the batch declares no envelope, or too many"};
inline constexpr Fault kBatchFrames{Code::kInvalid, "batch_frames", "the declared body frames are not those that came"};
inline constexpr Fault kBatchTrailing{Code::kInvalid, "batch_trailing",
                                      "bytes or frames are left behind the last envelope"};
inline constexpr Fault kBatchTooLarge{Code::kTooLarge, "batch_too_large", "the batch is larger than the limit"};
inline constexpr Fault kEnvelopeTruncated{Code::kInvalid, "envelope_truncated", "an envelope ends behind its batch"};
inline constexpr Fault kEnvelopeTooLarge{Code::kInvalid, "envelope_too_large", "an envelope is larger than the limit"};
inline constexpr Fault kEnvelopeBroken{Code::kInvalid, "envelope_broken", "an envelope is not a protobuf message"};
inline constexpr Fault kUnknownCritical{Code::kInvalid, "unknown_critical", "an envelope needs a feature unknown here"};
inline constexpr Fault kKind{Code::kInvalid, "kind", "an envelope has an unknown kind"};
inline constexpr Fault kName{Code::kInvalid, "name_too_long", "a name is longer than the limit"};
inline constexpr Fault kBudget{Code::kInvalid, "budget", "a request has a budget above the limit"};
inline constexpr Fault kPriority{Code::kInvalid, "priority", "a request has an unknown priority"};
inline constexpr Fault kCode{Code::kInvalid, "code", "a reply has an unknown code"};
inline constexpr Fault kHello{Code::kInvalid, "hello", "a hello has no content, or an unknown lane"};
inline constexpr Fault kParts{Code::kInvalid, "parts",
                              "the parts of a body are too many, or their sum is not its size"};
inline constexpr Fault kValidity{Code::kInvalid, "validity", "an envelope does not say what became wrong"};
inline constexpr Fault kNames{Code::kInvalid, "names", "an envelope names too many that became wrong"};
inline constexpr Fault kStandings{Code::kInvalid, "standings", "an envelope says of too many services how soon"};
inline constexpr Fault kBodyUnexpected{Code::kInvalid, "body_unexpected",
                                       "an envelope has a body that is no request or reply"};
inline constexpr Fault kBodyZstd{Code::kInvalid, "body_zstd",
                                 "a body inside the batch claims a compression of its own"};
inline constexpr Fault kBodyMissing{Code::kInvalid, "body_missing", "a body is not where its envelope says"};
inline constexpr Fault kBodySize{Code::kInvalid, "body_size", "a body has not the size that its envelope says"};
inline constexpr Fault kBodyTooLarge{Code::kTooLarge, "body_too_large", "a body is larger than the limit"};

}  // namespace fault

inline Unexpected fail(const Fault& fault) { return mesh::fail(fault.code, fault.rule, fault.text); }

}  // namespace mesh::wire
