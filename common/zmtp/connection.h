// One ZMTP 3.0/3.1 peer as a value: bytes in, messages out; messages in, bytes out.
//
// The life of a connection: both sides send a greeting, then the mechanism's commands, then messages, with PING, PONG
// and ERROR in between. PINGs are answered here and never reach the caller, also between the frames of one message.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/instant.h"
#include "common/base/limits.h"
#include "common/base/outbox.h"
#include "common/base/result.h"
#include "common/base/token_bucket.h"
#include "common/zmtp/command.h"
#include "common/zmtp/frame.h"
#include "common/zmtp/mechanism.h"

namespace mesh::zmtp {

struct Settings {
  SocketType own_type = SocketType::kRouter;
  std::vector<SocketType> accepted_peers;  // any other gets an ERROR that names these
  std::string identity;
  // Says READY only when the peer has, as a side should that may turn away who is not ready yet.
  bool answers_ready = false;
  // A message that grows beyond this is given without the bodies that were too much, and marked.
  size_t message_bytes = limits::message_bytes;
  size_t frames_max = limits::frames_per_message_max;
  // What is beyond these two is read over and the message marked, up to here; beyond that the connection ends.
  size_t surplus_frames_max = 0;
  size_t read_over_bytes = limits::message_bytes;
};

// A whole message. The frames keep their own blocks.
struct Message {
  std::array<Slice, limits::frames_per_reply_max> slots;
  size_t count = 0;
  size_t bytes = 0;           // kept
  size_t dropped_bytes = 0;   // of bodies too large to keep: their frames are empty
  size_t dropped_frames = 0;  // that came behind the last one that could be kept

  std::span<const Slice> frames() const { return {slots.data(), count}; }
};

class Connection {
 public:
  // `out` receives what this side has to say and must outlive the connection. The greeting is put there at once.
  Connection(Settings settings, Outbox& out, Instant now);

  // Bytes from the peer; everything fed before must have been used: next() returned null.
  void feed(Slice bytes, Instant now);
  // Large bodies are read in place: see FrameDecoder.
  std::span<uint8_t> read_target() { return decoder_.read_target(); }
  void commit(size_t count, Instant now);

  // The next whole message, null if more bytes are needed; valid until the next call. An error is final: `out` may hold
  // an ERROR command for the peer; flush it and close.
  Result<const Message*> next();

  // Handshake done: messages may be put.
  bool ready() const { return state_ == State::kReady; }
  const ReadyProperties& peer() const;
  uint8_t peer_minor() const { return peer_greeting_.minor; }

  // Puts one message. Only when ready().
  void send(std::span<const Slice> frames);
  // Asks the peer for a PONG with this context. False, and nothing is sent, if it speaks 3.0, which has no PING.
  bool ping(uint16_t ttl_deciseconds, ByteView context);
  // Held of a message that is not whole yet; each of its frames counts as at least one byte.
  size_t unfinished_bytes() const {
    return message_done_ ? 0 : message_.bytes + message_.count + message_.dropped_frames + decoder_.gathered_bytes();
  }
  // What that message will have at least, by its frames so far.
  size_t declared_bytes() const { return message_done_ ? 0 : message_.bytes + decoder_.declared_bytes(); }
  uint64_t pongs_received() const { return pongs_received_; }
  const std::string& last_pong_context() const { return last_pong_context_; }

  // When judge() wants to be called: the end of the handshake's time, or of the TTL that the peer gave in a PING.
  Instant next_deadline() const;
  // DEADLINE if the handshake took too long or a peer that promised traffic by TTL went silent.
  Result<void> judge(Instant now) const;

 private:
  enum class State : uint8_t { kGreeting, kHandshake, kReady, kFailed };

  Result<void> receive_greeting();
  Result<void> receive_command(ByteView body);
  Result<void> receive_handshake(const Command& command);
  Unexpected refuse(Error error);

  Settings settings_;
  Outbox* out_;
  State state_ = State::kGreeting;
  Instant handshake_deadline_;
  Instant heard_at_;
  Duration ttl_{0};
  TokenBucket commands_{limits::commands_burst, limits::commands_per_second};
  std::array<uint8_t, 64> greeting_{};
  size_t greeting_have_ = 0;
  Slice early_;  // what came behind the greeting in the same read
  struct PeerGreeting {
    uint8_t minor = 0;
  } peer_greeting_;
  FrameDecoder decoder_;
  Mechanism mechanism_;
  Message message_;
  bool message_done_ = true;
  uint64_t pongs_received_ = 0;
  std::string last_pong_context_;
};

}  // namespace mesh::zmtp
