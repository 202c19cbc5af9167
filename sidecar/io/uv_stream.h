// A tcp or AF_UNIX connection on libuv. Private to sidecar/io.
#pragma once

#include <uv.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/transport.h"
#include "sidecar/io/read_pool.h"

namespace mesh::io {

class UvListener;
class UvStream;

// What the streams of one loop share.
struct StreamShared {
  uv_loop_t* loop = nullptr;
  ReadPool reads;
  std::vector<UvStream*> to_flush;
  std::vector<UvStream*> to_resume;    // stopped for this turn: they had their share
  std::vector<UvStream*> to_fail;      // ended without a callback of libuv's that could say so
  std::vector<UvListener*> to_accept;  // had their share of this turn
};

// libuv wants the handle's memory until its close callback, the owner may go earlier: so the handle lives by itself.
struct UvHandle {
  union {
    uv_handle_t any;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };
  bool is_pipe = false;
  UvStream* owner = nullptr;

  static UvHandle* open(uv_loop_t* loop, bool is_pipe);
  // Closes, then frees itself.
  void close();
};

class UvStream final : public Stream {
 public:
  UvStream(StreamShared& shared, UvHandle* handle);
  ~UvStream() override;

  void set_observer(StreamObserver* observer) { observer_ = observer; }
  void begin_connect(const Endpoint& endpoint);
  void begin_reading();
  void flush_marked() {
    marked_ = false;
    flush();
  }
  void resume_turn();
  void fail_turn();

  Outbox& out() override { return out_; }
  void flush() override;
  void flush_later() override;
  size_t unsent_bytes() const override {
    return in_write_bytes_ == 0 ? out_.bytes() : out_.bytes() + unwritten_bytes();
  }
  uint64_t handed_bytes() const override { return handed_bytes_; }
  uint64_t accepted_bytes() const override {
    return in_write_bytes_ == 0 ? handed_bytes_ : handed_bytes_ - unwritten_bytes();
  }
  uint64_t acknowledged_bytes() const override;
  void abandon() override;
  void pause_reading() override;
  void resume_reading() override;
  bool is_reading() const override { return !paused_; }
  bool has_unread() const override;
  std::optional<PeerCredentials> credentials() const override;
  uint32_t peer_pid() const override;

 private:
  static void on_alloc(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer);
  static void on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer);
  static void on_written(uv_write_t* request, int status);
  static void on_connected(uv_connect_t* request, int status);
  size_t unwritten_bytes() const;
  void write_when_possible();
  void end(int status);
  void end_later(int status);
  void start_read();

  StreamShared& shared_;
  UvHandle* handle_;
  StreamObserver* observer_ = nullptr;
  Outbox out_;
  size_t in_write_bytes_ = 0;  // of the request that libuv has
  bool congested_ = false;
  uint64_t handed_bytes_ = 0;
  size_t read_this_turn_ = 0;
  std::span<uint8_t> direct_;
  bool connected_ = false;
  bool ended_ = false;
  bool paused_ = false;
  bool resting_ = false;  // stopped until the end of this turn
  bool marked_ = false;
  int failure_ = 0;
};

}  // namespace mesh::io
