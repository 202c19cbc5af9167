#include "tools/meshctl/cache.h"

#include <array>
#include <utility>

namespace mesh::ctl {
namespace {

std::string name_of(const Json& answer) { return text_at(answer, "host") + "/" + text_at(answer, "sidecar"); }

std::string percent(double part, double whole) { return whole > 0 ? number_text(100 * part / whole, 1) + " %" : "–"; }

std::string ms_text(const Json& json, std::string_view key) { return duration_text(1000 * number_at(json, key)); }

std::string curve_text(const Json& stats) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& point : list_at(stats, "curve")) {
    const double ratio = number_at(point, "hit_ratio");
    rows.push_back({"    × " + number_text(number_at(point, "times"), 2), bytes_text(number_at(point, "bytes")),
                    percent(ratio, 1), bar(ratio, 24)});
  }
  if (rows.empty()) return "";
  return "  hits of the memory here, were it larger or smaller\n" + table(rows, {1, 2});
}

std::string reason_text(const std::string& why) {
  constexpr std::pair<std::string_view, std::string_view> kReasons[] = {
      {"not_declared", "the contract does not say that replies of this method are kept (cache, ttl_s)"},
      {"untagged",
       "a field that its tags name is missing in the request: nobody could say when its reply becomes wrong"},
      {"absent", "nothing was kept of it here"},
      {"expired", "what was kept had run out (ttl_s, swr_s)"},
      {"purged", "what was kept had become wrong: a write or a purge named it"},
      {"unleased", "who could know that what is kept became wrong was not heard of in time"},
      {"keyed", "a call with an idempotency key is executed once, and answered from the books of that"},
      {"fetch", "it is itself what was asked for on behalf of others"},
      {"not_looked_up", "it ended before it was looked for"}};
  for (const auto& [name, text] : kReasons) {
    if (name == why) return std::string(text);
  }
  return why;
}

std::string then_text(const std::string& then) {
  constexpr std::pair<std::string_view, std::string_view> kEnds[] = {
      {"kept", "is kept: the next who asks the same gets it"},
      {"failed", "was an error of the mesh, which is never kept"},
      {"unsuccessful", "is no success by the contract (success_when, negative_ttl_s), so it is not kept"},
      {"too_large", "is larger than 8 MiB, so it is not kept"},
      {"purged", "became wrong on its way, so it is not kept"},
      {"unleased",
       "is not kept, as nobody would have told when it becomes wrong (no lease of a sidecar that serves it)"},
      {"elsewhere", "is not kept here: the contract's tiers are others"}};
  for (const auto& [name, text] : kEnds) {
    if (name == then) return std::string(text);
  }
  return then;
}

std::string given_text(const Json& cache, const std::string& verdict) {
  std::string text = "yes: what was kept (" + text_at(cache, "tier") + ") for " + ms_text(cache, "age_ms");
  if (verdict == "stale") text += "; it had run out, and is fetched anew meanwhile";
  if (verdict == "stale_error") text += "; it had run out, and no new one could be had";
  return text;
}

}  // namespace

std::string cache_stats_text(const Json& stats, const Paint& paint) {
  std::string text = paint(Tone::kStrong, name_of(stats)) + "\n";
  std::vector<std::vector<std::string>> rows = {
      {"    tier", "entries", "bytes", "budget", "hits", "misses", "hit ratio", "evicted"}};
  for (const Json& tier : list_at(stats, "tiers")) {
    const double hits = number_at(tier, "hits");
    rows.push_back({"    " + text_at(tier, "tier"), std::to_string(count_at(tier, "entries")),
                    bytes_text(number_at(tier, "bytes")), bytes_text(number_at(tier, "budget_bytes")),
                    std::to_string(count_at(tier, "hits")), std::to_string(count_at(tier, "misses")),
                    percent(hits, hits + number_at(tier, "misses")), std::to_string(count_at(tier, "evicted"))});
  }
  text += table(rows, {1, 2, 3, 4, 5, 6, 7});
  const auto count = [&](const char* key) { return std::to_string(count_at(stats, key)); };
  text += "  given " + count("given") + ", of these stale " + count("stale") + "; fetched " + count("fetches") +
          ", who waited for another's " + count("joined") + ", for another sidecar's " + count("joined_host") + "\n";
  text += "  became wrong, as others told " + count("purges") + "; told to others " + count("purge_rounds") +
          "; ordered here " + count("purge_orders") + ", not confirmed by all " + count("purges_unconfirmed") + "\n";
  return text + curve_text(stats);
}

