#include "tools/meshctl/gpu.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

namespace mesh::ctl {
namespace {

constexpr size_t kBarWidth = 48;
constexpr size_t kIdDigits = 8;

struct Part {
  std::string_view name;
  std::string_view sign;
  Tone tone;
  double bytes;
};

// What a card's memory is, all of it: what is left over is what may be granted.
std::vector<Part> parts_of(const Json& card) {
  return {{"leased", "█", Tone::kGood, number_at(card, "leased_bytes")},
          {"others", "▒", Tone::kBad, number_at(card, "foreign_bytes")},
          {"contexts", "▞", Tone::kPlain, number_at(card, "context_bytes")},
          {"reserve", "▚", Tone::kDim, number_at(card, "emergency_bytes") + number_at(card, "driver_bytes")}};
}

// Every part that is there has one cell at least.
std::string bar_of(const std::vector<Part>& parts, double total, const Paint& paint) {
  std::string text;
  size_t used = 0;
  for (const Part& part : parts) {
    if (part.bytes <= 0 || total <= 0) continue;
    auto cells = static_cast<size_t>(std::lround(part.bytes / total * static_cast<double>(kBarWidth)));
    cells = std::min(std::max<size_t>(cells, 1), kBarWidth - used);
    std::string run;
    for (size_t i = 0; i < cells; ++i) run += part.sign;
    text += paint(part.tone, run);
    used += cells;
  }
  return text + paint(Tone::kDim, std::string(kBarWidth - used, '.'));
}

std::string id_text(const Json& json, std::string_view key) { return text_at(json, key).substr(0, kIdDigits); }
std::string time_text(const Json& json, std::string_view key) { return duration_text(number_at(json, key) * 1000); }

std::string who(const Json& json) {
  const std::string client = text_at(json, "client");
  return (client.empty() ? "?" : client) + " (" + std::to_string(count_at(json, "pid")) + ")";
}

std::string gpus_text(const Json& gpus) {
  std::string text;
  for (const Json& each : gpus) {
    if (each.is_string()) text += (text.empty() ? "" : ", ") + printable(each.get<std::string>());
  }
  return text;
}

std::string plan_card_text(const Json& card, const Paint& paint) {
  const bool fits = flag_at(card, "fits_now");
  const Json& within = at(card, "within_ms");
  const Json& asked = list_at(card, "asked");
  std::string text = paint.mark(fits || within.is_number()) + " " + paint(Tone::kStrong, text_at(card, "gpu")) + "  ";
  const std::string reason = text_at(card, "why");
  if (fits) {
    text += "fits now, " + vram_text(number_at(card, "free_bytes")) + " are free";
  } else if (reason == "never_fits") {
    text += "never fits; the most is " + vram_text(number_at(card, "largest_bytes"));
  } else {
    text += "waits: " + reason_text(reason) + "; " + vram_text(number_at(card, "free_bytes")) + " are free";
    text += within.is_number()
                ? "; within " + time_text(card, "within_ms") + (asked.empty() ? ", by the holders' own word" : "")
                : "; nobody knows how long";
  }
  text += "\n";
  std::vector<std::vector<std::string>> rows;
  for (const Json& each : asked) {
    const bool is_lease = text_at(each, "what") == "lease";
    rows.push_back({"    asked", id_text(each, "lease"), vram_text(number_at(each, "bytes")),
                    is_lease ? who(each) : text_at(each, "what"), text_at(each, "priority"),
                    is_lease ? "may " + text_at(each, "revocability") : "free at once",
                    flag_at(each, "in_use") ? "in use" : ""});
  }
  return text + table(rows, {2});
}

}  // namespace

std::string vram_text(double bytes) {
  const double gib = bytes / (1024.0 * 1024 * 1024);
  return gib < 1 ? number_text(bytes / (1024.0 * 1024), 0) + " MiB" : number_text(gib, 2) + " GiB";
}

std::string reason_text(std::string_view reason) {
  constexpr std::array<std::pair<std::string_view, const char*>, 16> kTexts = {{
      {"never_fits", "it is larger than any card"},
      {"too_many", "there are too many leases or waiters"},
      {"deadline", "its time was over"},
      {"policed", "its process uses more than it leased"},
      {"other_epoch", "an arbiter before this one granted it"},
      {"chunks_failed", "the driver could not make the memory"},
      {"not_reconciled", "the arbiter was just started, and waits for agents to show what they hold"},
      {"pressure", "others outside the arbiter eat into the reserve"},
      {"heat", "the card is too hot for batch"},
      {"reserved", "what is free is for somebody who waited too long"},
      {"yielding", "others are asked to yield for it"},
      {"swap_budget", "too much was swapped in the last minute"},
      {"no_victims", "nobody who may be asked has enough"},
      {"did_not_yield", "it was asked, and keeps what it has"},
      {"drained", "the card is drained by an operator"},
      {"invalid", "the request makes no sense"},
  }};
  for (const auto& [name, text] : kTexts) {
    if (name == reason) return text;
  }
  return reason == "none" ? "" : std::string(reason);
}

std::optional<uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || !(number >= 0)) return std::nullopt;
  std::string unit(parsed.ptr, text.data() + text.size());
  for (char& c : unit) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (unit == "b") unit.clear();
  const size_t power = unit.empty() ? 0 : std::string_view("kmgt").find(unit[0]) + 1;  // 0: of no such letter
  const std::string_view rest = std::string_view(unit).substr(std::min<size_t>(unit.size(), 1));
  if ((power == 0) != unit.empty() || !(rest.empty() || rest == "b" || rest == "ib")) return std::nullopt;
  const double bytes = std::ldexp(number, static_cast<int>(10 * power));
  if (bytes > 0x1p50) return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

