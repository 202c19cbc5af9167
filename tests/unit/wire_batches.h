// Batches to test with: made of bodies, and read back into bodies or the rule that was broken.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/wire/batch.h"

namespace mesh::wire {

inline constexpr double kSlowLink = 8000;

inline std::string text_of(size_t size, char seed = 'a') {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(seed + i % 23);
  return text;
}

inline Envelope request(uint64_t id, std::string_view body) {
  Envelope envelope;
  envelope.call_id = id;
  envelope.service = "tts";
  envelope.body = Slice::copy_of(body);
  return envelope;
}

inline std::vector<Slice> sealed(BatchEncoder& encoder, Compressor* compressor = nullptr) {
  const auto frames = encoder.seal(compressor);
  return {frames.begin(), frames.end()};
}

inline std::vector<Slice> batch_of(const std::vector<std::string>& bodies, Compressor* compressor = nullptr) {
  BatchEncoder encoder;
  for (size_t i = 0; i < bodies.size(); ++i) encoder.add(request(i + 1, bodies[i]));
  return sealed(encoder, compressor);
}

struct Outcome {
  std::vector<std::string> bodies;
  Error error;  // its rule is empty if all was well
};

inline Outcome decode(const std::vector<Slice>& frames) {
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

inline std::string broken_rule(const std::vector<Slice>& frames) { return decode(frames).error.rule; }

// The batch with its frame 0 changed.
inline std::vector<Slice> with(std::vector<Slice> frames, const std::function<void(std::string&)>& change) {
  std::string first(frames[0].text());
  change(first);
  frames[0] = Slice::copy_of(first);
  return frames;
}

}  // namespace mesh::wire