std::string cache_keys_text(const Json& keys) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& key : list_at(keys, "keys")) {
    rows.push_back({"    " + text_at(key, "key"), text_at(key, "service"), text_at(key, "tier"),
                    bytes_text(number_at(key, "body_bytes")), ms_text(key, "age_ms") + " old",
                    ms_text(key, "fresh_ms") + " fresh"});
  }
  return name_of(keys) + "  kept: " + std::to_string(count_at(keys, "kept")) + "\n" + table(rows, {3, 4, 5});
}

std::string cache_get_text(const Json& answer, const Paint& paint) {
  const Json& found = at(answer, "found");
  if (!found.is_object()) return name_of(answer) + "  has no such key\n";
  std::string tags;
  for (const Json& tag : list_at(found, "tags")) {
    if (tag.is_string()) tags += " " + printable(tag.get_ref<const std::string&>());
  }
  std::string text = paint(Tone::kStrong, text_at(found, "key")) + "  " + text_at(found, "service") + " at " +
                     name_of(answer) + ", " + text_at(found, "tier") + "\n";
  text += "  " + left("size", 9) + bytes_text(number_at(found, "body_bytes")) + ", in memory " +
          bytes_text(number_at(found, "bytes")) + "\n";
  text += "  " + left("age", 9) + ms_text(found, "age_ms") + "; fresh for " + ms_text(found, "fresh_ms") +
          ", of use for " + ms_text(found, "useful_ms") + "\n";
  text += "  " + left("fetched", 9) + "in " + duration_text(number_at(found, "fetch_us")) + "\n";
  text += "  " + left("tags", 9) + (tags.empty() ? "none" : "by their hashes:" + tags) + "\n";
  if (at(found, "body_base64").is_string()) {
    text += "  " + left("body", 9) + printable(from_base64(text_at(found, "body_base64"))) +
            (flag_at(found, "is_cut") ? " … (cut)" : "") + "\n";
  }
  return text;
}

std::string cache_purge_text(const Json& answer, const Paint& paint) {
  const bool is_done = text_at(answer, "code") == "OK";
  std::string text = paint.mark(is_done) + " " + name_of(answer) + "  ";
  if (!is_done) {
    text += text_at(answer, "code") + ": " + text_at(answer, "error") + "\n";
    const std::string hint = text_at(at(answer, "mesh"), "hint");
    return hint.empty() ? text : text + "    " + hint + "\n";
  }
  for (const Json& what : list_at(answer, "purged")) {
    if (what.is_string()) text += printable(what.get_ref<const std::string&>()) + " ";
  }
  text += "is given no more";
  std::string peers;
  for (const Json& peer : list_at(answer, "confirmed_by")) {
    if (peer.is_string()) peers += (peers.empty() ? "" : ", ") + printable(peer.get_ref<const std::string&>());
  }
  return text + (peers.empty() ? "" : "; confirmed by " + peers) + "\n";
}

std::string cache_why_text(const Json& record, const Paint& paint) {
  const Json& cache = at(record, "cache");
  const std::string verdict = text_at(cache, "verdict");
  const std::string why = text_at(record, "cache_why");
  const std::string then = text_at(record, "cache_then");
  std::string name = text_at(record, "service");
  if (const std::string method = text_at(record, "method"); !method.empty()) name += "/" + method;
  const auto line = [](std::string_view label, const std::string& text) {
    return "  " + left(label, 11) + text + "\n";
  };
  std::string text = paint(Tone::kStrong, text_at(record, "call")) + "  " + name + "  " +
                     text_at(at(record, "result"), "code") + ", " + duration_text(1000 * number_at(record, "age_ms")) +
                     " ago\n";
  const bool is_given = verdict == "hit" || verdict == "stale" || verdict == "stale_error";
  text += line("from kept", is_given ? given_text(cache, verdict) : "no: " + reason_text(why));
  if (verdict == "joined")
    text += line("waited", "for what another call had asked for: " + text_at(cache, "fetched_by"));
  if (verdict == "fetched") text += line("fetched", "by call " + text_at(cache, "fetched_by"));
  if (!is_given && !then.empty()) text += line("its reply", then_text(then));
  if (cache.is_object()) text += line("key", text_at(cache, "key"));
  return text;
}

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) break;
    group = (group << 6 | static_cast<uint32_t>(digit)) & 0xFFFF;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(group >> bits & 0xFF);
  }
  return bytes;
}

}  // namespace mesh::ctl
