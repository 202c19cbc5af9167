// The same requests for models on a virtual clock, whoever lends the memory: hosts with a card each, models that are
// loaded when they are wanted, and are used for a while.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "tools/bench/vram_trace.h"

namespace mesh::bench {

struct VramTerms {
  std::vector<gpu::Units> cards;  // a host each
  Duration network{};             // there and back, to another host
};

struct VramOutcome {
  double resident_mean = 0;          // of all cards, over time
  std::vector<gpu::Units> held_max;  // by host: what was resident or being loaded
  std::vector<double> waits_s;       // of who was served, in order: from the request to the use
  double wait_mean_s = 0;
  uint64_t loads = 0;
  double load_s = 0;
  uint64_t refused = 0;  // requests that nobody would serve
  uint64_t remote = 0;   // served at another host than they were made at

  double wait_s(double share) const;  // percentile, 0 to 1
};

class VramReplay {
 public:
  // Both outlive it.
  VramReplay(const VramTrace& trace, const VramTerms& terms);
  virtual ~VramReplay() = default;
  VramReplay(const VramReplay&) = delete;
  VramReplay& operator=(const VramReplay&) = delete;

  // Once.
  VramOutcome run();

 protected:
  struct Place {  // of a model at a host
    size_t host = 0;
    size_t model = 0;
    bool is_wanted = false;  // from want() on, until it is loaded
    bool is_loading = false;
    bool is_resident = false;
    int users = 0;
    Instant used_at{};
    Instant loaded_at{};  // or will be
    struct Waiting {
      Instant asked_at;
      Duration hold;
      size_t host;
    };
    std::vector<Waiting> waiting{};

    bool is_idle() const { return is_resident && users == 0; }
  };

  // At which host it is to be served.
  virtual size_t choose(const VramUse& use) = 0;
  // It is needed and not there: start_load() when there is room for it, or refuse().
  virtual void want(Place& place) = 0;
  virtual void loaded(Place&) {}
  virtual void used(Place&, bool) {}

  void after(Duration duration, std::function<void()> what) { schedule_.emplace(now_ + duration, std::move(what)); }
  void start_load(Place& place);
  void refuse(Place& place);
  void gone(Place& place);
  Place& at(size_t host, size_t model) { return places_[host * trace_.models.size() + model]; }
  const VramModel& model_of(const Place& place) const { return trace_.models[place.model]; }
  gpu::Units held(size_t host) const { return held_[host]; }

  Instant now_{milliseconds(1'000'000)};
  const VramTrace& trace_;
  const VramTerms& terms_;
  std::vector<Place> places_;

 private:
  void arrive(size_t number);
  void use(Place& place, const Place::Waiting& waiting);
  void advance_to(Instant next);

  std::multimap<Instant, std::function<void()>> schedule_;
  std::vector<gpu::Units> held_;
  gpu::Units resident_ = 0;
  VramOutcome outcome_;
};

}  // namespace mesh::bench
