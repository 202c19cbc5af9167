// An agent's end of the GPU arbiter: memory of a card is leased before it is used, and given back when others need it.
//
//   mesh_vram_error error;
//   mesh_vram* vram = mesh_vram_connect(NULL, "my-agent", 1000, &error);
//   mesh_vram_request request = MESH_VRAM_REQUEST_INIT;
//   request.want_bytes = 6ull << 30;
//   mesh_vram_lease* lease = mesh_vram_acquire(vram, &request, &error);
//   if (lease == NULL) fprintf(stderr, "%s: %s\n", error.text, error.hint);
//   …allocate, load, compute…
//   mesh_vram_release(lease);
//   mesh_vram_close(vram);
//
// Threads: every call may come from any thread, and several may use one lease. Only mesh_vram_release and
// mesh_vram_close have to be the last ones of what they end. The library has one thread for each connection, which
// reads the socket; it never calls back. A process that forks opens its own connection in the child.
//
// When the arbiter is killed and started again, leases are shown to the new one and calls that were under way are
// repeated: the caller notices nothing but that it took longer. Only when it is away for 15 s do calls end with
// MESH_VRAM_UNREACHABLE; a lease is held all the same.
//
// Sizes are bytes on each GPU of a lease; leases come in units of 2 MiB, rounded up. Times are milliseconds. Text is
// UTF-8, copied by who gets it. All descriptors are closed on exec.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#pragma GCC visibility push(default)
extern "C" {
#endif

typedef struct mesh_vram mesh_vram;              // a connection to the arbiter
typedef struct mesh_vram_lease mesh_vram_lease;  // what was granted; belongs to its connection

// Each is for a caller that would act differently.
enum {
  MESH_VRAM_OK = 0,
  MESH_VRAM_INVALID = 1,      // the request makes no sense, or a handle is null: a bug of the caller
  MESH_VRAM_UNREACHABLE = 2,  // no arbiter listens there, or it stays away
  MESH_VRAM_TOO_LARGE = 3,    // it never fits; largest_bytes is what would
  MESH_VRAM_TIMED_OUT = 4,    // it was not to be had within wait_ms
  MESH_VRAM_BUSY = 5,         // too many leases or waiters: later
  MESH_VRAM_POLICED = 6,      // this process uses more than it leased, and gets no more before it gave that back
  MESH_VRAM_UNSUPPORTED = 7,  // this host hands out no memory, or this memory has no address for the processor
  MESH_VRAM_LOST = 8,         // the lease is not this process's any more: free what it held, then release it
  MESH_VRAM_NO_MEMORY = 9,    // the driver or the kernel had none, whatever the books say
  MESH_VRAM_CLOSED = 10,      // the connection was shut by this process
  MESH_VRAM_INTERNAL = 11,    // the arbiter answered what this library does not know
};
typedef int32_t mesh_vram_code;

// Filled by a call that fails; untouched by one that does not. May be NULL everywhere.
typedef struct mesh_vram_error {
  mesh_vram_code code;
  char rule[32];           // for programs and counters, e.g. "never_fits"
  char text[256];          // one sentence for people
  char hint[256];          // what to do
  uint64_t largest_bytes;  // of TOO_LARGE, otherwise 0
} mesh_vram_error;

enum {
  MESH_VRAM_ACCOUNTED = 0,  // the agent allocates by itself; the lease is its budget
  MESH_VRAM_BACKED = 1,     // the arbiter hands out memory: mesh_vram_map, mesh_vram_chunks
  MESH_VRAM_SHARED = 2,     // likewise, once for all who ask for the same model: the first writes, then seals
};
enum { MESH_VRAM_NORMAL = 0, MESH_VRAM_CRITICAL = 1, MESH_VRAM_INTERACTIVE = 2, MESH_VRAM_BATCH = 3 };
// What the agent agrees to when others need the memory. From little to much: NOT, TRIM, OFFLOAD, RELEASE, KILL; each
// includes those before it.
enum {
  MESH_VRAM_MAY_RELEASE = 0,  // gives all of it back
  MESH_VRAM_MAY_NOT = 1,      // keeps it until it is done
  MESH_VRAM_MAY_TRIM = 2,     // down to its minimum
  MESH_VRAM_MAY_OFFLOAD = 3,  // all of it; keeps the content elsewhere and comes back with its ticket
  MESH_VRAM_MAY_KILL = 4,     // its process may be ended for it
};
// How a yield is meant.
enum { MESH_VRAM_TRIM = 0, MESH_VRAM_OFFLOAD = 1, MESH_VRAM_RELEASE = 2 };

typedef struct mesh_vram_request {
  uint32_t struct_bytes;  // sizeof(mesh_vram_request), so that it may grow
  int32_t kind;
  int32_t priority;
  int32_t revocability;
  uint64_t min_bytes;     // it can live on; 0: on want_bytes
  uint64_t want_bytes;    // it would like
  uint64_t peak_bytes;    // it needs until it commits; 0: no more than the others
  uint32_t wait_ms;       // to be granted within; 0: as long as the arbiter lets anybody wait (5 minutes)
  uint32_t hold_hint_ms;  // how long it expects to hold it; 0: unknown
  uint32_t ttl_ms;        // unless renewed it is asked to yield then; 0: never
  uint32_t load_ms;       // what it takes to load the content again; 0: unknown
  const char* model;      // what is loaded; the same text is the same to all agents; NULL: nothing others could ask for
  const char* layout;     // of shared weights: how they lie in memory; NULL: as everybody has it
  const char* gpu;        // UUID of the only GPU that will do; NULL: any
  uint32_t gpu_count;     // on so many at once, or none; 0: one
  const char* ticket;     // mesh_vram_id of an offloaded lease that comes back, with its place in the queue; NULL: none
  uint32_t pid;  // for who leases for others, accounted only: of the process of the same user that will use the
                 // memory. What it uses is held against this lease, which is LOST when it ends. 0: this process
} mesh_vram_request;
#define MESH_VRAM_REQUEST_INIT \
  { sizeof(mesh_vram_request), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL, 0 }

typedef struct mesh_vram_gpu {
  char uuid[96];
  uint64_t total_bytes;
  uint64_t largest_bytes;  // of a lease, if nobody held any
} mesh_vram_gpu;

typedef struct mesh_vram_chunk {
  int32_t descriptor;  // the library's, open as long as the lease: whoever keeps a copy keeps the memory
  uint32_t gpu;        // position among the lease's GPUs
  uint64_t bytes;
} mesh_vram_chunk;

typedef struct mesh_vram_yield {
  char lease[33];  // mesh_vram_id of the lease
  int32_t how;
  uint64_t bytes;      // to be given back
  uint32_t within_ms;  // from now on
} mesh_vram_yield;

// `path` is the arbiter's socket; NULL: MESH_VRAM_SOCKET of the environment, or /run/mesh/gpu.leases. `client` is a
// name for people, of at most 64 bytes. Tries for wait_ms. NULL and `error` if no arbiter answers.
mesh_vram* mesh_vram_connect(const char* path, const char* client, uint32_t wait_ms, mesh_vram_error* error);
// Releases every lease and ends all calls, also those that other threads wait in. Handles stay valid until close.
void mesh_vram_shut(mesh_vram* vram);
// Shuts it, and frees it with all of its leases' handles. No other call may be under way.
void mesh_vram_close(mesh_vram* vram);
// Writes up to `max` GPUs to `gpus`; how many there are.
size_t mesh_vram_gpus(mesh_vram* vram, mesh_vram_gpu* gpus, size_t max);
// Of the arbiter: another number after each restart.
uint64_t mesh_vram_epoch(mesh_vram* vram);

// Waits until it is granted. NULL and `error` if it is not. A shared lease is granted to its first holder at once, to
// write it, and to all others when that one has sealed it.
mesh_vram_lease* mesh_vram_acquire(mesh_vram* vram, const mesh_vram_request* request, mesh_vram_error* error);
// What is mapped of it is taken away and its descriptors are closed: nothing may compute with it any more. Does not
// fail: where the arbiter is away it is told later. The handle is gone.
void mesh_vram_release(mesh_vram_lease* lease);

// It has loaded, and needs so much from now on; the rest goes back. Once for each lease, and not for shared ones. Of a
// backed lease whole chunks go, from its end: mesh_vram_bytes tells what is left.
mesh_vram_code mesh_vram_commit(mesh_vram_lease* lease, uint64_t bytes, mesh_vram_error* error);
// Its ttl begins anew.
mesh_vram_code mesh_vram_renew(mesh_vram_lease* lease, mesh_vram_error* error);
// It begins (or ends) to compute with it: who is in use is asked last. Begins and ends are counted. Waits for nothing.
void mesh_vram_use(mesh_vram_lease* lease, int in_use);
// As mesh_vram_use(lease, 1), for who can take breaks: while a card is too hot, and the lease is normal or batch, it
// waits for up to 2 s, so that the card computes only a part of the time. To be ended by mesh_vram_use(lease, 0).
mesh_vram_code mesh_vram_begin(mesh_vram_lease* lease, mesh_vram_error* error);
// So much of it lives; the rest lies in its allocator, and the arbiter may ask for it.
mesh_vram_code mesh_vram_live(mesh_vram_lease* lease, uint64_t bytes, mesh_vram_error* error);
// The weights are written: from now on nobody writes to them, and whoever waits for them gets them.
mesh_vram_code mesh_vram_seal(mesh_vram_lease* lease, mesh_vram_error* error);
// So much was freed, asked or not; 0: it will not. Of a backed lease whole chunks go, from its end, at least so much.
// Of shared weights all or nothing. All of it: the same as release, but that the handle stays.
mesh_vram_code mesh_vram_give_back(mesh_vram_lease* lease, uint64_t bytes, mesh_vram_error* error);

// The next lease that is asked to yield; waits up to wait_ms for one. 1 if there is one, 0 if not, -1 if the connection
// was shut. Taking it says to the arbiter that it was heard; answer with mesh_vram_give_back or mesh_vram_release. A
// thread of its own that waits here is the usual way. Who never looks is asked twice, and then keeps what he has,
// unless he agreed to be killed.
int mesh_vram_next_yield(mesh_vram* vram, uint32_t wait_ms, mesh_vram_yield* yield);

uint64_t mesh_vram_bytes(const mesh_vram_lease* lease);    // on each GPU; less after commit and give_back
int mesh_vram_is_writer(const mesh_vram_lease* lease);     // of shared weights: it has to write them and seal
int mesh_vram_is_lost(const mesh_vram_lease* lease);       // see MESH_VRAM_LOST
const char* mesh_vram_id(const mesh_vram_lease* lease);    // 32 hexadecimal digits, as long as the handle
size_t mesh_vram_gpu_count(const mesh_vram_lease* lease);  // 1 but where more were asked for
const char* mesh_vram_gpu_uuid(const mesh_vram_lease* lease, size_t gpu);  // NULL beyond; as long as the handle

// All of its memory on that GPU (0 for the first), one address after the other, for the processor. Readers of shared
// weights have it read-only. MESH_VRAM_UNSUPPORTED where it is a card's: import the descriptors there. When the lease
// is released, or what is given back of it, the addresses hold zeros of their own instead of the memory, so that a
// pointer that was forgotten does no harm; mesh_vram_unmap gives them back afterwards.
mesh_vram_code mesh_vram_map(mesh_vram_lease* lease, size_t gpu, void** address, uint64_t* bytes,
                             mesh_vram_error* error);
void mesh_vram_unmap(void* address, uint64_t bytes);
// Writes up to `max` chunks of a backed or shared lease to `chunks`, in the order they are mapped in; how many there
// are. For cuMemImportFromShareableHandle, with CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.
size_t mesh_vram_chunks(const mesh_vram_lease* lease, mesh_vram_chunk* chunks, size_t max);

#ifdef __cplusplus
}
#pragma GCC visibility pop
#endif
