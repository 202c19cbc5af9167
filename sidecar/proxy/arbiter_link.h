// The leases on memory that the host's GPU arbiter granted to this sidecar: its side of proto/lease.proto.
//
// They outlive the arbiter: one that was started anew is shown what is held and asked again for what is not.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/code.h"
#include "common/base/model_order.h"
#include "common/base/packet_channel.h"
#include "sidecar/proxy/model_events.h"

namespace mesh::lease::v1 {
class Lease;
class Reply;
class Request;
}  // namespace mesh::lease::v1

namespace mesh::proxy {

class ArbiterLinkObserver {
 public:
  virtual ~ArbiterLinkObserver() = default;
  virtual void on_arbiter_connected(bool is_connected) = 0;
  virtual void on_model_granted(uint32_t number) = 0;
  virtual void on_model_queued(uint32_t number) = 0;  // there is no memory at the moment
  // `reason` is the arbiter's word for it, e.g. "never_fits"; valid during the call.
  virtual void on_model_refused(uint32_t number, Code code, std::string_view reason) = 0;
  virtual void on_model_recalled(uint32_t number) = 0;
  // The arbiter knows nothing of what was held.
  virtual void on_model_lost(uint32_t number) = 0;
  virtual void on_model_looked_at(uint32_t number, const ModelOutlook& outlook) = 0;
};

class ArbiterLink final : public PacketChannelObserver {
 public:
  // All outlive this. `client` is the name that people read there, as far as it fits.
  ArbiterLink(PacketChannel& channel, ArbiterLinkObserver& observer, std::string client)
      : channel_(channel), observer_(observer), client_(std::move(client)) {}

  void start() { channel_.open(*this); }

  // One lease for each number at a time; answered with granted or refused, unless it is given back before. Asked once
  // more after it was given back: that is another lease.
  void ask(uint32_t number, ModelOrder order);
  void note_use(uint32_t number, bool is_used);
  // What was granted is filled: until then nobody asks for it back.
  void note_loaded(uint32_t number);
  void give_back(uint32_t number);
  // How soon each could be used, if it were asked for now. No answer comes without an arbiter, nor to what is asked
  // while an earlier look is not answered.
  void look(const std::vector<std::pair<uint32_t, ModelOrder>>& models);

  void on_channel_open() override;
  void on_channel_packet(ByteView bytes) override;
  void on_channel_closed() override;

 private:
  struct Held {
    ModelOrder order;
    std::string id;  // as the arbiter names it; empty until it has
    uint64_t epoch = 0;
    bool is_granted = false;
    bool is_used = false;
    bool is_loaded = false;
    bool is_wanted = true;     // else it is given back as soon as its name is known
    bool is_released = false;  // said on this connection; forgotten when that is answered
  };
  enum class Asked : uint8_t { kHello, kLease, kClaim, kRelease, kStatus, kOther };
  struct Pending {
    Asked what;
    uint64_t lease = 0;
    std::vector<uint32_t> looked_for{};  // numbers of models
  };
  void send(lease::v1::Request& request, Asked what, uint64_t lease, std::vector<uint32_t> looked_for = {});
  void send_ask(uint64_t lease);
  void send_release(uint64_t lease);
  void send_use(uint64_t lease);
  void send_commit(uint64_t lease);
  void send_claim(uint64_t lease);
  void name(lease::v1::Lease& name, const Held& held) const;
  void on_answer(const Pending& pending, const lease::v1::Reply& reply);
  void on_granted(uint64_t lease, const lease::v1::Lease& name);
  void on_standing(const std::vector<uint32_t>& looked_for, const lease::v1::Reply& reply);
  void on_ended(uint64_t lease, Code code, const std::string& reason, bool was_claimed);
  void on_welcome(uint64_t epoch);
  void ask_anew(uint64_t lease);
  uint64_t* current(uint32_t number);
  uint32_t number_of(uint64_t lease) const;

  PacketChannel& channel_;
  ArbiterLinkObserver& observer_;
  std::string client_;
  uint64_t epoch_ = 0;
  bool is_welcome_ = false;
  uint64_t next_request_ = 1;
  uint64_t next_lease_ = 1;
  std::map<uint64_t, Held> leases_;       // by numbers of our own, never used twice
  std::map<uint32_t, uint64_t> current_;  // which of them has that number of a model
  std::map<uint64_t, Pending> pending_;   // by number of the request
};

}  // namespace mesh::proxy
