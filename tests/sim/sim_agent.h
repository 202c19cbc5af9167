// An agent that works on what it is asked, takes its time, and tells the simulation.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/zmtp/connection.h"
#include "tests/sim/simulation.h"

namespace mesh::sim {

class SimAgent final : public StreamObserver, public AcceptObserver {
 public:
  // A REP works on one request after the other, a ROUTER on all at once.
  SimAgent(Simulation& simulation, std::string name, int site, const std::string& where, zmtp::SocketType type)
      : simulation_(simulation), name_(std::move(name)), host_(simulation.network(), site, name_), type_(type) {
    listener_ = std::move(*host_.listen({.is_ipc = true, .address = where, .port = 0, .text = where}, 0, *this));
  }

  VirtualHost& host() { return host_; }
  Duration usual_work{microseconds(300)};
  Duration work = usual_work;
  bool dawdles = false;   // now and then it knows the answer long before it gives it
  bool is_stuck = false;  // what it is asked now it never answers

  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
    stream_ = std::move(stream);
    ++life_;
    working_ = false;
    waiting_.clear();
    connection_.emplace(
        zmtp::Settings{.own_type = type_, .accepted_peers = {zmtp::SocketType::kDealer}, .identity = {}},
        stream_->out(), host_.now());
    stream_->flush_later();
    return this;
  }
  void on_bytes(Slice bytes) override {
    connection_->feed(std::move(bytes), host_.now());
    while (true) {
      auto message = connection_->next();
      if (!message || *message == nullptr) break;
      const auto frames = (*message)->frames();
      waiting_.emplace_back(frames.begin(), frames.end());
      begin_work();
    }
    stream_->flush_later();
  }
  void on_closed(std::string_view) override { stream_.reset(), ++life_; }

 private:
  void begin_work() {
    if (waiting_.empty() || (type_ == zmtp::SocketType::kRep && working_)) return;
    std::vector<Slice> frames = std::move(waiting_.front());
    waiting_.pop_front();
    frames.back() = Slice::copy_of(simulation_.on_executed(name_, frames.back().text()));
    working_ = true;
    if (is_stuck) return;
    const bool takes_long = dawdles && ++requests_ % 16 == 0;
    finish_at(simulation_.network().now() + work + milliseconds(takes_long ? 30 : 0), life_, std::move(frames));
  }
  void finish_at(Instant at, uint64_t life, std::vector<Slice> frames) {
    simulation_.network().at(at, [this, life, frames = std::move(frames), alive = std::weak_ptr<bool>(alive_)] {
      if (alive.expired() || life != life_) return;
      if (host_.is_paused()) return finish_at(simulation_.network().now() + milliseconds(20), life, frames);
      host_.turn([&] {
        simulation_.on_answered(frames.back().text());
        connection_->send(frames);
        stream_->flush();
        working_ = false;
        begin_work();
      });
    });
  }

  Simulation& simulation_;
  std::string name_;
  VirtualHost host_;
  zmtp::SocketType type_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  std::deque<std::vector<Slice>> waiting_;
  bool working_ = false;
  uint64_t requests_ = 0;
  uint64_t life_ = 0;  // of the connection
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
