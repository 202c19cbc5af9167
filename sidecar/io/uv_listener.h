// A listening tcp or AF_UNIX socket on libuv. Private to sidecar/io.
#pragma once

#include <string>

#include "common/base/transport.h"
#include "sidecar/io/uv_stream.h"

namespace mesh::io {

// Hands accepted streams to its observer, at most limits::accepts_per_turn in one turn.
class UvListener final : public Listener {
 public:
  // Takes over `handle`, which is bound. `path` is unlinked at the end, unless it is empty.
  UvListener(StreamShared& shared, UvHandle* handle, AcceptObserver& observer, std::string path);
  ~UvListener() override;

  // libuv's status of the attempt to listen.
  int begin();
  // A new turn: takes in who had to wait.
  void resume_turn();

 private:
  static void on_connection(uv_stream_t* server, int status);
  void accept();

  StreamShared& shared_;
  UvHandle* handle_;
  AcceptObserver& observer_;
  std::string path_;
  size_t accepted_this_turn_ = 0;
  bool one_waits_ = false;
};

}  // namespace mesh::io
