// An operator who orders a purge at the admin socket of a sidecar: a line, its answer, and the other end hangs up.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/sim/simulation.h"

namespace mesh::sim {

struct PurgeOrder {
  uint64_t number = 0;  // from 1
  size_t sidecar = 0;   // at which it is given
  uint64_t life = 0;    // which process of that
  Facts::Order order{};
  Instant given = kNever;  // when it was written to the socket
  Duration excused{0};     // its sidecar was stopped meanwhile
  std::string answer{};    // as far as it has come
  bool is_answered = false;
  bool is_over = false;
};

class SimOrder final : public StreamObserver, public PurgeOrder {
 public:
  // `where` is the sidecar's admin socket, `site` where both stand.
  SimOrder(Simulation& simulation, PurgeOrder what, int site, const std::string& where)
      : PurgeOrder(std::move(what)), simulation_(simulation), host_(simulation.network(), site, "operator") {
    stream_ = host_.connect({.is_ipc = true, .address = where, .port = 0, .text = where}, *this);
  }

  void on_connected() override {
    simulation_.on_order_given(*this);
    stream_->out().put(as_bytes("cache purge " + order.text + " json\n"));
    stream_->flush_later();
  }
  void on_bytes(Slice bytes) override {
    if (is_answered) return simulation_.on_order_answered_again(*this);
    answer += bytes.text();
    is_answered = answer.ends_with('\n') && nlohmann::json::accept(answer);
    if (is_answered) simulation_.on_order_answered(*this);
  }
  void on_closed(std::string_view) override {
    is_over = true;
    stream_.reset();
    simulation_.on_order_over(*this);
  }

 private:
  Simulation& simulation_;
  VirtualHost host_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace mesh::sim
