// What an agent sends, as packets, against an engine without any socket.

#include <doctest/doctest.h>

#include <variant>

#include "lease.pb.h"
#include "sidecar/arbiter/journal_form.h"
#include "sidecar/arbiter/session.h"
#include "sidecar/arbiter/session_replies.h"
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

namespace pb = mesh::lease::v1;

// A desk with one session at it, whose packets are answered as the driver does.
struct Counter {
  Counter()
      : desk(cards({2 * kGiBUnits})), terms{desk.engine, book, {"GPU-a"}, true, [this] { return id_of(++ids); }, pids} {
    terms.plan = [this](const gpu::Request& request, Instant now, LeaseId waiting) {
      return desk.engine.plan(request, now, waiting);
    };
  }

  // Of this user: 1 is the session's own.
  static ProcessId pids(uint32_t pid, ProcessId) { return pid == 1 || pid == 2 ? pid : 0; }

  pb::Reply tell(pb::Request request) {
    request.set_number(++number);
    return tell_bytes(request.SerializeAsString());
  }
  pb::Reply tell_bytes(const std::string& bytes, bool is_cut = false, bool had_descriptors = false) {
    Frames frames;
    const Order order = session.on_packet({as_bytes(bytes), is_cut, had_descriptors}, desk.now, frames);
    std::visit(
        [&](const auto& event) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(event)>, std::monostate>) {
            desk.tell(event);
            for (const Action& action : desk.actions) {
              if (const auto* grant = std::get_if<SendGrant>(&action)) session.on(*grant, frames);
              if (const auto* refusal = std::get_if<SendRefusal>(&action)) session.on(*refusal, frames);
              if (const auto* error = std::get_if<SendError>(&action)) session.on(*error, frames);
            }
          }
        },
        order);
    session.settle(frames);
    REQUIRE(frames.size() == 1);
    pb::Reply reply;
    REQUIRE(reply.ParseFromString(frames[0].bytes));
    return reply;
  }
  pb::Reply hello() {
    pb::Request request;
    request.mutable_hello()->set_version(1);
    return tell(request);
  }
  pb::Request ask(uint64_t bytes) {
    pb::Request request;
    request.mutable_ask()->set_min_bytes(bytes);
    request.mutable_ask()->set_want_bytes(bytes);
    return request;
  }

  uint64_t ids = 0;
  uint64_t number = 0;
  Desk desk;
  ChunkBook book;
  SessionTerms terms;
  Session session{terms, 1, 1};
};

TEST_CASE("hello is answered with the cards, and nothing else is before it") {
  Counter counter;
  CHECK(counter.tell(counter.ask(gpu::kMiB)).failed().rule() == "hello");
  const pb::Reply reply = counter.hello();
  REQUIRE(reply.welcome().gpus_size() == 1);
  CHECK(reply.welcome().gpus(0).uuid() == "GPU-a");
  CHECK(reply.number() == 2);
}

TEST_CASE("an order is answered once, with its number: granted, done, or what was wrong") {
  Counter counter;
  counter.hello();
  const pb::Reply granted = counter.tell(counter.ask(3 * gpu::kMiB));
  REQUIRE(granted.has_granted());
  CHECK(granted.number() == 2);
  CHECK(granted.granted().bytes() == 4 * gpu::kMiB);
  pb::Request commit;
  *commit.mutable_commit()->mutable_lease() = granted.granted().lease();
  commit.mutable_commit()->set_bytes(2 * gpu::kMiB);
  CHECK(counter.tell(commit).has_done());
  CHECK(counter.tell(commit).failed().rule() == "lease_state");
  commit.mutable_commit()->mutable_lease()->set_epoch(77);
  CHECK(counter.tell(commit).failed().rule() == "lease_unknown");
  CHECK(counter.terms.broken_rules["lease_unknown"] == 1);
}

pb::Request look(const std::vector<std::pair<std::string, uint64_t>>& models) {
  pb::Request request;
  request.mutable_status();
  for (const auto& [model, bytes] : models) {
    pb::Query& query = *request.mutable_status()->add_queries();
    query.set_model(model);
    query.set_bytes(bytes);
    query.set_load_ms(2000);
  }
  return request;
}

