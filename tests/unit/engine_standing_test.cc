// How soon this sidecar's agents answer calls that compute with a model, and where such calls go.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/engine_bench.h"

namespace mesh::proxy {
namespace {

using wire::ModelPlace;

const contract::ModelTerms kModel{.name = "llm", .bytes = 1 << 30, .hold_ms = 5000, .load_ms = 4000};

// "chat" computes with a model: one agent here, if there is an arbiter path, and instances at both peers.
struct Hosts : Bench {
  explicit Hosts(bool has_own = false) {
    config.agents.clear();
    config.limits.calls_per_target_max = 256;
    if (has_own) {
      config.arbiter_path = "arbiter";
      config.agents.push_back({.name = "chat", .service = "chat", .endpoint = {}});
    }
    for (PeerConfig& peer : config.peers) peer.services = {"chat"};
    contract::Declaration terms;
    terms.model = kModel;
    config.contracts.declare_service("chat", terms);
    engine.emplace(config);
    if (has_own) tell(AgentConnected{0});
    for (PeerIndex i : {0U, 1U}) tell(PeerConnected{.peer = i, .lane = wire::Lane::kInteractive});
  }
  ~Hosts() { CHECK(engine->audit() == ""); }

  void stand(PeerIndex peer, wire::Standing standing) {
    standing.service = "chat";
    standing.model = "llm";
    const std::vector<wire::Standing> all = {standing};
    tell(PeerStood{peer, all});
  }
  void ask(Priority priority = Priority::kNormal) {
    tell(
        AgentRequested{.path = {.client = next_client++, .bytes = 0, .delimited = true, .route = {}, .header = nullptr},
                       .service = "chat",
                       .method = {},
                       .budget_ms = 60'000,
                       .priority = priority,
                       .max_bytes = 1 << 20,
                       .model = &*config.contracts.models("chat").front(),
                       .payload = {Slice::copy_of("hello"), {}}});
  }
  // Where one call goes; -1 is here.
  int goes_to(Priority priority = Priority::kNormal) {
    ask(priority);
    auto sent = take<SendToPeer>();
    if (sent.empty()) return -1;
    last = std::move(sent[0]);
    return static_cast<int>(last.peer);
  }
  void reply(const wire::Standing* standing = nullptr) {
    const wire::CalleeSpans spans{.agent_us = 1000};
    tell(PeerReplied{.peer = last.peer, .call_id = last.call_id, .outcome = {}, .spans = &spans, .standing = standing});
  }
  SendToPeer last;
};

const wire::Standing kResident{.serve_us = 500'000, .place = ModelPlace::kResident};
const wire::Standing kOnDisk{.serve_us = 500'000, .place = ModelPlace::kDisk, .usable_in_ms = 4000};

TEST_CASE("a call goes where its model is, whoever comes first in the configuration") {
  for (const PeerIndex has_it : {0U, 1U}) {
    Hosts hosts;
    hosts.stand(has_it, kResident);
    hosts.stand(1 - has_it, kOnDisk);
    CHECK(hosts.goes_to() == static_cast<int>(has_it));
  }
}

TEST_CASE("what was sent since somebody said how long the queue is counts until he says so again") {
  Hosts hosts;
  hosts.stand(0, kResident);
  hosts.stand(1, kOnDisk);
  int there = 0;
  while (hosts.goes_to() == 0) REQUIRE(++there < 100);
  // 4.5 s elsewhere: with a margin of 15 % that is worth some ten calls of half a second here.
  CHECK(there >= 9);
  CHECK(there <= 11);
  hosts.stand(0, kResident);  // its queue is empty
  CHECK(hosts.goes_to() == 0);
}

TEST_CASE("calls that agents work on at a time wait for none of each other") {
  Hosts hosts;
  wire::Standing wide = kResident;
  wide.at_once = wide.free = 64;
  hosts.stand(0, wide);
  hosts.stand(1, kOnDisk);
  for (int i = 0; i < 64; ++i) CHECK(hosts.goes_to() == 0);
  wide.free = 0;
  wide.wait_us = 10'000;
  hosts.stand(0, wide);
  for (int i = 0; i < 64; ++i) CHECK(hosts.goes_to() == 0);  // half a second more
}

TEST_CASE("a call that has ended without a word lengthens no queue any more") {
  Hosts hosts;
  hosts.stand(0, kResident);
  hosts.stand(1, kOnDisk);
  for (int i = 0; i < 50; ++i) {
    CHECK(hosts.goes_to() == 0);
    hosts.reply();
  }
}

TEST_CASE("who has as many calls as he takes gets no more, although nobody knows how long one takes") {
  Hosts hosts;
  hosts.stand(0, {.place = ModelPlace::kUnmanaged});
  hosts.stand(1, {.place = ModelPlace::kUnmanaged});
  const int first = hosts.goes_to();
  for (size_t i = 1; i < hosts.config.limits.calls_per_target_max; ++i) CHECK(hosts.goes_to() == first);
  CHECK(hosts.goes_to() == 1 - first);
  CHECK(hosts.take<ReplyToAgent>().empty());
}

TEST_CASE("the word that comes with a reply is the newest") {
  Hosts hosts;
  hosts.stand(0, kResident);
  hosts.stand(1, kResident);
  const int first = hosts.goes_to();
  wire::Standing busy = kResident;
  busy.wait_us = 9'000'000;
  hosts.reply(&busy);
  CHECK(hosts.goes_to() == 1 - first);
}

TEST_CASE("a queue that was long some time ago has become shorter") {
  Hosts hosts;
  wire::Standing busy = kResident;
  busy.wait_us = 9'000'000;
  hosts.stand(0, busy);
  hosts.stand(1, kOnDisk);
  CHECK(hosts.goes_to() == 1);
  hosts.advance(8900);
  CHECK(hosts.goes_to() == 0);
}

TEST_CASE("who never has room for the model gets the call only if nobody has, and then says so himself") {
  Hosts hosts;
  hosts.stand(0, {.serve_us = 1000, .never_fits = true});
  hosts.stand(1, {.serve_us = 1000, .place = ModelPlace::kDisk, .usable_in_ms = 60'000});
  CHECK(hosts.goes_to() == 1);
  hosts.stand(1, {.never_fits = true});
  CHECK(hosts.goes_to() >= 0);
}

TEST_CASE("batch work is not sent to load a model on a hot card, more urgent work is") {
  Hosts hosts;
  wire::Standing hot = kOnDisk;
  hot.usable_in_ms = 100;
  hot.band = 2;
  hosts.stand(0, hot);
  hosts.stand(1, kOnDisk);
  CHECK(hosts.goes_to() == 0);
  CHECK(hosts.goes_to(Priority::kBatch) == 1);
}

TEST_CASE("what a peer said is forgotten with its connection") {
  Hosts hosts;
  hosts.stand(0, kOnDisk);
  hosts.stand(1, kResident);
  CHECK(hosts.goes_to() == 1);
  hosts.tell(PeerLost{.peer = 1, .lane = wire::Lane::kInteractive, .not_sent = {}, .waiting = {}});
  hosts.take<ReplyToAgent>();
  hosts.tell(PeerConnected{.peer = 1, .lane = wire::Lane::kInteractive});
  hosts.stand(0, kResident);
  CHECK(hosts.goes_to() == 0);
}

TEST_CASE("the record of a call says of all why none of them is waited for") {
  Hosts hosts;
  for (const PeerIndex peer : {0U, 1U}) hosts.stand(peer, {.never_fits = true});
  hosts.goes_to();
  hosts.reply();
  const auto newest = hosts.engine->outbound().recorder().log().newest(1);
  REQUIRE(newest.size() == 1);
  const auto* forecasts = hosts.engine->outbound().forecasts().find(newest[0]->trace.choices.forecasts);
  REQUIRE(forecasts != nullptr);
  CHECK((*forecasts)[0].never_fits);
}

TEST_CASE("the record of a call says how soon each instance would have answered") {
  Hosts hosts;
  hosts.stand(0, kOnDisk);
  hosts.stand(1, kResident);
  hosts.goes_to();
  hosts.reply();
  const auto newest = hosts.engine->outbound().recorder().log().newest(1);
  REQUIRE(newest.size() == 1);
  const telemetry::Choices& choices = newest[0]->trace.choices;
  CHECK(choices.why == telemetry::Why::kSoonest);
  const telemetry::Forecasts* forecasts = hosts.engine->outbound().forecasts().find(choices.forecasts);
  REQUIRE(forecasts != nullptr);
  CHECK((*forecasts)[0].load_us == 4'000'000);
  CHECK((*forecasts)[0].place == ModelPlace::kDisk);
  CHECK((*forecasts)[1].load_us == 0);
  CHECK((*forecasts)[1].serve_us == 500'000);
  CHECK(hosts.engine->outbound().forecasts().find(0) == nullptr);
  CHECK(hosts.engine->outbound().forecasts().find(choices.forecasts + telemetry::ForecastLog::kMax) == nullptr);
}

TEST_CASE("what a peer says of services and models that are in no contract here is not kept") {
  Hosts hosts;
  const std::vector<wire::Standing> strange = {{.service = "other", .model = "llm"},
                                               {.service = "chat", .model = "other"}};
  hosts.tell(PeerStood{0, strange});
  size_t kept = 0;
  hosts.engine->outbound().standings().for_each([&](auto...) { ++kept; });
  CHECK(kept == 0);
}

// --- what this sidecar says of its own ---

wire::Standing own(Hosts& hosts) { return hosts.engine->inbound().standing(0, hosts.now); }
void be_asked(Hosts& hosts, uint64_t id) {
  hosts.tell(PeerRequested{.link = 7,
                           .call_id = id,
                           .service = "chat",
                           .method = {},
                           .budget = milliseconds(60'000),
                           .priority = Priority::kNormal,
                           .payload = {Slice::copy_of("x"), {}}});
}
void answer(Hosts& hosts) {
  const auto given = hosts.take<DeliverToAgent>();
  REQUIRE(given.size() == 1);
  hosts.tell(AgentReplied{.agent = 0, .call_id = given[0].call_id, .payload = {Slice::copy_of("done"), {}}});
}

TEST_CASE("the arbiter is asked once a second where the models are, and peers are told what has changed") {
  Hosts hosts(true);
  hosts.advance(0);
  REQUIRE(hosts.take<LookAtModels>().size() == 1);
  CHECK(own(hosts).place == ModelPlace::kUnknown);
  CHECK(own(hosts).usable_in_ms == 4000);  // as the contract says
  hosts.take<TellStandings>();
  hosts.tell(ModelLookedAt{0, {.place = ModelPlace::kCached, .usable_in_ms = 1500, .pressure = 1, .band = 2}});
  hosts.advance(100);
  CHECK(hosts.take<TellStandings>().size() == 1);
  CHECK(own(hosts).place == ModelPlace::kCached);
  CHECK(own(hosts).usable_in_ms == 1500);
  CHECK(own(hosts).band == 2);
  for (int i = 0; i < 40; ++i) hosts.advance(100);
  CHECK(hosts.take<LookAtModels>().size() == 4);
  CHECK(hosts.take<TellStandings>().empty());  // nothing new
  hosts.advance(2000);                         // the arbiter says nothing any more
  CHECK(own(hosts).place == ModelPlace::kUnknown);
}

TEST_CASE("a model is loading until the first call with it has ended, then it is there, and what it takes is known") {
  Hosts hosts(true);
  be_asked(hosts, 1);
  CHECK(own(hosts).place == ModelPlace::kLoading);
  hosts.tell(ModelGranted{0});
  CHECK(own(hosts).place == ModelPlace::kLoading);
  CHECK(own(hosts).usable_in_ms == 4000);
  hosts.advance(3000);
  CHECK(own(hosts).usable_in_ms == 1000);
  hosts.advance(1500);
  answer(hosts);
  CHECK(own(hosts).place == ModelPlace::kResident);
  CHECK(own(hosts).usable_in_ms == 0);
  CHECK(own(hosts).serve_us == 0);  // of the first call most was loading
  be_asked(hosts, 2);
  hosts.advance(300);
  answer(hosts);
  CHECK(own(hosts).serve_us == 300'000);
  const auto replies = hosts.take<SendReply>();
  REQUIRE(replies.size() == 2);
  CHECK(replies[1].standing == 0);
}

TEST_CASE("a call that ends before its agent has answered loads no model") {
  Hosts hosts(true);
  be_asked(hosts, 1);
  be_asked(hosts, 2);
  hosts.tell(ModelGranted{0});
  hosts.tell(PeerCancelled{.link = 7, .call_id = 2});  // it was in the queue behind the first
  CHECK(own(hosts).place == ModelPlace::kLoading);
  CHECK(hosts.take<NoteModelLoaded>().empty());
  answer(hosts);
  CHECK(own(hosts).place == ModelPlace::kResident);
  CHECK(hosts.take<NoteModelLoaded>().size() == 1);
}

TEST_CASE("whether there is an agent is told at once") {
  Hosts hosts(true);
  hosts.take<TellStandings>();
  hosts.tell(AgentLost{.agent = 0, .not_sent = {}});
  CHECK(hosts.take<TellStandings>().size() == 1);
  hosts.tell(AgentLost{.agent = 0, .not_sent = {}});  // it was not there
  CHECK(hosts.take<TellStandings>().empty());
  hosts.tell(AgentConnected{0});
  CHECK(hosts.take<TellStandings>().size() == 1);
}

TEST_CASE("the wait that is told is what those before take, and a long one where no agent is") {
  Hosts hosts(true);
  be_asked(hosts, 1);
  hosts.tell(ModelGranted{0});
  hosts.advance(9000);  // loading, which the others need not do
  answer(hosts);
  be_asked(hosts, 2);
  hosts.advance(1000);
  answer(hosts);
  CHECK(own(hosts).wait_us == 0);
  for (uint64_t id = 3; id < 7; ++id) be_asked(hosts, id);
  CHECK(own(hosts).wait_us == 4'000'000);
  hosts.tell(AgentLost{.agent = 0, .not_sent = {}});
  CHECK(own(hosts).wait_us >= 10'000'000);
}

TEST_CASE("how many calls an agent works on at a time is told, and how many of these could begin") {
  Hosts hosts(true);
  hosts.config.agents[0].in_flight = 8;
  for (uint64_t id = 1; id <= 3; ++id) be_asked(hosts, id);
  CHECK(own(hosts).at_once == 8);
  CHECK(own(hosts).free == 5);
  hosts.tell(AgentLost{.agent = 0, .not_sent = {}});
  CHECK(own(hosts).at_once == 0);
  CHECK(own(hosts).free == 0);
}

TEST_CASE("what goes back is no longer there, and is looked at anew at once") {
  Hosts hosts(true);
  be_asked(hosts, 1);
  hosts.tell(ModelGranted{0});
  answer(hosts);
  hosts.advance(100);
  hosts.take<LookAtModels>();
  hosts.take<TellStandings>();
  hosts.tell(ModelRecalled{0});
  CHECK(hosts.take<ReturnModel>().size() == 1);
  CHECK(own(hosts).place != ModelPlace::kResident);
  hosts.advance(100);
  CHECK(hosts.take<LookAtModels>().size() == 1);
  CHECK(hosts.take<TellStandings>().size() == 1);
}

TEST_CASE("without an arbiter the model is the agent's affair, and only the queue counts") {
  Hosts hosts(true);
  hosts.config.arbiter_path = "";
  hosts.engine.emplace(hosts.config);
  hosts.take<LookAtModels>();  // of the one before
  CHECK(own(hosts).place == ModelPlace::kUnmanaged);
  CHECK(own(hosts).usable_in_ms == 0);
  hosts.advance(5000);
  CHECK(hosts.take<LookAtModels>().empty());
}

TEST_CASE("what the own agents would take is weighed against the peers, with the own host first among equals") {
  Hosts hosts(true);
  for (const PeerIndex peer : {0U, 1U}) hosts.stand(peer, kOnDisk);
  CHECK(hosts.goes_to() == -1);
  hosts.stand(1, kResident);
  CHECK(hosts.goes_to() == 1);
}

}  // namespace
}  // namespace mesh::proxy
