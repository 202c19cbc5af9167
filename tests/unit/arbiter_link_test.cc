// A sidecar's side of the lease protocol, with an arbiter that says what it is told to.
// tidy: long because what the arbiter says, and what becomes of it, is one conversation
#include "sidecar/proxy/arbiter_link.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "lease.pb.h"

namespace mesh::proxy {
namespace {

namespace pb = mesh::lease::v1;

struct Desk : PacketChannel, ArbiterLinkObserver {
  ArbiterLink link;
  PacketChannelObserver* channel = nullptr;
  bool is_open = false;
  std::vector<pb::Request> said;
  std::vector<std::string> heard;

  explicit Desk(std::string client = "a/main") : link(*this, *this, std::move(client)) { link.start(); }
  void open(PacketChannelObserver& observer) override { channel = &observer; }
  bool send(std::string_view bytes) override {
    if (!is_open) return false;
    REQUIRE(said.emplace_back().ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    return true;
  }
  void on_arbiter_connected(bool is_connected) override { heard.emplace_back(is_connected ? "found" : "lost"); }
  void on_model_granted(uint32_t number) override { heard.push_back("granted " + std::to_string(number)); }
  void on_model_queued(uint32_t number) override { heard.push_back("queued " + std::to_string(number)); }
  void on_model_refused(uint32_t number, Code code, std::string_view reason) override {
    heard.push_back("refused " + std::to_string(number) + " " + std::string(to_string(code)) + " " +
                    std::string(reason));
  }
  void on_model_recalled(uint32_t number) override { heard.push_back("recalled " + std::to_string(number)); }
  void on_model_lost(uint32_t number) override { heard.push_back("gone " + std::to_string(number)); }
  void on_model_looked_at(uint32_t number, const ModelOutlook& outlook) override {
    heard.push_back("looked at " + std::to_string(number) + ": place " +
                    std::to_string(static_cast<int>(outlook.place)) + " in " + std::to_string(outlook.usable_in_ms));
  }

  void connect(uint64_t epoch) {
    is_open = true;
    channel->on_channel_open();
    REQUIRE(take().has_hello());
    pb::Reply reply;
    reply.mutable_welcome()->set_epoch(epoch);
    answer(last, reply);
    heard.clear();
  }
  void hang_up() {
    is_open = false;
    channel->on_channel_closed();
  }
  pb::Request take() {
    REQUIRE_FALSE(said.empty());
    const pb::Request request = said.front();
    said.erase(said.begin());
    last = request.number();
    return request;
  }
  void answer(uint64_t number, pb::Reply reply) {
    reply.set_number(number);
    const std::string bytes = reply.SerializeAsString();
    channel->on_channel_packet(as_bytes(bytes));
  }
  void grant(uint64_t number, const std::string& id) {
    pb::Reply reply;
    reply.mutable_granted()->mutable_lease()->set_id(id);
    answer(number, reply);
  }
  void queue(uint64_t number, const std::string& id) {
    pb::Reply reply;
    reply.mutable_queued()->mutable_lease()->set_id(id);
    answer(number, reply);
  }
  std::vector<std::string> news() { return std::exchange(heard, {}); }
  uint64_t last = 0;
};
using News = std::vector<std::string>;
const ModelOrder kOrder{.model = "m", .bytes = 1 << 30, .priority = Priority::kBatch, .hold_ms = 1000, .load_ms = 50};

TEST_CASE("what is asked is granted or refused, under the number it was asked with") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(3, kOrder);
  const pb::Request asked = desk.take();
  CHECK(asked.ask().kind() == pb::KIND_ACCOUNTED);
  CHECK(asked.ask().urgency() == pb::URGENCY_BATCH);
  CHECK(asked.ask().min_bytes() == 1 << 30);
  CHECK(asked.ask().model().size() == 16);
  desk.queue(asked.number(), "L1");
  CHECK(desk.news() == News{"queued 3"});
  desk.grant(asked.number(), "L1");
  CHECK(desk.news() == News{"granted 3"});
  desk.link.ask(4, kOrder);
  pb::Reply refusal;
  refusal.mutable_refused()->set_code(static_cast<uint32_t>(Code::kOverloaded));
  refusal.mutable_refused()->set_reason("never_fits");
  desk.answer(desk.take().number(), refusal);
  CHECK(desk.news() == News{"refused 4 OVERLOADED never_fits"});
  desk.link.give_back(3);
  CHECK(desk.take().release().id() == "L1");
  CHECK(desk.said.empty());
}

TEST_CASE("a look at models is answered for each of them, and what does not fit the question is no answer") {
  Desk desk;
  desk.link.look({{3, kOrder}});
  CHECK(desk.said.empty());  // there is nobody to ask
  desk.connect(5);
  desk.link.look({{3, kOrder}, {9, kOrder}});
  const pb::Request asked = desk.take();
  REQUIRE(asked.status().queries_size() == 2);
  CHECK(asked.status().queries(0).bytes() == 1 << 30);
  CHECK(asked.status().queries(0).load_ms() == 50);
  CHECK(asked.status().queries(0).model().size() == 16);
  pb::Reply reply;
  reply.mutable_standing()->add_outlooks()->set_place(pb::Outlook::PLACE_RESIDENT);
  pb::Reply half = reply;
  pb::Outlook& second = *reply.mutable_standing()->add_outlooks();
  second.set_place(static_cast<pb::Outlook::Place>(55));
  second.set_usable_in_ms(700);
  desk.answer(asked.number(), reply);
  CHECK(desk.news() == News{"looked at 3: place 5 in 0", "looked at 9: place 0 in 700"});
  desk.link.look({{3, kOrder}, {9, kOrder}});
  desk.answer(desk.take().number(), half);
  CHECK(desk.news().empty());
}

TEST_CASE("however many models there are all are looked at, and an arbiter that does not answer is not asked again") {
  Desk desk;
  desk.connect(5);
  std::vector<std::pair<uint32_t, ModelOrder>> models;
  for (uint32_t number = 0; number < 40; ++number) models.emplace_back(number, kOrder);
  desk.link.look(models);
  desk.link.look(models);
  REQUIRE(desk.said.size() == 2);
  for (const int count : {32, 8}) {
    const pb::Request asked = desk.take();
    REQUIRE(asked.status().queries_size() == count);
    pb::Reply reply;
    for (int i = 0; i < count; ++i) reply.mutable_standing()->add_outlooks();
    desk.answer(asked.number(), reply);
  }
  const News news = desk.news();
  REQUIRE(news.size() == 40);
  CHECK(news.back().starts_with("looked at 39:"));
  desk.link.look(models);
  CHECK(desk.said.size() == 2);
  desk.said.clear();
  desk.hang_up();
  desk.connect(6);
  desk.link.look(models);
  CHECK(desk.said.size() == 2);
}

TEST_CASE("for whom it may not be leased, or who is gone, it is leased without his name, and nobody hears of it") {
  for (const bool is_gone : {false, true}) {
    Desk desk;
    desk.connect(5);
    ModelOrder order = kOrder;
    order.pid = 4711;
    desk.link.ask(3, order);
    const pb::Request asked = desk.take();
    CHECK(asked.ask().pid() == 4711);
    pb::Reply answer;
    if (is_gone) {
      desk.queue(asked.number(), "L1");
      answer.mutable_refused()->set_reason("process_ended");
    } else {
      answer.mutable_failed()->set_rule("pid_not_yours");
    }
    desk.news();
    desk.answer(asked.number(), answer);
    CHECK(desk.news().empty());
    const pb::Request again = desk.take();
    CHECK(again.ask().pid() == 0);
    desk.grant(again.number(), "L2");
    CHECK(desk.news() == News{"granted 3"});
  }
}

TEST_CASE("what was given back before it was granted goes back as soon as it has a name, and nobody hears of it") {
  for (const bool was_queued : {false, true}) {
    Desk desk;
    desk.connect(5);
    desk.link.ask(3, kOrder);
    const uint64_t number = desk.take().number();
    if (was_queued) desk.queue(number, "L1");
    desk.news();
    desk.link.give_back(3);
    if (!was_queued) {
      CHECK(desk.said.empty());
      desk.grant(number, "L1");
    }
    CHECK(desk.take().release().id() == "L1");
    CHECK(desk.news().empty());
    if (was_queued) desk.grant(number, "L1");  // it crossed: the release is on its way
    CHECK(desk.news().empty());
    CHECK(desk.said.empty());
  }
}

TEST_CASE("asked again after it was given back it is another lease, and the first one's answer is not taken for it") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(3, kOrder);
  const uint64_t first = desk.take().number();
  desk.link.give_back(3);
  desk.link.ask(3, kOrder);
  const uint64_t second = desk.take().number();
  desk.grant(first, "L1");
  CHECK(desk.take().release().id() == "L1");
  CHECK(desk.news().empty());
  desk.grant(second, "L2");
  CHECK(desk.news() == News{"granted 3"});
}

TEST_CASE("an arbiter that was started anew is shown what is held, told of its use, and asked for the rest") {
  Desk desk;
  desk.connect(5);
  for (const uint32_t number : {1U, 2U, 3U}) desk.link.ask(number, kOrder);
  desk.grant(desk.take().number(), "L1");
  desk.link.note_use(1, true);
  desk.link.note_loaded(1);
  desk.grant(desk.take().number(), "L2");
  desk.take();  // the third waits
  CHECK(desk.take().use().in_use());
  CHECK(desk.take().commit().bytes() == 1 << 30);
  desk.news();
  desk.hang_up();
  CHECK(desk.news() == News{"lost"});
  desk.link.give_back(2);
  desk.link.ask(4, kOrder);
  desk.connect(6);
  const pb::Request claim = desk.take();
  CHECK(claim.claim().lease().id() == "L1");
  CHECK(claim.claim().lease().epoch() == 5);
  CHECK(desk.take().release().id() == "L2");
  CHECK(desk.take().has_ask());
  CHECK(desk.take().has_ask());
  CHECK(desk.said.empty());
  desk.grant(claim.number(), "L1");
  CHECK(desk.news().empty());  // it was ours all the time
  CHECK(desk.take().has_commit());
  CHECK(desk.take().use().lease().epoch() == 6);
}

TEST_CASE(
    "what was given back is said again until an arbiter has heard it, and what was only queued is given back by name") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(1, kOrder);
  desk.grant(desk.take().number(), "L1");
  desk.link.ask(2, kOrder);
  desk.queue(desk.take().number(), "L2");
  desk.link.give_back(1);
  CHECK(desk.take().release().id() == "L1");
  desk.hang_up();  // before it was heard
  desk.connect(6);
  const pb::Request again = desk.take();
  CHECK(again.release().id() == "L1");
  CHECK(desk.take().release().id() == "L2");  // it may have been granted by the one before
  CHECK(desk.take().has_ask());
  pb::Reply done;
  done.mutable_done();
  desk.answer(again.number(), done);
  desk.hang_up();
  desk.connect(7);
  CHECK(desk.take().release().id() == "L2");
  CHECK(desk.take().has_ask());
  CHECK(desk.said.empty());
}

