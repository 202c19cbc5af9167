#include "tools/meshctl/status.h"

namespace mesh::ctl {
namespace {

// The two greatest units, as "3 h 20 min".
std::string uptime_text(uint64_t s) {
  constexpr std::pair<uint64_t, const char*> kUnits[] = {{86'400, " d"}, {3'600, " h"}, {60, " min"}, {1, " s"}};
  for (size_t i = 0; i + 1 < std::size(kUnits); ++i) {
    const auto [unit, name] = kUnits[i];
    const auto [next, next_name] = kUnits[i + 1];
    if (s >= unit) return std::to_string(s / unit) + name + " " + std::to_string(s % unit / next) + next_name;
  }
  return std::to_string(s) + " s";
}

}  // namespace

std::string status_text(const Json& health, const Paint& paint) {
  const std::string name = text_at(health, "host") + "/" + text_at(health, "sidecar");
  const std::string status = text_at(health, "status");
  std::string text = paint.mark(status == "ok") + " " + paint(Tone::kStrong, name) + "  " + status + ", up " +
                     uptime_text(count_at(health, "uptime_s")) +
                     ", clients: " + std::to_string(count_at(health, "clients")) +
                     ", open calls: " + std::to_string(count_at(health, "open_calls")) + "\n";
  std::vector<std::vector<std::string>> rows;
  for (const Json& agent : list_at(health, "agents")) {
    const bool connected = flag_at(agent, "connected");
    rows.push_back({"    " + paint.mark(connected) + " agent", text_at(agent, "agent"),
                    "serves " + text_at(agent, "service"), connected ? "connected" : "not connected",
                    "working: " + std::to_string(count_at(agent, "working")),
                    "queued: " + std::to_string(count_at(agent, "queued"))});
  }
  for (const Json& peer : list_at(health, "peers")) {
    // Links are dialed on first use and closed when idle: none is no fault.
    const bool connected = flag_at(peer, "connected");
    const bool draining = flag_at(peer, "draining");
    rows.push_back({"    " +
                        (draining    ? paint.mark(false)
                         : connected ? paint.mark(true)
                                     : paint(Tone::kDim, "·")) +
                        " peer",
                    text_at(peer, "host") + "/" + text_at(peer, "sidecar"), "",
                    draining    ? "draining"
                    : connected ? "linked"
                                : "no link now",
                    "in flight: " + std::to_string(count_at(peer, "in_flight"))});
  }
  return text + table(rows);
}

std::string missing_text(const std::string& name, const std::string& why, const Paint& paint) {
  return paint.mark(false) + " " + paint(Tone::kStrong, name) + "  does not answer: " + printable(why) + "\n";
}

std::string elsewhere_text(const std::string& name, const Paint& paint) {
  return paint(Tone::kDim, "· " + name + "  on another computer") + "\n";
}

}  // namespace mesh::ctl
