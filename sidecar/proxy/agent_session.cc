#include "sidecar/proxy/agent_session.h"

#include <algorithm>
#include <array>
#include <utility>

#include "sidecar/proxy/frames.h"

namespace mesh::proxy {

AgentSession::AgentSession(SessionHost& host, AgentObserver& observer, const AgentConfig& config, AgentIndex index,
                           Prng& prng)
    : host_(host), observer_(observer), config_(config), label_("agent:" + config.name), index_(index), prng_(prng) {}

void AgentSession::start() {
  closing_.reset();
  stream_ = host_.transport().connect(config_.endpoint, *this);
  const zmtp::SocketType agent = config_.socket == AgentSocket::kRep      ? zmtp::SocketType::kRep
                                 : config_.socket == AgentSocket::kRouter ? zmtp::SocketType::kRouter
                                                                          : zmtp::SocketType::kDealer;
  connection_.emplace(zmtp::Settings{.own_type = zmtp::SocketType::kDealer,
                                     .accepted_peers = {agent},
                                     .identity = {},
                                     .frames_max = limits::frames_per_reply_max},
                      stream_->out(), host_.now());
  was_ready_ = false;
  host_.set_deadline(*this, connection_->next_deadline());
}

void AgentSession::deliver(const DeliverToAgent& request) {
  // The engine delivers only to a connected agent, but the connection may have ended in this same turn.
  if (!connection_ || !connection_->ready()) {
    observer_.on_agent_lost(index_, {request.call_id}, "the connection ended");
    return;
  }
  Outbox& out = stream_->out();
  if (config_.correlate) {
    std::array<uint8_t, 8> frame{};
    std::memcpy(frame.data(), &request.call_id, frame.size());
    zmtp::put_frame(out, zmtp::kFlagMore, ByteView(frame));
  }
  zmtp::put_frame(out, zmtp::kFlagMore, ByteView());
  put_payload(out, request.payload);
  while (!leaving_.empty() && leaving_.front().end <= stream_->handed_bytes()) leaving_.pop_front();
  leaving_.push_back({stream_->handed_bytes() + out.bytes(), request.call_id});
  stream_->flush_later();
}

void AgentSession::on_target_filled(size_t count) {
  if (!stream_) return;
  connection_->commit(count, host_.now());
  receive();
}

void AgentSession::on_bytes(Slice bytes) {
  if (!stream_) return;
  connection_->feed(std::move(bytes), host_.now());
  receive();
}

void AgentSession::receive() {
  while (stream_) {
    auto message = connection_->next();
    if (!message) {
      host_.report(label_, message.error());
      stream_->flush();
      return on_closed(message.error().text);
    }
    if (connection_->ready() && !was_ready_) {
      was_ready_ = true;
      backoff_.reset();
      host_.set_deadline(*this, kNever);
      observer_.on_agent_connected(index_);
    }
    if (*message == nullptr) break;
    receive_message(**message);
  }
  if (stream_ && !stream_->out().empty()) stream_->flush_later();
}

void AgentSession::receive_message(const zmtp::Message& message) {
  auto frames = message.frames();
  AgentReplied reply{.agent = index_, .call_id = 0, .dropped_bytes = message.dropped_bytes, .payload = {}};
  if (config_.correlate) {
    if (frames.size() < 3 || frames[0].size() != sizeof(reply.call_id) || !frames[1].empty()) {
      host_.report(
          label_,
          rule_broken(Code::kInvalid, "reply_envelope",
                      "the agent did not echo the frames before the empty one; set \"correlate\": false for it"));
      return;
    }
    std::memcpy(&reply.call_id, frames[0].data(), sizeof(reply.call_id));
    frames = frames.subspan(2);
  } else if (frames.size() > 1 && frames[0].empty()) {
    frames = frames.subspan(1);
  }
  reply.payload = payload_of(frames);
  observer_.on_agent_replied(std::move(reply));
}

void AgentSession::replace() {
  if (stream_) on_closed("it owed an answer for too long");
}

void AgentSession::on_congested() {
  if (stream_) observer_.on_agent_congested(index_);
}

void AgentSession::on_drained() {
  leaving_.clear();
  if (stream_) observer_.on_agent_drained(index_);
}

void AgentSession::on_closed(std::string_view reason) {
  if (!stream_) return;
  std::vector<uint64_t> not_sent;
  for (const Leaving& call : leaving_) {
    if (call.end > stream_->handed_bytes()) not_sent.push_back(call.call_id);
  }
  leaving_.clear();
  // What was just called not sent must not be sent now.
  stream_->abandon();
  closing_ = std::move(stream_);
  connection_.reset();
  host_.set_deadline(*this, host_.now() + backoff_.next(prng_));
  observer_.on_agent_lost(index_, std::move(not_sent), reason);
}

void AgentSession::on_time(Instant now) {
  if (!stream_) return start();
  if (auto judged = connection_->judge(now); !judged) return on_closed(judged.error().text);
  host_.set_deadline(*this, connection_->next_deadline());
}

}  // namespace mesh::proxy
