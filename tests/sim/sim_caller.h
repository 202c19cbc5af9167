// A local agent that asks, with the habits that agents have.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/zmtp/connection.h"
#include "tests/sim/simulation.h"

namespace mesh::sim {

struct Habit {
  std::string port;
  size_t home = 0;  // of its sidecar among the processes
  std::string service;
  bool is_req = true;
  bool is_fresh = false;      // a new socket for each request
  Duration patience{kNoEnd};  // then it throws the socket away
  size_t outstanding_max = 1;
  bool at_mesh_socket = false;           // names its service and its budget itself
  Duration budget = milliseconds(4500);  // what its port gives
  size_t body_bytes_max = 300;
  bool asks_facts = false;     // what others ask, too
  bool orders_purges = false;  // at the mesh socket
  Duration rest{0};            // at least, between two asks
  bool has_keys = false;       // at the mesh socket: asks again with the same key until it knows
  static constexpr Duration kNoEnd = std::chrono::hours(1);
};

class SimCaller final : public StreamObserver {
 public:
  SimCaller(Simulation& simulation, size_t index, Habit habit, uint64_t seed)
      : simulation_(simulation),
        index_(index),
        habit_(std::move(habit)),
        prng_(seed),
        host_(simulation.network(), 1, "caller " + std::to_string(index)) {
    dial();
    tick();
  }
  ~SimCaller() override { *alive_ = false; }

  // How long the agent behind a lost socket waits for it.
  static constexpr Duration kLostPatience = milliseconds(5000);

  void set_reading(bool reads) {
    is_deaf_ = !reads;
    if (reads) deaf_until_ = host_.now();
    if (stream_) reads ? stream_->resume_reading() : stream_->pause_reading();
  }
  bool was_deaf_since(Instant since) const { return is_deaf_ || deaf_until_ >= since; }
  const std::string& name() const { return host_.name(); }
  const std::string& service() const { return habit_.service; }
  bool is_req() const { return habit_.is_req; }
  bool has_keys() const { return habit_.has_keys; }
  // A REQ socket whose connection ended while its sidecar lived on: nobody owes it an answer any more.
  bool is_lost() const { return is_lost_; }
  size_t home() const { return habit_.home; }
  // Asks without a result, oldest first.
  const std::vector<uint64_t>& outstanding() const { return outstanding_; }

  void on_connected() override {
    const uint64_t life = simulation_.life_of_home(index_);
    if (std::exchange(life_, life) != life) is_lost_ = false;
    stream_->flush_later();
  }
  std::span<uint8_t> read_target() override { return connection_->read_target(); }
  void on_target_filled(size_t count) override { connection_->commit(count, host_.now()), receive(); }
  void on_bytes(Slice bytes) override { connection_->feed(std::move(bytes), host_.now()), receive(); }
  // As libzmq: another connection for the same socket; nothing is sent again.
  void on_closed(std::string_view reason) override {
    if (connection_ && connection_->ready()) {
      simulation_.on_hung_up(index_, reason);
      is_lost_ = habit_.is_req && !outstanding_.empty() && life_ == simulation_.life_of_home(index_);
      lost_at_ = host_.now();
    }
    for (const uint64_t ask : outstanding_) {
      const uint64_t subject = simulation_.give_up(ask);
      if (habit_.has_keys) unknown_.push_back(subject);
    }
    if (!habit_.is_req) outstanding_.clear();
    connection_.reset();
    stream_.reset();
    later(milliseconds(100), [this] { dial(); });
  }

