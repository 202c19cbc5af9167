#include "tests/sim/virtual_network.h"

#include <algorithm>
#include <utility>

namespace mesh::sim {

// --- network ---

void VirtualNetwork::at(Instant when, std::function<void()> what) {
  happenings_.push({std::max(when, now_), order_++, std::move(what)});
}

void VirtualNetwork::run_until(Instant until) {
  while (!happenings_.empty() && happenings_.top().at <= until) {
    Happening next = happenings_.top();
    happenings_.pop();
    now_ = next.at;
    next.what();
  }
  now_ = until;
}

// --- host ---

void VirtualHost::turn(const std::function<void()>& what) {
  if (in_turn_) return what();
  in_turn_ = true;
  const std::shared_ptr<bool> alive = alive_;
  what();
  if (*alive) {
    if (observer_ != nullptr) observer_->on_turn_ending();
    for (size_t i = 0; i < to_flush_.size(); ++i) {
      if (to_flush_[i] != nullptr) to_flush_[i]->flush();
    }
    to_flush_.clear();
    in_turn_ = false;
  }
}

void VirtualHost::arm_timer(Instant when) {
  if (armed_ <= when) return;
  armed_ = when;
  network_.at(when, [this, when, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || armed_ != when) return;
    armed_ = kNever;
    turn([this] {
      if (observer_ != nullptr) observer_->on_timer();
    });
  });
}

namespace {

class VirtualListener final : public Listener {
 public:
  explicit VirtualListener(std::function<void()> close) : close_(std::move(close)) {}
  ~VirtualListener() override { close_(); }

 private:
  std::function<void()> close_;
};

}  // namespace

Result<std::unique_ptr<Listener>> VirtualHost::listen(const Endpoint& endpoint, uint32_t /*mode*/,
                                                      AcceptObserver& observer) {
  const auto [at, added] = network_.listeners_.try_emplace(endpoint.text, this, &observer);
  if (!added) return fail(Code::kInternal, "listen", "cannot listen on " + endpoint.text + ": address in use");
  return std::make_unique<VirtualListener>(
      [&network = network_, text = endpoint.text] { network.listeners_.erase(text); });
}

std::unique_ptr<Stream> VirtualHost::connect(const Endpoint& endpoint, StreamObserver& observer) {
  auto there = std::make_shared<Pipe>();
  auto back = std::make_shared<Pipe>();
  auto stream = std::make_unique<VirtualStream>(*this, back, there);
  stream->set_observer(&observer);
  VirtualStream* near = stream.get();
  network_.at(now() + network_.delay, [this, near, there, back, text = endpoint.text, life = near->life()] {
    if (life.expired()) return;
    const auto found = network_.listeners_.find(text);
    if (found == network_.listeners_.end()) {
      turn([&] { near->end("ECONNREFUSED"); });
      return;
    }
    const auto [far_host, acceptor] = found->second;
    far_host->turn([&, acceptor = acceptor, far_host = far_host] {
      auto far = std::make_unique<VirtualStream>(*far_host, there, back);
      VirtualStream* raw = far.get();
      const std::weak_ptr<bool> far_life = raw->life();
      StreamObserver* far_observer = acceptor->on_accepted(std::move(far));
      if (far_observer != nullptr && !far_life.expired()) raw->open(far_observer);
    });
    turn([&] {
      near->open(near->observer());
      near->observer()->on_connected();
    });
  });
  return stream;
}

// --- stream ---

