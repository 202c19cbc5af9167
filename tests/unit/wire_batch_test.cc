#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/wire/batch.h"
#include "common/wire/batch_layout.h"
#include "tests/unit/wire_batches.h"

namespace mesh::wire {
namespace {

TEST_CASE("bodies around every border come back byte for byte, plain and compressed") {
  const size_t border = limits::inline_body_bytes;
  const std::vector<std::string> bodies = {"",
                                           "x",
                                           text_of(127),
                                           text_of(128),
                                           text_of(255),
                                           text_of(256),
                                           text_of(border - 1),
                                           text_of(border),
                                           text_of(border + 1),
                                           text_of(64 * limits::KiB),
                                           std::string("\xFF\x00\xC0", 3)};
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
  while (encoder.fits(limits::inline_body_bytes + 1))
    encoder.add(request(++count, text_of(limits::inline_body_bytes + 1)));
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

TEST_CASE("the time that compressing took arrives with the batch, also where it did not pay") {
  Prng prng(5);
  std::string noise(100'000, '\0');
  for (char& c : noise) c = static_cast<char>(prng.below(256));
  std::string words;
  while (words.size() < 100'000) words += std::to_string(words.size() * words.size()) + " and so on; ";
  for (const std::string& body : {words, text_of(2000), noise}) {
    Compressor always(CompressionMode::kAlways, kSlowLink);
    BatchEncoder encoder;
    encoder.add(request(1, body));
    const std::vector<Slice> frames = sealed(encoder, &always);
    REQUIRE(encoder.wants_sealing_time());
    encoder.set_sealing_time(0x01020304);
    BatchDecoder decoder;
    REQUIRE(decoder.begin(frames));
    const auto envelope = decoder.next();
    REQUIRE(envelope);
    CHECK((*envelope)->body.text() == body);
    CHECK(decoder.shape().sealing_us == 0x01020304);
    CHECK(decoder.shape().wire_bytes == encoder.shape().wire_bytes);
    CHECK(decoder.shape().is_zstd == encoder.shape().is_zstd);
    CHECK(decoder.shape().is_zstd == (body != noise));
    CHECK(decoder.next().value() == nullptr);
    if (body == noise) CHECK(decoder.shape().wire_bytes == decoder.shape().plain_bytes);
    if (body != noise) CHECK(decoder.shape().wire_bytes * 3 / 2 < decoder.shape().plain_bytes);
  }
}

TEST_CASE("a batch that nothing was compressed of carries no time") {
  Compressor never(CompressionMode::kNever, 0);
  for (Compressor* compressor : {static_cast<Compressor*>(nullptr), &never}) {
    BatchEncoder encoder;
    encoder.add(request(1, text_of(2000)));
    const std::vector<Slice> frames = sealed(encoder, compressor);
    CHECK_FALSE(encoder.wants_sealing_time());
    CHECK(frames[0].text()[3] == 0);
  }
}

}  // namespace
}  // namespace mesh::wire
