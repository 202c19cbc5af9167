// The world beside the engines, as they need it: byte streams, a timer, the time. libuv implements it (sidecar/io), and
// so can a simulator on virtual time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/endpoint.h"
#include "common/base/instant.h"
#include "common/base/outbox.h"
#include "common/base/result.h"
#include "common/base/slice.h"

namespace mesh {

// Who is at the other end of an AF_UNIX connection, from SO_PEERCRED.
struct PeerCredentials {
  int64_t pid = 0;
  int64_t uid = 0;
  int64_t gid = 0;
};

// Told what happens on one stream. It must outlive the stream, and may destroy the stream in any of these calls.
class StreamObserver {
 public:
  virtual ~StreamObserver() = default;
  // An outgoing connection stands. Not called for accepted ones.
  virtual void on_connected() {}
  // Where the next bytes should go, if the rest of something large is awaited; empty for the loop's own buffer.
  virtual std::span<uint8_t> read_target() { return {}; }
  // `count` bytes were read into read_target().
  virtual void on_target_filled(size_t count) { static_cast<void>(count); }
  // Bytes came in, in the loop's own buffer; the slice may be kept.
  virtual void on_bytes(Slice bytes) = 0;
  // The kernel refused bytes for the first time since the stream was empty. Called within flush(): the stream must not
  // be destroyed here.
  virtual void on_congested() {}
  // Everything put into out() was accepted by the kernel, after some of it had been refused.
  virtual void on_drained() {}
  // The stream ended, or the connection attempt failed. The last call; `reason` is for people, e.g. "ECONNREFUSED".
  virtual void on_closed(std::string_view reason) = 0;
};

// One connection. Destroying it closes it, and nothing is called any more; what was not yet accepted is lost.
class Stream {
 public:
  virtual ~Stream() = default;
  // Bytes put here leave at the next flush.
  virtual Outbox& out() = 0;
  // Writes as much as the kernel takes now; the rest goes as it becomes writable.
  virtual void flush() = 0;
  // Flushes at the end of this turn, once, however often it is asked; at once from limits::flush_at_once_bytes on.
  virtual void flush_later() = 0;
  // Bytes not yet accepted by the kernel.
  virtual size_t unsent_bytes() const = 0;
  // Bytes that may have left: all ever put into out(), less those that certainly did not. Never falls.
  virtual uint64_t handed_bytes() const = 0;
  // Bytes that the kernel has taken, ever.
  virtual uint64_t accepted_bytes() const = 0;
  // Bytes that the other end's kernel has acknowledged, ever; as far as that can be known. A system call.
  virtual uint64_t acknowledged_bytes() const { return accepted_bytes(); }
  // Gives up: what is in out() never leaves, nothing is read and nobody is called any more.
  virtual void abandon() = 0;
  virtual void pause_reading() = 0;
  virtual void resume_reading() = 0;
  virtual bool is_reading() const = 0;
  // Bytes have arrived that were not read yet. A system call.
  virtual bool has_unread() const = 0;
  // Only for AF_UNIX.
  virtual std::optional<PeerCredentials> credentials() const = 0;
  // The process at the other end, over loopback tcp, too; 0 if that is not known. Takes milliseconds.
  virtual uint32_t peer_pid() const { return 0; }
};

// Accepts connections until destroyed.
class Listener {
 public:
  virtual ~Listener() = default;
};

// Called for each accepted connection.
class AcceptObserver {
 public:
  virtual ~AcceptObserver() = default;
  // Gives back the observer of the new stream; null refuses the connection. `stream` is not reading yet.
  virtual StreamObserver* on_accepted(std::unique_ptr<Stream> stream) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // The time of this turn.
  virtual Instant now() = 0;
  // Reads the clock anew, within the turn: after work that took long enough to tell.
  virtual Instant refresh() { return now(); }
  // Calls the turn observer's on_timer at `when` or a little later; at an earlier time if that was armed before. Arm
  // again each time it was called.
  virtual void arm_timer(Instant when) = 0;
  // Listens at once. `mode` are the permissions of an AF_UNIX socket. An Error names the endpoint and what to do.
  virtual Result<std::unique_ptr<Listener>> listen(const Endpoint& endpoint, uint32_t mode,
                                                   AcceptObserver& observer) = 0;
  // Begins to connect; on_connected or on_closed follows, never within this call.
  virtual std::unique_ptr<Stream> connect(const Endpoint& endpoint, StreamObserver& observer) = 0;
};

// Told about turns of the loop: one wait, then everything that had happened.
class TurnObserver {
 public:
  virtual ~TurnObserver() = default;
  virtual void on_timer() = 0;
  // Before the streams marked by flush_later() are flushed and the loop sleeps.
  virtual void on_turn_ending() = 0;
};

}  // namespace mesh
