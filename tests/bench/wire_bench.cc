// What one envelope costs on its way into and out of a batch, and what compression costs per byte.
#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/base/prng.h"
#include "common/wire/batch.h"
#include "common/wire/compression.h"

namespace {

using mesh::Slice;
using namespace mesh::wire;

constexpr size_t kBatch = 32;  // about what one turn has under load

Slice body_of(size_t size) { return Slice::copy_of(std::string(size, 'x')); }

Envelope request(const Slice& body) {
  Envelope envelope;
  envelope.call_id = 123'456;
  envelope.service = "translation";
  envelope.method = "translate";
  envelope.budget_us = 4'480'000;
  envelope.body = body;
  return envelope;
}

Envelope reply(const Slice& body) {
  Envelope envelope;
  envelope.kind = Kind::kReply;
  envelope.call_id = 123'456;
  envelope.body = body;
  return envelope;
}

// Sealing is counted in: its share of one envelope is part of the price.
void add(benchmark::State& state, const Envelope& envelope) {
  BatchEncoder encoder;
  for (auto _ : state) {
    for (size_t i = 0; i < kBatch; ++i) encoder.add(envelope);
    benchmark::DoNotOptimize(encoder.seal(nullptr).data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBatch));
}

void next(benchmark::State& state, const Envelope& envelope) {
  BatchEncoder encoder;
  for (size_t i = 0; i < kBatch; ++i) encoder.add(envelope);
  const auto frames = encoder.seal(nullptr);
  BatchDecoder decoder;
  for (auto _ : state) {
    MESH_CHECK(decoder.begin(frames).has_value());
    while (const Envelope* decoded = decoder.next().value()) benchmark::DoNotOptimize(decoded->body.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBatch));
}

size_t bytes_of(const benchmark::State& state) { return static_cast<size_t>(state.range(0)); }

void add_request(benchmark::State& state) { add(state, request(body_of(bytes_of(state)))); }
void add_reply(benchmark::State& state) { add(state, reply(body_of(bytes_of(state)))); }
void next_request(benchmark::State& state) { next(state, request(body_of(bytes_of(state)))); }
void next_reply(benchmark::State& state) { next(state, reply(body_of(bytes_of(state)))); }

// One envelope per batch: what one outstanding call pays at each end.
void alone(benchmark::State& state) {
  BatchEncoder encoder;
  BatchDecoder decoder;
  const Envelope envelope = request(body_of(bytes_of(state)));
  for (auto _ : state) {
    encoder.add(envelope);
    MESH_CHECK(decoder.begin(encoder.seal(nullptr)).has_value());
    while (const Envelope* decoded = decoder.next().value()) benchmark::DoNotOptimize(decoded->body.data());
  }
  state.SetItemsProcessed(state.iterations());
}

// JSON as agents write it, with words drawn at random.
std::string json_of(size_t size) {
  constexpr std::array<const char*, 8> words = {"speech",  "vision", "memory", "session",
                                                "context", "score",  "model",  "text"};
  mesh::Prng prng(1);
  std::string json = "{";
  while (json.size() < size) {
    json += '"';
    json += words[prng.below(words.size())];
    json += "\": {\"id\": " + std::to_string(prng.next() % 1'000'000) + ", \"text\": \"";
    for (int i = 0; i < 6; ++i) json += std::string(words[prng.below(words.size())]) + ' ';
    json += "\"}, ";
  }
  return json.substr(0, size);
}

// Random letters of base64, as images travel in JSON: hardly anything repeats.
std::string base64_of(size_t size) {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  mesh::Prng prng(1);
  std::string text;
  while (text.size() < size) text += letters[prng.below(letters.size())];
  return text;
}

void compress_and_decompress(benchmark::State& state, const std::string& text) {
  Compressor compressor(CompressionMode::kAlways, 8);
  double ratio = 1;
  for (auto _ : state) {
    const auto compressed = compressor.compress(mesh::as_bytes(text));
    MESH_CHECK(compressed.has_value());
    ratio = static_cast<double>(compressed->size()) / static_cast<double>(text.size());
    benchmark::DoNotOptimize(decompress(compressed->view(), text.size()).value().data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["ratio"] = ratio;
}

void zstd_json(benchmark::State& state) { compress_and_decompress(state, json_of(bytes_of(state))); }
void zstd_base64(benchmark::State& state) { compress_and_decompress(state, base64_of(bytes_of(state))); }

BENCHMARK(add_request)->Arg(128)->Arg(1024)->Arg(4096);
BENCHMARK(add_reply)->Arg(128)->Arg(1024)->Arg(4096);
BENCHMARK(next_request)->Arg(128)->Arg(1024)->Arg(4096);
BENCHMARK(next_reply)->Arg(128)->Arg(1024)->Arg(4096);
BENCHMARK(alone)->Arg(128)->Arg(1024)->Arg(65536);
BENCHMARK(zstd_json)->Arg(1024)->Arg(16 * 1024)->Arg(128 * 1024)->Arg(1024 * 1024);
BENCHMARK(zstd_base64)->Arg(1024)->Arg(16 * 1024)->Arg(128 * 1024)->Arg(1024 * 1024);

}  // namespace

BENCHMARK_MAIN();