TEST_CASE("who asks how soon he could use a model is told where it is, and what making room and loading take") {
  Counter counter;
  counter.hello();
  const std::string mine(16, 'm');
  const std::string other(16, 'o');
  const auto looked = [&] { return counter.tell(look({{mine, gpu::kGiB}, {other, 3 * gpu::kGiB}})).standing(); };
  pb::Standing standing = looked();
  REQUIRE(standing.outlooks_size() == 2);
  CHECK(standing.outlooks(0).place() == pb::Outlook::PLACE_DISK);
  CHECK(standing.outlooks(0).usable_in_ms() == 2000);  // there is room
  CHECK_FALSE(standing.outlooks(0).never_fits());
  CHECK(standing.outlooks(1).never_fits());
  CHECK(standing.outlooks(1).usable_in_ms() == UINT32_MAX);

  pb::Request ask = counter.ask(gpu::kGiB);
  ask.mutable_ask()->set_model(mine);
  ask.mutable_ask()->set_load_ms(2000);
  const pb::Reply granted = counter.tell(ask);
  REQUIRE(granted.has_granted());
  counter.desk.wait(500);
  standing = looked();
  CHECK(standing.outlooks(0).place() == pb::Outlook::PLACE_LOADING);
  CHECK(standing.outlooks(0).usable_in_ms() == 1500);
  pb::Request commit;
  *commit.mutable_commit()->mutable_lease() = granted.granted().lease();
  commit.mutable_commit()->set_bytes(gpu::kGiB);
  REQUIRE(counter.tell(commit).has_done());
  standing = looked();
  CHECK(standing.outlooks(0).place() == pb::Outlook::PLACE_RESIDENT);
  CHECK(standing.outlooks(0).usable_in_ms() == 0);
}

TEST_CASE("what somebody else has loaded is near, and has to be loaded all the same, behind the room made for it") {
  Counter counter;
  counter.hello();
  gpu::Request others = counter.desk.request(kGiBUnits);
  others.model = *read_id(std::string(16, 'm'));
  counter.desk.hold(2, 900, others);
  const pb::Standing standing = counter.tell(look({{std::string(16, 'm'), gpu::kGiB}})).standing();
  CHECK(standing.outlooks(0).place() == pb::Outlook::PLACE_CACHED);
  CHECK(standing.outlooks(0).usable_in_ms() > 2000);
}

