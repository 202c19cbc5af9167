// What people ask and order at the admin socket, which only this user and root may open.
#include <charconv>
#include <optional>

#include "common/base/priority.h"
#include "sidecar/arbiter/driver.h"
#include "sidecar/arbiter/report.h"

namespace mesh::arbiter {
namespace {

// Takes it off the line.
std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

std::optional<LeaseId> parse_id(std::string_view hex) {
  LeaseId id;
  const auto parse = [](std::string_view digits, uint64_t& into) {
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), into, 16);
    return parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size();
  };
  if (hex.size() != 32 || !parse(hex.substr(0, 16), id.high) || !parse(hex.substr(16), id.low)) return std::nullopt;
  return id;
}

std::optional<Priority> parse_priority(std::string_view name) {
  if (name.empty()) return Priority::kNormal;
  for (const Priority each : {Priority::kCritical, Priority::kInteractive, Priority::kNormal, Priority::kBatch}) {
    if (to_string(each) == name) return each;
  }
  return std::nullopt;
}

std::optional<gpu::Request> parse_request(std::string_view line) {
  gpu::Request request;
  const std::string_view size = next_word(line);
  uint64_t bytes = 0;
  const auto parsed = std::from_chars(size.data(), size.data() + size.size(), bytes);
  const auto priority = parse_priority(next_word(line));
  const bool is_size = parsed.ec == std::errc() && parsed.ptr == size.data() + size.size();
  if (!is_size || !priority || bytes > uint64_t{1} << 50) return std::nullopt;
  request.min = request.want = gpu::units_of(bytes);
  request.priority = *priority;
  if (!gpu::check(request)) return std::nullopt;
  return request;
}

}  // namespace

// Nothing if it is no order.
std::optional<std::string> Driver::obey(std::string_view line) {
  const std::string_view order = next_word(line);
  if (order == "plan") {
    const auto request = parse_request(line);
    if (!request) return report_wrong("plan BYTES [critical|interactive|normal|batch]");
    return report_plan(engine_.plan(*request, loop_.now()), *request, view());
  }
  if (order == "evict") {
    const std::string_view name = next_word(line);
    const auto id = parse_id(name);
    if (!id) return report_wrong("evict LEASE: 32 hexadecimal digits");
    const Eviction eviction = engine_.eviction_of(*id, loop_.now());
    parts_.log("evict_ordered", "operator", std::string(name));
    tell(EvictionOrdered{*id});
    return report_eviction(*id, eviction);
  }
  if (order != "drain" && order != "undrain") return std::nullopt;
  const std::string_view name = next_word(line);
  for (GpuIndex gpu = 0; gpu < parts_.uuids.size(); ++gpu) {
    if (parts_.uuids[gpu] != name) continue;
    parts_.log(order == "drain" ? "drain_ordered" : "undrain_ordered", "operator", std::string(name));
    tell(DrainOrdered{gpu, order == "drain"});
    return report_drain(gpu, view());
  }
  return report_wrong("there is no such GPU");
}

}  // namespace mesh::arbiter
