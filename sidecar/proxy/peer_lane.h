// One lane to one peer: a link that is dialed on first use and kept, and the calls that wait for it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/prng.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/link_session.h"

namespace mesh::proxy {

// Which calls of a lost connection the peer certainly does not have.
struct LostCalls {
  std::vector<uint64_t> not_sent;
  std::vector<uint64_t> waiting;
};

// Its timer (retry of the connection) is a session of its own; the connection's is the link's.
class PeerLane final : public Session {
 public:
  // The references must outlive this. `own` is what this sidecar says in its hello.
  PeerLane(SessionHost& host, LinkObserver& observer, Counters& counters, const PeerConfig& config, PeerIndex peer,
           wire::Hello own, Prng& prng);

  PeerIndex peer() const { return peer_; }
  wire::Lane lane() const { return own_.lane; }

  void send(SendToPeer call);
  // Out of the queue, or a cancel to the peer if it has left.
  void cancel(uint64_t call_id);
  // On the connection, if there is one: nobody waits for it.
  void say(const wire::Envelope& envelope) {
    if (link_ && link_->up()) link_->put(envelope);
  }
  void on_reply() { settle(); }
  // Dials if there is no connection and none is due.
  void ensure_link();
  // The peer is there: the next attempt to connect, if one is due, is made now.
  void dial_now();
  // The link ended: retires it and says what became of its calls.
  LostCalls drop_link();
  void on_up();

  void on_bytes(Slice) override {}
  void on_closed(std::string_view) override {}
  void on_time(Instant now) override;
  void on_turn_ending() override;

 private:
  struct Leaving {
    uint64_t end;  // position of the batch's last byte in the stream
    std::vector<uint64_t> calls;
  };
  void settle();
  bool lingers(Instant now) const;
  void put(SendToPeer& call, uint64_t budget_us);

  SessionHost& host_;
  LinkObserver& observer_;
  Counters& counters_;
  const PeerConfig& config_;
  PeerIndex peer_;
  wire::Hello own_;
  Prng& prng_;
  Backoff backoff_;
  bool waiting_to_dial_ = false;
  bool scheduled_ = false;       // for the end of this turn
  LinkSession* link_ = nullptr;  // the host owns it
  std::deque<SendToPeer> queue_;
  size_t queued_bytes_ = 0;    // since the last batch
  Instant leave_at_ = kNever;  // when the first of the queue has waited long enough for company
  size_t company_ = SIZE_MAX;  // how many it waits for
  std::deque<Leaving> leaving_;
  std::vector<uint64_t> batch_calls_;
  std::vector<uint64_t> refused_;  // those that the peer's version must not get
  std::vector<CallsLeft::Call> left_;
  std::vector<uint64_t> expired_;  // taken out of the queue unsent; the engine is about to cancel them
  uint64_t outstanding_ = 0;
};

}  // namespace mesh::proxy
