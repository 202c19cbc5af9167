// Questions and orders at the admin socket, and purges between sidecars.

#include <nlohmann/json.hpp>
#include <utility>

#include "sidecar/proxy/cache_report.h"
#include "sidecar/proxy/driver.h"

namespace mesh::proxy {
namespace {

constexpr std::string_view kPurge = "cache purge ";

std::string name_of(const std::optional<PeerCredentials>& who) {
  if (!who) return "admin";
  return "admin, uid " + std::to_string(who->uid) + ", pid " + std::to_string(who->pid);
}

}  // namespace

std::optional<std::string> Driver::answer(std::string_view line, AdminSession& admin) {
  if (line.starts_with(kPurge)) return order_purge(line.substr(kPurge.size()), admin);
  return proxy::report(line, engine_, config_,
                       {.clients = clients_,
                        .draining = drain_until_ != kNever,
                        .connections_max = settings_.connections_max,
                        .started = started_,
                        .now = now(),
                        .disk = settings_.replies != nullptr ? &settings_.replies->stats() : nullptr});
}

// Whoever may open the socket may ask; to change something he must be the sidecar's own user, or root.
std::optional<std::string> Driver::order_purge(std::string_view json, AdminSession& admin) {
  const bool as_json = take_json_suffix(json);
  auto what = read_purge_spec(json);
  const auto who = admin.credentials();
  const bool is_allowed = !who || who->uid == 0 || who->uid == settings_.own_uid;
  if (what && is_allowed) {
    if (as_json) json_wanted_.insert(admin.id());
    tell(PurgeWanted{admin.id(), std::move(*what)});
    return std::nullopt;
  }
  const Outcome refused =
      is_allowed ? engine_.rejector().reject(std::make_unique<Error>(std::move(what.error())), "cache")
                 : engine_.rejector().reject(Code::kDenied, kCacheService, "admin", "not_the_owner",
                                             "only the sidecar's own user and root may purge", "ask as one of these");
  if (!is_allowed && settings_.audit) settings_.audit("purge_denied", name_of(who), "");
  return report_text(purge_report(refused, config_), as_json);
}

void Driver::act(PurgeDone& action) {
  const bool as_json = json_wanted_.erase(action.ticket) > 0;
  if (auto* session = sessions_.find(action.ticket)) {
    static_cast<AdminSession&>(**session).answer(report_text(purge_report(action.outcome, config_), as_json));
  }
}

void Driver::act(NotePurge& action) {
  if (!settings_.audit) return;
  auto* session = sessions_.find(action.ticket != 0 ? action.ticket : action.client);
  if (session == nullptr) return settings_.audit("purge", "gone", action.text);
  if (action.ticket != 0) {
    return settings_.audit("purge", name_of(static_cast<AdminSession&>(**session).credentials()), action.text);
  }
  settings_.audit("purge", static_cast<ClientSession&>(**session).caller(), action.text);
}

void Driver::act(DialPeer& action) { lane(action.peer, wire::Lane::kInteractive).ensure_link(); }

void Driver::act(AskPurge& action) {
  const wire::Validity validity{.position = 0, .names = std::move(action.names)};
  lane(action.peer, wire::Lane::kInteractive)
      .say({.kind = wire::Kind::kPurge, .call_id = action.token, .validity = &validity});
}

}  // namespace mesh::proxy
