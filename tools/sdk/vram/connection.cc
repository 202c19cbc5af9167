#include "tools/sdk/vram/connection.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace mesh::sdk {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAnswerWait{2000};
constexpr milliseconds kRetryFirst{5};
constexpr milliseconds kRetryMax{100};

}  // namespace

std::string hex_of(const std::string& id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : id) {
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return hex;
}

bool Connection::start(Clock::time_point until) {
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return last_errno_ = errno, false;
  reader_ = std::thread([this] { run(); });
  std::unique_lock lock(mutex_);
  while (!is_up_ && Clock::now() < until) wait_until(lock, until);
  errno = last_errno_;
  return is_up_;
}

// Of condition_variable::wait_until sanitizers know no steady clock.
void Connection::wait_until(std::unique_lock<std::mutex>& lock, Clock::time_point until) {
  changed_.wait_for(lock, milliseconds(std::min(left_ms(until), 60'000)));
}

void Connection::shut() {
  std::vector<Lease*> held;
  {
    const std::lock_guard lock(mutex_);
    for (Lease& lease : leases_) {
      if (lease.is_over || is_shut_) continue;
      give_up(lease);
      if (is_up_) held.push_back(&lease);
    }
  }
  // Closing the socket would tell it, too, but of memory that is free nobody would know before this process ends.
  const auto until = Clock::now() + kAnswerWait;
  for (const Lease* lease : held) {
    (void)order([lease](pb::Request& request) { *request.mutable_release() = lease->name; }, until);
  }
  {
    const std::lock_guard lock(mutex_);
    is_shut_ = true;
    changed_.notify_all();
  }
  const uint64_t one = 1;
  if (wake_ && write(wake_.get(), &one, sizeof(one)) < 0) return;
  if (reader_.joinable()) reader_.join();
  line_.hang_up();
}

uint64_t Connection::epoch() {
  const std::lock_guard lock(mutex_);
  return welcome_.epoch();
}

std::vector<pb::Gpu> Connection::gpus() {
  const std::lock_guard lock(mutex_);
  return {welcome_.gpus().begin(), welcome_.gpus().end()};
}

// --- the reader's thread ---

void Connection::run() {
  milliseconds pause = kRetryFirst;
  while (true) {
    pollfd ready[] = {{wake_.get(), POLLIN, 0}, {line_.fd(), POLLIN, 0}};
    if (!line_.is_open()) {
      const auto until = Clock::now() + kAnswerWait;
      if (greet(until) && show_leases(until)) {
        pause = kRetryFirst;
        const std::lock_guard lock(mutex_);
        is_up_ = true;
        changed_.notify_all();
        continue;
      }
      drop_line();
      poll(ready, 1, static_cast<int>(pause.count()));
      pause = std::min(2 * pause, kRetryMax);
    } else {
      poll(ready, 2, -1);
    }
    if (ready[0].revents != 0) return;
    if (!line_.is_open() || ready[1].revents == 0) continue;
    Packet packet;
    const PacketLine::Got got = line_.receive(packet);
    if (got == PacketLine::Got::kPacket) take(std::move(packet));
    if (got == PacketLine::Got::kGone) drop_line();
  }
}

void Connection::drop_line() {
  const std::lock_guard lock(mutex_);
  is_up_ = false;
  line_.hang_up();
  yields_.clear();  // who still needs it asks again
  for (auto& [number, waiting] : waiting_) waiting->is_cut = true;
  changed_.notify_all();
}

// Before others may ask: only the reader uses the line.
std::optional<Packet> Connection::answer_to(pb::Request& request, Clock::time_point until) {
  {
    const std::lock_guard lock(mutex_);
    if (!post(request)) return std::nullopt;
  }
  while (Clock::now() < until) {
    pollfd ready[] = {{wake_.get(), POLLIN, 0}, {line_.fd(), POLLIN, 0}};
    poll(ready, 2, left_ms(until));
    if (ready[0].revents != 0) return std::nullopt;
    Packet packet;
    const PacketLine::Got got = line_.receive(packet);
    if (got == PacketLine::Got::kGone) return std::nullopt;
    if (got == PacketLine::Got::kNothing) continue;
    if (packet.reply.number() == request.number()) return packet;
    take(std::move(packet));
  }
  return std::nullopt;
}

bool Connection::greet(Clock::time_point until) {
  PacketLine line = PacketLine::open(path_);
  pb::Request request;
  {
    const std::lock_guard lock(mutex_);
    last_errno_ = line.is_open() ? ETIMEDOUT : errno;
    line_ = std::move(line);
    request.mutable_hello()->set_version(1);
    request.mutable_hello()->set_client(client_);
    request.mutable_hello()->set_epoch(welcome_.epoch());
  }
  if (!line_.is_open()) return false;
  auto answer = answer_to(request, until);
  if (!answer || !answer->reply.has_welcome()) return false;
  const std::lock_guard lock(mutex_);
  welcome_ = answer->reply.welcome();
  return true;
}

bool Connection::show_leases(Clock::time_point until) {
  std::vector<pb::Lease> over;
  std::vector<Lease*> held;
  {
    const std::lock_guard lock(mutex_);
    over = over_;
    for (Lease& lease : leases_) {
      if (!lease.is_lost && !lease.is_over) held.push_back(&lease);
    }
  }
  for (const pb::Lease& name : over) {
    pb::Request request;
    *request.mutable_release() = name;
    if (!answer_to(request, until)) return false;
    const std::lock_guard lock(mutex_);
    std::erase_if(over_, [&](const pb::Lease& each) { return each.id() == name.id(); });
  }
  return std::all_of(held.begin(), held.end(), [&](Lease* lease) { return claim(*lease, until); });
}

// False if the arbiter is gone again.
bool Connection::claim(Lease& lease, Clock::time_point until) {
  pb::Request request;
  {
    const std::lock_guard lock(mutex_);
    if (lease.is_over) return true;
    pb::Claim& claim = *request.mutable_claim();
    *claim.mutable_lease() = lease.name;
    claim.set_bytes(lease.bytes);
    if (lease.kind == pb::KIND_BACKED) {
      for (const HeldChunk& chunk : lease.memory.chunks()) claim.add_chunks(chunk.number);
    }
  }
  const auto answer = answer_to(request, until);
  if (!answer) return false;
  const std::lock_guard lock(mutex_);
  if (!answer->reply.has_granted()) return lease.is_lost = true;
  lease.name = answer->reply.granted().lease();
  if (lease.users == 0) return true;
  pb::Request use;
  *use.mutable_use()->mutable_lease() = lease.name;
  use.mutable_use()->set_in_use(true);
  return post(use);
}

void Connection::take(Packet packet) {
  const std::lock_guard lock(mutex_);
  const pb::Reply& reply = packet.reply;
  if (reply.has_yield_asked()) {
    const pb::YieldAsked& asked = reply.yield_asked();
    const std::string hex = hex_of(asked.lease().id());
    std::erase_if(yields_, [&](const Yield& each) { return each.hex == hex; });
    yields_.push_back({hex, asked.lease(), asked.how(), asked.bytes(), Clock::now() + milliseconds(asked.within_ms())});
    return changed_.notify_all();
  }
  const auto found = waiting_.find(reply.number());
  if (found == waiting_.end()) {
    // Nobody waits for it any more.
    if (!reply.has_granted() || reply.granted().is_claimed()) return;
    pb::Request request;
    *request.mutable_release() = reply.granted().lease();
    return (void)post(request);
  }
  Waiting& waiting = *found->second;
  if (reply.has_queued()) return (void)(waiting.queued = reply.queued().lease());
  if (waiting.packet.reply.has_granted() && reply.has_granted()) {
    waiting.packet.reply.mutable_granted()->mutable_chunks()->MergeFrom(reply.granted().chunks());
    for (HeldChunk& chunk : packet.chunks) waiting.packet.chunks.push_back(std::move(chunk));
    waiting.is_answered = !reply.granted().more();
  } else {
    waiting.packet = std::move(packet);
    waiting.is_answered = !waiting.packet.reply.granted().more();
  }
  if (!waiting.is_answered) return;
  // Here, so that it is shown to the next arbiter if this one ends before its holder has looked.
  if (waiting.is_ask && waiting.packet.reply.has_granted()) waiting.lease = add(waiting.packet);
  changed_.notify_all();
}

// --- those who order ---

// With the mutex held.
bool Connection::post(pb::Request& request) {
  request.set_number(next_number_++);
  return line_.send(request);
}

void Connection::send(const Make& make) {
  const std::lock_guard lock(mutex_);
  if (!is_up_) return;
  pb::Request request;
  make(request);
  (void)post(request);
}

Outcome Connection::order(const Make& make, Clock::time_point until) { return order_with(make, until, false); }
Outcome Connection::ask(const Make& make, Clock::time_point until) { return order_with(make, until, true); }

Outcome Connection::order_with(const Make& make, Clock::time_point until, bool is_ask) {
  std::unique_lock lock(mutex_);
  Outcome outcome;
  while (true) {
    while (!is_up_ && !is_shut_ && Clock::now() < until) wait_until(lock, until);
    if (is_shut_) return outcome.ended = Ended::kShut, std::move(outcome);
    if (!is_up_) return outcome.ended = Ended::kUnreachable, std::move(outcome);
    pb::Request request;
    make(request);
    Waiting waiting{.is_ask = is_ask};
    const uint64_t number = next_number_;
    waiting_[number] = &waiting;
    if (!post(request)) waiting.is_cut = true;
    while (!waiting.is_answered && !waiting.is_cut && !is_shut_ && Clock::now() < until) wait_until(lock, until);
    waiting_.erase(number);
    if (waiting.is_answered) {
      outcome.ended = Ended::kReply;
      outcome.packet = std::move(waiting.packet);
      outcome.lease = waiting.lease;
      return outcome;
    }
    // Whoever was queued is known by name; whoever is granted all the same is released by take().
    if (is_ask && !waiting.queued.id().empty()) {
      pb::Request give_up;
      *give_up.mutable_release() = waiting.queued;
      if (waiting.is_cut)
        over_.push_back(waiting.queued);
      else
        (void)post(give_up);
    }
    if (is_shut_) return outcome.ended = Ended::kShut, std::move(outcome);
    if (!waiting.is_cut) return outcome.ended = Ended::kTimedOut, std::move(outcome);
    outcome.was_repeated = true;
    // The reader may not have seen yet that it is gone.
    if (is_up_) changed_.wait_for(lock, milliseconds(1));
  }
}

// With the mutex held.
Lease* Connection::add(Packet& granted) {
  const pb::Granted& grant = granted.reply.granted();
  leases_.push_back(Lease{.hex = hex_of(grant.lease().id()),
                          .kind = grant.kind(),
                          .gpus = {grant.gpus().begin(), grant.gpus().end()},
                          .is_writer = grant.is_writer(),
                          .name = grant.lease(),
                          .bytes = grant.bytes(),
                          .memory = LeaseMemory(std::move(granted.chunks))});
  return &leases_.back();
}

// With the mutex held.
void Connection::give_up(Lease& lease) {
  lease.memory.drop_all();
  lease.is_over = true;
  std::erase_if(yields_, [&](const Yield& each) { return each.hex == lease.hex; });
}

void Connection::release(Lease* lease) {
  std::unique_lock lock(mutex_);
  const bool is_told = lease->is_over || is_shut_;
  give_up(*lease);
  bool is_done = is_told;
  if (!is_told && is_up_) {
    lock.unlock();
    const auto make = [lease](pb::Request& request) { *request.mutable_release() = lease->name; };
    is_done = order(make, Clock::now() + kPatience).ended == Ended::kReply;
    lock.lock();
  }
  if (!is_done) over_.push_back(lease->name);
  leases_.remove_if([lease](const Lease& each) { return &each == lease; });
}

int Connection::next_yield(Clock::time_point until, Yield& yield) {
  std::unique_lock lock(mutex_);
  while (yields_.empty() && !is_shut_ && Clock::now() < until) wait_until(lock, until);
  if (is_shut_) return -1;
  if (yields_.empty()) return 0;
  yield = yields_.front();
  yields_.pop_front();
  if (is_up_) {
    pb::Request request;
    *request.mutable_yield_ack()->mutable_lease() = yield.name;
    (void)post(request);
  }
  return 1;
}

}  // namespace mesh::sdk
