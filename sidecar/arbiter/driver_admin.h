// The admin socket: a line in, its answer out, closed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/transport.h"

namespace mesh::arbiter {

class DriverAdmin final : public AcceptObserver {
 public:
  using Answer = std::function<std::string(std::string_view line)>;
  // The transport outlives it.
  static Result<std::unique_ptr<DriverAdmin>> open(Transport& transport, const std::string& path, Answer answer);

  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override;
  // Closes who is through, or had his time.
  void on_time(Instant now);
  Instant next_deadline() const;

 private:
  static constexpr size_t kVisitorsMax = 16;
  static constexpr size_t kLineBytesMax = 256;
  static constexpr int64_t kVisitMs = 2000;

  struct Visitor final : StreamObserver {
    Visitor(DriverAdmin& to, std::unique_ptr<Stream> from, Instant until)
        : admin(to), stream(std::move(from)), deadline(until) {}
    void on_bytes(Slice bytes) override;
    void on_drained() override { leave(); }
    void on_closed(std::string_view) override { leave(); }
    void leave() { deadline = Instant{}; }

    DriverAdmin& admin;
    std::unique_ptr<Stream> stream;
    Instant deadline;
    std::string line{};
    bool is_answered = false;
  };
  DriverAdmin(Transport& transport, Answer answer) : transport_(transport), answer_(std::move(answer)) {}

  Transport& transport_;
  Answer answer_;
  std::vector<std::unique_ptr<Visitor>> visitors_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace mesh::arbiter