TEST_CASE("whom others make room for can foresee when he has it") {
  Counter counter;
  counter.hello();
  counter.desk.hold(2, 900, counter.desk.request(2 * kGiBUnits - gpu::bounds::emergency_units));
  counter.desk.wait(60'000);
  const std::string mine(16, 'm');
  pb::Request ask = counter.ask(gpu::kGiB);
  ask.mutable_ask()->set_model(mine);
  ask.mutable_ask()->set_load_ms(2000);
  REQUIRE(counter.tell(ask).has_queued());
  CHECK(counter.desk.engine.queue().reservations().size() == 1);
  const pb::Outlook outlook = counter.tell(look({{mine, gpu::kGiB}})).standing().outlooks(0);
  CHECK(outlook.usable_in_ms() > 2000);
  CHECK(outlook.usable_in_ms() < 10'000);
}

TEST_CASE("a status with too many queries, or one that names nothing, is refused and changes nothing") {
  Counter counter;
  counter.hello();
  CHECK(counter.tell(look({{"short", gpu::kGiB}})).failed().rule() == "status_query");
  CHECK(counter.tell(look({{std::string(16, 'm'), 0}})).failed().rule() == "status_query");
  CHECK(counter.tell(look(std::vector<std::pair<std::string, uint64_t>>(33, {std::string(16, 'm'), 1})))
            .failed()
            .rule() == "status_queries");
  CHECK(counter.tell(look({})).has_standing());
}

TEST_CASE("who has to wait is told so and why, and may give up") {
  Counter counter;
  counter.hello();
  REQUIRE(counter.tell(counter.ask(gpu::kGiB)).has_granted());
  const pb::Reply reply = counter.tell(counter.ask(gpu::kGiB));
  REQUIRE(reply.has_queued());
  pb::Request release;
  *release.mutable_release() = reply.queued().lease();
  CHECK(counter.tell(release).has_done());
  CHECK(counter.desk.engine.queue().size() == 0);
}

TEST_CASE("each packet that is none has its rule") {
  Counter counter;
  counter.hello();
  CHECK(counter.tell_bytes("\xff\xff").failed().rule() == "packet");
  CHECK(counter.tell_bytes("", false, true).failed().rule() == "descriptors");
  CHECK(counter.tell_bytes("", true).failed().rule() == "packet_size");
  CHECK(counter.tell_bytes("").failed().rule() == "number");
  pb::Request request;
  CHECK(counter.tell(request).failed().rule() == "order");
  request.mutable_renew()->set_id("short");
  CHECK(counter.tell(request).failed().rule() == "lease_id");
  request = counter.ask(gpu::kMiB);
  request.mutable_ask()->add_gpus("GPU-of-somebody-else");
  CHECK(counter.tell(request).failed().rule() == "lease_gpus");
  request = counter.ask(gpu::kMiB);
  request.mutable_ask()->set_model("no key");
  CHECK(counter.tell(request).failed().rule() == "lease_key");
  request = counter.ask(gpu::kMiB);
  request.mutable_ask()->set_kind(static_cast<pb::Kind>(9));
  CHECK(counter.tell(request).failed().rule() == "lease_kind");
  CHECK(counter.desk.engine.entries().empty());
}

TEST_CASE("who leases for another names a process of his own user, and for what that one allocates by itself") {
  Counter counter;
  counter.hello();
  pb::Request request = counter.ask(gpu::kMiB);
  request.mutable_ask()->set_pid(2);
  const auto granted = read_id(counter.tell(request).granted().lease().id());
  REQUIRE(granted);
  const gpu::Lease& lease = counter.desk.engine.entries().at(*granted).lease;
  CHECK(lease.process == 1);
  CHECK(lease.used_by == 2);
  for (const uint32_t pid : {3U, 0x80000000U, UINT32_MAX}) {
    request.mutable_ask()->set_pid(pid);
    CHECK(counter.tell(request).failed().rule() == "pid_not_yours");
  }
  request.mutable_ask()->set_pid(2);
  request.mutable_ask()->set_kind(pb::KIND_BACKED);
  CHECK(counter.tell(request).failed().rule() == "pid_kind");
  CHECK(counter.terms.broken_rules["pid_not_yours"] == 3);
  CHECK(counter.desk.engine.entries().size() == 1);
}

TEST_CASE("who repeats what others say of their pids is told that it is wrong, and not hung up on") {
  Counter counter;
  counter.hello();
  pb::Request request = counter.ask(gpu::kMiB);
  request.mutable_ask()->set_pid(3);
  for (uint32_t i = 0; i <= 2 * broken_rules_max; ++i) counter.tell(request);
  CHECK_FALSE(counter.session.is_to_be_closed());
}

TEST_CASE("who waits to compute is answered when he may, once") {
  Counter counter;
  counter.hello();
  pb::Request use;
  *use.mutable_use()->mutable_lease() = counter.tell(counter.ask(gpu::kMiB)).granted().lease();
  const LeaseId id = *read_id(use.use().lease().id());
  use.mutable_use()->set_in_use(true);
  CHECK(counter.tell(use).has_done());
  GpuSampled hot{.has_heat = true, .celsius = 84};
  counter.desk.tell(hot);
  counter.desk.wait(1000);
  use.mutable_use()->set_waits(true);
  use.set_number(50);
  const std::string bytes = use.SerializeAsString();
  Frames frames;
  const Order order = counter.session.on_packet({as_bytes(bytes)}, counter.desk.now, frames);
  counter.desk.tell(std::get<LeaseUsed>(order));
  counter.session.settle(frames);
  CHECK(frames.empty());
  counter.desk.wait(2000);
  REQUIRE(counter.desk.count<SendBegin>() == 1);
  counter.session.on(SendBegin{1, id}, frames);
  counter.session.on(SendBegin{1, id}, frames);
  REQUIRE(frames.size() == 1);
  pb::Reply reply;
  REQUIRE(reply.ParseFromString(frames[0].bytes));
  CHECK(reply.number() == 50);
  CHECK(reply.has_done());
}

TEST_CASE("who breaks rules on and on is hung up on") {
  Counter counter;
  counter.hello();
  for (uint32_t i = 0; i <= broken_rules_max; ++i) {
    CHECK_FALSE(counter.session.is_to_be_closed());
    counter.tell_bytes("\xff");
  }
  CHECK(counter.session.is_to_be_closed());
}

TEST_CASE("a grant of more chunks than descriptors fit beside a packet comes in several") {
  Counter counter;
  counter.hello();
  const LeaseId id = id_of(1);
  for (ChunkNumber number = 1; number <= 300; ++number) counter.book.add({number, 0, 2, id, 0, false});
  Frames frames;
  counter.session.on(SendGrant{1, id, 1, 300, 1, gpu::LeaseKind::kBacked, {}, false}, frames);
  REQUIRE(frames.size() == 2);
  CHECK(frames[0].chunks.size() == packet_descriptors_max);
  CHECK(frames[0].chunks.size() + frames[1].chunks.size() == 300);
  pb::Reply first;
  pb::Reply second;
  REQUIRE(first.ParseFromString(frames[0].bytes));
  REQUIRE(second.ParseFromString(frames[1].bytes));
  CHECK(first.granted().more());
  CHECK_FALSE(second.granted().more());
  CHECK(frames[0].bytes.size() < packet_bytes_max);
}

TEST_CASE("a chunk of another user or a sealed one does not suit, and the one given back by number is taken first") {
  ChunkBook book;
  const LeaseId owner = id_of(1);
  for (ChunkNumber number = 1; number <= 3; ++number) book.add({number, 0, 0, owner, 500, false});
  const std::vector<ChunkNumber> third = {3};
  CHECK(book.extents(owner, third)->count[0] == 1);
  CHECK_FALSE(book.extents(id_of(2), third).has_value());
  CHECK_FALSE(book.extents(owner, std::vector<ChunkNumber>{3, 3}).has_value());
  book.offer(owner, third);
  CHECK(book.take_back(owner, 0, {{1, 0, 0}}) == third);
  CHECK(book.choose(0, 0, 500) == 3);
  CHECK(ChunkBook::suits(*book.find(3), 500));
  CHECK_FALSE(ChunkBook::suits(*book.find(3), 501));
  book.spend(owner);
  CHECK(book.take_back(owner, 0, {{5, 0, 0}}).size() == 2);
  CHECK(book.choose(0, 0, 500) == 3);
  CHECK(book.choose_to_go(0, 0) != 3);
  CHECK(parse_label(label_of(*book.find(3)))->number == 3);
}

TEST_CASE("what was written to the journal is read again as it was, and of each lease only the last counts") {
  JournalEntry entry{.kind = JournalEntry::Kind::kLease, .epoch = 3, .id = id_of(4), .process = 5};
  entry.request.min = 6;
  entry.request.ttl = milliseconds(7);
  entry.request.model = id_of(8);
  entry.units = 9;
  entry.unseen = 2;
  entry.is_lost = true;
  entry.used_by = 77;
  entry.extents = {{1, 2, 3}};
  entry.is_handed = true;
  const std::string bytes = encode(entry);
  const auto read = decode(as_bytes(bytes));
  REQUIRE(read);
  CHECK(read->id == entry.id);
  CHECK(read->process == 5);
  CHECK(read->request.min == 6);
  CHECK(read->request.ttl == milliseconds(7));
  CHECK(read->request.model == id_of(8));
  CHECK(read->units == 9);
  CHECK(read->unseen == 2);
  CHECK(read->is_lost);
  CHECK(read->used_by == 77);
  CHECK(read->extents == entry.extents);
  CHECK(read->is_handed);
  CHECK_FALSE(decode(as_bytes("\xff")));
  JournalDigest digest;
  digest.note(entry, bytes);
  digest.note(entry, bytes);
  CHECK(digest.records().size() == 1);
  digest.note({.kind = JournalEntry::Kind::kGone, .id = id_of(4)}, "gone");
  CHECK(digest.records().empty());
  CHECK(digest.bytes() == 0);
}

}  // namespace
}  // namespace mesh::arbiter
