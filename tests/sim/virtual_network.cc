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
    // The queue is told at once that it is gone: a copy would copy all that it holds.
    Happening next = std::move(const_cast<Happening&>(happenings_.top()));
    happenings_.pop();
    now_ = next.at;
    next.what();
  }
  now_ = until;
}

Instant VirtualNetwork::local_now(int site) const {
  const auto at = clocks_.find(site);
  if (at == clocks_.end()) return now_;
  const Clock& clock = at->second;
  const Duration passed = now_ - clock.since;
  return clock.showed + passed + Duration(passed.count() * clock.ppm / 1'000'000);
}

Instant VirtualNetwork::when_local(int site, Instant local) const {
  const auto at = clocks_.find(site);
  if (at == clocks_.end()) return local;
  const Clock& clock = at->second;
  const Duration shown = local - clock.showed;
  const int64_t ns_per_ms = 1'000'000 + clock.ppm;
  const Duration whole = milliseconds(shown.count() / ns_per_ms);
  return clock.since + whole + Duration(shown.count() % ns_per_ms * 1'000'000 / ns_per_ms + 1);
}

void VirtualNetwork::set_drift(int site, int64_t ppm) {
  const Instant shows = local_now(site);
  clocks_[site] = {.since = now_, .showed = shows, .ppm = ppm};
}

void VirtualNetwork::set_dark(int site, bool dark) {
  if (dark) {
    dark_.insert(site);
    return;
  }
  dark_.erase(site);
  // Who has something unacknowledged there is told by the kernel that does not know of it.
  for (VirtualStream* stream : streams_) {
    if (stream->out_->is_lost && stream->out_->unread > 0) stream->fail_soon("ECONNRESET");
  }
}

VirtualNetwork::Path VirtualNetwork::path(const Pipe& pipe) const {
  const bool is_inside = pipe.from_site == pipe.to_site && pipe.from_site != 0;
  return is_inside ? Path() : Path{.window_bytes = window_bytes, .delay = delay, .jitter = jitter};
}

bool VirtualNetwork::reset_one(const std::function<bool(const VirtualHost&, const VirtualHost&)>& is_meant,
                               uint64_t which) {
  std::vector<VirtualStream*> chosen;
  for (VirtualStream* stream : streams_) {
    const VirtualStream* other = stream->out_->reader;
    if (stream->open_ && other != nullptr && is_meant(stream->host_, other->host_)) chosen.push_back(stream);
  }
  if (chosen.empty()) return false;
  VirtualStream* one = chosen[which % chosen.size()];
  VirtualStream* other = one->out_->reader;
  // What is under way is lost from some byte on.
  for (Pipe* pipe : {one->out_.get(), one->in_.get()}) {
    while (!pipe->bytes.empty() && prng_.below(2) == 0) {
      pipe->unread -= pipe->bytes.back().size();
      pipe->bytes.pop_back();
    }
  }
  one->fail_soon("ECONNRESET");
  other->fail_soon("ECONNRESET");
  return true;
}

// --- host ---

const VirtualHost* VirtualNetwork::process(uint32_t pid) const {
  const auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : found->second;
}

VirtualHost::VirtualHost(VirtualNetwork& network, int site, std::string name)
    : network_(network), site_(site), name_(std::move(name)), pid_(++network.last_pid_) {
  network_.processes_.emplace(pid_, this);
}

VirtualHost::~VirtualHost() {
  *alive_ = false;
  network_.processes_.erase(pid_);
  for (const auto& [alive, ended] : network_.process_watchers_) {
    if (!alive.expired()) ended(*this);
  }
}

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
    if (watcher_) watcher_();
  }
}

Instant VirtualHost::now() { return network_.local_now(site_); }

void VirtualHost::arm_timer(Instant when) {
  if (armed_ <= when) return;
  armed_ = when;
  fire_at(network_.when_local(site_, when), when);
}

