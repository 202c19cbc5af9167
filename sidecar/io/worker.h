// Calls that take milliseconds, behind the loop: one after the other, in the order in which they were asked for.
#pragma once

#include <deque>
#include <functional>

namespace mesh::io {

class Loop;

class Worker {
 public:
  explicit Worker(Loop& loop) : loop_(loop) {}
  // Waits for the call that is under way; none of the others is made, and nobody is told.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // `work` runs on another thread, `done` then in a turn of the loop.
  void run(std::function<void()> work, std::function<void()> done);
  bool is_idle() const { return jobs_.empty(); }

 private:
  struct Job {
    std::function<void()> work;
    std::function<void()> done;
  };
  struct Request;
  void submit();

  Loop& loop_;
  std::deque<Job> jobs_;  // the first is under way
  Request* request_ = nullptr;
};

}  // namespace mesh::io