TEST_CASE("a name that is too long for an arbiter is cut between two letters") {
  Desk desk(std::string(63, 'a') + "\xC3\xA4/main");
  desk.is_open = true;
  desk.channel->on_channel_open();
  CHECK(desk.take().hello().client() == std::string(63, 'a'));
}

TEST_CASE("a claim that fails is a lease that is lost, and what it was for is given back") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(1, kOrder);
  desk.grant(desk.take().number(), "L1");
  desk.news();
  desk.hang_up();
  desk.connect(6);
  pb::Reply failure;
  failure.mutable_failed()->set_rule("lease_unknown");
  desk.answer(desk.take().number(), failure);
  CHECK(desk.news() == News{"gone 1"});
  const pb::Request release = desk.take();
  CHECK(release.release().id() == "L1");
  desk.link.give_back(1);
  CHECK(desk.said.empty());
  desk.answer(release.number(), failure);
  desk.hang_up();
  desk.connect(7);
  CHECK(desk.said.empty());
}

TEST_CASE("what others need is acknowledged and told, and only of what is held") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(1, kOrder);
  desk.grant(desk.take().number(), "L1");
  desk.news();
  pb::Reply recall;
  recall.mutable_yield_asked()->mutable_lease()->set_id("other");
  desk.answer(0, recall);
  CHECK(desk.news().empty());
  recall.mutable_yield_asked()->mutable_lease()->set_id("L1");
  desk.answer(0, recall);
  CHECK(desk.take().yield_ack().lease().id() == "L1");
  CHECK(desk.news() == News{"recalled 1"});
}

