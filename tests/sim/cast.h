// Who plays in a virtual mesh: sidecars, scripted callers as libzmq's REQ and DEALER sockets behave, scripted agents.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/zmtp/connection.h"
#include "sidecar/proxy/driver.h"
#include "tests/sim/virtual_arbiter.h"
#include "tests/sim/virtual_disk.h"
#include "tests/sim/virtual_memory.h"
#include "tests/sim/virtual_network.h"
#include "tests/sim/virtual_replies.h"

namespace mesh::sim {

inline Endpoint endpoint(const std::string& text) { return {.is_ipc = true, .address = text, .port = 0, .text = text}; }

// A socket that connects: a REQ or DEALER caller.
class Caller final : public StreamObserver {
 public:
  Caller(VirtualNetwork& network, const std::string& port, zmtp::SocketType type)
      : host_(network), type_(type), port_(port) {
    dial();
  }
  // As a REQ socket does: a delimiter before the body. A DEALER sends what it is given.
  void ask(std::string_view body) {
    waiting_.emplace_back(body);
    send_waiting();
  }
  // A message just so.
  void ask_frames(std::vector<std::string> frames) {
    messages_.push_back(std::move(frames));
    send_waiting();
  }
  void disconnect() { stream_.reset(); }
  // What libzmq does when the connection ended: another one for the same socket; nothing is sent again.
  void reconnect() {
    stream_.reset();
    closed.reset();
    dial();
  }
  bool connected() const { return connection_ && connection_->ready(); }

  std::vector<std::string> replies;
  std::optional<std::string> closed;

  void on_connected() override { stream_->flush_later(); }
  std::span<uint8_t> read_target() override { return connection_->read_target(); }
  void on_target_filled(size_t count) override {
    connection_->commit(count, host_.now());
    receive();
  }
  void on_bytes(Slice bytes) override {
    connection_->feed(std::move(bytes), host_.now());
    receive();
  }
  void on_closed(std::string_view reason) override { closed = std::string(reason); }

 private:
  void dial() {
    stream_ = host_.connect(endpoint(port_), *this);
    connection_.emplace(
        zmtp::Settings{.own_type = type_, .accepted_peers = {zmtp::SocketType::kRouter}, .identity = {}},
        stream_->out(), host_.now());
  }
  void receive() {
    while (true) {
      auto message = connection_->next();
      if (!message || *message == nullptr) break;
      replies.emplace_back((*message)->frames().back().text());
    }
    send_waiting();
  }
  void send_waiting() {
    if (!connected()) return stream_->flush();
    for (const std::string& body : waiting_) {
      std::vector<Slice> frames;
      if (type_ == zmtp::SocketType::kReq) frames.emplace_back();
      frames.push_back(Slice::copy_of(body));
      connection_->send(frames);
    }
    waiting_.clear();
    for (const auto& message : std::exchange(messages_, {})) {
      std::vector<Slice> frames;
      for (const std::string& frame : message) frames.push_back(Slice::copy_of(frame));
      connection_->send(frames);
    }
    stream_->flush();
  }

  VirtualHost host_;
  zmtp::SocketType type_;
  std::string port_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  std::vector<std::string> waiting_;
  std::vector<std::vector<std::string>> messages_;
};

// A REP agent: one connection at a time is enough here. What it is asked it keeps; it answers when told to, or at once.
class ScriptedAgent final : public StreamObserver, public AcceptObserver {
 public:
  ScriptedAgent(VirtualNetwork& network, const std::string& where, zmtp::SocketType type = zmtp::SocketType::kRep)
      : host_(network), type_(type) {
    listener_ = std::move(*host_.listen(endpoint(where), 0, *this));
  }
  StreamObserver* on_accepted(std::unique_ptr<Stream> stream) override {
    stream_ = std::move(stream);
    connection_.emplace(
        zmtp::Settings{
            .own_type = type_, .accepted_peers = {zmtp::SocketType::kDealer, zmtp::SocketType::kReq}, .identity = {}},
        stream_->out(), host_.now());
    return this;
  }
  void crash() {
    listener_.reset();
    stream_.reset();
  }
  void stop_reading() { stream_->pause_reading(); }
  size_t unanswered() const { return envelopes_.size(); }
  // Answers the oldest unanswered request.
  void answer(std::string_view body) {
    std::vector<Slice> frames = std::move(envelopes_.front());
    envelopes_.erase(envelopes_.begin());
    frames.push_back(Slice::copy_of(body));
    connection_->send(frames);
    stream_->flush();
  }

