// One connection to the admin socket: a line in, the answer out, closed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "sidecar/proxy/session.h"

namespace mesh::proxy {

class AdminSession final : public Session {
 public:
  using Answer = std::function<std::string(std::string_view line)>;

  AdminSession(SessionHost& host, std::unique_ptr<Stream> stream, Answer answer)
      : host_(host), stream_(std::move(stream)), answer_(std::move(answer)) {}

  void on_bytes(Slice bytes) override {
    line_ += bytes.text();
    const size_t end = line_.find('\n');
    if (end == std::string::npos && line_.size() <= kLineBytesMax) return;
    stream_->pause_reading();
    if (end > kLineBytesMax) return refuse(rule_broken(Code::kInvalid, "admin_line", "a line has at most 256 bytes"));
    std::string_view line = std::string_view(line_).substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    stream_->out().put(as_bytes(answer_(line)));
    stream_->flush();
    if (stream_->unsent_bytes() == 0) host_.retire(*this);
  }
  void on_drained() override { host_.retire(*this); }
  void on_closed(std::string_view) override { host_.retire(*this); }
  void on_time(Instant) override {
    refuse(rule_broken(Code::kDeadline, "admin_timeout", "the line was not there, or its answer not read, in time"));
  }
  bool is_newcomer() const override { return true; }
  void refuse(const Error& error) override {
    host_.report("admin", error);
    host_.retire(*this);
  }

 private:
  static constexpr size_t kLineBytesMax = 256;

  SessionHost& host_;
  std::unique_ptr<Stream> stream_;
  Answer answer_;
  std::string line_;
};

}  // namespace mesh::proxy
