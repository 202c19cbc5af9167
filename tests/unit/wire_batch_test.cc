#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/wire/batch.h"
#include "common/wire/batch_layout.h"

namespace mesh::wire {
namespace {

constexpr double kSlowLink = 8000;

std::string text_of(size_t size, char seed = 'a') {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(seed + i % 23);
  return text;
}

Envelope request(uint64_t id, std::string_view body) {
  Envelope envelope;
  envelope.call_id = id;
  envelope.service = "tts";
  envelope.body = Slice::copy_of(body);
  return envelope;
}

std::vector<Slice> sealed(BatchEncoder& encoder, Compressor* compressor = nullptr) {
  const auto frames = encoder.seal(compressor);
  return {frames.begin(), frames.end()};
}

std::vector<Slice> batch_of(const std::vector<std::string>& bodies, Compressor* compressor = nullptr) {
  BatchEncoder encoder;
  for (size_t i = 0; i < bodies.size(); ++i) encoder.add(request(i + 1, bodies[i]));
  return sealed(encoder, compressor);
}

struct Outcome {
  std::vector<std::string> bodies;
  Error error;  // its rule is empty if all was well
};

Outcome decode(const std::vector<Slice>& frames) {
  Outcome outcome;
  BatchDecoder decoder;
  if (const Result<void> begun = decoder.begin(frames); !begun) {
    outcome.error = begun.error();
    return outcome;
  }
  while (true) {
    const Result<const Envelope*> envelope = decoder.next();
    if (!envelope) {
      outcome.error = envelope.error();
      const Result<const Envelope*> after = decoder.next();
      CHECK((after.has_value() && *after == nullptr));  // an error is the end
      return outcome;
    }
    if (*envelope == nullptr) return outcome;
    outcome.bodies.emplace_back((*envelope)->body.text());
  }
}

std::string broken_rule(const std::vector<Slice>& frames) { return decode(frames).error.rule; }

// The batch with its frame 0 changed.
std::vector<Slice> with(std::vector<Slice> frames, const std::function<void(std::string&)>& change) {
  std::string first(frames[0].text());
  change(first);
  frames[0] = Slice::copy_of(first);
  return frames;
}

TEST_CASE("bodies around every border come back byte for byte, plain and compressed") {
  const size_t border = limits::inline_body_bytes;
  const std::vector<std::string> bodies = {
      "", "x", text_of(127), text_of(128), text_of(255), text_of(256), text_of(border - 1), text_of(border),
      text_of(border + 1), text_of(64 * limits::KiB), std::string("\xFF\x00\xC0", 3)};
  CHECK(decode(batch_of(bodies)).bodies == bodies);
  Compressor always(CompressionMode::kAlways, kSlowLink);
  const std::vector<Slice> compressed = batch_of(bodies, &always);
  CHECK(compressed[0].data()[2] == static_cast<uint8_t>(Codec::kZstd));
  CHECK(compressed[2].size() < 64 * limits::KiB / 2);
  CHECK(decode(compressed).bodies == bodies);
}

TEST_CASE("records that do not compress stay plain beside a body frame that does") {
  std::string noise(4000, '\0');
  Prng prng(5);
  for (char& c : noise) c = static_cast<char>(prng.next());
  Compressor always(CompressionMode::kAlways, kSlowLink);
  const std::vector<Slice> frames = batch_of({noise, text_of(20'000)}, &always);
  CHECK(frames[0].data()[2] == static_cast<uint8_t>(Codec::kNone));
  CHECK(frames[1].size() < 10'000);
  CHECK(decode(frames).bodies == std::vector<std::string>{noise, text_of(20'000)});
}

TEST_CASE("every kind of envelope comes back with its fields") {
  Hello hello;
  hello.epoch = 77;
  hello.host = "pc2";
  hello.lane = Lane::kBulk;
  Error error;
  error.code = Code::kDeadline;
  error.rule = "deadline_passed";
  BatchEncoder encoder;
  Envelope envelope;
  envelope.kind = Kind::kHello;
  envelope.hello = &hello;
  encoder.add(envelope);
  envelope = request(9, "question");
  envelope.method = "say";
  envelope.budget_us = 1234;
  envelope.priority = Priority::kCritical;
  envelope.part_sizes = {5, 0, 3};
  encoder.add(envelope);
  envelope = Envelope();
  envelope.kind = Kind::kReply;
  envelope.call_id = 9;
  envelope.code = error.code;
  envelope.error = &error;
  encoder.add(envelope);
  envelope = Envelope();
  envelope.kind = Kind::kPing;
  envelope.call_id = UINT64_MAX;
  encoder.add(envelope);

  BatchDecoder decoder;
  REQUIRE(decoder.begin(encoder.seal(nullptr)));
  const Envelope* decoded = decoder.next().value();
  REQUIRE(decoded->kind == Kind::kHello);
  CHECK(decoded->hello->version == kVersion);
  CHECK(decoded->hello->epoch == 77);
  CHECK(decoded->hello->host == "pc2");
  CHECK(decoded->hello->lane == Lane::kBulk);
  decoded = decoder.next().value();
  REQUIRE(decoded->kind == Kind::kRequest);
  CHECK(decoded->hello == nullptr);
  CHECK(decoded->call_id == 9);
  CHECK(decoded->service == "tts");
  CHECK(decoded->method == "say");
  CHECK(decoded->budget_us == 1234);
  CHECK(decoded->priority == Priority::kCritical);
  CHECK(decoded->part_sizes == std::vector<uint32_t>{5, 0, 3});
  CHECK(decoded->body.text() == "question");
  decoded = decoder.next().value();
  REQUIRE(decoded->kind == Kind::kReply);
  CHECK(decoded->part_sizes.empty());
  CHECK(decoded->body.empty());
  CHECK(decoded->priority == Priority::kNormal);
  REQUIRE(decoded->error != nullptr);
  CHECK(decoded->error->code == Code::kDeadline);
  CHECK(decoded->error->rule == "deadline_passed");
  decoded = decoder.next().value();
  CHECK(decoded->kind == Kind::kPing);
  CHECK(decoded->call_id == UINT64_MAX);
  CHECK(decoded->error == nullptr);
  CHECK(decoder.next().value() == nullptr);
}

TEST_CASE("a large body is neither copied on its way in nor on its way out, and a small one is a part of the batch") {
  const Slice large = Slice::copy_of(text_of(100'000));
  Envelope envelope = request(1, "small");
  BatchEncoder encoder;
  encoder.add(envelope);
  envelope.body = large;
  encoder.add(envelope);
  const std::vector<Slice> frames = sealed(encoder);
  REQUIRE(frames.size() == 2);
  CHECK(frames[1].data() == large.data());
  BatchDecoder decoder;
  REQUIRE(decoder.begin(frames));
  const Slice small = decoder.next().value()->body;
  CHECK(small.data() > frames[0].data());
  CHECK(small.data() < frames[0].data() + frames[0].size());
  CHECK(decoder.next().value()->body.data() == large.data());
}

TEST_CASE("a body outlives its batch and its decoder") {
  Slice body;
  {
    BatchDecoder decoder;
    REQUIRE(decoder.begin(batch_of({"kept", "other"})));
    body = decoder.next().value()->body;
  }
  CHECK(body.text() == "kept");
}

TEST_CASE("after the end the decoder holds no frame, also when the end was an error") {
  const auto references_after = [](std::vector<Slice> frames, BatchDecoder& decoder) {
    BlockRef block = Block::allocate(frames[0].size());
    std::memcpy(block->data(), frames[0].data(), frames[0].size());
    frames[0] = Slice(block, block->data(), frames[0].size());
    REQUIRE(decoder.begin(frames));
    while (decoder.next().value_or(nullptr) != nullptr) continue;
    frames.clear();
    return block->references();
  };
  BatchDecoder decoder;
  CHECK(references_after(batch_of({"a", "b"}), decoder) == 1);
  CHECK(references_after(with(batch_of({"a", "b"}), [](std::string& first) { first += "?"; }), decoder) == 1);
}

TEST_CASE("steady traffic is encoded in the same memory again, unless the frames are still held") {
  BatchEncoder encoder;
  encoder.add(request(1, text_of(1000)));
  const uint8_t* const memory = encoder.seal(nullptr).front().data();
  for (uint64_t i = 0; i < 10; ++i) {
    encoder.add(request(i, text_of(1000)));
    CHECK(encoder.seal(nullptr).front().data() == memory);
  }
  encoder.add(request(1, "held"));
  const std::vector<Slice> held = sealed(encoder);
  encoder.add(request(2, "next"));
  CHECK(encoder.seal(nullptr).front().data() != held.front().data());
  CHECK(decode(held).bodies == std::vector<std::string>{"held"});
}

TEST_CASE("the memory of one large burst is given back when small batches follow, and at once by shrink") {
  BatchEncoder encoder;
  const auto burst = [&] {
    for (uint64_t i = 0; i < 30; ++i) encoder.add(request(i, text_of(limits::inline_body_bytes)));
    return encoder.seal(nullptr).front().held_bytes();
  };
  CHECK(burst() > 200 * limits::KiB);
  size_t held = 0;
  for (int i = 0; i < 60; ++i) {
    encoder.add(request(1, "small"));
    held = encoder.seal(nullptr).front().held_bytes();
  }
  CHECK(held <= 32 * limits::KiB);

  const BlockRef large = Block::allocate(50'000);
  std::memset(large->data(), 'x', large->capacity());
  Envelope envelope = request(1, "");
  envelope.body = Slice(large, large->data(), large->capacity());
  encoder.add(envelope);
  envelope.body = Slice();
  encoder.seal(nullptr);
  CHECK(large->references() == 2);
  encoder.shrink();
  CHECK(large->references() == 1);

  encoder.add(request(1, "waits"));
  encoder.shrink();  // has no effect on what waits to be sent
  CHECK(decode(sealed(encoder)).bodies == std::vector<std::string>{"waits"});
}

TEST_CASE("a batch is full by bytes, by envelopes or by body frames, and an empty one takes any body") {
  BatchEncoder encoder;
  CHECK(encoder.fits(limits::message_bytes));
  CHECK(encoder.bytes() == 0);
  encoder.add(request(1, text_of(limits::batch_bytes + 1)));
  CHECK_FALSE(encoder.fits(0));
  CHECK(decode(sealed(encoder)).bodies.at(0).size() == limits::batch_bytes + 1);

  size_t count = 0;
  while (encoder.fits(0)) encoder.add(request(++count, ""));
  CHECK(count == limits::batch_envelopes_max);
  CHECK(decode(sealed(encoder)).bodies.size() == count);

  count = 0;
  while (encoder.fits(limits::inline_body_bytes + 1)) encoder.add(request(++count, text_of(limits::inline_body_bytes + 1)));
  CHECK(count == limits::batch_body_frames_max);
  CHECK(encoder.fits(limits::inline_body_bytes));
  const std::vector<Slice> frames = sealed(encoder);
  CHECK(frames.size() == limits::frames_per_message_max);
  CHECK(decode(frames).bodies.size() == count);

  count = 0;
  while (encoder.fits(8000)) encoder.add(request(++count, text_of(8000)));
  CHECK(count == (limits::batch_bytes - limits::envelope_bytes) / 8020);
  CHECK(encoder.bytes() <= limits::batch_bytes);
  CHECK(decode(sealed(encoder)).bodies.size() == count);
}

TEST_CASE("whatever fits, in any mixture, is accepted at the other end") {
  Prng prng(11);
  Compressor compressor(CompressionMode::kAuto, kSlowLink);
  BatchEncoder encoder;
  Error error;
  error.code = Code::kInternal;
  error.text = error.hint = std::string(100'000, 'e');
  const std::string longest_name(limits::name_bytes, 'n');
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> bodies;
    for (size_t size = 0; encoder.fits(size); size = prng.below(uint64_t{1} << prng.below(19))) {
      Envelope envelope = request(prng.next(), text_of(size, static_cast<char>(prng.next())));
      envelope.service = envelope.method = longest_name;
      envelope.kind = prng.below(2) == 0 ? Kind::kRequest : Kind::kReply;
      if (envelope.kind == Kind::kReply) envelope.code = error.code;
      if (envelope.kind == Kind::kReply) envelope.error = &error;
      encoder.add(envelope);
      bodies.emplace_back(envelope.body.text());
    }
    const Outcome outcome = decode(sealed(encoder, prng.below(2) == 0 ? &compressor : nullptr));
    CHECK(outcome.error.rule == "");
    REQUIRE(outcome.bodies == bodies);
  }
}

TEST_CASE("a header that lies is refused by the rule that it breaks") {
  const std::vector<Slice> good = batch_of({"a", text_of(10'000), "b"});
  const auto changed = [&](size_t offset, char value) {
    return broken_rule(with(good, [&](std::string& first) { first[offset] = value; }));
  };
  REQUIRE(broken_rule(good) == "");
  CHECK(broken_rule({}) == "batch_header");
  CHECK(broken_rule({Slice()}) == "batch_header");
  CHECK(broken_rule(with(good, [](std::string& first) { first.resize(7); })) == "batch_header");
  CHECK(changed(0, 'N') == "batch_header");
  CHECK(changed(1, 2) == "batch_version");
  CHECK(changed(2, 2) == "batch_codec");
  CHECK(changed(2, 1) == "zstd_broken");
  CHECK(changed(3, 1) == "batch_flags");
  CHECK(changed(4, 1) == "batch_count");  // 259
  CHECK(changed(5, 0) == "batch_count");
  CHECK(changed(5, 2) == "batch_trailing");
  CHECK(changed(5, 4) == "envelope_truncated");
  CHECK(changed(7, 0) == "batch_frames");
  CHECK(changed(7, 2) == "batch_frames");
}

TEST_CASE("as many frames as a message may have are the most, even if the header says more") {
  std::vector<Slice> frames = batch_of({"a"});
  for (size_t i = 0; i < limits::frames_per_message_max; ++i) frames.push_back(Slice::copy_of("frame"));
  frames = with(frames, [](std::string& first) { first[7] = static_cast<char>(limits::frames_per_message_max); });
  CHECK(broken_rule(frames) == "batch_frames");
}

TEST_CASE("a batch cut off anywhere is refused, and what stood before the cut is still good") {
  const std::vector<std::string> bodies = {"first", text_of(300), "third"};
  const std::vector<Slice> good = batch_of(bodies);
  for (size_t size = 0; size < good[0].size(); ++size) {
    const Outcome outcome = decode(with(good, [&](std::string& first) { first.resize(size); }));
    CHECK(outcome.error.rule != "");
    CHECK(outcome.error.code == Code::kInvalid);
    REQUIRE(outcome.bodies.size() < bodies.size());
    for (size_t i = 0; i < outcome.bodies.size(); ++i) CHECK(outcome.bodies[i] == bodies[i]);
  }
}

TEST_CASE("an envelope that declares to be enormous is refused by its length alone") {
  const std::string huge("\xFF\xFF\xFF\xFF\x0F", 5);
  const auto frames = with(batch_of({"a"}), [&](std::string& first) { first.replace(kBatchHeaderBytes, 1, huge); });
  CHECK(broken_rule(frames) == "envelope_too_large");
}

TEST_CASE("a body that is not where or what its envelope says is refused") {
  std::vector<Slice> frames = batch_of({text_of(10'000), text_of(9'000)});
  std::swap(frames[1], frames[2]);
  CHECK(broken_rule(frames) == "body_size");

  frames = batch_of({text_of(10'000), text_of(9'000)});
  frames.pop_back();
  CHECK(broken_rule(with(frames, [](std::string& first) { first[7] = 1; })) == "body_missing");

  frames = batch_of({"a"});
  frames.push_back(Slice::copy_of("nobody's"));
  CHECK(broken_rule(with(frames, [](std::string& first) { first[7] = 1; })) == "batch_trailing");

  CHECK(broken_rule(with(batch_of({"abc"}), [](std::string& first) { first.pop_back(); })) == "body_missing");
}

TEST_CASE("a compressed body frame must hold just as many bytes as its envelope says") {
  Compressor always(CompressionMode::kAlways, kSlowLink);
  std::vector<Slice> frames = batch_of({text_of(20'000)}, &always);
  const std::vector<Slice> longer = batch_of({text_of(20'001)}, &always);
  const std::vector<Slice> shorter = batch_of({text_of(19'999)}, &always);
  REQUIRE(broken_rule(frames) == "");
  frames[1] = longer[1];
  CHECK(broken_rule(frames) == "zstd_too_large");
  frames[1] = shorter[1];
  CHECK(broken_rule(frames) == "body_size");
}

TEST_CASE("several envelopes may not carry more than a batch holds, however it is compressed") {
  Compressor always(CompressionMode::kAlways, kSlowLink);
  std::string text;  // compresses, but not like a bomb
  while (text.size() < 200'000) text += std::to_string(text.size() * text.size()) + " and so on; ";
  const std::vector<Slice> large = batch_of({text}, &always);
  REQUIRE(large[1].size() < text.size() / 2);
  // Two batches of one large body each, made into one of two.
  std::vector<Slice> frames = {large[0], large[1], large[1]};
  frames = with(frames, [&](std::string& first) {
    first += std::string(large[0].text().substr(kBatchHeaderBytes));
    first[5] = 2;
    first[7] = 2;
  });
  const Outcome outcome = decode(frames);
  CHECK(outcome.error.rule == "batch_too_large");
  CHECK(outcome.error.code == Code::kTooLarge);

  std::string filler(limits::batch_bytes + kBatchHeaderBytes + 1, '\0');
  filler.replace(0, kBatchHeaderBytes, large[0].text().substr(0, kBatchHeaderBytes));
  CHECK(broken_rule({Slice::copy_of(filler), large[1]}) == "batch_too_large");
}

TEST_CASE("batches broken at random end in an error or in envelopes, never in anything else") {
  Prng prng(13);
  Compressor always(CompressionMode::kAlways, kSlowLink);
  const std::vector<Slice> plain = batch_of({"a", text_of(300), text_of(10'000), "b"});
  const std::vector<Slice> packed = batch_of({text_of(700), text_of(300), text_of(10'000), "b"}, &always);
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<Slice> frames = with(i % 2 == 0 ? plain : packed, [&](std::string& first) {
      for (uint64_t flips = 1 + prng.below(4); flips > 0; --flips) first[prng.below(first.size())] = static_cast<char>(prng.next());
    });
    const Outcome outcome = decode(frames);
    CHECK(outcome.bodies.size() <= limits::batch_envelopes_max);
    if (!outcome.error.rule.empty()) CHECK_FALSE(outcome.error.text.empty());
  }
}

}  // namespace
}  // namespace mesh::wire