  std::vector<std::string> asked;
  bool echoes = true;

  std::span<uint8_t> read_target() override { return connection_->read_target(); }
  void on_target_filled(size_t count) override {
    connection_->commit(count, host_.now());
    receive();
  }
  void on_bytes(Slice bytes) override {
    connection_->feed(std::move(bytes), host_.now());
    receive();
  }
  void on_closed(std::string_view) override { stream_.reset(); }

 private:
  void receive() {
    while (stream_) {
      auto message = connection_->next();
      if (!message || *message == nullptr) break;
      const auto frames = (*message)->frames();
      asked.emplace_back(frames.back().text());
      envelopes_.emplace_back(frames.begin(), frames.end() - 1);
      if (echoes) answer(asked.back());
    }
    if (stream_) stream_->flush_later();
  }

  VirtualHost host_;
  zmtp::SocketType type_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Stream> stream_;
  std::optional<zmtp::Connection> connection_;
  std::vector<std::vector<Slice>> envelopes_;
};

// A sidecar process: its disk outlives it.
class Sidecar {
 public:
  // `memory` is what the sidecars of its host share, if they do, `arbiter` whom it leases from; both must outlive this.
  Sidecar(VirtualNetwork& network, proxy::SidecarConfig config, int site, VirtualMemory* memory = nullptr,
          VirtualArbiter* arbiter = nullptr)
      : network_(network), config_(std::move(config)), site_(site), memory_(memory), arbiter_(arbiter) {
    start();
  }
  void start() {
    host_ = std::make_unique<VirtualHost>(network_, site_, config_.host + "/" + config_.sidecar);
    proxy::DriverSettings settings;
    settings.is_successor = std::exchange(was_started_, true);
    settings.seed = network_.prng().next();
    settings.epoch = network_.prng().next();
    settings.on_drained = [this] { drained = true; };
    store_ = std::make_unique<VirtualStore>(network_, *host_, disk);
    settings.records = store_.get();
    replies_ = std::make_unique<VirtualReplies>(network_, *host_, reply_disk);
    if (!config_.replies_path.empty()) settings.replies = replies_.get();
    if (memory_ != nullptr) shared_ = memory_->attach(network_.prng().next());
    settings.shared = shared_.get();
    if (arbiter_ != nullptr) channel_ = arbiter_->connect(*host_);
    settings.arbiter = channel_.get();
    driver_ = std::make_unique<proxy::Driver>(*host_, config_, std::move(settings));
    host_->set_turn_observer(driver_.get());
    if (watcher_) host_->watch_turns(watcher_);
    host_->turn([this] { MESH_CHECK(driver_->start().has_value()); });
  }
  // As kill -9: nothing is said to anybody.
  void kill() {
    driver_.reset();
    channel_.reset();
    shared_.reset();
    replies_.reset();
    if (drained) store_->close();
    store_.reset();
    host_.reset();
  }
  void drain() {
    host_->turn([this] { driver_->begin_drain(); });
  }
  // One turn of its loop in which `what` happens.
  void turn(const std::function<void()>& what) { host_->turn(what); }
  // Called behind each turn of this process and of those after it.
  void watch_turns(std::function<void()> watcher) {
    watcher_ = std::move(watcher);
    host_->watch_turns(watcher_);
  }
  bool lives() const { return driver_ != nullptr; }
  VirtualHost* host() { return host_.get(); }
  // What it leases over; null if it leases nothing.
  const VirtualArbiter::Channel* channel() const { return channel_.get(); }
  proxy::Driver& driver() { return *driver_; }
  uint64_t count(proxy::Counter counter) { return driver_->engine().counters()[counter]; }

  bool drained = false;
  VirtualDisk disk;
  VirtualReplyDisk reply_disk;

 private:
  VirtualNetwork& network_;
  proxy::SidecarConfig config_;
  int site_;
  bool was_started_ = false;
  std::function<void()> watcher_;
  VirtualMemory* memory_;
  VirtualArbiter* arbiter_;
  std::unique_ptr<cache::SharedTier> shared_;
  std::unique_ptr<VirtualHost> host_;
  std::unique_ptr<VirtualArbiter::Channel> channel_;
  std::unique_ptr<VirtualStore> store_;
  std::unique_ptr<VirtualReplies> replies_;
  std::unique_ptr<proxy::Driver> driver_;
};

}  // namespace mesh::sim