TEST_CASE("packets that are none, or answer nothing, change nothing") {
  Desk desk;
  desk.connect(5);
  desk.link.ask(1, kOrder);
  const uint64_t number = desk.take().number();
  desk.channel->on_channel_packet(as_bytes("\xff\xff\xff"));
  desk.channel->on_channel_packet({});
  desk.grant(number + 100, "L9");
  CHECK(desk.news().empty());
  desk.grant(number, "L1");
  desk.grant(number, "L1");
  CHECK(desk.news() == News{"granted 1"});
}

// As an engine takes it: at most one answer for each ask, and nothing for what was given back.
struct Wild : Desk {
  std::map<uint32_t, bool> open;  // whether it was granted
  void judge() {
    for (const std::string& news : this->news()) {
      if (news == "found" || news == "lost") continue;
      const uint32_t number = static_cast<uint32_t>(news[news.find(' ') + 1] - '0');
      REQUIRE_MESSAGE(open.contains(number), news << ", which was given back");
      if (news.starts_with("granted")) {
        REQUIRE_FALSE(open[number]);
        open[number] = true;
      } else if (news.starts_with("refused")) {
        REQUIRE_FALSE(open[number]);
        open.erase(number);
      } else if (news.starts_with("gone")) {
        REQUIRE(open[number]);
        open.erase(number);
      } else if (news.starts_with("recalled")) {
        REQUIRE(open[number]);
      }
    }
  }
};

