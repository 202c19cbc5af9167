// What the arbiter makes of a card, against hard pools and against one pool with the least recently used evicted first:
// the same requests for models on a virtual clock.
#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <map>

#include "common/base/prng.h"
#include "tests/unit/arbiter_desk.h"

namespace mesh::arbiter {
namespace {

constexpr Units kCard = 12 * kGiBUnits;
constexpr size_t kModels = 28;
constexpr int kRequests = 20'000;

struct Model {
  Units units = 0;
  Duration load{};
  double popularity = 0;
};

// Small ones for speech and embeddings, some large ones for language; the popular ones are of all sizes.
std::vector<Model> models(Prng& prng) {
  constexpr Units kLargest[] = {128, 128, 512, 512, 2048};
  std::vector<Model> made(kModels);
  double sum = 0;
  for (size_t i = 0; i < kModels; ++i) {
    const Units largest = kLargest[prng.below(5)];
    made[i].units = largest / 2 + static_cast<Units>(prng.below(static_cast<uint64_t>(largest / 2)));
    made[i].load = milliseconds(300 + made[i].units * 2 * 1000 / 1024 / 2);  // 2 GiB a second
    sum += made[i].popularity = 1 / std::pow(static_cast<double>(i + 1), 0.9);
  }
  for (Model& model : made) model.popularity /= sum;
  return made;
}

struct Result {
  double resident_mean = 0;  // of the card, over time
  double wait_p99_s = 0;
  double wait_mean_s = 0;
  uint64_t loads = 0;
  double load_s = 0;
};

// The agents of all models: requests come, wait for theirs to be loaded, and use it for a while.
class Replay {
 public:
  explicit Replay(uint64_t seed) : prng_(seed), models_(models(prng_)), states_(kModels) {}
  virtual ~Replay() = default;

  Result run() {
    after({}, [this] { arrive(0); });
    while (!schedule_.empty()) {
      const auto next = schedule_.begin();
      advance_to(next->first);
      const auto what = std::move(next->second);
      schedule_.erase(next);
      what();
    }
    std::sort(waits_s_.begin(), waits_s_.end());
    REQUIRE(waits_s_.size() == kRequests);
    for (const double wait : waits_s_) result_.wait_mean_s += wait / kRequests;
    result_.wait_p99_s = waits_s_[kRequests * 99 / 100];
    result_.resident_mean /= std::chrono::duration<double>(now - kStart).count() * static_cast<double>(kCard);
    return result_;
  }

 protected:
  static constexpr Instant kStart{milliseconds(1'000'000)};
  struct State {
    bool is_wanted = false;
    bool is_resident = false;
    bool is_loading = false;
    int users = 0;
    Instant used_at{};
    std::vector<Instant> waiting{};
  };
  // The model is needed and not there: start_load() when there is room for it.
  virtual void want(size_t model) = 0;
  virtual void loaded(size_t) {}
  virtual void used(size_t, bool) {}

  void after(Duration duration, std::function<void()> what) { schedule_.emplace(now + duration, std::move(what)); }
  void start_load(size_t model) {
    State& state = states_[model];
    state.is_loading = true;
    ++result_.loads;
    result_.load_s += std::chrono::duration<double>(models_[model].load).count();
    after(models_[model].load, [this, model] {
      states_[model].is_loading = states_[model].is_wanted = false;
      states_[model].is_resident = true;
      loaded(model);
      for (const Instant asked_at : std::exchange(states_[model].waiting, {})) use(model, asked_at);
    });
  }
  void gone(size_t model) { states_[model].is_resident = false; }

  Instant now = kStart;
  Prng prng_;
  std::vector<Model> models_;
  std::vector<State> states_;

 private:
  void arrive(int number) {
    if (number == kRequests) return;
    double at = static_cast<double>(prng_.below(1'000'000)) / 1e6;
    size_t model = 0;
    while (model + 1 < kModels && at > models_[model].popularity) at -= models_[model++].popularity;
    request(model);
    after(milliseconds(static_cast<int64_t>(prng_.below(700))), [this, number] { arrive(number + 1); });
  }
  void request(size_t model) {
    State& state = states_[model];
    if (state.is_resident) return use(model, now);
    state.waiting.push_back(now);
    if (!std::exchange(state.is_wanted, true)) want(model);
  }
  void use(size_t model, Instant asked_at) {
    waits_s_.push_back(std::chrono::duration<double>(now - asked_at).count());
    State& state = states_[model];
    state.used_at = now;
    if (++state.users == 1) used(model, true);
    after(milliseconds(100 + static_cast<int64_t>(prng_.below(1900))), [this, model] {
      if (--states_[model].users == 0) used(model, false);
    });
  }
  void advance_to(Instant next) {
    Units resident = 0;
    for (size_t i = 0; i < kModels; ++i) resident += states_[i].is_resident ? models_[i].units : 0;
    result_.resident_mean += static_cast<double>(resident) * std::chrono::duration<double>(next - now).count();
    now = next;
  }

  std::multimap<Instant, std::function<void()>> schedule_;
  std::vector<double> waits_s_;
  Result result_;
};

// Pools of fixed sizes, or a single one; in each, first come first served, and the least recently used idle one goes.
class Pools : public Replay {
 public:
  Pools(uint64_t seed, bool is_hard) : Replay(seed), is_hard_(is_hard) {
    free_ = {kCard - gpu::bounds::emergency_units, 0, 0};
    if (is_hard) free_ = {gpu::units_of(256 * gpu::kMiB), kGiBUnits, 4 * kGiBUnits};
  }