 private:
  static Endpoint endpoint(const std::string& text) {
    return {.is_ipc = true, .address = text, .port = 0, .text = text};
  }
  template <class What>
  void later(Duration span, What what) {
    simulation_.network().at(simulation_.network().now() + span, [what, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) what();
    });
  }
  void dial() {
    stream_ = host_.connect(endpoint(habit_.port), *this);
    connection_.emplace(zmtp::Settings{.own_type = habit_.is_req ? zmtp::SocketType::kReq : zmtp::SocketType::kDealer,
                                       .accepted_peers = {zmtp::SocketType::kRouter},
                                       .identity = {}},
                        stream_->out(), host_.now());
    if (is_deaf_) stream_->pause_reading();
  }
  void throw_away() {
    for (const uint64_t ask : outstanding_) simulation_.give_up(ask);
    outstanding_.clear();
    is_lost_ = false;
    stream_.reset();
    dial();
  }
  bool is_out_of_patience() {
    if (outstanding_.empty()) return false;
    return host_.now() - asked_ > habit_.patience || (is_lost_ && host_.now() - lost_at_ > kLostPatience);
  }
  void tick() {
    later(milliseconds(static_cast<int64_t>(1 + prng_.below(75))), [this] { tick(); });
    host_.turn([&] {
      if (is_out_of_patience()) throw_away();
      if (!connection_ || !connection_->ready() || !simulation_.may_ask()) return;
      if (habit_.rest > Duration{0} && host_.now() - asked_ < habit_.rest) return;
      while (outstanding_.size() < habit_.outstanding_max && prng_.below(3) > 0) ask();
    });
  }
  // What it asks again: first what it does not know, and now and then what it was told long ago.
  uint64_t draw_again() {
    if (!unknown_.empty()) {
      const uint64_t subject = unknown_.front();
      unknown_.erase(unknown_.begin());
      return subject;
    }
    return known_.empty() || prng_.below(4) > 0 ? 0 : known_[prng_.below(known_.size())];
  }
  void ask() {
    const bool is_large = prng_.below(12) == 0;
    const size_t bytes =
        24 + prng_.below(is_large ? habit_.body_bytes_max : std::min<size_t>(habit_.body_bytes_max, 300));
    Duration budget = habit_.budget;
    if (habit_.at_mesh_socket && !habit_.orders_purges)
      budget = milliseconds(static_cast<int64_t>(30 + prng_.below(5000)));
    const uint64_t again = habit_.has_keys ? draw_again() : 0;
    Ask& made = simulation_.begin_ask(index_, habit_.service, budget, bytes, again);
    if (habit_.asks_facts) made.fact = Facts::draw_body(habit_.service, prng_);
    if (habit_.orders_purges) simulation_.draw_order(made, prng_);
    asked_ = host_.now();
    outstanding_.push_back(made.id);
    std::vector<Slice> frames;
    // A DEALER tells its replies apart by a frame of its own.
    if (!habit_.is_req) frames.push_back(Slice::copy_of(std::to_string(made.id)));
    frames.emplace_back();
    if (habit_.at_mesh_socket) {
      std::string header =
          R"({"service":")" + habit_.service + R"(","budget_ms":)" + std::to_string(to_us(budget) / 1000);
      if (habit_.has_keys) header += R"(,"idempotency_key":")" + std::to_string(made.subject) + '"';
      frames.push_back(Slice::copy_of(header + "}"));
    }
    frames.push_back(Slice::copy_of(simulation_.body_of(made)));
    connection_->send(frames);
    stream_->flush_later();
  }
  void receive() {
    while (stream_) {
      auto message = connection_->next();
      if (!message || *message == nullptr) break;
      const auto frames = (*message)->frames();
      // A REQ socket takes whatever comes for its answer, and drops what comes when it has not asked.
      if (habit_.is_req && outstanding_.empty()) continue;
      const uint64_t ask = habit_.is_req ? outstanding_.front() : std::stoull(std::string(frames[0].text()));
      std::erase(outstanding_, ask);
      is_lost_ = false;
      const Ask& done = simulation_.on_result(index_, ask, frames.back().text());
      if (habit_.has_keys && done.code != "OK" && done.repeats < kRepeatsMax) unknown_.push_back(done.subject);
      if (habit_.has_keys && done.code == "OK" && done.subject == done.id) known_.push_back(done.subject);
      if (!habit_.is_fresh) continue;
      stream_.reset();
      dial();
      return;
    }
    stream_->flush_later();
  }

  Simulation& simulation_;
  size_t index_;
  Habit habit_;
  Prng prng_;
  VirtualHost host_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  static constexpr int kRepeatsMax = 6;
  std::vector<uint64_t> outstanding_;
  std::vector<uint64_t> unknown_;  // what it asks again, with its key
  std::vector<uint64_t> known_;    // what it was told, and may ask again all the same
  uint64_t life_ = 0;              // of the sidecar that it was connected to last
  bool is_lost_ = false;
  Instant lost_at_{};
  Instant asked_{};
  bool is_deaf_ = false;
  Instant deaf_until_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
