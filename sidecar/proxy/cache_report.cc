#include "sidecar/proxy/cache_report.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

namespace mesh::proxy {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kKeysMax = 1000;
constexpr size_t kKeysDefault = 20;
// Of a body as base64, so that any bytes come through; more is cut, and said to be.
constexpr size_t kBodyShown_bytes = 64 * limits::KiB;

std::string_view take_word(std::string_view& line) {
  const size_t end = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return word;
}

std::string base64(ByteView bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < count ? bytes[i + j] : 0U);
    for (size_t j = 0; j < 4; ++j) text += j <= count ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

class CacheReporter {
 public:
  CacheReporter(Engine& engine, const SidecarConfig& config, Instant now, const ReplyStore::Stats* disk)
      : outbound_(engine.outbound()), counters_(engine.counters()), config_(config), now_(now), disk_(disk) {
    Services& services = engine.services();
    for (ServiceIndex i = 0; i < services.size(); ++i) {
      names_[cache::name_hash(services[i].name, "")] = services[i].name;
    }
  }

  Json stats() const {
    Json tiers = Json::array();
    for (const Outbound::TierView& tier : outbound_.tiers()) {
      tiers.push_back({{"tier", to_string(tier.tier)},
                       {"entries", tier.entries},
                       {"bytes", tier.bytes},
                       {"budget_bytes", tier.budget_bytes},
                       {"hits", tier.hits},
                       {"misses", tier.misses},
                       {"evicted", tier.evicted}});
    }
    if (disk_ != nullptr) tiers.push_back(disk());
    return {{"host", config_.host},
            {"sidecar", config_.sidecar},
            {"tiers", tiers},
            {"given", counters_[Counter::kCacheHits]},
            {"stale", counters_[Counter::kCacheStale]},
            {"joined", counters_[Counter::kCacheJoined]},
            {"joined_host", counters_[Counter::kCacheJoinedHost]},
            {"fetches", counters_[Counter::kCacheFetches]},
            {"purges", counters_[Counter::kCachePurges]},
            {"purge_rounds", counters_[Counter::kCachePurgeRounds]},
            {"purge_orders", counters_[Counter::kCachePurgeOrders]},
            {"purges_unconfirmed", counters_[Counter::kCacheUnconfirmed]},
            {"curve", curve()}};
  }

  Json disk() const {
    return {{"tier", to_string(contract::Tier::kDisk)},
            {"entries", disk_->entries},
            {"bytes", disk_->bytes},
            {"budget_bytes", disk_->budget_bytes},
            {"hits", disk_->hits},
            {"misses", disk_->misses},
            {"evicted", disk_->evicted},
            {"serving", disk_->is_serving},
            {"refused", disk_->refused},
            {"damaged", disk_->damaged},
            {"begun_anew", disk_->begun_anew},
            {"erasures_pending", disk_->erasures_pending},
            {"last_error", disk_->last_error}};
  }

