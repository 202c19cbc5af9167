// A ZMTP peer that knows its greeting and then says frames and commands that are nearly right. Whatever the pieces in
// which its bytes arrive, it is understood the same.

#include <algorithm>
#include <string>

#include "common/base/check.h"
#include "common/base/prng.h"
#include "common/zmtp/command.h"
#include "common/zmtp/connection.h"
#include "common/zmtp/greeting.h"
#include "tests/fuzz/recipe.h"

namespace {

using namespace mesh;

void put_command(Outbox& out, std::string_view name, ByteView data) {
  std::string body(1, static_cast<char>(name.size()));
  body += name;
  body += as_text(data);
  zmtp::put_frame(out, zmtp::kFlagCommand, as_bytes(body));
}

void put_frame_of(fuzz::Recipe& recipe, Outbox& out) {
  constexpr std::string_view kNames[] = {"READY", "PING", "PONG", "ERROR", "SUBSCRIBE", ""};
  // Some so large that they are read in place.
  const std::string filler(recipe.choose(16) == 0 ? 20'000 + recipe.number() % 20'000 : recipe.number() % 4000, 'f');
  switch (recipe.choose(8)) {
    case 0:
    case 1:
      return zmtp::put_frame(out, recipe.choose(2) == 1 ? zmtp::kFlagMore : 0, recipe.bytes(400));
    case 2:
      return zmtp::put_frame(out, recipe.choose(2) == 1 ? zmtp::kFlagMore : 0, as_bytes(filler));
    case 3:
      return zmtp::put_ping(out, static_cast<uint16_t>(recipe.number()), recipe.bytes(20));
    case 4:
      return put_command(out, kNames[recipe.choose(std::size(kNames))], recipe.bytes(300));
    case 5:  // a long header for any size
    {
      uint8_t header[zmtp::kLongHeaderBytes] = {static_cast<uint8_t>(zmtp::kFlagLong | recipe.choose(8))};
      const uint64_t claimed = recipe.number();
      for (size_t i = 0; i < 8; ++i) header[8 - i] = static_cast<uint8_t>(claimed >> (8 * i));
      return out.put(ByteView(header));
    }
    case 6:
      return out.put(recipe.bytes(30));
    default:
      return zmtp::put_frame(out, 0, ByteView());
  }
}

std::string stream_of(fuzz::Recipe& recipe) {
  Outbox out;
  const auto greeting = zmtp::encode_greeting({.mechanism = recipe.choose(16) == 0 ? "PLAIN" : "NULL"});
  out.put(ByteView(greeting));
  if (recipe.choose(8) > 0) {
    zmtp::put_ready(out, {.socket_type = static_cast<zmtp::SocketType>(recipe.choose(11)),
                          .identity = std::string(recipe.text(255))});
  }
  while (!recipe.is_used_up()) put_frame_of(recipe, out);
  std::string bytes;
  for (const Slice& chunk : out.chunks()) bytes += chunk.text();
  return bytes;
}

// All that was understood and answered, as one text.
std::string understood(const zmtp::Settings& settings, std::string_view bytes, uint64_t seed) {
  constexpr Instant kStart{milliseconds(1)};
  Prng prng(seed);
  const size_t largest_piece = 1 + prng.below(seed % 2 == 0 ? 20'000 : 40);
  Outbox out;
  zmtp::Connection connection(settings, out, kStart);
  std::string told;
  const auto end = [&](const Error* error) {
    told += error != nullptr ? "! " + error->rule + "\n" : std::string("more\n");
    for (const Slice& chunk : out.chunks()) told += chunk.text();
    return told;
  };
  for (size_t at = 0; at < bytes.size();) {
    size_t take = std::min(bytes.size() - at, 1 + prng.below(largest_piece));
    const auto target = connection.read_target();
    if (!target.empty()) {
      take = std::min(take, target.size());
      std::copy_n(bytes.data() + at, take, target.data());
      connection.commit(take, kStart);
    } else {
      connection.feed(Slice::copy_of(bytes.substr(at, take)), kStart);
    }
    at += take;
    while (true) {
      const auto message = connection.next();
      if (!message) return end(&message.error());
      if (*message == nullptr) break;
      MESH_CHECK((*message)->bytes <= settings.message_bytes);
      told += "message " + std::to_string((*message)->dropped_bytes) + " " + std::to_string((*message)->dropped_frames);
      for (const Slice& frame : (*message)->frames()) told += " " + std::string(frame.text());
      told += "\n";
    }
    // A command may come between the frames of a message that is as large as it may be.
    MESH_CHECK(connection.unfinished_bytes() <= settings.message_bytes + settings.frames_max +
                                                    settings.surplus_frames_max + limits::handshake_command_bytes);
  }
  return end(nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Recipe recipe(data, size);
  const zmtp::Settings settings{
      .own_type = recipe.choose(2) == 0 ? zmtp::SocketType::kRouter : zmtp::SocketType::kDealer,
      .accepted_peers = {zmtp::SocketType::kReq, zmtp::SocketType::kDealer, zmtp::SocketType::kRouter},
      .identity = {},
      .message_bytes = recipe.choose(2) == 0 ? size_t{3000} : size_t{60'000},
      .surplus_frames_max = recipe.choose(2) * 4,
      .read_over_bytes = 100'000};
  const uint64_t seed = recipe.byte();
  const std::string bytes = stream_of(recipe);
  MESH_CHECK(understood(settings, bytes, 2 * seed) == understood(settings, bytes, 2 * seed + 1));
  return 0;
}
