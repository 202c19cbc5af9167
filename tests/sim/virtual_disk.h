// A process's disk: what was written before a kill is there after it, and what was being written may be, or not.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/record_store.h"
#include "common/wire/kept_record.h"
#include "tests/sim/virtual_network.h"

namespace mesh::sim {

// Outlives the processes that use it, one after the other.
struct VirtualDisk {
  struct Record {
    std::string value;
    Instant written{};  // by the network's time
  };
  std::map<RecordKey, Record> records;
  std::set<std::string, std::less<>> results;  // the bodies of all results that were ever written
  bool is_full = false;
};

// Of one process; destroying it is killing the process, unless it was closed.
class VirtualStore final : public RecordStore {
 public:
  VirtualStore(VirtualNetwork& network, VirtualHost& host, VirtualDisk& disk)
      : network_(network), host_(host), disk_(disk) {}
  // A kill in the midst of a commit: it may have reached the disk, and nobody was told.
  ~VirtualStore() override {
    if (network_.prng().below(2) == 0) {
      for (Asked& asked : committing_) carry_out(asked);
    }
  }

  // The process ends by itself: what was asked is carried out first.
  void close() {
    for (auto* list : {&committing_, &waiting_}) {
      for (Asked& asked : *list) carry_out(asked);
      list->clear();
    }
  }

  std::vector<Found> recover(size_t head_bytes) override {
    std::vector<Found> found;
    for (const auto& [key, record] : disk_.records) {
      found.push_back({.key = key,
                       .head = Slice::copy_of(std::string_view(record.value).substr(0, head_bytes)),
                       .size = record.value.size(),
                       .age = network_.now() - record.written});
    }
    return found;
  }
  void set_observer(RecordObserver* observer) override { observer_ = observer; }
  void put(uint64_t ticket, const RecordKey& key, std::vector<Slice> value) override {
    std::string bytes;
    for (const Slice& slice : value) bytes += slice.text();
    ask({.kind = Kind::kPut, .ticket = ticket, .key = key, .value = std::move(bytes)});
  }
  void load(uint64_t ticket, const RecordKey& key) override {
    ask({.kind = Kind::kLoad, .ticket = ticket, .key = key, .value = {}});
  }
  void erase(const RecordKey& key) override { ask({.kind = Kind::kErase, .ticket = 0, .key = key, .value = {}}); }

 private:
  enum class Kind : uint8_t { kPut, kLoad, kErase };
  struct Asked {
    Kind kind;
    uint64_t ticket;
    RecordKey key;
    std::string value;
    bool is_done = false;
  };
  void ask(Asked asked) {
    waiting_.push_back(std::move(asked));
    if (committing_.empty()) begin_commit();
  }
  void begin_commit() {
    committing_.swap(waiting_);
    const bool is_slow = network_.prng().below(20) == 0;
    const auto us = static_cast<int64_t>(100 + network_.prng().below(is_slow ? 400'000 : 5000));
    network_.at(network_.now() + microseconds(us), [this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) end_commit();
    });
  }
  void end_commit() {
    // A process that is stopped hears of it when it goes on.
    if (host_.is_paused()) {
      network_.at(network_.now() + milliseconds(20), [this, alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired()) end_commit();
      });
      return;
    }
    std::vector<Asked> done;
    done.swap(committing_);
    for (Asked& asked : done) carry_out(asked);
    if (!waiting_.empty()) begin_commit();
    host_.turn([&] {
      for (Asked& asked : done) {
        if (asked.kind == Kind::kPut) observer_->on_stored(asked.ticket, asked.is_done);
        if (asked.kind != Kind::kLoad) continue;
        std::optional<Slice> value;
        if (asked.is_done) value = Slice::copy_of(asked.value);
        observer_->on_loaded(asked.ticket, std::move(value));
      }
    });
  }
  void carry_out(Asked& asked) {
    const auto at = disk_.records.find(asked.key);
    if (asked.kind == Kind::kErase && at != disk_.records.end()) disk_.records.erase(at);
    if (asked.kind == Kind::kPut) {
      asked.is_done = !disk_.is_full;
      if (asked.is_done) write(asked);
    }
    if (asked.kind == Kind::kLoad) {
      asked.is_done = at != disk_.records.end();
      if (asked.is_done) asked.value = at->second.value;
    }
  }

  void write(const Asked& asked) {
    disk_.records[asked.key] = {asked.value, network_.now()};
    const auto record = wire::decode_kept(Slice::copy_of(asked.value));
    if (record && record->is_result) disk_.results.emplace(record->body.text());
  }

  VirtualNetwork& network_;
  VirtualHost& host_;
  VirtualDisk& disk_;
  RecordObserver* observer_ = nullptr;
  std::vector<Asked> waiting_;
  std::vector<Asked> committing_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh::sim
