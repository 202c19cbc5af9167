// What a look into the memory that sidecars share costs, and a put; and the same with LMDB on tmpfs. With a second
// process that puts and finds in the same region all the time, where the argument `others` is 1. The files lie in
// /dev/shm.
#include <benchmark/benchmark.h>
#include <lmdb.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/cache/shared_tier.h"
#include "sidecar/io/shared_region.h"

namespace {

using namespace mesh;  // short names in a program of one file
using cache::Kept;
using cache::Key;
using cache::SharedTier;

constexpr size_t kRegionBytes = 512 * limits::MiB;
// Half of what there is room for.
uint64_t keys_for(size_t bytes) { return kRegionBytes / 2 / (bytes + 512); }

Instant now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return Instant(Duration(time.tv_sec * 1'000'000'000 + time.tv_nsec));
}

Key key_of(uint64_t number) {
  Prng prng(number);
  const uint64_t low = prng.next();
  return {{low, prng.next()}, Slice::copy_of(std::to_string(number) + std::string(200, 'k'))};
}

Kept kept_for(uint64_t number, const Slice& body) {
  Kept kept;
  kept.key = key_of(number);
  kept.body = body;
  kept.fresh_until = now() + milliseconds(600'000);
  return kept;
}

struct Folder {
  std::string path = "/dev/shm/mesh-shared-bench-XXXXXX";
  Folder() {
    if (mkdtemp(path.data()) == nullptr) std::abort();
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

struct Shared {
  std::unique_ptr<io::SharedRegion> region;
  std::unique_ptr<SharedTier> tier;
  explicit Shared(const Folder& folder) {
    region = std::move(*io::SharedRegion::open(folder.path + "/region", kRegionBytes));
    tier = std::make_unique<SharedTier>(std::move(*SharedTier::attach(region->memory(), *region, 1)));
  }
  bool find(const Key& key) {
    const auto found = tier->find(key, now());
    return found.has_value() && found->kept.body.data()[0] == 'y';
  }
  bool put(const Kept& kept) { return tier->put(kept, 0, now()); }
};

// As one would use it: the form as the value, copied out within the transaction; nothing is synced.
struct Lmdb {
  MDB_env* env = nullptr;
  MDB_dbi dbi = 0;
  explicit Lmdb(const Folder& folder) {
    MDB_txn* txn = nullptr;
    const bool is_open = mdb_env_create(&env) == 0 && mdb_env_set_mapsize(env, kRegionBytes) == 0 &&
                         mdb_env_open(env, folder.path.c_str(), MDB_NOSYNC | MDB_NOTLS, 0600) == 0 &&
                         mdb_txn_begin(env, nullptr, 0, &txn) == 0 && mdb_dbi_open(txn, nullptr, 0, &dbi) == 0 &&
                         mdb_txn_commit(txn) == 0;
    if (!is_open) std::abort();
  }
  ~Lmdb() { mdb_env_close(env); }
  bool find(const Key& key) {
    MDB_txn* txn = nullptr;
    MDB_val name{sizeof(key.hash), const_cast<cache::Hash*>(&key.hash)};
    MDB_val value{};
    if (mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn) != 0) return false;
    Slice copy;
    if (mdb_get(txn, dbi, &name, &value) == 0)
      copy = Slice::copy_of(ByteView(static_cast<const uint8_t*>(value.mv_data), value.mv_size));
    mdb_txn_abort(txn);
    const auto found = cache::decode_kept_form(copy);
    return found && found->kept.key.text.text() == key.text.text() && found->kept.body.data()[0] == 'y';
  }
  bool put(const Kept& kept) {
    const Slice form = cache::encode_kept_form(kept, 0);
    MDB_txn* txn = nullptr;
    MDB_val name{sizeof(kept.key.hash), const_cast<cache::Hash*>(&kept.key.hash)};
    MDB_val value{form.size(), const_cast<uint8_t*>(form.data())};
    if (mdb_txn_begin(env, nullptr, 0, &txn) != 0) return false;
    if (mdb_put(txn, dbi, &name, &value, 0) == 0) return mdb_txn_commit(txn) == 0;
    mdb_txn_abort(txn);
    return false;
  }
};

// Another process that is busy with the same store: a put for every eight finds.
template <class Store>
struct Other {
  pid_t pid = -1;
  Other(const Folder& folder, size_t bytes, bool is_wanted) {
    if (!is_wanted) return;
    pid = fork();
    if (pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Store store(folder);
    const Slice body = Slice::copy_of(std::string(bytes, 'y'));
    Prng prng(99);
    for (;;) {
      for (int i = 0; i < 8; ++i) store.find(key_of(prng.below(keys_for(bytes))));
      store.put(kept_for(prng.below(keys_for(bytes)), body));
    }
  }
  ~Other() {
    if (pid < 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
};

template <class Store>
void find(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const Folder folder;
  const Slice body = Slice::copy_of(std::string(bytes, 'y'));
  {
    Store store(folder);
    for (uint64_t number = 0; number < keys_for(bytes); ++number) store.put(kept_for(number, body));
  }
  const Other<Store> other(folder, bytes, state.range(1) != 0);
  Store store(folder);
  std::vector<Key> keys;
  Prng prng(1);
  for (int i = 0; i < 4096; ++i) keys.push_back(key_of(prng.below(keys_for(bytes))));
  for (const Key& key : keys) store.find(key);  // pages that this process has not seen yet cost it a fault
  size_t next = 0;
  uint64_t misses = 0;
  for (auto _ : state) misses += store.find(keys[next++ % keys.size()]) ? 0 : 1;
  state.counters["misses"] = static_cast<double>(misses);
}

template <class Store>
void put(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const Folder folder;
  const Slice body = Slice::copy_of(std::string(bytes, 'y'));
  Store store(folder);
  Prng prng(1);
  std::vector<Kept> some;
  for (int i = 0; i < 4096; ++i) some.push_back(kept_for(prng.below(keys_for(bytes)), body));
  // The memory is there, and full where something goes when it is.
  for (uint64_t number = 0; number < 3 * keys_for(bytes); ++number) store.put(kept_for(number % keys_for(bytes), body));
  const Other<Store> other(folder, bytes, state.range(1) != 0);
  size_t next = 0;
  uint64_t refused = 0;
  for (auto _ : state) refused += store.put(some[next++ % some.size()]) ? 0 : 1;
  state.counters["refused"] = static_cast<double>(refused);
}

const std::vector<std::vector<int64_t>> kArguments{{1 << 10, 64 << 10}, {0, 1}};
BENCHMARK(find<Shared>)->ArgNames({"bytes", "others"})->ArgsProduct(kArguments)->UseRealTime();
BENCHMARK(find<Lmdb>)->ArgNames({"bytes", "others"})->ArgsProduct(kArguments)->UseRealTime();
BENCHMARK(put<Shared>)->ArgNames({"bytes", "others"})->ArgsProduct(kArguments)->UseRealTime();
BENCHMARK(put<Lmdb>)->ArgNames({"bytes", "others"})->ArgsProduct(kArguments)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