std::string gpu_cards_text(const Json& gpus, const Paint& paint) {
  std::string text;
  for (const Json& card : list_at(gpus, "gpus")) {
    const double total = number_at(card, "total_bytes");
    const auto parts = parts_of(card);
    const std::string pressure = text_at(card, "pressure");
    text += paint(Tone::kStrong, text_at(card, "gpu")) + "  " + vram_text(total) + ", " + text_at(card, "heat");
    if (pressure != "green") text += ", " + paint(Tone::kBad, "pressure " + pressure);
    if (flag_at(card, "is_drained")) text += ", " + paint(Tone::kBad, "drained");
    if (!flag_at(card, "is_sampled")) text += ", not measured yet: nothing is granted";
    if (!flag_at(card, "books_agree")) text += ", " + paint(Tone::kBad, "the books do not agree");
    text += "\n  " + bar_of(parts, total, paint) + "\n ";
    for (const Part& part : parts) {
      if (part.bytes > 0)
        text += " " + paint(part.tone, part.sign) + " " + std::string(part.name) + " " + vram_text(part.bytes);
    }
    text += " " + paint(Tone::kDim, ".") + " free " + vram_text(number_at(card, "grantable_bytes"));
    if (number_at(card, "free_chunk_bytes") > 0)
      text += ", of it kept ready " + vram_text(number_at(card, "free_chunk_bytes"));
    text += "\n";
  }
  return text;
}

std::string gpu_leases_text(const Json& leases) {
  std::vector<std::vector<std::string>> rows = {
      {"lease", "bytes", "kind", "priority", "state", "held", "may", "who", "gpu"}};
  for (const Json& lease : list_at(leases, "leases")) {
    std::string state = text_at(lease, "state");
    if (flag_at(lease, "in_use")) state += ", in use";
    if (number_at(lease, "bytes_not_seen_free") > 0)
      state += ", " + vram_text(number_at(lease, "bytes_not_seen_free")) + " not seen free";
    rows.push_back({id_text(lease, "lease"), vram_text(number_at(lease, "bytes")), text_at(lease, "kind"),
                    text_at(lease, "priority"), state, time_text(lease, "held_ms"), text_at(lease, "revocability"),
                    who(lease), gpus_text(list_at(lease, "gpus"))});
  }
  return rows.size() == 1 ? "no leases\n" : table(rows, {1, 5});
}

std::string gpu_queue_text(const Json& queue) {
  std::vector<std::vector<std::string>> rows = {{"waits", "needs", "kind", "priority", "for", "who", "why"}};
  for (const Json& one : list_at(queue, "queue")) {
    std::string why = reason_text(text_at(one, "why"));
    if (!list_at(one, "reserved").empty()) why += "; it has reserved " + gpus_text(list_at(one, "reserved"));
    rows.push_back({id_text(one, "lease"), vram_text(number_at(one, "least_bytes")), text_at(one, "kind"),
                    text_at(one, "priority"), time_text(one, "waited_ms"), who(one), why});
  }
  return rows.size() == 1 ? "nobody waits\n" : table(rows, {1, 4});
}

