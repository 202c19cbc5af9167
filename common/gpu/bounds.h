// Every limit of the GPU arbiter and its reason, in one place. Units are last in the name. All are defaults to beat.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/gpu/units.h"

namespace mesh::gpu::bounds {

// --- tables ---
// Boards with more are rare; a GpuMask has room for 32.
inline constexpr size_t gpus_max = 16;
// Leases of one host, the dying ones included: dozens of agents with a few models each.
inline constexpr size_t leases_max = 1024;
// Who waits, of all priorities: each is an agent with an open socket.
inline constexpr size_t waiters_max = 1024;
// Shared weights, idle ones included; the smallest worth sharing are some 100 MiB.
inline constexpr size_t segments_max = 256;
// Connections that map one segment or wait for it.
inline constexpr size_t segment_users_max = 256;
// Those whose memory was taken may come back; who does not for so long has given up.
inline constexpr size_t tickets_max = 256;
inline constexpr int64_t ticket_ms = 600'000;
// Models that went lately.
inline constexpr size_t ghosts_max = 256;

// --- memory ---
// Kept back on each card: to undo a swap that failed, to copy while memory is taken, for who cannot wait a second.
inline constexpr Units emergency_units = units_of(512 * kMiB);
// The most that idle shared weights hold of a card.
inline constexpr Units idle_segments_units = units_of(8 * kGiB);
// How long a peak of use by others is remembered: it comes back more often than not.
inline constexpr int64_t foreign_window_ms = 30'000;
// One sample a second, four under pressure.
inline constexpr size_t foreign_samples_max = 128;
// Stranded in an agent's allocator, of what it was granted: above it the agent is asked to trim.
inline constexpr double slack_share_max = 0.15;
inline constexpr int64_t trim_pause_ms = 30'000;  // between two such askings

// --- waiting ---
// Who has waited so long may hold memory back from those who came later.
inline constexpr int64_t age_ms = 5000;
// Nobody waits longer: the longest budget a call may have.
inline constexpr int64_t wait_ms_max = 300'000;
// What a hold without a hint is taken to last, for charging it before it is over.
inline constexpr int64_t hold_hint_ms = 10'000;
// A critical request with less time than this may draw on the reserve, for so long.
inline constexpr int64_t draw_deadline_ms = 1000;
inline constexpr int64_t draw_ms_max = 5000;

// While somebody waits it is looked for what became possible by time alone.
inline constexpr int64_t look_again_ms = 250;

// --- taking memory back ---
// An answer to YIELD is one message; a loop that needs longer is busy in a kernel call.
inline constexpr int64_t ack_ms = 500;
// From YIELD to DONE unless the holder says more: 4 GiB go to host memory in about a second.
inline constexpr int64_t grace_ms = 2000;
inline constexpr int64_t eta_ms_max = 10'000;
// How long a sample may show that what was said to be free is not: a driver takes its time, and so does a sample.
// A lease that nobody committed counts as filled after three of its loads, and not before this.
inline constexpr int64_t filled_ms_min = 10'000;
inline constexpr int64_t verify_ms = 2500;
inline constexpr int yields_max = 2;  // asked once more before it is given up or signalled
inline constexpr int64_t term_ms = 2000;
// Who did not yield is not asked again for so long.
inline constexpr int64_t refusal_ms = 10'000;
// A victim in use has had this long, or three loads: otherwise those who waited would take turns doing nothing.
inline constexpr int64_t quantum_ms = 10'000;
// Two returns of a model inside this are thrashing.
inline constexpr int64_t ghost_ms = 60'000;
inline constexpr int ghost_returns = 2;
// Per card and minute, in cards: more is time spent loading. Fewer save loads and make the slowest percent wait longer:
// on traces one card a minute saves a quarter of the loads of LRU and triples its slowest waits, eight save a tenth.
inline constexpr int64_t swap_window_ms = 60'000;
inline constexpr double swap_cards_per_window = 6.0;
// So many of its loads a request waits for that budget, as long as it is not too old: to wait much longer than what is
// saved costs more than it saves. On traces one load instead saves less than a tenth of the loads of LRU, two make the
// slowest percent wait longer.
inline constexpr double swap_patience_loads = 1.5;

// What a context takes of a card at most: more of a process that is first seen is its doing.
inline constexpr Units context_units_max = units_of(600 * kMiB);

// --- restart ---
// Agents come back to a new arbiter within this.
inline constexpr int64_t reconcile_ms = 3000;

static_assert(gpus_max <= 32);
static_assert(ack_ms < grace_ms && grace_ms < eta_ms_max);
static_assert(age_ms < wait_ms_max);
static_assert(ghost_returns >= 1);

}  // namespace mesh::gpu::bounds