VirtualStream::VirtualStream(VirtualHost& host, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
    : host_(host), in_(std::move(in)), out_(std::move(out)) {
  in_->reader = this;
  in_->to_site = host.site_;
  out_->writer = this;
  out_->from_site = host.site_;
}

VirtualStream::~VirtualStream() {
  std::replace(host_.to_flush_.begin(), host_.to_flush_.end(), this, static_cast<VirtualStream*>(nullptr));
  in_->reader = nullptr;
  in_->bytes.clear();
  in_->ended = true;
  out_->writer = nullptr;
  out_->ended = true;
  plan_delivery(out_);
}

void VirtualStream::open(StreamObserver* observer) {
  observer_ = observer;
  open_ = true;
  flush_later();
  plan_delivery(in_);
}

void VirtualStream::end(std::string_view reason) {
  if (std::exchange(ended_, true)) return;
  observer_->on_closed(reason);
}

void VirtualStream::flush() {
  if (!open_ || ended_) return;
  const size_t room = host_.network_.window_bytes - std::min(out_->unread, host_.network_.window_bytes);
  size_t take = std::min(room, outbox_.bytes());
  const bool refused_before = std::exchange(refused_, take < outbox_.bytes());
  if (refused_ && !refused_before) observer_->on_congested();
  if (take == 0) return;
  handed_bytes_ += take;
  size_t left = take;
  for (const Slice& chunk : outbox_.chunks()) {
    const size_t part = std::min(left, chunk.size());
    if (part == 0) break;
    // A copy: the kernel has its own, and what comes out must not share memory with what went in.
    out_->bytes.push_back(Slice::copy_of(chunk.view().subspan(0, part)));
    left -= part;
  }
  outbox_.drop_front(take);
  out_->unread += take;
  plan_delivery(out_);
}

void VirtualStream::flush_later() { host_.to_flush_.push_back(this); }

void VirtualStream::resume_reading() {
  if (!std::exchange(paused_, false)) return;
  plan_delivery(in_);
}

void VirtualStream::plan_delivery(const std::shared_ptr<Pipe>& pipe) {
  if (std::exchange(pipe->delivery_planned, true)) return;
  VirtualNetwork& network = host_.network_;
  const auto jitter = microseconds(static_cast<int64_t>(network.prng_.below(20)));
  network.at(std::max(network.now_ + network.delay + jitter, pipe->free_at),
             [&network, pipe] { deliver(network, pipe); });
}

void VirtualStream::deliver(VirtualNetwork& network, const std::shared_ptr<Pipe>& pipe) {
  pipe->delivery_planned = false;
  VirtualStream* reader = pipe->reader;
  if (reader == nullptr || !reader->open_ || reader->paused_ || reader->ended_) return;
  if (network.cut.contains({pipe->from_site, pipe->to_site})) {
    pipe->delivery_planned = true;
    network.at(network.now_ + milliseconds(10), [&network, pipe] { deliver(network, pipe); });
    return;
  }
  const std::weak_ptr<bool> life = reader->life_;
  size_t taken = 0;
  reader->host_.turn([&] {
    if (pipe->bytes.empty()) {
      if (pipe->ended) reader->end("closed by the other end");
      return;
    }
    for (size_t reads = 0; reads < network.reads_per_turn && !pipe->bytes.empty(); ++reads) {
      if (life.expired() || reader->paused_ || reader->ended_) break;
      Slice& first = pipe->bytes.front();
      size_t take = std::min(first.size(), 1 + network.prng_.below(network.piece_bytes));
      const std::span<uint8_t> target = reader->observer_->read_target();
      if (!target.empty()) take = std::min(take, target.size());
      const Slice piece = first.part(0, take);
      first.drop_front(take);
      if (first.empty()) pipe->bytes.pop_front();
      pipe->unread -= take;
      taken += take;
      if (target.empty()) {
        reader->observer_->on_bytes(piece);
      } else {
        std::copy_n(piece.data(), take, target.data());
        reader->observer_->on_target_filled(take);
      }
    }
  });
  if (network.bytes_per_second > 0 && pipe->from_site > 0 && pipe->to_site > 0) {
    pipe->free_at = network.now_ + microseconds(static_cast<int64_t>(taken * 1'000'000 / network.bytes_per_second));
  }
  if (VirtualStream* writer = pipe->writer; writer != nullptr && writer->refused_) {
    const std::weak_ptr<bool> writer_life = writer->life_;
    writer->host_.turn([&] {
      writer->flush();
      if (!writer_life.expired() && !writer->refused_) writer->observer_->on_drained();
    });
  }
  if (life.expired() || (pipe->bytes.empty() && !pipe->ended)) return;
  reader->plan_delivery(pipe);
}

}  // namespace mesh::sim
