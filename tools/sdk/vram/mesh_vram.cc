// The C face of a Connection. No exception passes it but that of memory running out, which ends the process.
#include "tools/sdk/vram/mesh_vram.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/base/model_key.h"
#include "tools/sdk/vram/connection.h"
#include "tools/sdk/vram/faults.h"

using namespace mesh::sdk;

struct mesh_vram_lease {
  mesh_vram* vram;
  Lease* lease;
};

struct mesh_vram {
  mesh_vram(std::string path, std::string client) : connection(std::move(path), std::move(client)) {}
  Connection connection;
  std::list<mesh_vram_lease> leases;  // guarded by the connection's mutex
};

namespace {

constexpr uint64_t kUnitBytes = uint64_t{2} << 20;
constexpr uint32_t kLongestWaitMs = 300'000;
constexpr uint32_t kLongestBreakMs = 3000;  // an arbiter answers after 2 s at most
// An arbiter that is asked to answer within wait_ms does so; this is for its answer to come.
constexpr std::chrono::milliseconds kAnswerGrace{1000};

Clock::time_point in_ms(uint64_t ms) { return Clock::now() + std::chrono::milliseconds(ms); }
Clock::time_point patience() { return Clock::now() + Connection::kPatience; }

std::optional<std::string> id_of(const char* hex) {
  if (hex == nullptr || *hex == '\0') return std::string();
  if (std::strlen(hex) != 32 || std::strspn(hex, "0123456789abcdefABCDEF") != 32) return std::nullopt;
  std::string id;
  for (size_t i = 0; i < 32; i += 2)
    id += static_cast<char>(std::strtoul(std::string(hex + i, 2).c_str(), nullptr, 16));
  return id;
}

std::string text_of(const char* text) { return text == nullptr ? std::string() : text; }

// False if a field is beyond what is known.
bool fill(pb::Ask& ask, const mesh_vram_request& request) {
  const bool is_known = pb::Kind_IsValid(request.kind) && pb::Urgency_IsValid(request.priority) &&
                        pb::Revocability_IsValid(request.revocability);
  const auto ticket = id_of(request.ticket);
  if (!is_known || !ticket) return false;
  ask.set_kind(static_cast<pb::Kind>(request.kind));
  ask.set_urgency(static_cast<pb::Urgency>(request.priority));
  ask.set_revocability(static_cast<pb::Revocability>(request.revocability));
  ask.set_want_bytes(std::max(request.want_bytes, request.min_bytes));
  ask.set_min_bytes(request.min_bytes == 0 ? ask.want_bytes() : request.min_bytes);
  ask.set_peak_bytes(request.peak_bytes);
  ask.set_hold_hint_ms(request.hold_hint_ms);
  ask.set_ttl_ms(request.ttl_ms);
  ask.set_load_ms(request.load_ms);
  ask.set_model(mesh::model_key(text_of(request.model)));
  ask.set_layout(mesh::model_key(text_of(request.layout)));
  ask.set_gpu_count(request.gpu_count);
  ask.set_ticket(*ticket);
  ask.set_pid(request.pid);
  if (request.gpu != nullptr) ask.add_gpus(request.gpu);
  return true;
}

// An order about a lease that is answered with Done. `passes` is a rule that says, of a repeated one, that it was done.
mesh_vram_code carry_out(mesh_vram_lease* handle, const Connection::Make& make, mesh_vram_error* error,
                         const char* passes = "") {
  Connection& connection = handle->vram->connection;
  {
    const std::lock_guard lock(connection.mutex());
    if (handle->lease->is_lost) return lost(error);
    if (handle->lease->is_over && *passes == '\0') return invalid(error, "All of this lease was given back");
  }
  const Outcome outcome = connection.order(make, patience());
  const pb::Reply& reply = outcome.packet.reply;
  if (outcome.ended == Ended::kReply && reply.has_done()) return MESH_VRAM_OK;
  const std::lock_guard lock(connection.mutex());
  if (outcome.was_repeated && !handle->lease->is_lost && reply.failed().rule() == passes) return MESH_VRAM_OK;
  if (handle->lease->is_lost) return lost(error);
  if (reply.failed().rule() == "lease_unknown") handle->lease->is_lost = true;
  return not_done(error, outcome);
}

// What was dropped of a lease. A Claim since then told it already.
struct Given {
  uint64_t epoch = 0;
  uint64_t bytes = 0;
  std::vector<uint64_t> chunks{};
};

Given drop(Lease& lease, uint64_t bytes, bool at_least) {
  bytes = std::min((bytes + (at_least ? kUnitBytes - 1 : 0)) / kUnitBytes * kUnitBytes, lease.bytes);
  Given given{lease.name.epoch(), bytes, {}};
  if (lease.kind == pb::KIND_BACKED) given.chunks = lease.memory.drop(given.bytes, at_least);
  lease.bytes -= given.bytes;
  return given;
}

template <class Numbers>
void add_chunks(const Given& given, Numbers* numbers) {
  for (const uint64_t number : given.chunks) numbers->Add(number);
}

}  // namespace

