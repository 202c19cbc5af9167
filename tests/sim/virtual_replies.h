// A process's replies on disk: what was put may be lost with a kill, what was erased and reported is gone for good.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/reply_store.h"
#include "tests/sim/virtual_network.h"

namespace mesh::sim {

// Outlives the processes that use it, one after the other.
struct VirtualReplyDisk {
  struct Entry {
    std::string value;
    Instant made{};
    Instant until{};
    std::vector<uint64_t> names;
    uint64_t put_by = 0;  // which process
  };
  std::map<std::pair<uint64_t, uint64_t>, Entry> entries;
  uint64_t processes = 0;         // that used it until now
  uint64_t given_to_another = 0;  // than had put it there
  bool is_full = false;           // and broken: nothing is read, put or erased
};

class VirtualReplies final : public ReplyStore {
 public:
  VirtualReplies(VirtualNetwork& network, VirtualHost& host, VirtualReplyDisk& disk)
      : network_(network), host_(host), disk_(disk), number_(++disk.processes) {}
  // A kill: what was under way may have been done or not.
  ~VirtualReplies() override {
    if (network_.prng().below(2) > 0) return;
    for (const Work& work : batch_) work.done();
  }

  void set_observer(ReplyStoreObserver* observer) override { observer_ = observer; }
  // Read at some moment between question and answer, beside what is written.
  void load(uint64_t ticket, const ReplyHash& hash) override {
    later(network_.prng().below(3000), [this, ticket, hash] {
      auto read = std::make_shared<std::optional<VirtualReplyDisk::Entry>>();
      const auto at = disk_.entries.find({hash.low, hash.high});
      if (at != disk_.entries.end() && !disk_.is_full) *read = at->second;
      const uint64_t erasures = erasures_;
      later(network_.prng().below(3000), [this, ticket, read, erasures] {
        // What an erasure that was reported has erased is never given.
        const bool is_there = *read && network_.now() < (*read)->until && erasures == erasures_;
        std::optional<StoredReply> reply;
        if (is_there) {
          if ((*read)->put_by != number_) ++disk_.given_to_another;
          reply = StoredReply{.value = Slice::copy_of((*read)->value),
                              .age_ms = to_us(network_.now() - (*read)->made) / 1000,
                              .left_ms = to_us((*read)->until - network_.now()) / 1000};
        }
        host_.turn([&] { observer_->on_loaded(ticket, std::move(reply)); });
      });
    });
  }
  void put(const ReplyHash& hash, Slice value, const Terms& terms) override {
    const VirtualReplyDisk::Entry entry{.value = std::string(value.text()),
                                        .made = network_.now() - milliseconds(terms.age_ms),
                                        .until = network_.now() + milliseconds(terms.ttl_ms),
                                        .names = {terms.names.begin(), terms.names.end()},
                                        .put_by = number_};
    write([this, hash, entry] {
      if (!disk_.is_full) disk_.entries[{hash.low, hash.high}] = entry;
    });
  }
  void erase(uint64_t ticket, std::span<const uint64_t> names) override {
    const std::vector<uint64_t> all(names.begin(), names.end());
    write(
        [this, all] {
          std::erase_if(disk_.entries, [&](const auto& entry) {
            const auto& has = entry.second.names;
            return std::any_of(all.begin(), all.end(),
                               [&](uint64_t name) { return std::find(has.begin(), has.end(), name) != has.end(); });
          });
        },
        [this, ticket] {
          ++erasures_;
          observer_->on_erased(ticket);
        });
  }
  void erase_all(uint64_t ticket) override {
    write([this] { disk_.entries.clear(); },
          [this, ticket] {
            ++erasures_;
            observer_->on_erased(ticket);
          });
  }
  const Stats& stats() const override { return stats_; }

 private:
  struct Work {
    std::function<void()> done;
    std::function<void()> told;
  };
  template <class What>
  void later(uint64_t us, What what) {
    network_.at(network_.now() + microseconds(static_cast<int64_t>(us)),
                [this, what, alive = std::weak_ptr<bool>(alive_)] {
                  if (alive.expired()) return;
                  // A process that is stopped hears of it when it goes on.
                  host_.is_paused() ? later(20'000, what) : what();
                });
  }
  void write(std::function<void()> done, std::function<void()> told = nullptr) {
    queue_.push_back({std::move(done), std::move(told)});
    if (batch_.empty()) work();
  }
  // What waits meanwhile is written together.
  void work() {
    batch_ = std::exchange(queue_, {});
    const bool is_slow = network_.prng().below(20) == 0;
    later(100 + network_.prng().below(is_slow ? 400'000 : 5000), [this] {
      const std::vector<Work> written = std::exchange(batch_, {});
      for (const Work& each : written) each.done();
      if (!queue_.empty()) work();
      host_.turn([&] {
        for (const Work& each : written) {
          if (each.told) each.told();
        }
      });
    });
  }

  VirtualNetwork& network_;
  VirtualHost& host_;
  VirtualReplyDisk& disk_;
  uint64_t number_;  // of this process
  ReplyStoreObserver* observer_ = nullptr;
  std::vector<Work> batch_;  // that is being written
  std::vector<Work> queue_;
  uint64_t erasures_ = 0;  // that were reported
  Stats stats_{.is_serving = true};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