void VirtualHost::fire_at(Instant at, Instant when) {
  network_.at(at, [this, when, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || armed_ != when) return;
    if (is_paused()) return fire_at(paused_until_, when);
    // Its clock was set to another speed meanwhile.
    if (now() < when) {
      return fire_at(std::max(network_.when_local(site_, when), network_.now() + milliseconds(1)), when);
    }
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
  network_.sites_[endpoint.text] = site_;
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
  begin_connect(network_.now() + network_.delay, near, there, back, endpoint.text);
  return stream;
}

void VirtualHost::begin_connect(Instant at, VirtualStream* near, std::shared_ptr<Pipe> there,
                                std::shared_ptr<Pipe> back, const std::string& text) {
  network_.at(at, [this, near, there = std::move(there), back = std::move(back), text, life = near->life()] {
    if (life.expired()) return;
    const auto site = network_.sites_.find(text);
    const bool is_cut =
        site != network_.sites_.end() && (network_.is_cut(site_, site->second) || network_.is_cut(site->second, site_));
    const auto found = network_.listeners_.find(text);
    const bool is_paused_there = found != network_.listeners_.end() && found->second.first->is_paused();
    // Its first packet is sent again and again.
    if (is_cut || is_paused() || is_paused_there) {
      return begin_connect(network_.now() + milliseconds(50), near, there, back, text);
    }
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
}

// --- stream ---

uint32_t VirtualStream::peer_pid() const {
  const bool is_here = in_->writer != nullptr && in_->writer->host_.site() == host_.site();
  return is_here ? in_->writer->host_.pid() : 0;
}

VirtualStream::VirtualStream(VirtualHost& host, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
    : host_(host), in_(std::move(in)), out_(std::move(out)) {
  in_->reader = this;
  in_->to_site = host.site_;
  out_->writer = this;
  out_->from_site = host.site_;
  host_.network_.streams_.push_back(this);
}

VirtualStream::~VirtualStream() {
  std::replace(host_.to_flush_.begin(), host_.to_flush_.end(), this, static_cast<VirtualStream*>(nullptr));
  std::erase(host_.network_.streams_, this);
  in_->reader = nullptr;
  in_->bytes.clear();
  out_->writer = nullptr;
  const bool is_alone = host_.network_.is_dark(host_.site_) && in_->from_site != in_->to_site;
  if (is_alone) {
    in_->is_lost = true;
    return;
  }
  in_->ended = true;
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

// At the end of what happens now, when its process runs.
void VirtualStream::fail_soon(std::string_view reason) {
  VirtualNetwork& network = host_.network_;
  network.at(std::max(network.now_, host_.paused_until_), [this, reason, life = std::weak_ptr<bool>(life_)] {
    if (!life.expired()) host_.turn([this, reason] { end(reason); });
  });
}

// As the loop's: what was refused goes on when the other end has taken something, and not before.
void VirtualStream::flush() {
  if (!refused_) write();
}

void VirtualStream::write() {
  if (!open_ || ended_) return;
  if (out_->is_lost && !outbox_.empty() && !host_.network_.is_dark(out_->to_site)) fail_soon("ECONNRESET");
  const size_t window_bytes = host_.network_.path(*out_).window_bytes;
  const size_t room = window_bytes - std::min(out_->unread, window_bytes);
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

// The other end has taken something.
void VirtualStream::write_on() {
  if (!refused_ || ended_) return;
  VirtualNetwork& network = host_.network_;
  if (host_.is_paused()) {
    network.at(host_.paused_until_, [this, life = std::weak_ptr<bool>(life_)] {
      if (!life.expired()) write_on();
    });
    return;
  }
  const std::weak_ptr<bool> life = life_;
  host_.turn([&] {
    write();
    if (!life.expired() && !refused_) observer_->on_drained();
  });
}

void VirtualStream::flush_later() { host_.to_flush_.push_back(this); }

void VirtualStream::resume_reading() {
  if (!std::exchange(paused_, false)) return;
  plan_delivery(in_);
}

void VirtualStream::plan_delivery(const std::shared_ptr<Pipe>& pipe) {
  if (std::exchange(pipe->delivery_planned, true)) return;
  VirtualNetwork& network = host_.network_;
  const VirtualNetwork::Path path = network.path(*pipe);
  const Duration jitter{static_cast<int64_t>(network.prng_.below(static_cast<uint64_t>(path.jitter.count())))};
  network.at(std::max(network.now_ + path.delay + jitter, pipe->free_at), [&network, pipe] { deliver(network, pipe); });
}

void VirtualStream::deliver(VirtualNetwork& network, const std::shared_ptr<Pipe>& pipe) {
  pipe->delivery_planned = false;
  VirtualStream* reader = pipe->reader;
  if (reader == nullptr || !reader->open_ || reader->paused_ || reader->ended_) return;
  if (network.is_cut(pipe->from_site, pipe->to_site) || reader->host_.is_paused()) {
    pipe->delivery_planned = true;
    network.at(std::max(network.now_ + milliseconds(10), reader->host_.paused_until_),
               [&network, pipe] { deliver(network, pipe); });
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
      network.trace_.add_bytes(piece.view());
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
  if (pipe->writer != nullptr) pipe->writer->write_on();
  if (life.expired() || (pipe->bytes.empty() && !pipe->ended)) return;
  reader->plan_delivery(pipe);
}

}  // namespace mesh::sim