mesh_vram* mesh_vram_connect(const char* path, const char* client, uint32_t wait_ms, mesh_vram_error* error) {
  const char* const from_environment = std::getenv("MESH_VRAM_SOCKET");
  const std::string where = path != nullptr               ? path
                            : from_environment != nullptr ? from_environment
                                                          : "/run/mesh/gpu.leases";
  if (text_of(client).size() > 64) return invalid(error, "A client's name has at most 64 bytes"), nullptr;
  auto* const vram = new mesh_vram(where, text_of(client));
  if (vram->connection.start(in_ms(std::max<uint32_t>(wait_ms, 1)))) return vram;
  const int why = errno;
  delete vram;
  unreachable(error, where, why);
  return nullptr;
}

void mesh_vram_shut(mesh_vram* vram) {
  if (vram != nullptr) vram->connection.shut();
}

void mesh_vram_close(mesh_vram* vram) {
  mesh_vram_shut(vram);
  delete vram;
}

size_t mesh_vram_gpus(mesh_vram* vram, mesh_vram_gpu* gpus, size_t max) {
  if (vram == nullptr) return 0;
  const std::vector<pb::Gpu> all = vram->connection.gpus();
  for (size_t i = 0; i < std::min(max, all.size()); ++i) {
    gpus[i] = {};
    all[i].uuid().copy(gpus[i].uuid, sizeof(gpus[i].uuid) - 1);
    gpus[i].total_bytes = all[i].total_bytes();
    gpus[i].largest_bytes = all[i].largest_bytes();
  }
  return all.size();
}

uint64_t mesh_vram_epoch(mesh_vram* vram) { return vram == nullptr ? 0 : vram->connection.epoch(); }

mesh_vram_lease* mesh_vram_acquire(mesh_vram* vram, const mesh_vram_request* request, mesh_vram_error* error) {
  if (vram == nullptr || request == nullptr) return invalid(error, "A connection and a request are needed"), nullptr;
  // A program of an older header brings less; what it does not know is as if it were 0.
  mesh_vram_request whole{};
  std::memcpy(&whole, request, std::min<size_t>(request->struct_bytes, sizeof(whole)));
  pb::Ask ask;
  if (request->struct_bytes < sizeof(uint32_t) || !fill(ask, whole))
    return invalid(error, "struct_bytes, kind, priority, revocability or ticket is none that is known"), nullptr;
  const auto until = in_ms(whole.wait_ms == 0 ? kLongestWaitMs : whole.wait_ms);
  const auto make = [&](pb::Request& order) {
    ask.set_wait_ms(whole.wait_ms == 0 ? 0 : static_cast<uint32_t>(std::max(left_ms(until), 1)));
    *order.mutable_ask() = ask;
  };
  const Outcome outcome = vram->connection.ask(make, until + kAnswerGrace);
  if (outcome.lease == nullptr) return not_done(error, outcome), nullptr;
  const std::lock_guard lock(vram->connection.mutex());
  vram->leases.push_back({vram, outcome.lease});
  return &vram->leases.back();
}

void mesh_vram_release(mesh_vram_lease* handle) {
  if (handle == nullptr) return;
  mesh_vram* const vram = handle->vram;
  vram->connection.release(handle->lease);
  const std::lock_guard lock(vram->connection.mutex());
  vram->leases.remove_if([handle](const mesh_vram_lease& each) { return &each == handle; });
}

