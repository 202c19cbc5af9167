#include "sidecar/arbiter/session.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "sidecar/arbiter/session_replies.h"

namespace mesh::arbiter {
namespace {

namespace pb = mesh::lease::v1;

std::optional<gpu::LeaseKind> kind_of(pb::Kind kind) {
  if (kind < pb::KIND_ACCOUNTED || kind > pb::KIND_SHARED) return std::nullopt;
  return static_cast<gpu::LeaseKind>(kind);
}

std::optional<Priority> priority_of(pb::Urgency urgency) {
  constexpr Priority kOf[] = {Priority::kNormal, Priority::kCritical, Priority::kInteractive, Priority::kBatch};
  if (urgency < pb::URGENCY_NORMAL || urgency > pb::URGENCY_BATCH) return std::nullopt;
  return kOf[urgency];
}

std::optional<gpu::Revocability> revocability_of(pb::Revocability revocability) {
  using gpu::Revocability;
  constexpr Revocability kOf[] = {Revocability::kRelease, Revocability::kNever, Revocability::kTrim,
                                  Revocability::kOffload, Revocability::kKill};
  if (revocability < pb::REVOCABILITY_RELEASE || revocability > pb::REVOCABILITY_KILL) return std::nullopt;
  return kOf[revocability];
}

// The lease that an order is about; null if it is about none.
const pb::Lease* lease_of(const pb::Request& request) {
  switch (request.order_case()) {
    case pb::Request::kCommit:
      return &request.commit().lease();
    case pb::Request::kRenew:
      return &request.renew();
    case pb::Request::kUse:
      return &request.use().lease();
    case pb::Request::kLive:
      return &request.live().lease();
    case pb::Request::kRelease:
      return &request.release();
    case pb::Request::kYieldAck:
      return &request.yield_ack().lease();
    case pb::Request::kYieldDone:
      return &request.yield_done().lease();
    case pb::Request::kSeal:
      return &request.seal();
    case pb::Request::kClaim:
      return &request.claim().lease();
    default:
      return nullptr;
  }
}

template <class Numbers>
std::vector<ChunkNumber> numbers_of(const Numbers& numbers) {
  return {numbers.begin(), numbers.end()};
}

}  // namespace

Order Session::on_packet(const Packet& packet, Instant now, Frames& out) {
  number_ = 0;
  lease_ = {};
  is_use_ = false;
  named_.clear();
  if (packet.had_descriptors) return fail("descriptors", "No descriptors may come with an order", out);
  if (packet.is_cut || packet.bytes.size() > packet_bytes_max)
    return fail("packet_size", "A packet has at most 32 KiB", out);
  pb::Request request;
  if (!request.ParseFromArray(packet.bytes.data(), static_cast<int>(packet.bytes.size())))
    return fail("packet", "This is no order of the lease protocol", out);
  number_ = request.number();
  if (number_ == 0) return fail("number", "An order has a number that is not 0", out);
  if (request.has_hello()) return greet(request, out);
  if (!has_greeted_) return fail("hello", "Hello comes first", out);
  return read(request, now, out);
}

Order Session::read(const Request& request, Instant now, Frames& out) {
  if (request.has_ask()) return ask(request, now, out);
  if (request.has_status()) return look(request, now, out);
  const pb::Lease* lease = lease_of(request);
  if (lease == nullptr) return fail("order", "An order of this kind is not known", out);
  const auto id = read_id(lease->id());
  if (!id || !*id) return fail("lease_id", "A lease's id is of 16 bytes", out);
  lease_ = *id;
  const LeaseName name{connection_, process_, *id, lease->epoch()};
  switch (request.order_case()) {
    case pb::Request::kRenew:
      return LeaseRenewed{name};
    case pb::Request::kUse:
      is_use_ = request.use().waits();
      return LeaseUsed{name, request.use().in_use(), request.use().waits()};
    case pb::Request::kLive:
      return LiveReported{name, gpu::units_of(request.live().bytes())};
    case pb::Request::kRelease:
      return release(name);
    case pb::Request::kYieldAck:
      return YieldAcknowledged{name, milliseconds(request.yield_ack().eta_ms())};
    case pb::Request::kSeal:
      return SegmentWritten{name};
    case pb::Request::kClaim:
      return claim(request, out);
    default:
      return gave_back(request, name, out);
  }
}

Order Session::greet(const Request& request, Frames& out) {
  const pb::Hello& hello = request.hello();
  if (hello.version() == 0) return fail("version", "The version of the protocol is 1", out);
  if (hello.client().size() > client_name_bytes_max) return fail("client", "A name has at most 64 bytes", out);
  client_ = hello.client();
  has_greeted_ = true;
  out.push_back(welcome(number_, terms_));
  number_ = 0;
  return {};
}

bool Session::is_crowded() const {
  if (open_.size() >= open_asks_max) return true;
  size_t leases = 0;
  for (const auto& [id, entry] : terms_.engine.entries()) leases += entry.lease.process == process_ ? 1 : 0;
  return leases >= leases_per_process_max;
}

bool Session::read_gpus(const Request& request, gpu::Request& into) const {
  const pb::Ask& ask = request.ask();
  if (ask.gpus_size() > static_cast<int>(gpu::bounds::gpus_max) || ask.gpu_count() > gpu::bounds::gpus_max)
    return false;
  into.gpu_count = static_cast<uint8_t>(std::max<uint32_t>(ask.gpu_count(), 1));
  if (ask.gpus_size() == 0) return true;
  into.gpus = 0;
  for (const std::string& uuid : ask.gpus()) {
    const auto found = std::find(terms_.gpus.begin(), terms_.gpus.end(), uuid);
    if (found == terms_.gpus.end()) return false;
    into.gpus |= gpu::mask_of(static_cast<size_t>(found - terms_.gpus.begin()));
  }
  return true;
}

Order Session::ask(const Request& order, Instant now, Frames& out) {
  const pb::Ask& ask = order.ask();
  const auto kind = kind_of(ask.kind());
  const auto priority = priority_of(ask.urgency());
  const auto revocability = revocability_of(ask.revocability());
  if (!kind || !priority || !revocability) return fail("lease_kind", "It asks for a kind that is not known", out);
  if (*kind != gpu::LeaseKind::kAccounted && !terms_.backs_leases)
    return fail("lease_backed", "This host exports no memory: there are accounted leases only", out);
  LeaseAsked asked{connection_, process_, terms_.new_id(), {}, {}};
  gpu::Request& request = asked.request;
  if (!read_gpus(order, request)) return fail("lease_gpus", "It asks for a GPU that is not there", out);
  const auto model = read_id(ask.model());
  const auto layout = read_id(ask.layout());
  const auto ticket = read_id(ask.ticket());
  if (!model || !layout || !ticket) return fail("lease_key", "A key or a ticket is of 16 bytes", out);
  if (ask.pid() != 0) {
    if (*kind != gpu::LeaseKind::kAccounted) return deny("pid_kind", "What is handed out is its asker's", out);
    asked.used_by = terms_.process_of(ask.pid(), process_);
    if (asked.used_by == 0) return deny("pid_not_yours", "This user has no process of that pid here", out);
  }
  if (is_crowded()) return fail("lease_count", "This process has too many leases", out);
  request.kind = *kind;
  request.priority = *priority;
  request.revocability = *revocability;
  request.min = gpu::units_of(ask.min_bytes());
  request.want = gpu::units_of(ask.want_bytes());
  request.peak = gpu::units_of(ask.peak_bytes());
  if (ask.wait_ms() > 0) request.deadline = now + milliseconds(ask.wait_ms());
  request.hold_hint = milliseconds(ask.hold_hint_ms());
  request.ttl = milliseconds(ask.ttl_ms());
  request.load_time = milliseconds(ask.load_ms());
  request.model = *model;
  request.ticket = *ticket;
  asked.layout = *layout;
  lease_ = asked.id;
  open_[asked.id] = {number_, false};
  return asked;
}

// Whoever was not told yet that it is granted gives up waiting.
Order Session::release(const LeaseName& name) {
  LeaseReleased released{name};
  if (const auto waiting = open_.find(name.id); waiting != open_.end() && !waiting->second.is_claim) {
    open_.erase(waiting);
  }
  return released;
}

Order Session::claim(const Request& request, Frames& out) {
  if (open_.size() >= open_asks_max) return fail("lease_count", "Too many claims at once", out);
  const pb::Claim& claim = request.claim();
  named_ = numbers_of(claim.chunks());
  const auto held = extents(lease_, named_);
  if (!held) return fail("chunks", "These chunks are not of this lease", out);
  open_[lease_] = {number_, true};
  return LeasePresented{{connection_, process_, lease_, claim.lease().epoch()}, gpu::units_of(claim.bytes()), *held};
}

Order Session::gave_back(const Request& request, const LeaseName& name, Frames& out) {
  const bool is_commit = request.has_commit();
  named_ = is_commit ? numbers_of(request.commit().surplus_chunks()) : numbers_of(request.yield_done().chunks());
  const auto gone = extents(name.id, named_);
  if (!gone) return fail("chunks", "These chunks are not of this lease", out);
  if (is_commit) return LeaseCommitted{name, gpu::units_of(request.commit().bytes()), *gone};
  return YieldDone{name, gpu::units_of(request.yield_done().bytes()), *gone};
}

std::optional<Extents> Session::extents(LeaseId lease, const std::vector<ChunkNumber>& chunks) const {
  return terms_.chunks.extents(lease, chunks);
}

Order Session::fail(const char* rule, const char* text, Frames& out) {
  ++broken_;
  return deny(rule, text, out);
}

// Who leases for others repeats what they said: that is no reason to hang up on him.
Order Session::deny(const char* rule, const char* text, Frames& out) {
  ++terms_.broken_rules[rule];
  out.push_back(failed(number_, lease_, rule_broken(Code::kInvalid, rule, text)));
  number_ = 0;
  return {};
}

Order Session::look(const Request& request, Instant now, Frames& out) {
  const pb::Status& status = request.status();
  if (static_cast<size_t>(status.queries_size()) > queries_max)
    return fail("status_queries", "A status is asked with 32 queries at most", out);
  std::vector<std::pair<std::string, Outlook>> outlooks;
  for (const pb::Query& query : status.queries()) {
    const auto model = read_id(query.model());
    const auto priority = priority_of(query.urgency());
    gpu::Request wanted;
    wanted.min = wanted.want = gpu::units_of(query.bytes());
    if (!model || !*model || !priority || !gpu::check(wanted))
      return fail("status_query", "A query names a model, and how many bytes it takes", out);
    wanted.model = *model;
    wanted.priority = *priority;
    wanted.load_time = milliseconds(query.load_ms());
    if (terms_.plan)
      outlooks.emplace_back(query.model(), outlook_of(terms_.engine, terms_.plan, wanted, process_, now));
  }
  out.push_back(standing(number_, outlooks, terms_));
  number_ = 0;
  return {};
}

void Session::on(const SendGrant& grant, Frames& out) {
  Open open;
  if (const auto found = open_.find(grant.id); found != open_.end()) {
    open = found->second;
    open_.erase(found);
  }
  if (open.number == number_) number_ = 0;
  granted(open.number, open.is_claim, grant, terms_, out);
}

void Session::on(const SendRefusal& refusal, Frames& out) {
  uint64_t number = 0;
  if (const auto found = open_.find(refusal.id); found != open_.end()) {
    number = found->second.number;
    open_.erase(found);
  }
  if (number == number_) number_ = 0;
  out.push_back(refused(number, refusal));
}

void Session::on(const SendError& error, Frames& out) {
  // A lease ends with the process that it was made for, and whoever leased it may not know yet.
  if (error.error.rule != "lease_unknown") ++broken_;
  ++terms_.broken_rules[error.error.rule];
  const bool is_of_order = error.id == lease_;
  const auto claimed = open_.find(error.id);
  if (is_of_order && claimed != open_.end() && claimed->second.number == number_) open_.erase(claimed);
  out.push_back(failed(is_of_order ? number_ : 0, error.id, error.error));
  if (is_of_order) number_ = 0;
}

void Session::on(const AskYield& asked, Frames& out) { out.push_back(yield_asked(asked, terms_)); }

void Session::on(const SendBegin& begin, Frames& out) {
  const auto found = beginning_.find(begin.id);
  if (found == beginning_.end()) return;
  out.push_back(done(found->second));
  beginning_.erase(found);
}

void Session::settle(Frames& out) {
  if (number_ == 0) return;
  const auto entry = terms_.engine.entries().find(lease_);
  const bool is_beginning = is_use_ && entry != terms_.engine.entries().end() && entry->second.begins_by;
  if (is_beginning) {
    beginning_[lease_] = std::exchange(number_, 0);
    return;
  }
  const bool is_waiting = open_.contains(lease_);
  out.push_back(is_waiting ? queued(number_, lease_, terms_) : done(number_));
  number_ = 0;
}

}  // namespace mesh::arbiter