TEST_CASE(
    "whatever an arbiter says and whenever it goes, each ask ends once and nothing is told of what was given back") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Prng prng(seed);
    Wild desk;
    for (int step = 0; step < 200; ++step) {
      const auto number = static_cast<uint32_t>(prng.below(3));
      switch (prng.below(8)) {
        case 0:
          if (!desk.open.contains(number)) desk.open[number] = false, desk.link.ask(number, kOrder);
          break;
        case 1:
          if (desk.open.erase(number) > 0) desk.link.give_back(number);
          break;
        case 2:
          if (desk.open.contains(number) && desk.open[number]) desk.link.note_use(number, prng.below(2) == 0);
          break;
        case 3:
          if (desk.is_open && prng.below(5) == 0) desk.hang_up();
          if (!desk.is_open) desk.is_open = true, desk.channel->on_channel_open();
          break;
        default: {
          if (!desk.is_open) break;
          pb::Reply reply;
          const std::string id(1, static_cast<char>('a' + prng.below(4)));
          switch (prng.below(8)) {
            case 0:
              reply.mutable_welcome()->set_epoch(1 + prng.below(3));
              break;
            case 1:
              reply.mutable_queued()->mutable_lease()->set_id(id);
              break;
            case 2:
              reply.mutable_refused()->set_reason("busy");
              break;
            case 3:
              reply.mutable_failed()->set_rule("lease_unknown");
              break;
            case 4:
              reply.mutable_yield_asked()->mutable_lease()->set_id(id);
              break;
            case 5:
              reply.mutable_done();
              break;
            default:
              reply.mutable_granted()->mutable_lease()->set_id(id);
              break;
          }
          // Mostly to something that was asked lately.
          const size_t asked = desk.said.size();
          const uint64_t to = asked > 0 ? desk.said[asked - 1 - prng.below(std::min<size_t>(asked, 6))].number() : 0;
          desk.answer(prng.below(10) == 0 ? prng.below(50) : to, reply);
        }
      }
      desk.judge();
    }
  }
}

}  // namespace
}  // namespace mesh::proxy
