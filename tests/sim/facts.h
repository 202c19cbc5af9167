// What agents know and callers ask for again and again, with everything that it ever was: so that it can be judged
// whether an answer that was kept may still be given.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/instant.h"
#include "common/base/prng.h"

namespace mesh::sim {

class Facts {
 public:
  // As the contract says; see scenery.cc.
  static constexpr int64_t kTtl_ms = 2500;  // longer than a lease
  static constexpr int64_t kRevalidate_ms = 300;
  static constexpr int64_t kError_ms = 1500;

  // A request of a caller: mostly reads, of few facts. Each service has its own.
  static std::string draw_body(std::string_view service, Prng& prng) {
    const bool is_write = prng.below(12) == 0;
    const std::string fact = std::to_string(service == "lone" ? kFacts + prng.below(kLoneFacts) : prng.below(kFacts));
    return is_write
               ? R"({"action":"set","fact":)" + fact + "}"
               : R"({"request_id":)" + std::to_string(prng.below(1000)) + R"(,"action":"get","fact":)" + fact + "}";
  }
  static bool is_about_one(std::string_view body) { return body.find(R"("fact":)") != std::string_view::npos; }

  // What an agent does and says.
  std::string execute(std::string_view body, Instant now) {
    const size_t fact = number_in(body, R"("fact":)");
    std::vector<Instant>& versions = versions_.at(fact);
    if (body.find("\"set\"") != std::string_view::npos) versions.push_back(now);
    return R"({"status":"ok","fact":)" + std::to_string(fact) + R"(,"version":)" + std::to_string(versions.size()) +
           "}";
  }

  // The world goes on, and nobody tells.
  void change(Prng& prng, Instant now) { versions_[prng.below(versions_.size())].push_back(now); }

  // A caller got this for what it asked then. Empty, or what is wrong with it.
  std::string judge(std::string_view body, std::string_view reply, Instant asked) {
    const size_t fact = number_in(body, R"("fact":)");
    const size_t version = number_in(reply, R"("version":)");
    if (number_in(reply, R"("fact":)") != fact) return "got another fact";
    if (version > versions_[fact].size()) return "got a fact of the future";
    const bool is_write = body.find("\"set\"") != std::string_view::npos;
    if (!is_write && version < floor_at(fact, asked)) {
      return "got version " + std::to_string(version) + " although " + std::to_string(floor_at(fact, asked)) +
             " had been written, and its caller told, before it asked";
    }
    // How old it may be at most, by a clock that drifts.
    const Instant oldest = asked - milliseconds((kTtl_ms + kError_ms) * 12 / 10);
    if (version < versions_[fact].size() && versions_[fact][version] < oldest) {
      return "got version " + std::to_string(version) + ", which was wrong for longer than it may be kept";
    }
    return "";
  }
  // A write ended well for its caller: who asks from now on reads it.
  void acknowledge(std::string_view body, std::string_view reply, Instant now) {
    if (body.find("\"set\"") == std::string_view::npos) return;
    acknowledged_.at(number_in(body, R"("fact":)")).push_back({now, number_in(reply, R"("version":)")});
  }

 private:
  static constexpr uint64_t kFacts = 6;
  static constexpr uint64_t kLoneFacts = 2;
  struct Written {
    Instant at;
    size_t version;
  };
  static size_t number_in(std::string_view text, std::string_view behind) {
    const size_t at = text.find(behind);
    size_t number = 0;
    if (at != std::string_view::npos)
      std::from_chars(text.data() + at + behind.size(), text.data() + text.size(), number);
    return number;
  }
  size_t floor_at(size_t fact, Instant asked) const {
    size_t floor = 0;
    for (const Written& written : acknowledged_.at(fact)) {
      if (written.at < asked) floor = std::max(floor, written.version);
    }
    return floor;
  }

  std::array<std::vector<Instant>, kFacts + kLoneFacts> versions_;  // when each was written; version 0 always was
  std::array<std::vector<Written>, kFacts + kLoneFacts> acknowledged_;
};

}  // namespace mesh::sim
