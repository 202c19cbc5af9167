#include "sidecar/proxy/client_session.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "sidecar/proxy/frames.h"

namespace mesh::proxy {
namespace {

// How long a REQ socket that reconnected may stay silent before it is taken for stuck: a caller that reconnects to ask
// does so at once. With the wait for its reconnect (100 ms by default) it is freed within 3 s. Not at a round time, at
// which programs that sleep like to ask, nor all at the same.
constexpr int64_t kStuckSilence_ms = 2110;
constexpr uint64_t kStuckSpread_ms = 600;
// A peer that knows no PING (ZMTP 3.0): what comes this soon after may have crossed the error on its way.
constexpr int64_t kCrossing_ms = 100;
// One client's share of a turn; more wait for the next, so that a flood of tiny messages holds up nobody.
constexpr int kMessagesPerTurn = 96;

zmtp::Settings settings_for(const ClientPort& port) {
  return {.own_type = zmtp::SocketType::kRouter,
          .accepted_peers = {zmtp::SocketType::kReq, zmtp::SocketType::kDealer},
          .identity = {},
          .answers_ready = true,
          .message_bytes = static_cast<size_t>(port.keep_bytes),
          .surplus_frames_max = limits::surplus_frames_max,
          .read_over_bytes = limits::read_over_bytes};
}

wire::CacheReport report_of(const telemetry::CacheTrace& trace) {
  const bool is_kept = telemetry::is_hit(trace.verdict) || trace.tier != 0;
  return {.verdict = to_string(trace.verdict),
          .tier = is_kept ? to_string(static_cast<contract::Tier>(trace.tier)) : std::string_view(),
          .age_ms = trace.age_ms,
          .key_low = trace.key_low,
          .key_high = trace.key_high};
}

}  // namespace

ClientSession::ClientSession(SessionHost& host, ClientObserver& observer, ClientPort& port,
                             std::unique_ptr<Stream> stream, bool may_be_stuck)
    : host_(host),
      observer_(observer),
      port_(port),
      stream_(std::move(stream)),
      connection_(settings_for(port), stream_->out(), host.now()),
      may_be_stuck_(may_be_stuck),
      message_(host, *this, limits::client_pace_bytes_per_s) {
  stream_->flush_later();
}

std::span<uint8_t> ClientSession::read_target() { return ended_ ? std::span<uint8_t>() : connection_.read_target(); }

void ClientSession::on_target_filled(size_t count) {
  if (ended_) return;
  received_bytes_ += count;
  connection_.commit(count, host_.now());
  receive();
}

void ClientSession::on_bytes(Slice bytes) {
  if (ended_) return;
  received_bytes_ += bytes.size();
  connection_.feed(std::move(bytes), host_.now());
  receive();
}

void ClientSession::receive() {
  receiving_ = true;
  has_rest_ = false;
  for (int messages = 0; !ended_; ++messages) {
    // What is read already waits as well: it may be many calls more.
    if (full_ || messages == kMessagesPerTurn) {
      has_rest_ = true;
      break;
    }
    auto message = connection_.next();
    if (!message) {
      receiving_ = false;
      return refuse(message.error());
    }
    if (connection_.ready() && !was_ready_) {
      was_ready_ = true;
      ready_at_ = host_.now();
      host_.on_handshake_ended();
      if (may_be_stuck_ && is_req()) stuck_at_ = host_.now() + silence();
      arm();
    }
    if (*message == nullptr) break;
    receive_message(**message);
  }
  receiving_ = false;
  if (ended_) return;
  if (has_rest_) {
    stream_->pause_reading();
    if (!full_) host_.call_next_turn(*this);
  }
  message_.look(connection_.unfinished_bytes(), connection_.declared_bytes(), received_bytes_);
  if (message_.waits()) stream_->pause_reading();
  if (was_ready_ && (message_.next_deadline() < armed_ || connection_.next_deadline() < armed_)) arm();
  if (stream_->out().empty()) return;
  stream_->flush_later();
  // Also those who are only ever sent PONGs have to read them.
  if (stream_->unsent_bytes() > limits::stream_high_water_bytes) adjust_reading();
}

Duration ClientSession::silence() const {
  return milliseconds(kStuckSilence_ms + static_cast<int64_t>(id() * 2'654'435'761 % kStuckSpread_ms));
}

void ClientSession::on_room() {
  message_.admit(received_bytes_);
  arm();
  host_.call_at_turn_end(*this);
}

void ClientSession::receive_message(const zmtp::Message& message) {
  may_be_stuck_ = false;
  asked_at_ = host_.now();
  if (freed_at_ && has_crossed()) {
    // Which of the two the socket took for its answer cannot be known. Closing is the one answer that cannot be taken
    // for another's; the request is not executed, and the socket freed when it comes back.
    ++port_.crossed;
    return on_closed("a request crossed the error that freed the socket");
  }
  freed_at_.reset();
  const auto frames = message.frames();
  const auto delimiter =
      std::find_if(frames.begin(), frames.end() - 1, [](const Slice& frame) { return frame.empty(); });
  ReturnPath path{.client = id(), .port = port_.index, .bytes = 0, .delimited = false, .route = {}, .header = nullptr};
  size_t body_at = 0;
  if (delimiter != frames.end() - 1) {
    path.delimited = true;
    size_t route_bytes = 0;
    for (auto frame = frames.begin(); frame != delimiter; ++frame) {
      route_bytes += frame->size();
      path.route.push_back(frame->compact());
    }
    if (route_bytes > limits::route_bytes) {
      return refuse(rule_broken(Code::kTooLarge, "route_bytes", "the frames before the delimiter are too large"));
    }
    body_at = static_cast<size_t>(delimiter - frames.begin()) + 1;
  }
  auto body = frames.subspan(body_at);
  ++open_calls_;

  const contract::Declaration& own = port_.terms;
  std::optional<int64_t> budget_ms = own.budget_ms;
  std::optional<Priority> priority = own.priority;
  std::string_view service = port_.service;
  std::string_view method;
  if (service.empty()) {
    path.header = std::make_unique<wire::MeshHeader>();
    auto header = wire::decode_mesh_header(body[0].view());
    if (!header) {
      path.header->is_json = true;
      AgentRequested unreadable;
      unreadable.path = std::move(path);
      unreadable.unreadable = std::make_unique<Error>(std::move(header.error()));
      return observer_.on_client_request(*this, std::move(unreadable));
    }
    *path.header = std::move(*header);
    service = path.header->service;
    method = path.header->method;
    budget_ms = path.header->budget_ms;
    priority = path.header->priority;
    body = body.subspan(1);
  }
  const contract::Terms terms = observer_.terms_for(service, method, body);
  std::unique_ptr<Error> unreadable;
  const std::string_view header_key = path.header ? std::string_view(path.header->key) : std::string_view();
  std::shared_ptr<const CallKey> key;
  if (!header_key.empty() || terms.idempotency_field != nullptr)
    key = key_of(header_key, method, terms, body, unreadable);
  Payload payload = body.empty() ? Payload() : payload_of(body);
  path.bytes = payload.body.size();
  open_bytes_ += path.bytes;
  const bool keeps = terms.cache != nullptr || terms.invalidates != nullptr;
  Keeping keeping;
  if (keeps) [[unlikely]]
    keeping = keeping_of(terms);
  AgentRequested request{.path = std::move(path),
                         .unreadable = std::move(unreadable),
                         .service = service,
                         .method = method,
                         .budget_ms = std::min(budget_ms.value_or(terms.budget_ms), limits::budget_ms_max),
                         .priority = priority.value_or(terms.priority),
                         .max_bytes = own.max_bytes.value_or(terms.max_bytes),
                         .linger_ms = own.linger_ms.value_or(terms.linger_ms),
                         .linger_count = own.linger_count.value_or(terms.linger_count),
                         .idempotent = terms.idempotent,
                         .hedge_ms = terms.hedge_ms,
                         .is_sensitive = terms.sensitive,
                         .key = std::move(key),
                         .keeping = keeps ? &keeping : nullptr,
                         .model = terms.model,
                         .dropped_bytes = message.dropped_bytes,
                         .dropped_frames = message.dropped_frames,
                         .payload = std::move(payload)};
  observer_.on_client_request(*this, std::move(request));
  adjust_reading();
}

// The key that the header names, or the body where the contract says so. What ought to be a key and is none must not be
// executed as if nobody had asked for that.
std::shared_ptr<const CallKey> ClientSession::key_of(std::string_view in_header, std::string_view method,
                                                     const contract::Terms& terms, std::span<const Slice> body,
                                                     std::unique_ptr<Error>& unreadable) {
  std::string_view key = in_header;
  if (method == contract::kUnreadableMethod) {
    unreadable = std::make_unique<Error>();
    unreadable->code = Code::kInvalid;
    unreadable->stage = "admission";
    unreadable->rule = "method_unreadable";
    unreadable->text = "which method the body asks for cannot be read, and with a key that must be known";
    unreadable->hint = "one JSON object in one frame, or the method in the header of the mesh socket";
    return nullptr;
  }
  if (key.empty()) {
    const auto in_body = observer_.read_key(body, *terms.idempotency_field);
    if (!in_body) return nullptr;
    key = *in_body;
  }
  if (key.empty()) {
    unreadable = std::make_unique<Error>();
    unreadable->code = Code::kInvalid;
    unreadable->stage = "admission";
    unreadable->rule = "idempotency_key";
    unreadable->text = "the field '" + *terms.idempotency_field + "' holds no key";
    unreadable->hint = "a text of 1 to 128 printable bytes, or a whole number, in a JSON object";
    return nullptr;
  }
  return std::make_shared<const CallKey>(CallKey{std::string(key), caller()});
}

Keeping ClientSession::keeping_of(const contract::Terms& terms) const {
  const bool is_per_caller = terms.cache != nullptr && terms.cache->is_per_caller;
  return {.cache = terms.cache, .invalidates = terms.invalidates, .caller = is_per_caller ? caller() : std::string()};
}

std::string ClientSession::caller() const {
  const auto credentials = stream_->credentials();
  return credentials ? port_.caller + "/uid " + std::to_string(credentials->uid) : port_.caller;
}

void ClientSession::put_reply(const ReturnPath& path, const Outcome& outcome) {
  Outbox& out = stream_->out();
  for (const Slice& frame : path.route) zmtp::put_frame(out, zmtp::kFlagMore, frame);
  if (path.delimited) zmtp::put_frame(out, zmtp::kFlagMore, ByteView());
  if (path.header) {
    std::optional<wire::CacheReport> cache;
    if (outcome.cache) cache = report_of(*outcome.cache);
    const std::string header =
        wire::encode_mesh_reply(*path.header, outcome.code, outcome.error.get(), cache ? &*cache : nullptr);
    zmtp::put_frame(out, zmtp::kFlagMore, as_bytes(header));
  }
  if (outcome.code == Code::kOk) {
    put_payload(out, outcome.payload);
  } else {
    zmtp::put_frame(out, 0, as_bytes(wire::reply_for(*outcome.error)));
  }
  stream_->flush_later();
}

void ClientSession::reply(ReturnPath path, Outcome outcome) {
  if (ended_) return;
  if (open_calls_ > 0) --open_calls_;
  open_bytes_ -= std::min(open_bytes_, path.bytes);
  // Beyond a message of the largest size there is no use in hoping.
  if (stall_.active() && stream_->unsent_bytes() > limits::message_bytes) {
    return refuse(rule_broken(Code::kOverloaded, "replies_unread", "the peer leaves too many replies unread"));
  }
  put_reply(path, outcome);
  adjust_reading();
  if (stream_->unsent_bytes() > limits::stream_high_water_bytes) host_.judge_idle_bytes();
}

// Stop reading the source when the sink is full: a client that asks faster than it is answered, or does not read.
void ClientSession::adjust_reading() {
  if (ended_) return;
  // on_drained() comes only after the kernel refused bytes: so offer them before judging by what is left.
  if (stream_->unsent_bytes() > (full_ ? limits::stream_low_water_bytes : limits::stream_high_water_bytes)) {
    stream_->flush();
  }
  const bool full = open_calls_ >= limits::client_open_calls_max || open_bytes_ >= limits::client_open_bytes ||
                    stream_->unsent_bytes() > limits::stream_high_water_bytes;
  const bool low = open_calls_ < limits::client_open_calls_max / 2 && open_bytes_ < limits::client_open_bytes / 2 &&
                   stream_->unsent_bytes() <= limits::stream_low_water_bytes;
  if (full && !full_) {
    full_ = true;
    stream_->pause_reading();
  } else if (low && full_) {
    full_ = false;
    // What is read already comes first; and not in the midst of something.
    host_.call_at_turn_end(*this);
  }
}

void ClientSession::on_turn_ending() {
  if (!full_) read_on();
}

void ClientSession::read_on() {
  if (ended_ || receiving_) return;
  if (has_rest_) receive();
  if (!ended_ && !has_rest_ && !full_ && !message_.waits()) stream_->resume_reading();
}

// A REQ socket whose sidecar died in the middle of its call, or before it had read it, waits for good. This one
// connected soon after the start and says nothing: it gets the answer nobody else will give. One that waits for nothing
// throws it away when it asks (libzmq's req.cpp, and RFC 28: a REQ discards what it has not asked for).
void ClientSession::free_stuck(Instant now) {
  port_.crossed -= std::min<uint32_t>(port_.crossed, 1);
  freed_at_ = now;
  pongs_before_ = connection_.pongs_received();
  ReturnPath path{.client = id(), .bytes = 0, .delimited = true, .route = {}, .header = nullptr};
  if (port_.service.empty()) {
    path.header = std::make_unique<wire::MeshHeader>();
    path.header->is_json = true;
  }
  put_reply(path, observer_.stuck_outcome(port_));
  // What comes after the PONG was asked by who has had the error.
  is_pinged_ = connection_.ping(0, as_bytes("freed"));
}

bool ClientSession::has_crossed() const {
  if (is_pinged_) return connection_.pongs_received() == pongs_before_;
  return host_.now() - *freed_at_ < milliseconds(kCrossing_ms);
}

void ClientSession::arm() {
  armed_ = std::min({stuck_at_, stall_.next_deadline(), message_.next_deadline(), connection_.next_deadline()});
  host_.set_deadline(*this, armed_);
}

void ClientSession::on_congested() {
  if (ended_) return;
  stall_.begin(stream_->accepted_bytes(), host_.now());
  arm();
}

void ClientSession::on_drained() {
  if (ended_) return;
  stall_.end();
  arm();
  adjust_reading();
}

size_t ClientSession::idle_bytes(Instant now, Duration& motionless) {
  motionless = stall_.look(stream_->accepted_bytes(), now);
  return stream_->unsent_bytes();
}

void ClientSession::on_time(Instant now) {
  if (ended_) return;
  if (now >= stuck_at_) {
    stuck_at_ = kNever;
    if (std::exchange(may_be_stuck_, false)) free_stuck(now);
  }
  if (stall_.is_stalled(stream_->accepted_bytes(), now)) {
    return refuse(rule_broken(Code::kOverloaded, "reader_stalled", "the peer does not read what it asked for"));
  }
  if (const auto error = message_.judge(!full_, received_bytes_, now)) return refuse(*error);
  if (auto judged = connection_.judge(now); !judged) return refuse(judged.error());
  arm();
}

Session::Worth ClientSession::worth(Instant now) const {
  const bool has_business =
      open_calls_ > 0 || has_rest_ || connection_.unfinished_bytes() > 0 || stream_->unsent_bytes() > 0;
  if (has_business || !was_ready_) return Worth::kMuch;
  const bool never_asked = asked_at_ == kNever;
  const int64_t patience_ms = never_asked ? limits::client_first_ask_ms : limits::client_dispensable_ms;
  if (now - (never_asked ? ready_at_ : asked_at_) < milliseconds(patience_ms)) return Worth::kMuch;
  // It has asked, and this process did not come to it yet.
  if (stream_->has_unread()) return Worth::kMuch;
  return never_asked ? Worth::kNothing : Worth::kLittle;
}

void ClientSession::refuse(const Error& error) {
  if (ended_) return;
  host_.report(port_.label, error);
  stream_->flush();  // the ERROR command
  on_closed(error.text);
}

void ClientSession::on_closed(std::string_view /*reason*/) {
  if (ended_) return;
  ended_ = true;
  stream_->abandon();
  message_.end();
  if (!was_ready_) host_.on_handshake_ended();
  observer_.on_client_closed(*this);
  host_.retire(*this);
}

}  // namespace mesh::proxy
