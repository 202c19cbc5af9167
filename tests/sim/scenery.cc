#include "tests/sim/scenery.h"

#include <algorithm>

#include "tests/sim/cast.h"

namespace mesh::sim {
namespace {

// What it costs to execute a call twice: a durable service, and one that does not mind.
void declare(contract::Table& contracts, bool keeps_briefly = false) {
  contracts.declare_service("pay", {.durable = true});
  contracts.declare_service("look", {.idempotent = true, .hedge_ms = 40});
  // Read again and again, and sometimes written.
  contract::Declaration fact;
  contract::CacheTerms& cache = fact.cache.emplace();
  cache.ttl_ms = Facts::kTtl_ms;
  cache.tiers = contract::kAllTiers;
  cache.stale_while_revalidate_ms = Facts::kRevalidate_ms;
  cache.stale_if_error_ms = Facts::kError_ms;
  if (keeps_briefly) {
    cache.ttl_ms = Facts::kTtl_ms / 2;
    cache.stale_while_revalidate_ms = cache.stale_if_error_ms = 0;
  }
  MESH_CHECK(contract::TagPattern::parse("fact:{fact}", cache.tags.emplace_back()));
  contract::Declaration set;
  set.invalidates = cache.tags;
  for (const char* service : {"fact", "lone"}) {  // of two instances, and of one
    contracts.declare_service(service, fact);
    contracts.declare_method(service, "set", set);
  }
  // Of two instances, and of one; both on cards that others use, too.
  contract::Declaration mind;
  mind.model = kMind;
  contracts.declare_service("mind", mind);
  contract::Declaration eye;
  eye.model = kEye;
  contracts.declare_service("eye", eye);
}

void limit(proxy::SidecarConfig& config) {
  config.limits.process_queued_bytes = kQueuedBytesMax;
  config.limits.calls_per_target_max = kCallsPerTargetMax;
  config.limits.queued_bytes_per_target = kBytesPerTargetMax;
}

}  // namespace

proxy::SidecarConfig home_config() {
  proxy::SidecarConfig config;
  config.host = "a";
  config.sidecar = "main";
  config.admin_path = "a.admin";
  config.mesh_socket = endpoint("a.mesh");
  limit(config);
  // It cannot tell which request it answers.
  config.agents.push_back({.name = "own", .service = "own", .endpoint = endpoint("a.own"), .correlate = false});
  declare(config.contracts);
  const auto port = [&](const char* name, int64_t budget_ms) {
    config.ports.push_back(
        {.name = name, .listen = endpoint(std::string("a.") + name + ".port"), .service = name, .terms = {}});
    config.ports.back().terms.budget_ms = budget_ms;
  };
  port("echo", 2000);
  port("wide", 4500);
  port("own", 1000);
  port("look", 2500);
  port("fact", 1500);
  port("lone", 1500);
  port("line", 3000);
  port("mind", 2500);
  port("eye", 2500);
  config.peers.push_back({.host = "b",
                          .sidecar = "main",
                          .endpoint = endpoint("b.link"),
                          .services = {"echo", "wide", "pay", "look", "fact", "line", "lone", "mind", "eye"}});
  config.peers.push_back({.host = "b",
                          .sidecar = "second",
                          .endpoint = endpoint("b2.link"),
                          .services = {"echo", "pay", "look", "fact", "mind"}});
  return config;
}

proxy::SidecarConfig readers_config(bool keeps_briefly) {
  proxy::SidecarConfig config;
  config.host = "a";
  config.sidecar = "readers";
  config.admin_path = "r.admin";
  limit(config);
  declare(config.contracts, keeps_briefly);
  config.ports.push_back({.name = "fact", .listen = endpoint("r.fact.port"), .service = "fact", .terms = {}});
  config.ports.back().terms.budget_ms = 1500;
  config.peers.push_back({.host = "b", .sidecar = "main", .endpoint = endpoint("b.link"), .services = {"fact"}});
  config.peers.push_back({.host = "b", .sidecar = "second", .endpoint = endpoint("b2.link"), .services = {"fact"}});
  return config;
}

proxy::SidecarConfig agents_config(bool is_second) {
  const std::string own = is_second ? "b2" : "b";
  proxy::SidecarConfig config;
  config.host = "b";
  config.sidecar = is_second ? "second" : "main";
  config.admin_path = own + ".admin";
  config.replies_path = own + ".replies";
  config.limits.disk_ttl_ms_min = 1;
  config.listen = endpoint(own + ".link");
  limit(config);
  declare(config.contracts);
  config.agents.push_back({.name = "echo", .service = "echo", .endpoint = endpoint(own + ".echo")});
  config.agents.push_back({.name = "pay", .service = "pay", .endpoint = endpoint(own + ".pay")});
  config.agents.push_back({.name = "look", .service = "look", .endpoint = endpoint(own + ".look")});
  config.agents.push_back({.name = "fact", .service = "fact", .endpoint = endpoint(own + ".fact")});
  config.agents.push_back({.name = "mind", .service = "mind", .endpoint = endpoint(own + ".mind")});
  config.arbiter_path = own + ".arbiter";
  if (!is_second) {
    config.agents.push_back({.name = "wide",
                             .service = "wide",
                             .endpoint = endpoint("b.wide"),
                             .socket = proxy::AgentSocket::kRouter,
                             .in_flight = 8});
    config.agents.push_back({.name = "line",
                             .service = "line",
                             .endpoint = endpoint("b.line"),
                             .socket = proxy::AgentSocket::kRouter,
                             .in_flight = 64});
    config.agents.push_back({.name = "lone", .service = "lone", .endpoint = endpoint("b.lone")});
    config.agents.push_back({.name = "eye", .service = "eye", .endpoint = endpoint("b.eye")});
  }
  // They write the same facts, and keep what they gave.
  config.peers.push_back({.host = "b",
                          .sidecar = is_second ? "main" : "second",
                          .endpoint = endpoint(is_second ? "b.link" : "b2.link"),
                          .services = {"fact"}});
  return config;
}

std::vector<std::string> kept_services(const proxy::SidecarConfig& config) {
  std::vector<std::string> kept;
  const auto add = [&](const std::string& service) {
    const bool is_known = std::find(kept.begin(), kept.end(), service) != kept.end();
    if (!is_known && config.contracts.keeps(service, contract::Tier::kLocal)) kept.push_back(service);
  };
  for (const auto& agent : config.agents) add(agent.service);
  for (const auto& peer : config.peers) std::for_each(peer.services.begin(), peer.services.end(), add);
  return kept;
}

std::vector<Habit> habits() {
  const Habit patient{.port = "a.echo.port", .service = "echo", .budget = milliseconds(2000), .body_bytes_max = 20'000};
  Habit fresh = patient;
  fresh.is_fresh = true;
  Habit impatient = patient;
  impatient.patience = milliseconds(700);
  Habit dealer = patient;
  dealer.is_req = false;
  dealer.outstanding_max = 12;
  Habit wide{.port = "a.wide.port",
             .service = "wide",
             .is_req = false,
             .outstanding_max = 6,
             .budget = milliseconds(4500),
             .body_bytes_max = 400'000};
  Habit own{.port = "a.own.port", .service = "own", .budget = milliseconds(1000)};
  Habit look{.port = "a.look.port", .service = "look", .budget = milliseconds(2500)};
  Habit mesh{.port = "a.mesh", .service = "echo", .is_req = false, .outstanding_max = 4, .at_mesh_socket = true};
  Habit payer = mesh;
  payer.service = "pay";
  payer.outstanding_max = 2;
  payer.body_bytes_max = 5000;
  payer.has_keys = true;
  Habit keyed = payer;
  keyed.service = "echo";
  // Several at once, to an agent that takes all at once: they come to it in the order in which they were asked.
  Habit line{.port = "a.line.port",
             .service = "line",
             .is_req = false,
             .outstanding_max = 8,
             .budget = milliseconds(3000),
             .body_bytes_max = 3000};
  Habit fact{.port = "a.fact.port", .service = "fact", .budget = milliseconds(1500), .asks_facts = true};
  Habit facts = fact;
  facts.is_req = false;
  facts.outstanding_max = 6;
  Habit lone = facts;
  lone.port = "a.lone.port";
  lone.service = "lone";
  Habit reader = fact;
  reader.home = kReaders;
  reader.port = "r.fact.port";
  Habit readers = reader;
  readers.is_req = false;
  readers.outstanding_max = 4;
  Habit mind{.port = "a.mind.port", .service = "mind", .rest = milliseconds(30)};
  mind.budget = milliseconds(2500);
  Habit minds = mind;
  minds.is_req = false;
  minds.outstanding_max = 6;
  minds.rest = milliseconds(400);  // its lease goes back now and then
  Habit eye = mind;
  eye.port = "a.eye.port";
  eye.service = "eye";
  eye.rest = milliseconds(500);
  Habit purger = mesh;
  purger.service = "mesh.cache";
  purger.outstanding_max = 2;
  purger.rest = milliseconds(400);
  purger.budget = milliseconds(2000);
  purger.orders_purges = true;
  return {patient, patient, patient, fresh, fresh, impatient, impatient, dealer, dealer, wide,
          own,     mesh,    look,    look,  payer, payer,     keyed,     line,   fact,   facts,
          facts,   reader,  readers, lone,  mind,  minds,     eye,       purger};
}

}  // namespace mesh::sim