  // Those most asked for come first.
  Json keys(std::string_view rest) const {
    size_t count = kKeysDefault;
    if (const std::string_view word = take_word(rest); !word.empty()) {
      const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), count);
      if (status != std::errc() || end != word.data() + word.size()) return nullptr;
    }
    count = std::min(count, kKeysMax);
    struct Found {
      const cache::Kept* kept;
      uint32_t uses;
    };
    std::vector<Found> found;
    const uint64_t service = rest.empty() ? 0 : cache::name_hash(rest, "");
    outbound_.memory().for_each(outbound_.purges(), now_, [&](const cache::Kept& kept, uint32_t uses) {
      if (rest.empty() || kept.service == service) found.push_back({&kept, uses});
    });
    const auto is_before = [](const Found& a, const Found& b) {
      return a.uses != b.uses ? a.uses > b.uses : a.kept->key.hash < b.kept->key.hash;
    };
    const size_t shown = std::min(count, found.size());
    std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(shown), found.end(), is_before);
    Json keys = Json::array();
    for (size_t i = 0; i < shown; ++i) keys.push_back(about(*found[i].kept, contract::Tier::kLocal));
    return {{"host", config_.host}, {"sidecar", config_.sidecar}, {"kept", found.size()}, {"keys", keys}};
  }

  Json get(std::string_view rest) const {
    const auto hash = read_key(take_word(rest));
    if (!hash || (!rest.empty() && rest != "body")) return nullptr;
    Json json = {{"host", config_.host}, {"sidecar", config_.sidecar}, {"found", nullptr}};
    const auto seen = outbound_.kept().look(*hash, now_);
    if (!seen) return json;
    const cache::Kept* const kept = &seen->kept;
    json["found"] = about(*kept, seen->tier);
    Json tags = Json::array();
    for (const uint64_t tag : kept->tags) tags.push_back(wire::hexadecimal(tag));
    json["found"]["tags"] = tags;
    json["found"]["parts"] = kept->part_sizes;
    json["found"]["fetch_us"] = kept->cost_us;
    if (rest == "body") {
      const ByteView body = kept->body.view();
      json["found"]["body_base64"] = base64(body.first(std::min(body.size(), kBodyShown_bytes)));
      json["found"]["is_cut"] = body.size() > kBodyShown_bytes;
    }
    return json;
  }

 private:
  int64_t left_ms(Instant until) const { return std::max<int64_t>(0, to_us(until - now_) / 1000); }

  Json about(const cache::Kept& kept, contract::Tier tier) const {
    const auto name = names_.find(kept.service);
    return {{"key", wire::key_text(kept.key.hash.high, kept.key.hash.low)},
            {"service", name != names_.end() ? name->second : ""},
            {"tier", to_string(tier)},
            {"bytes", kept.bytes()},
            {"body_bytes", kept.body.size()},
            {"age_ms", to_us(now_ - kept.stored_at) / 1000},
            {"fresh_ms", left_ms(kept.fresh_until)},
            {"useful_ms", left_ms(kept.useful_until())}};
  }

  // What the memory of this sidecar would have hit if it were larger or smaller, and its replies were given up as LRU
  // does.
  Json curve() const {
    Json points = Json::array();
    const cache::MissRatioCurve* curve = outbound_.curve();
    const uint64_t budget = outbound_.memory().budget_bytes();
    if (curve == nullptr || curve->samples() == 0) return points;
    for (const double times : {0.25, 0.5, 1.0, 2.0, static_cast<double>(Outbound::kCurveReach)}) {
      const auto bytes = static_cast<uint64_t>(times * static_cast<double>(budget));
      points.push_back({{"times", times}, {"bytes", bytes}, {"hit_ratio", curve->hit_ratio(bytes)}});
    }
    return points;
  }

  const Outbound& outbound_;
  const Counters& counters_;
  const SidecarConfig& config_;
  Instant now_;
  const ReplyStore::Stats* disk_;
  std::unordered_map<uint64_t, std::string> names_;
};

}  // namespace

Json cache_report(std::string_view line, Engine& engine, const SidecarConfig& config, Instant now,
                  const ReplyStore::Stats* disk) {
  const CacheReporter reporter(engine, config, now, disk);
  const std::string_view what = take_word(line);
  if (what == "stats" && line.empty()) return reporter.stats();
  if (what == "keys") return reporter.keys(line);
  if (what == "get") return reporter.get(line);
  return nullptr;
}

Json purge_report(const Outcome& outcome, const SidecarConfig& config) {
  Json json = {{"host", config.host}, {"sidecar", config.sidecar}, {"code", to_string(outcome.code)}};
  const std::string text =
      outcome.error != nullptr ? wire::reply_for(*outcome.error) : std::string(outcome.payload.body.text());
  json.update(Json::parse(text, nullptr, false));
  return json;
}

}  // namespace mesh::proxy
