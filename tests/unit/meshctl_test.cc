// What meshctl shows, from JSON to text.
#include <doctest/doctest.h>

#include <cmath>

#include "tools/meshctl/completion.h"
#include "tools/meshctl/explain.h"
#include "tools/meshctl/fields.h"
#include "tools/meshctl/plot.h"
#include "tools/meshctl/top.h"

namespace mesh::ctl {
namespace {

const Paint kPlain(false);

TEST_CASE("numbers are told in the unit that people would choose") {
  CHECK(duration_text(0) == "0 µs");
  CHECK(duration_text(2.5) == "2.5 µs");
  CHECK(duration_text(999) == "999 µs");
  CHECK(duration_text(1240) == "1.24 ms");
  CHECK(duration_text(250'000) == "250.0 ms");
  CHECK(duration_text(3'500'000) == "3.50 s");
  CHECK(bytes_text(512) == "512 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(3 << 20) == "3.0 MiB");
}

TEST_CASE("columns line up by what is seen, not by bytes or escapes") {
  const Paint colours(true);
  CHECK(width_of(colours(Tone::kBad, "µs")) == 2);
  CHECK(table({{"a", "1"}, {"µµµ", "22"}}, {1}) == "a     1\nµµµ  22\n");
  CHECK(kPlain(Tone::kGood, "x") == "x");
}

TEST_CASE("a bar is as long as its share, and what is there is seen") {
  CHECK(bar(0, 10).empty());
  CHECK(bar(1, 3) == "███");
  CHECK(bar(0.5, 1) == "▌");
  CHECK(bar(0.0001, 10) == "▏");
}

Json record() {
  return Json::parse(R"({"call":"a/main-7","number":7,"age_ms":12,"caller":{"port":"echo","client":12},"service":"echo",
    "method":"translate","priority":"normal","lane":"interactive",
    "candidates":[{"instance":"b/main","state":"available","in_flight":3,"own_host":false},
                  {"instance":"c/main","state":"draining","in_flight":0,"own_host":false}],
    "chosen":"b/main","why":"fewest in flight","attempts":1,"bytes":{"request":2048,"reply":456},
    "request_batch":{"envelopes":3,"plain_bytes":6000,"wire_bytes":1000,"codec":"zstd"},"reply_batch":null,
    "budget_ms":{"caller":4500.0,"sent":4480.0,"callee":null,"agent":null},
    "result":{"code":"DEADLINE","hop":"b/main","stage":"agent","rule":"deadline_passed"},"total_us":2000,
    "stages":[{"stage":"queue","host":"a/main","us":500},{"stage":"link_out","host":"","us":1400}],
    "clock":{"offset_us":-12,"bound_us":80}})");
}

TEST_CASE("a record becomes a page that says what, why, where and how much") {
  const std::string text = explain_text(record(), kPlain);
  for (const char* told :
       {"a/main-7", "echo/translate", "DEADLINE after 2.00 ms", "b/main, stage agent, by rule deadline_passed",
        "→ b/main  available, 3 in flight; chosen: fewest in flight", "c/main  draining", "link_out", "70.0 %",
        "request 2.0 KiB in a batch of 3, 1000 B on the wire (5.9 KiB before zstd)",
        "4.50 s with the request, 4.48 s sent along", "12 µs behind ± 80 µs",
        "in no stage           100 µs    5.0 %"}) {
    CHECK_MESSAGE(text.find(told) != std::string::npos, told, "\n", text);
  }
}

Sample sample(uint64_t calls, uint64_t us, uint64_t errors) {
  Sample sample;
  for (uint64_t i = 0; i < calls; ++i) sample.services["echo"].latency_us.record(us);
  sample.services["echo"].errors = errors;
  sample.services["echo"].in_flight = 2;
  sample.batches_sent = calls / 2;
  sample.envelopes_sent = calls;
  return sample;
}

TEST_CASE("rates are differences over all sidecars, and a restarted one counts from nothing") {
  const Samples before = {{"a/main", sample(100, 1000, 5)}, {"b/main", sample(1000, 9000, 0)}};
  Samples after = {{"a/main", sample(300, 1000, 6)}, {"b/main", sample(40, 2000, 3)}, {"c/main", sample(10, 1, 0)}};
  const Json result = rates(before, after, 2.0);
  const Json& echo = result["services"][0];
  CHECK(echo["rate"].get<double>() == doctest::Approx((200 + 40 + 10) / 2.0));
  CHECK(echo["errors_per_s"].get<double>() == doctest::Approx((1 + 3) / 2.0));
  CHECK(echo["in_flight"] == 6);
  CHECK(echo["p50_us"].get<double>() == doctest::Approx(1000).epsilon(0.01));
  CHECK(result["mean_batch"].get<double>() == doctest::Approx(2.0));
  const std::string text = rates_text(result, kPlain);
  CHECK(text.find("125.0") != std::string::npos);
}

TEST_CASE("what the admin socket tells becomes a sample") {
  const Sample read =
      sample_of(Json::parse(R"({"services":[{"service":"echo","requests":3,"results":{"OK":2,"DEADLINE":1},
    "in_flight":4,"latency_us":{"count":3,"sum":30,"max":10,"buckets":[[10,3],[99999999,1]]}}],
    "batches":{"sent":5,"envelopes_sent":6,"received":7,"envelopes_received":8}})"));
  CHECK(read.services.at("echo").latency_us.count() == 3);
  CHECK(read.services.at("echo").errors == 1);
  CHECK(read.envelopes_sent == 6);
}

TEST_CASE("the spread of latencies is drawn for every series, as text and as a picture") {
  telemetry::Histogram fast;
  telemetry::Histogram slow;
  for (uint64_t i = 0; i < 1000; ++i) fast.record(100 + i % 20), slow.record(1000 + i % 500);
  const std::vector<Series> series = {{"fast & small", &fast}, {"slow", &slow}};
  const std::string text = spread_text(series);
  CHECK(text.find("fast & small") != std::string::npos);
  // 100 µs to 1500 µs is nearly four octaves, and one where nobody is, is left out.
  CHECK(std::count(text.begin(), text.end(), '\n') > 4);
  const std::string svg = spread_svg("<title>", series);
  CHECK(svg.find("&lt;title&gt;") != std::string::npos);
  CHECK(svg.find("fast &amp; small") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  const telemetry::Histogram none;
  CHECK(spread_text({{"none", &none}}) == "no round trips\n");
  CHECK(spread_svg("none", {{"none", &none}}).find("nan") == std::string::npos);
}

TEST_CASE("a completion script knows the words of each subcommand, and no other shell's") {
  const CommandWords explain{
      .name = "explain",
      .about = "where [the] time went",
      .options = {{.names = {"--slowest"}, .about = "the slowest", .takes_value = true, .value_may_miss = true}},
      .choices = {"bash"},
      .subcommands = {}};
  const CommandWords program{.name = "",
                             .about = "",
                             .options = {{.names = {"-c", "--config"}, .about = "it's a file", .takes_value = true}},
                             .choices = {},
                             .subcommands = {explain}};
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell, program);
    for (const char* word : {"slowest", "explain", "config", "bash"}) {
      CHECK_MESSAGE(script.find(word) != std::string::npos, shell, " ", word);
    }
  }
  CHECK(completion_script("tcsh", program).empty());
}

TEST_CASE("a document of any shape is read, and what is missing counts as nothing") {
  const Json odd = Json::parse(R"({"records":7,"name":"a\u001b[2J\nb","count":-3,"flag":"yes","sum":"9"})");
  CHECK(list_at(odd, "records").empty());
  CHECK(list_at(Json(), "records").empty());
  CHECK(at(odd, "absent").is_null());
  CHECK(at(Json::array(), "absent").is_null());
  CHECK(text_at(odd, "name") == "a\\x1b[2J\\x0ab");
  CHECK(text_at(odd, "count").empty());
  CHECK(count_at(odd, "count") == 0);
  CHECK(number_at(odd, "count") == -3);
  CHECK(number_at(odd, "sum") == 0);
  CHECK_FALSE(flag_at(odd, "flag"));
  CHECK_FALSE(explain_text(odd, kPlain).empty());
  CHECK(sample_of(odd).services.empty());
}

}  // namespace
}  // namespace mesh::ctl
