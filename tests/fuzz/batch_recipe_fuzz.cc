// A batch as a sidecar would send it: unspoilt it means what was put in; with a few bytes changed it ends in envelopes
// or in one error.
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/batch.h"
#include "tests/fuzz/recipe.h"

namespace {

using namespace mesh;
using wire::Envelope;

// What the envelopes of a batch point to.
struct Kept {
  std::deque<std::string> texts;
  std::deque<Error> errors;
  std::deque<wire::Hello> hellos;
  std::deque<wire::CalleeSpans> spans;
  std::deque<wire::Delivery> deliveries;

  std::string_view text(std::string_view bytes) { return texts.emplace_back(bytes); }
};

Slice body_of(fuzz::Recipe& recipe) {
  switch (recipe.choose(4)) {
    case 0:
      return {};
    case 1:
      return Slice::copy_of(recipe.bytes(600));
    case 2:  // compresses well
      return Slice::copy_of(
          std::string(recipe.number() % (3 * limits::inline_body_bytes), static_cast<char>(recipe.byte())));
    default:  // does not
      std::string noise(recipe.number() % (3 * limits::inline_body_bytes), '\0');
      uint32_t state = recipe.byte();
      for (char& each : noise) each = static_cast<char>((state = state * 1'664'525 + 1'013'904'223) >> 24);
      return Slice::copy_of(noise);
  }
}

std::vector<uint32_t> parts_of(fuzz::Recipe& recipe, size_t body_bytes) {
  std::vector<uint32_t> sizes;
  const size_t count = recipe.choose(limits::frames_per_message_max + 1);
  for (size_t i = 0; i < count; ++i) {
    const size_t size = i + 1 == count ? body_bytes : recipe.number() % (body_bytes + 1);
    sizes.push_back(static_cast<uint32_t>(size));
    body_bytes -= size;
  }
  return sizes;
}

Envelope envelope_of(fuzz::Recipe& recipe, Kept& kept) {
  Envelope envelope;
  envelope.kind = static_cast<wire::Kind>(1 + recipe.choose(7));
  envelope.call_id = recipe.number();
  if (envelope.kind == wire::Kind::kHello) {
    wire::Hello& hello = kept.hellos.emplace_back();
    hello.epoch = recipe.number();
    hello.features = recipe.number();
    hello.host = recipe.text(limits::name_bytes);
    hello.sidecar = recipe.text(limits::name_bytes);
    hello.link_ns_per_kib = static_cast<uint32_t>(recipe.number());
    envelope.hello = &hello;
  } else if (envelope.kind == wire::Kind::kRequest) {
    envelope.service = kept.text(recipe.text(limits::name_bytes));
    envelope.method = kept.text(recipe.text(limits::name_bytes));
    envelope.budget_us = recipe.number() % (limits::budget_ms_max * 1000);
    envelope.priority = static_cast<Priority>(recipe.choose(3));
    if (recipe.choose(2) == 1) {
      wire::Delivery& delivery = kept.deliveries.emplace_back();
      delivery.attempt = static_cast<uint32_t>(1 + recipe.choose(255));
      delivery.key = kept.text(recipe.text(limits::name_bytes));
      delivery.caller = kept.text(recipe.text(limits::caller_bytes));
      delivery.is_sensitive = recipe.choose(2) == 1;
      envelope.delivery = &delivery;
    }
  } else if (envelope.kind == wire::Kind::kReply) {
    envelope.code = static_cast<Code>(recipe.choose(kCodeCount));
    if (envelope.code != Code::kOk) {
      Error& error = kept.errors.emplace_back();
      error.text = recipe.text(300);
      error.hop = recipe.text(limits::name_bytes);
      error.rule = recipe.text(limits::name_bytes);
      envelope.error = &error;
    }
    if (recipe.choose(2) == 1) {
      envelope.spans = &kept.spans.emplace_back(
          wire::CalleeSpans{recipe.number(), static_cast<uint32_t>(recipe.number()),
                            static_cast<uint32_t>(recipe.number()), static_cast<uint32_t>(recipe.number())});
    }
  }
  if (envelope.kind == wire::Kind::kRequest || envelope.kind == wire::Kind::kReply) {
    envelope.body = body_of(recipe);
    envelope.part_sizes = parts_of(recipe, envelope.body.size());
  }
  return envelope;
}

void check_same(const Envelope& sent, const Envelope& got) {
  MESH_CHECK(got.kind == sent.kind && got.call_id == sent.call_id);
  MESH_CHECK(got.service == sent.service && got.method == sent.method);
  MESH_CHECK(got.budget_us == sent.budget_us && got.priority == sent.priority && got.code == sent.code);
  MESH_CHECK(got.body.text() == sent.body.text() && got.part_sizes == sent.part_sizes);
  MESH_CHECK((got.hello != nullptr) == (sent.hello != nullptr));
  if (sent.hello != nullptr) MESH_CHECK(got.hello->host == sent.hello->host && got.hello->epoch == sent.hello->epoch);
  if (sent.error != nullptr) MESH_CHECK(got.error != nullptr && got.error->rule == sent.error->rule);
  if (sent.delivery != nullptr) {
    MESH_CHECK(got.delivery != nullptr && got.delivery->key == sent.delivery->key);
    MESH_CHECK(got.delivery->caller == sent.delivery->caller && got.delivery->attempt == sent.delivery->attempt);
  }
  if (sent.spans != nullptr) MESH_CHECK(got.spans != nullptr && got.spans->agent_us == sent.spans->agent_us);
}

// Changes, cuts or lengthens some bytes, or puts a frame in another's place; false if nothing was to be changed.
bool spoil(fuzz::Recipe& recipe, std::vector<Slice>& frames) {
  bool is_spoilt = false;
  while (!recipe.is_used_up()) {
    std::string bytes(frames[recipe.choose(frames.size())].text());
    Slice& frame = frames[recipe.choose(frames.size())];
    if (bytes.empty()) bytes = "?";
    const size_t at = recipe.number() % bytes.size();
    switch (recipe.choose(4)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << recipe.choose(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(recipe.byte());
        break;
      case 2:
        bytes.resize(at);
        break;
      default:
        bytes.insert(at, recipe.text(20));
        break;
    }
    frame = Slice::copy_of(bytes);
    is_spoilt = true;
  }
  return is_spoilt;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Recipe recipe(data, size);
  Kept kept;
  std::deque<Envelope> sent;
  wire::BatchEncoder encoder;
  std::optional<wire::Compressor> compressor;
  if (recipe.choose(2) == 1) compressor.emplace(wire::CompressionMode::kAlways, 8);
  for (size_t count = 1 + recipe.choose(12); count > 0; --count) {
    Envelope envelope = envelope_of(recipe, kept);
    if (!encoder.fits(envelope.body.size())) break;
    encoder.add(envelope);
    sent.push_back(std::move(envelope));
  }
  const auto sealed = encoder.seal(compressor ? &*compressor : nullptr);
  if (encoder.wants_sealing_time()) encoder.set_sealing_time(7);
  std::vector<Slice> frames(sealed.begin(), sealed.end());
  const bool is_spoilt = spoil(recipe, frames);

  wire::BatchDecoder decoder;
  const auto begun = decoder.begin(frames);
  MESH_CHECK(is_spoilt || begun);
  if (!begun) return 0;
  size_t got = 0;
  while (true) {
    const auto envelope = decoder.next();
    MESH_CHECK(is_spoilt || envelope);
    if (!envelope || *envelope == nullptr) break;
    if (!is_spoilt) check_same(sent[got], **envelope);
    MESH_CHECK((*envelope)->body.size() <= limits::message_bytes);
    ++got;
  }
  MESH_CHECK(is_spoilt || got == sent.size());
  MESH_CHECK(got <= limits::batch_envelopes_max);
  return 0;
}