std::string gpu_segments_text(const Json& segments) {
  std::vector<std::vector<std::string>> rows = {{"weights", "bytes", "state", "users", "uses", "load", "model", "gpu"}};
  for (const Json& one : list_at(segments, "segments")) {
    rows.push_back({id_text(one, "segment"), vram_text(number_at(one, "bytes")), text_at(one, "state"),
                    std::to_string(count_at(one, "users")), std::to_string(count_at(one, "uses")),
                    time_text(one, "load_ms"), id_text(one, "model"), text_at(one, "gpu")});
  }
  return rows.size() == 1 ? "no shared weights\n" : table(rows, {1, 3, 4, 5});
}

std::string gpu_decisions_text(const Json& decisions, uint64_t count) {
  const Json& all = list_at(decisions, "decisions");
  std::vector<std::vector<std::string>> rows;
  for (size_t i = all.size() > count ? all.size() - count : 0; i < all.size(); ++i) {
    const Json& one = all[i];
    const double bytes = number_at(one, "bytes");
    rows.push_back({time_text(one, "ago_ms") + " ago", text_at(one, "what"), id_text(one, "lease"),
                    bytes > 0 ? vram_text(bytes) : "", "pid " + std::to_string(count_at(one, "pid")),
                    text_at(one, "gpu"), reason_text(text_at(one, "reason"))});
  }
  return rows.empty() ? "nothing was decided yet\n" : table(rows, {0, 3});
}

std::string gpu_plan_text(const Json& plan, const Paint& paint) {
  std::string text = vram_text(number_at(plan, "bytes")) + ", " + text_at(plan, "priority");
  if (flag_at(plan, "is_shared_already"))
    text += ": these weights are there, and cost nothing more to whoever shares them";
  text += "\n";
  for (const Json& card : list_at(plan, "cards")) text += plan_card_text(card, paint);
  return text;
}

bool is_evicted(const Json& eviction) {
  const std::string outcome = text_at(eviction, "outcome");
  return outcome == "dropped" || outcome == "asked" || outcome == "under_way";
}

std::string gpu_evicted_text(const Json& eviction, const Paint& paint) {
  constexpr std::pair<std::string_view, const char*> kTexts[] = {
      {"dropped", "idle weights; their memory is free"},
      {"asked", "is asked to yield, as far as it agreed"},
      {"under_way", "was asked already"},
      {"refused", "said no a moment ago, or is not connected; it is not asked again so soon"},
      {"not_agreed", "is not revocable: stop its process, or ask its owner"},
      {"in_use",
       "shared weights: of these all readers are asked or none, by the name of the weights (meshctl gpu segments), and "
       "one "
       "of them is not to be asked"},
      {"unknown", "there is no such lease; see meshctl gpu leases"}};
  const std::string outcome = text_at(eviction, "outcome");
  const auto* const found =
      std::find_if(std::begin(kTexts), std::end(kTexts), [&](const auto& each) { return each.first == outcome; });
  return paint.mark(is_evicted(eviction)) + " " + id_text(eviction, "lease") + "  " +
         (found == std::end(kTexts) ? outcome : found->second) + "\n";
}

std::string gpu_drained_text(const Json& drained, const Paint& paint) {
  const std::string name = paint(Tone::kStrong, text_at(drained, "gpu"));
  if (!flag_at(drained, "is_drained")) return paint.mark(true) + " " + name + "  grants again\n";
  const double leased = number_at(drained, "leased_bytes");
  return paint.mark(true) + " " + name + "  grants nothing any more; " +
         (leased > 0 ? vram_text(leased) + " are still leased, and their holders are asked" : "it is empty") + "\n";
}

std::optional<uint64_t> known_size(const Json& leases, const Json& segments, std::string_view key) {
  std::optional<uint64_t> size;
  for (const Json& one : list_at(segments, "segments")) {
    if (text_at(one, "model") == key) size = count_at(one, "bytes");
  }
  for (const Json& one : list_at(leases, "leases")) {
    if (text_at(one, "model") == key && count_at(one, "bytes") > 0)
      size = std::max(size.value_or(0), count_at(one, "bytes"));
  }
  return size;
}

}  // namespace mesh::ctl