mesh_vram_code mesh_vram_commit(mesh_vram_lease* handle, uint64_t bytes, mesh_vram_error* error) {
  if (handle == nullptr) return invalid(error, "A lease is needed");
  Lease& lease = *handle->lease;
  Given given;
  {
    const std::lock_guard lock(handle->vram->connection.mutex());
    const uint64_t wanted = (bytes + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
    if (bytes == 0 || wanted > lease.bytes)
      return invalid(error, "It commits to nothing, or to more than the " + size_text(lease.bytes) + " it has");
    given = drop(lease, lease.bytes - wanted, false);
  }
  const auto make = [&](pb::Request& request) {
    pb::Commit& commit = *request.mutable_commit();
    *commit.mutable_lease() = lease.name;
    if (lease.name.epoch() == given.epoch) add_chunks(given, commit.mutable_surplus_chunks());
    commit.set_bytes(lease.bytes);
  };
  return carry_out(handle, make, error, "lease_state");
}

mesh_vram_code mesh_vram_renew(mesh_vram_lease* handle, mesh_vram_error* error) {
  if (handle == nullptr) return invalid(error, "A lease is needed");
  return carry_out(
      handle, [&](pb::Request& request) { *request.mutable_renew() = handle->lease->name; }, error);
}

void mesh_vram_use(mesh_vram_lease* handle, int in_use) {
  if (handle == nullptr) return;
  Connection& connection = handle->vram->connection;
  {
    const std::lock_guard lock(connection.mutex());
    Lease& lease = *handle->lease;
    if (lease.is_lost || lease.is_over || (in_use == 0 && lease.users == 0)) return;
    lease.users += in_use != 0 ? 1 : -1u;
    if (lease.users != (in_use != 0 ? 1u : 0u)) return;
  }
  connection.send([&](pb::Request& request) {
    *request.mutable_use()->mutable_lease() = handle->lease->name;
    request.mutable_use()->set_in_use(handle->lease->users > 0);
  });
}

mesh_vram_code mesh_vram_begin(mesh_vram_lease* handle, mesh_vram_error* error) {
  if (handle == nullptr) return invalid(error, "A lease is needed");
  Connection& connection = handle->vram->connection;
  {
    const std::lock_guard lock(connection.mutex());
    Lease& lease = *handle->lease;
    if (lease.is_lost) return lost(error);
    if (lease.is_over) return invalid(error, "All of this lease was given back");
    if (++lease.users > 1) return MESH_VRAM_OK;
  }
  const auto make = [&](pb::Request& request) {
    *request.mutable_use()->mutable_lease() = handle->lease->name;
    request.mutable_use()->set_in_use(true);
    request.mutable_use()->set_waits(true);
  };
  // An arbiter that is away keeps nobody from computing.
  const Outcome outcome = connection.order(make, in_ms(kLongestBreakMs));
  if (outcome.packet.reply.failed().rule() != "lease_unknown") return MESH_VRAM_OK;
  const std::lock_guard lock(connection.mutex());
  handle->lease->is_lost = true;
  return lost(error);
}

mesh_vram_code mesh_vram_live(mesh_vram_lease* handle, uint64_t bytes, mesh_vram_error* error) {
  if (handle == nullptr) return invalid(error, "A lease is needed");
  const auto make = [&](pb::Request& request) {
    *request.mutable_live()->mutable_lease() = handle->lease->name;
    request.mutable_live()->set_bytes(bytes);
  };
  return carry_out(handle, make, error);
}

mesh_vram_code mesh_vram_seal(mesh_vram_lease* handle, mesh_vram_error* error) {
  if (handle == nullptr || !handle->lease->is_writer)
    return invalid(error, "Only who writes shared weights seals them");
  const auto make = [&](pb::Request& request) { *request.mutable_seal() = handle->lease->name; };
  const mesh_vram_code code = carry_out(handle, make, error, "lease_unknown");
  if (code != MESH_VRAM_OK) return code;
  const std::lock_guard lock(handle->vram->connection.mutex());
  handle->lease->is_sealed = true;
  handle->lease->memory.protect();
  return code;
}

mesh_vram_code mesh_vram_give_back(mesh_vram_lease* handle, uint64_t bytes, mesh_vram_error* error) {
  if (handle == nullptr) return invalid(error, "A lease is needed");
  Lease& lease = *handle->lease;
  const bool is_shared = lease.kind == pb::KIND_SHARED;
  Given given;
  {
    const std::lock_guard lock(handle->vram->connection.mutex());
    if (lease.is_over) return MESH_VRAM_OK;
    if (is_shared && bytes != 0 && bytes < lease.bytes)
      return invalid(error, "Shared weights are given back whole, not in part");
    given = drop(lease, bytes, true);
    lease.is_over = lease.bytes == 0;
    if (is_shared && lease.is_over) lease.memory.drop_all();
  }
  bool is_asked_again = false;
  const auto make = [&](pb::Request& request) {
    const bool is_told = lease.name.epoch() != given.epoch || is_asked_again;
    is_asked_again = true;
    if (lease.is_over && (is_told || is_shared)) return (void)(*request.mutable_release() = lease.name);
    pb::YieldDone& done = *request.mutable_yield_done();
    *done.mutable_lease() = lease.name;
    if (is_told) return;
    done.set_bytes(given.bytes);
    add_chunks(given, done.mutable_chunks());
  };
  // Repeated there is nothing left to give: its Claim told the next arbiter. And nobody minds who will not give what
  // was not asked for.
  mesh_vram_error found{};
  const mesh_vram_code code = carry_out(handle, make, &found, "lease_unknown");
  if (code == MESH_VRAM_LOST && (bytes == 0 || lease.name.epoch() != given.epoch)) {
    const std::lock_guard lock(handle->vram->connection.mutex());
    lease.is_lost = false;
    return MESH_VRAM_OK;
  }
  if (code != MESH_VRAM_OK && error != nullptr) *error = found;
  return code;
}

int mesh_vram_next_yield(mesh_vram* vram, uint32_t wait_ms, mesh_vram_yield* yield) {
  if (vram == nullptr || yield == nullptr) return -1;
  Yield next;
  const int got = vram->connection.next_yield(in_ms(wait_ms), next);
  if (got != 1) return got;
  *yield = {};
  next.hex.copy(yield->lease, sizeof(yield->lease) - 1);
  yield->how = next.how;
  yield->bytes = next.bytes;
  yield->within_ms = static_cast<uint32_t>(left_ms(next.until));
  return 1;
}

uint64_t mesh_vram_bytes(const mesh_vram_lease* handle) {
  if (handle == nullptr) return 0;
  const std::lock_guard lock(handle->vram->connection.mutex());
  return handle->lease->bytes;
}

int mesh_vram_is_writer(const mesh_vram_lease* handle) { return handle != nullptr && handle->lease->is_writer ? 1 : 0; }

int mesh_vram_is_lost(const mesh_vram_lease* handle) {
  if (handle == nullptr) return 1;
  const std::lock_guard lock(handle->vram->connection.mutex());
  return handle->lease->is_lost ? 1 : 0;
}

const char* mesh_vram_id(const mesh_vram_lease* handle) { return handle == nullptr ? "" : handle->lease->hex.c_str(); }
size_t mesh_vram_gpu_count(const mesh_vram_lease* handle) { return handle == nullptr ? 0 : handle->lease->gpus.size(); }
const char* mesh_vram_gpu_uuid(const mesh_vram_lease* handle, size_t gpu) {
  return handle == nullptr || gpu >= handle->lease->gpus.size() ? nullptr : handle->lease->gpus[gpu].c_str();
}

mesh_vram_code mesh_vram_map(mesh_vram_lease* handle, size_t gpu, void** address, uint64_t* bytes,
                             mesh_vram_error* error) {
  if (handle == nullptr || address == nullptr || bytes == nullptr || gpu >= handle->lease->gpus.size())
    return invalid(error, "A lease, one of its GPUs, and places for address and size are needed");
  Lease& lease = *handle->lease;
  if (lease.kind == pb::KIND_ACCOUNTED) return invalid(error, "What is accounted the agent allocates by itself");
  const std::lock_guard lock(handle->vram->connection.mutex());
  if (lease.is_over) return invalid(error, "All of this lease was given back");
  const bool is_writable = lease.kind == pb::KIND_BACKED || (lease.is_writer && !lease.is_sealed);
  void* const at = lease.memory.map(static_cast<uint32_t>(gpu), is_writable, *bytes);
  if (at != nullptr) return *address = at, MESH_VRAM_OK;
  if (errno == ENOTSUP)
    return tell(error, MESH_VRAM_UNSUPPORTED, "no_cpu_address", "This memory is a card's and has no processor address",
                "import the descriptors of mesh_vram_chunks with the card's driver");
  return tell(error, MESH_VRAM_NO_MEMORY, "map", std::string("The kernel does not map it: ") + std::strerror(errno),
              "see the limits of this process: ulimit -v, ulimit -n");
}

void mesh_vram_unmap(void* address, uint64_t bytes) {
  if (address != nullptr && bytes > 0) munmap(address, bytes);
}

size_t mesh_vram_chunks(const mesh_vram_lease* handle, mesh_vram_chunk* chunks, size_t max) {
  if (handle == nullptr) return 0;
  const std::lock_guard lock(handle->vram->connection.mutex());
  const std::vector<HeldChunk>& all = handle->lease->memory.chunks();
  for (size_t i = 0; i < std::min(max, all.size()); ++i) chunks[i] = {all[i].fd.get(), all[i].gpu, all[i].bytes};
  return all.size();
}
