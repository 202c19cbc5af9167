#include "tools/meshctl/status.h"

namespace mesh::ctl {

std::string status_text(const Json& health, const Paint& paint) {
  const std::string name = health["host"].get<std::string>() + "/" + health["sidecar"].get<std::string>();
  const bool is_ok = health["status"] == "ok";
  std::string text = paint.mark(is_ok) + " " + paint(Tone::kStrong, name) + "  " + health["status"].get<std::string>() +
                     ", up " + duration_text(1e6 * health["uptime_s"].get<double>()) +
                     ", clients: " + health["clients"].dump() + ", open calls: " + health["open_calls"].dump() + "\n";
  std::vector<std::vector<std::string>> rows;
  for (const Json& agent : health["agents"]) {
    const bool connected = agent["connected"];
    rows.push_back({"    " + paint.mark(connected) + " agent", agent["agent"],
                    "serves " + agent["service"].get<std::string>(), connected ? "connected" : "not connected",
                    "working: " + agent["working"].dump(), "queued: " + agent["queued"].dump()});
  }
  for (const Json& peer : health["peers"]) {
    // Links are dialed on first use and closed when idle: none is no fault.
    const bool connected = peer["connected"];
    const bool draining = peer["draining"];
    rows.push_back({"    " + (connected || !draining ? paint(Tone::kDim, "·") : paint.mark(false)) + " peer",
                    peer["host"].get<std::string>() + "/" + peer["sidecar"].get<std::string>(), "",
                    draining    ? "draining"
                    : connected ? "linked"
                                : "no link now",
                    "in flight: " + peer["in_flight"].dump()});
  }
  return text + table(rows);
}

}  // namespace mesh::ctl
