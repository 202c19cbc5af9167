// What agents know and callers ask for again and again, with everything that it ever was: so that it can be judged
// whether an answer that was kept may still be given.
//
// A purge is a write that ended well for its caller, or an order that all have confirmed: whoever asks from then on is
// given what was true when it began, or something newer.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/instant.h"
#include "common/base/prng.h"
#include "common/contract/cache_terms.h"

namespace mesh::sim {

class Facts {
 public:
  // As the contract says; see scenery.cc.
  static constexpr int64_t kTtl_ms = 2500;  // longer than a lease
  static constexpr int64_t kRevalidate_ms = 300;
  static constexpr int64_t kError_ms = 1500;

  // That somebody wants to be given no more, as he says it.
  struct Order {
    std::string text{};              // JSON; empty: there is none
    std::vector<size_t> facts{};     // all that it covers
    std::vector<size_t> versions{};  // of these, when it was given
  };
  // What was judged, so that a simulation that judges nothing is noticed.
  struct Seen {
    uint64_t reads = 0;        // answered, and asked after an acknowledged purge of their fact
    uint64_t close_reads = 0;  // of these, those that were asked at most as long after it as a lease lasts
    uint64_t writes = 0;       // acknowledged
    uint64_t orders = 0;       // confirmed by all
    uint64_t crossings = 0;    // an agent had read the fact, and it was purged before who asked had the reply
  };

  // Of which terms their replies are kept: that says what the key of a question is.
  explicit Facts(const contract::CacheTerms& terms);

  // A request of a caller: mostly reads, of few facts. Each service has its own.
  static std::string draw_body(std::string_view service, Prng& prng);
  // Which, of a request or a reply.
  static size_t fact_in(std::string_view body) { return number_in(body, R"("fact":)"); }
  static std::string_view service_of(size_t fact) { return fact < kFacts ? "fact" : "lone"; }
  static bool is_read(std::string_view body) { return body.find(R"("get")") != std::string_view::npos; }
  static bool is_about_one(std::string_view body) { return body.find(R"("fact":)") != std::string_view::npos; }
  // An order about a fact, or about all that its service or all of these services know. Now and then the fact is
  // another since a moment ago, and nobody was told.
  Order draw_order(const std::vector<std::string>& services, size_t fact, Prng& prng, Instant now);
  static size_t draw_fact(std::string_view service, Prng& prng);
  // One to write or to purge: the higher its number, the longer a fact stays as it is.
  static size_t draw_changing(std::string_view service, Prng& prng);

  // What an agent does and says.
  std::string execute(std::string_view body, Instant now);
  void on_answered(std::string_view reply, Instant now);
  // The world goes on, and nobody tells.
  void change(Prng& prng, Instant now) { versions_[prng.below(versions_.size())].push_back(now); }

  // A caller got this for what it asked then. Empty, or what is wrong with it.
  std::string judge(std::string_view body, std::string_view reply, Instant asked);
  // A write ended well for its caller: who asks from now on reads it.
  void acknowledge(std::string_view body, std::string_view reply, Instant now);
  // A sidecar is told of the order; and later, all have confirmed it.
  void give(Order& order, Instant now);
  void acknowledge(const Order& order, Instant now);

  const Seen& seen() const { return seen_; }

 private:
  static constexpr uint64_t kFacts = 6;
  static constexpr uint64_t kLoneFacts = 2;
  static constexpr uint64_t kAllFacts = kFacts + kLoneFacts;
  struct Purged {
    Instant at;
    size_t version;  // the newest that any purge until then was about
  };
  struct Read {
    Instant at;
    bool is_crossed = false;
  };
  static size_t number_in(std::string_view text, std::string_view behind);
  static std::string question(size_t fact);
  void note_purged(size_t fact, size_t version, Instant now);
  // The last that was acknowledged before; null if none was.
  const Purged* purged_before(size_t fact, Instant asked) const;
  void note_crossing(size_t fact, Instant asked);

  std::array<std::string, kAllFacts> keys_;               // as an operator writes them
  std::array<std::vector<Instant>, kAllFacts> versions_;  // when each was written; version 0 always was
  std::array<std::vector<Purged>, kAllFacts> purged_;
  std::array<std::vector<size_t>, kAllFacts> unanswered_;   // versions whose writer its agent has not answered
  std::array<std::vector<Read>, kAllFacts> reads_;          // by agents
  std::array<std::vector<Instant>, kAllFacts> purging_at_;  // what makes it wrong left the agent, or the operator
  Seen seen_;
};

}  // namespace mesh::sim
