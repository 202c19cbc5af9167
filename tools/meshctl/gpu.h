// What mesh-arbiter says of the cards, for people. Everything here is a pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/meshctl/fields.h"
#include "tools/meshctl/text.h"

namespace mesh::ctl {

// Of each card a bar of what has it, from the arbiter's "gpus".
std::string gpu_cards_text(const Json& gpus, const Paint& paint);
// From its "leases", "queue", "segments" and "decisions"; a line that says so if there are none.
std::string gpu_leases_text(const Json& leases);
std::string gpu_queue_text(const Json& queue);
std::string gpu_segments_text(const Json& segments);
// The last `count`, the newest at the end.
std::string gpu_decisions_text(const Json& decisions, uint64_t count);
std::string gpu_plan_text(const Json& plan, const Paint& paint);
std::string gpu_evicted_text(const Json& eviction, const Paint& paint);
bool is_evicted(const Json& eviction);
std::string gpu_drained_text(const Json& drained, const Paint& paint);

// What to read a reason of the arbiter as, e.g. "others are asked to yield for it".
std::string reason_text(std::string_view reason);
// "6GiB", "512M", "1.5g", "4096": bytes; nothing if it is no size.
std::optional<uint64_t> parse_size(std::string_view text);
// "4.70 GiB"
std::string vram_text(double bytes);

// How large a lease or shared weights of that model are now; nothing if the arbiter knows none of that name. `key` is
// the model's, in hexadecimal digits.
std::optional<uint64_t> known_size(const Json& leases, const Json& segments, std::string_view key);

}  // namespace mesh::ctl
