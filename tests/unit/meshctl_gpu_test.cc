// What "meshctl gpu" shows, from JSON to text.
#include <doctest/doctest.h>

#include "tools/meshctl/gpu.h"

namespace mesh::ctl {
namespace {

const Paint kPlain(false);

bool has(const std::string& text, std::string_view word) { return text.find(word) != std::string::npos; }

size_t count_of(const std::string& text, std::string_view sign) {
  size_t count = 0;
  for (size_t at = text.find(sign); at != std::string::npos; at = text.find(sign, at + sign.size())) ++count;
  return count;
}

TEST_CASE("a card's bar is as long as the card, with a cell at least for all that is there") {
  const Json gpus = Json::parse(R"({"gpus":[{"gpu":"GPU-1","total_bytes":12884901888,"leased_bytes":6442450944,
    "foreign_bytes":3221225472,"context_bytes":1048576,"emergency_bytes":536870912,"driver_bytes":0,
    "grantable_bytes":2683305984,"free_chunk_bytes":268435456,"pressure":"amber","heat":"cool","is_drained":true,
    "is_sampled":true,"books_agree":true}]})");
  const std::string text = gpu_cards_text(gpus, kPlain);
  const std::string bar =
      text.substr(text.find("\n  ") + 3, text.find("\n ", text.find("\n  ") + 3) - text.find("\n  ") - 3);
  CHECK(count_of(bar, "█") == 24);
  CHECK(count_of(bar, "▒") == 12);
  CHECK(count_of(bar, "▞") == 1);
  CHECK(count_of(bar, "▚") == 2);
  CHECK(width_of(bar) == 48);
  for (const char* word : {"GPU-1  12.00 GiB", "leased 6.00 GiB", "others 3.00 GiB", "contexts 1 MiB",
                           "reserve 512 MiB", "free 2.50 GiB", "kept ready 256 MiB", "pressure amber", "drained"}) {
    CHECK_MESSAGE(has(text, word), word, "\n", text);
  }
  CHECK_FALSE(has(text, "\x1b"));
  CHECK(has(gpu_cards_text(gpus, Paint(true)), "\x1b["));
}

TEST_CASE("a full bar is not longer than the card, whatever the numbers") {
  const std::string text = gpu_cards_text(
      Json::parse(R"({"gpus":[{"total_bytes":1,"leased_bytes":9e18,"foreign_bytes":5,"emergency_bytes":7}]})"), kPlain);
  CHECK(count_of(text.substr(0, text.rfind("\n ")), "█") == 48);
  CHECK(gpu_cards_text(Json::parse(R"({"gpus":[{}, 7]})"), kPlain).size() > 10);
}

TEST_CASE("who waits is told why in words, for every reason that the arbiter has") {
  for (const char* reason :
       {"never_fits", "too_many", "deadline", "policed", "other_epoch", "chunks_failed", "not_reconciled", "pressure",
        "heat", "reserved", "yielding", "swap_budget", "no_victims", "did_not_yield", "drained", "invalid"}) {
    CHECK_MESSAGE(reason_text(reason) != reason, reason);
  }
  const std::string text = gpu_queue_text(Json::parse(R"({"queue":[{"lease":"0011223344556677","client":"tts","pid":7,
    "kind":"accounted","priority":"batch","least_bytes":2097152,"waited_ms":1500,"why":"yielding","reserved":["GPU-1"]}]})"));
  for (const char* word :
       {"00112233", "2 MiB", "tts (7)", "1.50 s", "others are asked to yield for it; it has reserved GPU-1"})
    CHECK_MESSAGE(has(text, word), word, "\n", text);
  CHECK(gpu_queue_text(Json::parse(R"({"queue":[]})")) == "nobody waits\n");
}

TEST_CASE("a client's name cannot move the cursor") {
  const std::string text = gpu_leases_text(Json::parse(R"({"leases":[{"client":"\u001b[2J","pid":1}]})"));
  CHECK_FALSE(has(text, "\x1b"));
  CHECK(has(text, "\\x1b[2J (1)"));
}

TEST_CASE("a plan says for each card whether it fits, whom it would ask and how long that takes") {
  const std::string text = gpu_plan_text(Json::parse(R"({"bytes":6442450944,"priority":"normal","cards":[
    {"gpu":"GPU-1","fits_now":true,"free_bytes":8589934592,"why":"none","within_ms":0,"asked":[]},
    {"gpu":"GPU-2","fits_now":false,"free_bytes":0,"why":"yielding","within_ms":2500,"asked":[
      {"lease":"aabbccddeeff","what":"lease","bytes":6442450944,"client":"llm","pid":9,"priority":"batch",
       "revocability":"offload","in_use":true}]},
    {"gpu":"GPU-3","fits_now":false,"free_bytes":0,"why":"no_victims","within_ms":null,"asked":[]},
    {"gpu":"GPU-4","fits_now":false,"free_bytes":0,"largest_bytes":4294967296,"why":"never_fits","within_ms":null}]})"),
                                         kPlain);
  for (const char* word :
       {"6.00 GiB, normal", "✓ GPU-1  fits now, 8.00 GiB are free", "✓ GPU-2  waits: others are asked", "within 2.50 s",
        "aabbccdd  6.00 GiB  llm (9)  batch  may offload  in use", "✗ GPU-3  waits: nobody who may be asked has enough",
        "nobody knows how long", "✗ GPU-4  never fits; the most is 4.00 GiB"}) {
    CHECK_MESSAGE(has(text, word), word, "\n", text);
  }
}

TEST_CASE("sizes are read as people write them, and nothing else is") {
  CHECK(parse_size("6GiB") == uint64_t{6} << 30);
  CHECK(parse_size("1.5g") == uint64_t{3} << 29);
  CHECK(parse_size("512MB") == uint64_t{512} << 20);
  CHECK(parse_size("4096") == 4096);
  for (const char* wrong : {"llama3-8b", "", "6Gix", "GiB", "-1", "nan", "1e30T", "6 GiB", "6x"})
    CHECK_MESSAGE(!parse_size(wrong), wrong);
}

TEST_CASE("the newest decisions are shown, and an eviction that did nothing is no success") {
  const Json decisions = Json::parse(R"({"decisions":[{"what":"granted","ago_ms":9,"lease":"aa"},
    {"what":"waits","ago_ms":5,"lease":"bb","reason":"heat","bytes":2097152}]})");
  const std::string text = gpu_decisions_text(decisions, 1);
  CHECK_FALSE(has(text, "granted"));
  CHECK(has(text, "too hot for batch"));
  for (const char* outcome : {"refused", "not_agreed", "in_use", "unknown"}) {
    const Json eviction = {{"lease", "cc"}, {"outcome", outcome}};
    CHECK_FALSE(is_evicted(eviction));
    CHECK(has(gpu_evicted_text(eviction, kPlain), "✗ cc  "));
  }
  CHECK(has(gpu_evicted_text({{"lease", "cc"}, {"outcome", "asked"}}, kPlain), "✓ cc  is asked"));
}

TEST_CASE("how large a model is tells who has it now") {
  const Json leases =
      Json::parse(R"({"leases":[{"model":"aa","bytes":5},{"model":"aa","bytes":9},{"model":"bb","bytes":0}]})");
  const Json segments = Json::parse(R"({"segments":[{"model":"cc","bytes":7}]})");
  CHECK(known_size(leases, segments, "aa") == 9);
  CHECK(known_size(leases, segments, "cc") == 7);
  CHECK_FALSE(known_size(leases, segments, "bb"));
}

}  // namespace
}  // namespace mesh::ctl
