// The real engine on a virtual clock: an arbiter at each host, and for each model an agent that asks it, keeps what it
// was granted, and yields soon after it is idle. Requests go where they are predicted to be done first.
#pragma once

#include <memory>
#include <vector>

#include "common/gpu/placement.h"
#include "sidecar/arbiter/engine.h"
#include "tools/bench/vram_replay.h"

namespace mesh::bench {

class VramArbiters final : public VramReplay {
 public:
  VramArbiters(const VramTrace& trace, const VramTerms& terms);

 private:
  static constexpr Duration kYield = milliseconds(50);  // of an agent that is idle, until its memory is back

  struct Host {
    std::unique_ptr<arbiter::Engine> engine;
    std::vector<gpu::LeaseId> leases;  // by model
    std::vector<bool> is_asked_back;
    Instant wake_at = kNever;
  };

  size_t choose(const VramUse& use) override;
  gpu::Site site_of(size_t host, const VramUse& use);
  void want(Place& place) override;
  void loaded(Place& place) override;
  void used(Place& place, bool in_use) override;
  template <class Event>
  void tell(size_t host, const Event& event);
  void carry_out(size_t host, const arbiter::Actions& actions);
  void wake(size_t host);
  void give_back(Place& place);
  arbiter::LeaseName name(const Place& place) const;

  std::vector<Host> hosts_;
  uint64_t leases_ = 0;
};

}  // namespace mesh::bench
