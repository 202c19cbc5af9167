// What goes to the work pool when a turn of the loop ends. Private to sidecar/io.
#pragma once

#include <vector>

struct uv_handle_s;
struct uv_loop_s;

namespace mesh::io {

class TurnWork {
 public:
  // The turn ends: what was asked for in it goes to the pool.
  virtual void submit() = 0;

 protected:
  ~TurnWork() = default;
};

// What the stores of one loop share.
struct StoreShared {
  uv_loop_s* loop = nullptr;
  uv_handle_s* end_of_turn = nullptr;  // keeps the loop alive while a store waits for it
  std::vector<TurnWork*> to_submit;

  void submit_later(TurnWork* work);
  void forget(TurnWork* work);
};

}  // namespace mesh::io
