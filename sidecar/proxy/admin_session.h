// One connection to the admin socket: a line in, the answer out, closed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/limits.h"
#include "sidecar/proxy/session.h"

namespace mesh::proxy {

class AdminSession final : public Session {
 public:
  // The answer to a line; nothing if it comes later, by answer().
  using Answer = std::function<std::optional<std::string>(std::string_view line, AdminSession& admin)>;

  AdminSession(SessionHost& host, std::unique_ptr<Stream> stream, Answer answer)
      : host_(host), stream_(std::move(stream)), answer_(std::move(answer)) {}

  // Whoever asks; nothing where that cannot be known.
  std::optional<PeerCredentials> credentials() const { return stream_->credentials(); }
  void answer(std::string_view text) {
    host_.set_deadline(*this, host_.now() + milliseconds(limits::handshake_ms));
    stream_->out().put(as_bytes(text));
    stream_->flush();
    if (stream_->unsent_bytes() == 0) host_.retire(*this);
  }

  void on_bytes(Slice bytes) override {
    line_ += bytes.text();
    const size_t end = line_.find('\n');
    if (end == std::string::npos && line_.size() <= limits::admin_line_bytes) return;
    stream_->pause_reading();
    if (end > limits::admin_line_bytes) {
      return refuse(rule_broken(Code::kInvalid, "admin_line",
                                "a line has at most " + std::to_string(limits::admin_line_bytes) + " bytes"));
    }
    std::string_view line = std::string_view(line_).substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto at_once = answer_(line, *this);
    if (at_once) return answer(*at_once);
    waits_ = true;
    host_.set_deadline(*this, host_.now() + milliseconds(limits::admin_answer_ms));
  }
  void on_drained() override { host_.retire(*this); }
  void on_closed(std::string_view) override { host_.retire(*this); }
  void on_time(Instant) override {
    refuse(rule_broken(Code::kDeadline, "admin_timeout", "the line was not there, or its answer not read, in time"));
  }
  bool is_newcomer() const override { return !waits_; }
  void refuse(const Error& error) override {
    host_.report("admin", error);
    host_.retire(*this);
  }

 private:
  SessionHost& host_;
  std::unique_ptr<Stream> stream_;
  Answer answer_;
  std::string line_;
  bool waits_ = false;  // for its answer
};

}  // namespace mesh::proxy
