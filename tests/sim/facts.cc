#include "tests/sim/facts.h"

#include <algorithm>
#include <charconv>

#include "common/base/limits.h"
#include "common/cache/request.h"
#include "common/wire/message.h"

namespace mesh::sim {
namespace {

constexpr std::string_view kLone = "lone";

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

}  // namespace

Facts::Facts(const contract::CacheTerms& terms) {
  cache::RequestReader reader;
  for (size_t fact = 0; fact < kAllFacts; ++fact) {
    const std::string body = question(fact);
    const cache::Asked asked{
        .service = service_of(fact), .method = "get", .caller = {}, .body = as_bytes(body), .part_sizes = {}};
    const cache::Hash hash = reader.read(asked, terms).key.hash;
    keys_[fact] = wire::key_text(hash.high, hash.low);
  }
}

size_t Facts::number_in(std::string_view text, std::string_view behind) {
  const size_t at = text.find(behind);
  size_t number = 0;
  if (at != std::string_view::npos)
    std::from_chars(text.data() + at + behind.size(), text.data() + text.size(), number);
  return number;
}

size_t Facts::draw_fact(std::string_view service, Prng& prng) {
  return service == kLone ? kFacts + prng.below(kLoneFacts) : prng.below(kFacts);
}

size_t Facts::draw_changing(std::string_view service, Prng& prng) {
  const size_t fact = draw_fact(service, prng);
  return std::min(fact, draw_fact(service, prng));
}

std::string Facts::question(size_t fact) { return R"({"action":"get","fact":)" + std::to_string(fact) + "}"; }

std::string Facts::draw_body(std::string_view service, Prng& prng) {
  const bool is_write = prng.below(12) == 0;
  if (is_write) return R"({"action":"set","fact":)" + std::to_string(draw_changing(service, prng)) + "}";
  const size_t fact = draw_fact(service, prng);
  return R"({"request_id":)" + std::to_string(prng.below(1000)) + "," + question(fact).substr(1);
}

Facts::Order Facts::draw_order(const std::vector<std::string>& services, size_t fact, Prng& prng, Instant now) {
  const std::string_view service = service_of(fact);
  if (prng.below(2) == 0) versions_[fact].push_back(now);
  Order order;
  const auto cover = [&](std::string_view whose) {
    const bool is_lone = whose == kLone;
    for (size_t i = is_lone ? kFacts : 0; i < (is_lone ? kAllFacts : kFacts); ++i) order.facts.push_back(i);
  };
  std::string what = R"("service":)" + quoted(service);
  switch (prng.below(32)) {
    case 0:
      what = R"("all":true)";
      for (const std::string& each : services) cover(each);
      break;
    case 1:
      cover(service);
      break;
    case 2:
      what += R"(,"method":"get")";
      cover(service);
      break;
    case 3:
      what = R"("key":)" + quoted(keys_[fact]);  // whose it is, the key says itself
      order.facts = {fact};
      break;
    default:
      what += prng.below(2) == 0 ? R"(,"key":)" + quoted(keys_[fact])
                                 : R"(,"tag":)" + quoted("fact:" + std::to_string(fact));
      order.facts = {fact};
  }
  order.text = R"({"action":"purge",)" + what + "}";
  return order;
}

std::string Facts::execute(std::string_view body, Instant now) {
  const size_t fact = fact_in(body);
  std::vector<Instant>& versions = versions_.at(fact);
  if (body.find("\"set\"") != std::string_view::npos) {
    versions.push_back(now);
    unanswered_[fact].push_back(versions.size());
  } else {
    reads_[fact].push_back({now});
  }
  return R"({"status":"ok","fact":)" + std::to_string(fact) + R"(,"version":)" + std::to_string(versions.size()) + "}";
}

void Facts::on_answered(std::string_view reply, Instant now) {
  const size_t fact = fact_in(reply);
  if (std::erase(unanswered_.at(fact), number_in(reply, R"("version":)")) > 0) purging_at_[fact].push_back(now);
}

std::string Facts::judge(std::string_view body, std::string_view reply, Instant asked) {
  const size_t fact = fact_in(body);
  const size_t version = number_in(reply, R"("version":)");
  if (fact_in(reply) != fact) return "got another fact";
  if (version > versions_[fact].size()) return "got a fact of the future";
  const bool is_write = body.find("\"set\"") != std::string_view::npos;
  if (const Purged* purged = purged_before(fact, asked); purged != nullptr && !is_write) {
    ++seen_.reads;
    if (asked - purged->at <= milliseconds(limits::lease_ms)) ++seen_.close_reads;
    if (version < purged->version) {
      return "got version " + std::to_string(version) + " although " + std::to_string(purged->version) +
             " had been written and what was before purged, and its caller told, before it asked";
    }
  }
  if (!is_write) note_crossing(fact, asked);
  // How old it may be at most, by a clock that drifts.
  const Instant oldest = asked - milliseconds((kTtl_ms + kError_ms) * 12 / 10);
  if (version < versions_[fact].size() && versions_[fact][version] < oldest) {
    return "got version " + std::to_string(version) + ", which was wrong for longer than it may be kept";
  }
  return "";
}

// What was read for it, or for another who asked the same meanwhile, was on its way when it became wrong.
void Facts::note_crossing(size_t fact, Instant asked) {
  if (purging_at_[fact].empty()) return;
  const Instant purged = purging_at_[fact].back();
  const auto behind = std::partition_point(reads_[fact].begin(), reads_[fact].end(),
                                           [purged](const Read& read) { return read.at < purged; });
  if (behind == reads_[fact].begin()) return;
  Read& read = *(behind - 1);
  if (read.at < asked || read.is_crossed) return;
  read.is_crossed = true;
  ++seen_.crossings;
}

void Facts::acknowledge(std::string_view body, std::string_view reply, Instant now) {
  if (body.find("\"set\"") == std::string_view::npos) return;
  ++seen_.writes;
  note_purged(fact_in(body), number_in(reply, R"("version":)"), now);
}

void Facts::give(Order& order, Instant now) {
  order.versions.clear();
  for (const size_t fact : order.facts) {
    order.versions.push_back(versions_[fact].size());
    purging_at_[fact].push_back(now);
  }
}

void Facts::acknowledge(const Order& order, Instant now) {
  ++seen_.orders;
  for (size_t i = 0; i < order.facts.size(); ++i) note_purged(order.facts[i], order.versions[i], now);
}

void Facts::note_purged(size_t fact, size_t version, Instant now) {
  auto& purged = purged_.at(fact);
  purged.push_back({now, std::max(version, purged.empty() ? 0 : purged.back().version)});
}

const Facts::Purged* Facts::purged_before(size_t fact, Instant asked) const {
  const auto& purged = purged_.at(fact);
  const auto behind =
      std::partition_point(purged.begin(), purged.end(), [asked](const Purged& each) { return each.at < asked; });
  return behind == purged.begin() ? nullptr : &*(behind - 1);
}

}  // namespace mesh::sim
