#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/base/backoff.h"
#include "common/base/id_set.h"
#include "common/base/outbox.h"
#include "common/base/prng.h"
#include "common/base/slice.h"
#include "common/base/timer_wheel.h"
#include "common/base/token_bucket.h"

namespace mesh {
namespace {

std::string contents(const Outbox& out) {
  std::string all;
  for (const Slice& chunk : out.chunks()) all += chunk.text();
  return all;
}

TEST_CASE("a slice keeps its block alive, and its part does too") {
  Slice part;
  {
    const Slice whole = Slice::copy_of(std::string_view("the whole page"));
    part = whole.part(4, 5);
  }
  CHECK(part.text() == "whole");
}

TEST_CASE("compact copies a small part of a large block, and leaves a fitting one alone") {
  BlockRef page = Block::allocate(256 * 1024);
  std::memcpy(page->data(), "clipping", 8);
  const Slice clipping(page, page->data(), 8);
  CHECK(clipping.held_bytes() == 256 * 1024);
  const Slice compacted = clipping.compact();
  CHECK(compacted.text() == "clipping");
  CHECK(compacted.held_bytes() == 8);
  CHECK(compacted.compact().data() == compacted.data());
}

TEST_CASE("an outbox gives back every byte in order, whatever the sizes and however it is drained") {
  Prng prng(7);
  for (int round = 0; round < 200; ++round) {
    Outbox out;
    std::string expected;
    std::string got;
    for (int step = 0; step < 40; ++step) {
      std::string piece(prng.below(4) == 0 ? prng.below(40'000) : prng.below(60), 'a');
      for (char& c : piece) c = static_cast<char>('a' + prng.below(26));
      expected += piece;
      if (prng.below(2) == 0) {
        out.put(as_bytes(piece));
      } else {
        out.put(Slice::copy_of(piece));
      }
      const size_t take = prng.below(out.bytes() + 1);
      got += contents(out).substr(0, take);
      out.drop_front(take);
    }
    got += contents(out);
    REQUIRE(got == expected);
  }
}

TEST_CASE("a large slice put into an outbox is not copied") {
  Outbox out;
  const Slice large = Slice::copy_of(std::string(100'000, 'x'));
  out.put(as_bytes("head"));
  out.put(large);
  REQUIRE(out.chunks().size() == 2);
  CHECK(out.chunks()[1].data() == large.data());
}

TEST_CASE("small pieces around each other leave as one chunk") {
  Outbox out;
  for (int i = 0; i < 50; ++i) out.put(as_bytes("0123456789"));
  CHECK(out.chunks().size() == 1);
  CHECK(out.bytes() == 500);
}

// The wheel against a map that keeps every deadline: nothing early, nothing later than its promise.
TEST_CASE("a timer wheel gives each entry once, not before its deadline and at most a tick after it was looked at") {
  Prng prng(11);
  TimerWheel wheel;
  std::map<uint32_t, Instant> model;
  Instant now{milliseconds(1'000'000)};
  for (int step = 0; step < 50'000; ++step) {
    const auto entry = static_cast<uint32_t>(prng.below(300));
    switch (prng.below(4)) {
      case 0:
      case 1: {
        const Instant deadline = now + microseconds(static_cast<int64_t>(prng.below(10'000'000)));
        wheel.set(entry, deadline);
        model[entry] = deadline;
        break;
      }
      case 2:
        wheel.clear(entry);
        model.erase(entry);
        break;
      default: {
        const Instant earliest =
            model.empty() ? kNever : std::min_element(model.begin(), model.end(), [](const auto& a, const auto& b) {
                                       return a.second < b.second;
                                     })->second;
        if (model.empty()) {
          REQUIRE(wheel.next_deadline() == kNever);
        } else {
          REQUIRE(wheel.next_deadline() <= earliest + TimerWheel::kTick);
        }
        now += microseconds(static_cast<int64_t>(prng.below(prng.below(50) == 0 ? 20'000'000 : 50'000)));
        std::vector<uint32_t> due;
        wheel.expire(now, due);
        for (const uint32_t id : due) {
          REQUIRE(model.count(id) == 1);
          REQUIRE(model[id] <= now);
          model.erase(id);
        }
        for (const auto& [id, deadline] : model) REQUIRE(deadline > now);
      }
    }
    REQUIRE(wheel.size() == model.size());
  }
}

TEST_CASE("reconnect waits double up to the limit, with jitter, and start over after success") {
  Prng prng(3);
  Backoff backoff;
  Duration last{};
  for (int i = 0; i < 10; ++i) {
    last = backoff.next(prng);
    CHECK(last <= milliseconds(limits::reconnect_max_ms));
  }
  CHECK(last >= milliseconds(limits::reconnect_max_ms / 2));
  backoff.reset();
  CHECK(backoff.next(prng) <= milliseconds(limits::reconnect_min_ms));
}

TEST_CASE("a token bucket gives its burst at once, and then no more than its rate") {
  TokenBucket bucket(5, 10);
  const Instant start{milliseconds(1'000'000)};
  int taken = 0;
  while (bucket.take(start)) ++taken;
  CHECK(taken == 5);
  CHECK_FALSE(bucket.take(start + milliseconds(99)));
  CHECK(bucket.take(start + milliseconds(200)));
  taken = 0;
  for (int ms = 1000; ms < 11'000; ms += 10) taken += bucket.take(start + milliseconds(ms)) ? 1 : 0;
  CHECK(taken >= 100);
  CHECK(taken <= 105);
}

TEST_CASE("a set of ids is what a set is, whatever is put in and taken out") {
  Prng prng(11);
  IdSet ids;
  std::set<uint64_t> model;
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t id = prng.below(3) == 0 ? prng.below(300) << 32 : prng.below(300);
    switch (prng.below(3)) {
      case 0:
        REQUIRE(ids.insert(id) == model.insert(id).second);
        break;
      case 1:
        ids.erase(id);
        model.erase(id);
        break;
      default:
        REQUIRE(ids.contains(id) == model.contains(id));
    }
    REQUIRE(ids.size() == model.size());
  }
}

}  // namespace
}  // namespace mesh