 private:
  size_t pool_of(size_t model) const { return is_hard_ ? static_cast<size_t>(gpu::class_of(models_[model].units)) : 0; }
  void want(size_t model) override {
    queues_[pool_of(model)].push_back(model);
    serve(pool_of(model));
  }
  void used(size_t model, bool in_use) override {
    if (!in_use) serve(pool_of(model));
  }
  void loaded(size_t) override {}
  void serve(size_t pool) {
    while (!queues_[pool].empty() && make_room(pool, models_[queues_[pool].front()].units)) {
      const size_t model = queues_[pool].front();
      queues_[pool].pop_front();
      free_[pool] -= models_[model].units;
      start_load(model);
    }
  }
  bool make_room(size_t pool, Units units) {
    while (free_[pool] < units) {
      size_t oldest = kModels;
      for (size_t i = 0; i < kModels; ++i) {
        const State& state = states_[i];
        if (pool_of(i) != pool || !state.is_resident || state.users > 0) continue;
        if (oldest == kModels || state.used_at < states_[oldest].used_at) oldest = i;
      }
      if (oldest == kModels) return false;
      free_[pool] += models_[oldest].units;
      gone(oldest);
    }
    return true;
  }

  bool is_hard_;
  std::array<Units, 3> free_{};
  std::array<std::deque<size_t>, 3> queues_;
};

// Each model is a process that asks the arbiter, keeps what it was granted, and yields within 50 ms once it is idle.
class Arbitrated : public Replay {
 public:
  explicit Arbitrated(uint64_t seed) : Replay(seed), engine_(cards({kCard})), leases_(kModels) {
    Actions out;
    engine_.begin({}, now, out);
    engine_.on(GpuSampled{}, now, out);
    tick();
  }

 private:
  void tick() {
    const bool is_over = !std::any_of(states_.begin(), states_.end(), [](const State& s) { return s.is_wanted; });
    Actions out;
    engine_.on_time(now, out);
    carry_out(out);
    // The engine's own time, as long as anybody comes or waits.
    idle_ticks_ = is_over ? idle_ticks_ + 1 : 0;
    if (idle_ticks_ < 400) after(milliseconds(50), [this] { tick(); });
  }
  template <class Event>
  void tell(const Event& event) {
    Actions out;
    engine_.on(event, now, out);
    REQUIRE(engine_.holds());
    carry_out(out);
  }
  LeaseName name(size_t model) const { return {model + 1, model + 1, leases_[model], engine_.epoch()}; }
  void want(size_t model) override {
    leases_[model] = id_of(++number_);
    gpu::Request request;
    request.min = request.want = models_[model].units;
    request.load_time = models_[model].load;
    request.model = {1, model + 1};
    tell(LeaseAsked{model + 1, model + 1, leases_[model], request, {}});
  }
  void loaded(size_t model) override { tell(LeaseCommitted{name(model), models_[model].units, {}}); }
  void used(size_t model, bool in_use) override {
    tell(LeaseUsed{name(model), in_use});
    if (!in_use && yields_[model]) give_back(model);
  }
  void give_back(size_t model) {
    after(milliseconds(50), [this, model] {
      if (!states_[model].is_resident || states_[model].users > 0) return;
      yields_[model] = false;
      gone(model);
      tell(LeaseReleased{name(model)});
    });
  }
  void carry_out(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* grant = std::get_if<SendGrant>(&action)) start_load(grant->connection - 1);
      REQUIRE_FALSE(std::holds_alternative<SendRefusal>(action));
      if (const auto* asked = std::get_if<AskYield>(&action)) {
        const size_t model = asked->connection - 1;
        yields_[model] = true;
        tell_later(model);
        if (states_[model].is_resident && states_[model].users == 0) give_back(model);
      }
    }
  }
  void tell_later(size_t model) {
    after(milliseconds(1), [this, model] {
      if (yields_[model]) tell(YieldAcknowledged{name(model), milliseconds(5000)});
    });
  }

  Engine engine_;
  std::vector<LeaseId> leases_;
  std::array<bool, kModels> yields_{};
  uint64_t number_ = 0;
  int idle_ticks_ = 0;
};

TEST_CASE("more of the card is of use than with hard pools, waits are shorter, and less is loaded than with LRU") {
  Result all[3];  // of three traces
  for (const uint64_t seed : {1, 2, 3}) {
    const Result results[] = {Pools(seed, true).run(), Pools(seed, false).run(), Arbitrated(seed).run()};
    for (size_t i = 0; i < 3; ++i) {
      all[i].resident_mean += results[i].resident_mean / 3;
      all[i].wait_mean_s += results[i].wait_mean_s / 3;
      all[i].wait_p99_s += results[i].wait_p99_s / 3;
      all[i].loads += results[i].loads;
      all[i].load_s += results[i].load_s;
    }
  }
  for (size_t i = 0; i < 3; ++i) {
    const std::string who = i == 0 ? "hard pools" : i == 1 ? "LRU" : "arbiter";
    MESSAGE(who, ": resident ", all[i].resident_mean, ", wait mean ", all[i].wait_mean_s, " s, p99 ", all[i].wait_p99_s,
            " s, loads ", all[i].loads, ", load seconds ", all[i].load_s);
  }
  const auto& [hard, lru, own] = all;
  CHECK(own.resident_mean >= 1.25 * hard.resident_mean);
  CHECK(own.wait_p99_s <= hard.wait_p99_s / 3);
  CHECK(static_cast<double>(own.loads) <= 0.9 * static_cast<double>(lru.loads));
  CHECK(own.load_s <= lru.load_s);
}

}  // namespace
}  // namespace mesh::arbiter
