// Every limit of the mesh and its reason, in one place. Units are last in the name.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mesh::limits {

inline constexpr size_t KiB = 1024;
inline constexpr size_t MiB = 1024 * KiB;

// --- a connection that has not proved anything yet ---
// A stranger gets two seconds: libzmq finishes a handshake in one round trip.
inline constexpr int64_t handshake_ms = 2000;
// READY with a 255-byte identity fits; nothing legitimate needs more before it is done.
inline constexpr size_t handshake_command_bytes = 512;
// At most this many strangers at once in one process; the next takes the place of the oldest, so silent connections can
// neither use up fds nor keep out a peer that means it: that one is done within a round trip.
inline constexpr size_t handshakes_max = 256;
// Administrators come one by one; a place is taken for 2 s at most, and by the same rule.
inline constexpr size_t admin_connections_max = 32;
// A question of theirs, which may be an order with names and a tag.
inline constexpr size_t admin_line_bytes = 1 * KiB;
// An answer that has to be waited for: a purge's, and a second more.
inline constexpr int64_t admin_answer_ms = 6000;
// What one turn of the loop takes in: a crowd at the door must not keep those inside from being served.
inline constexpr size_t accepts_per_turn = 8;

// --- messages ---
// Delimiters, ids, header and a few payload parts; a never-ending multipart message stops here.
inline constexpr size_t frames_per_message_max = 8;
// An agent puts its id frame and the delimiter before as many.
inline constexpr size_t frames_per_reply_max = frames_per_message_max + 2;
// What a drop-in port reads over without keeping it, so that a REQ socket that asked too much is told so and lives on.
inline constexpr size_t surplus_frames_max = 256;
// The frames before the delimiter, which are kept for the way back.
inline constexpr size_t route_bytes = 1 * KiB;
// What a drop-in port takes unless its service says more: twice the largest body seen (1.5 MiB of audio as JSON).
inline constexpr size_t dropin_body_bytes = 4 * MiB;
// The hard ceiling for any message.
inline constexpr size_t message_bytes = 64 * MiB;
// What is above it is read over up to here; a frame that claims more ends its connection.
inline constexpr size_t read_over_bytes = 4 * message_bytes;
// Commands after the handshake, of which PING makes us speak: libzmq's shortest heartbeat is 1 ms for a moment, not for
// long.
inline constexpr double commands_burst = 1000;
inline constexpr double commands_per_second = 100;
// PING contexts by RFC 37 are at most 16 bytes.
inline constexpr size_t ping_context_bytes = 16;

// --- batches ---
inline constexpr size_t batch_bytes = 256 * KiB;
inline constexpr size_t batch_envelopes_max = 256;
// Bodies up to this are copied into the batch: below it one copy is cheaper than another iovec and frame.
inline constexpr size_t inline_body_bytes = 8 * KiB;
// A stream with this much to say says it at once instead of at the end of the turn: more would save no system call
// worth having, and the bytes are still in the processor's cache.
inline constexpr size_t flush_at_once_bytes = 128 * KiB;
// Bodies above this leave on the bulk lane, so that they delay no small ones.
inline constexpr size_t bulk_body_bytes = 128 * KiB;
// Frame 0 holds the envelopes, so a message has room for this many bodies of their own.
inline constexpr size_t batch_body_frames_max = frames_per_message_max - 1;
// Decompressed size: at most ratio x input + slack, so that a bomb costs its sender.
inline constexpr size_t inflate_ratio_max = 100;
inline constexpr size_t inflate_slack_bytes = 64 * KiB;
inline constexpr int zstd_window_log_max = 20;
// zstd cannot win on less.
inline constexpr size_t compress_bytes_min = 512;

// --- parsers ---
inline constexpr size_t json_depth_max = 32;
inline constexpr int protobuf_recursion_max = 16;
// An envelope without its body: names, ids and an error of a few sentences.
inline constexpr size_t envelope_bytes = 8 * KiB;
// The header frame of a call on the mesh socket.
inline constexpr size_t mesh_header_bytes = 8 * KiB;
inline constexpr size_t name_bytes = 128;
// In one envelope: of so many services and models whoever answers for them says how soon.
inline constexpr size_t standings_max = 16;
// Whose an idempotency key is: host, sidecar, port and user.
inline constexpr size_t caller_bytes = 3 * name_bytes + 32;

// --- connections ---
inline constexpr size_t connections_per_port_max = 1024;
inline constexpr size_t connections_max = 16384;
// Accepted from other sidecars, each of which opens two.
inline constexpr size_t links_max = 1024;
// When a port is full, a newcomer takes the place of one that never asked for anything, or not for so long: its socket
// connects again by itself when it has something to say.
inline constexpr int64_t client_dispensable_ms = 10'000;
// Who is ready sends what it came for at once, and a REQ socket only once.
inline constexpr int64_t client_first_ask_ms = 50;
inline constexpr int listen_backlog = 4096;
inline constexpr int64_t reconnect_min_ms = 100;
inline constexpr int64_t reconnect_max_ms = 2000;

// --- queues ---
inline constexpr size_t calls_per_target_max = 256;
inline constexpr size_t queued_bytes_per_target = 16 * MiB;
// A client with more than this unanswered is not read from until some of it is answered.
// Half of what one target takes, so that one client alone keeps nobody out.
inline constexpr size_t client_open_calls_max = 128;
inline constexpr size_t client_open_bytes = 2 * MiB;
// A stream whose peer does not read: above high its source is paused, below low it goes on.
inline constexpr size_t stream_high_water_bytes = 1 * MiB;
inline constexpr size_t stream_low_water_bytes = 256 * KiB;
// A peer that moves next to nothing for so long, while there is something for it to move, is closed. 16 KiB in that
// time is less than any network that two PCs have between them carries.
inline constexpr int64_t stall_ms = 1500;
inline constexpr int64_t stall_check_ms = 250;
inline constexpr size_t stall_progress_bytes = 16 * KiB;
// Large messages under way into one process, by their declared sizes; the next one waits. One bound for those up to
// gathering_small_bytes and one for the larger, so that a few huge ones do not keep the others out.
inline constexpr size_t gathering_bytes = 6 * MiB;
inline constexpr size_t gathering_free_bytes = 64 * KiB;  // smaller ones need not ask
inline constexpr size_t gathering_small_bytes = 1 * MiB;
// No message counts as more: otherwise the largest would have to wait until there is no other at all.
inline constexpr size_t gathering_share_bytes = gathering_bytes / 2;
// Who has waited so long is let go: with what a call has to spend it would be too late for it anyway.
inline constexpr int64_t room_wait_ms = 3000;
// While others wait for room, those go who move less. A client is on this computer; between two PCs there may be a
// wireless link that others use, too.
inline constexpr uint64_t client_pace_bytes_per_s = 8 * MiB;
inline constexpr uint64_t link_pace_bytes_per_s = 256 * KiB;
// Bytes in one process that wait for peers who do not take them: beyond it the one with most is closed at once.
inline constexpr size_t idle_bytes = 32 * MiB;
// Everything queued in one process.
inline constexpr size_t process_queued_bytes = 64 * MiB;

// --- replies that are kept ---
// Tags of one kept reply, and of one request that makes replies wrong.
inline constexpr size_t cache_tags_max = 8;
// A failure is told for so long at most without asking again.
inline constexpr int64_t negative_ttl_ms_max = 60'000;
// JSON bodies larger than this are keys as they are: to bring them into order costs more than it finds.
inline constexpr size_t canonical_body_bytes = 256 * KiB;
// In one sidecar, of replies.
inline constexpr size_t cache_local_bytes = 100 * MiB;
// Replies in memory that the sidecars of one category share, for their callers and beside their agents. A sixteenth of
// the computer's memory if that is less; taken as it fills.
inline constexpr size_t cache_shared_bytes = size_t{2} << 30;
// Replies on disk, of one sidecar's agents.
inline constexpr size_t cache_disk_bytes = size_t{20} << 30;
// What is right for less than that is not worth a write to disk.
inline constexpr int64_t disk_ttl_ms_min = 30'000;
// How long an erasure on disk is waited for before whoever made wrong what lies there is answered; the promise is 5 s.
inline constexpr int64_t erasure_ms_max = 4000;
// What is kept of one reply at most.
inline constexpr size_t cached_reply_bytes = 8 * MiB;

// How long whoever keeps replies gives them without having heard from those who know when they become wrong, and so how
// long at most these wait for one who does not answer; and after how long he asks again, if somebody asks him.
inline constexpr int64_t lease_ms = 1000;
inline constexpr int64_t lease_renewal_ms = 350;
// The clocks of two hosts do not run equally fast, and a turn of the loop takes its time.
inline constexpr int64_t lease_margin_ms = 100;
// What is kept is not given before the answer, which is worth waiting for rather than asking the agent.
inline constexpr int64_t lease_wait_ms = 50;
// What another sidecar of the host fetches is waited for as long as that says so, each time for so long.
inline constexpr int64_t flight_ms = 50;
inline constexpr int64_t flight_renewal_ms = 10;
// Names that one purge tells of.
inline constexpr size_t purged_names_max = 64;
// A purge that somebody ordered waits no longer than this for those who have not confirmed it: behind it nobody gives
// anything who could not be reached, as his lease has run out, but its own sidecar to its own agents.
inline constexpr int64_t purge_wait_ms = 5000;
// How many of them at once, and how often: as many as a peer takes without taking them for a flood.
inline constexpr size_t purge_orders_max = 64;
inline constexpr double purge_orders_per_second = 50;
// What is to be purged, as JSON.
inline constexpr size_t purge_order_bytes = 4 * KiB;

// --- idempotency keys ---
// How long a key is remembered after its call ended: agents that ask again do so within minutes. And how many at most.
inline constexpr int64_t key_window_ms = 600'000;
inline constexpr size_t keys_max = 100'000;
// A result larger than this is not kept, only that there was one; nor are more than so many bytes of all in memory.
inline constexpr size_t kept_result_bytes = 1 * MiB;
inline constexpr size_t kept_results_bytes = 16 * MiB;
// On disk, of one sidecar's durable methods; when it is full they end with STORAGE until keys are forgotten.
inline constexpr size_t store_bytes = 1024 * MiB;
// The same call asked for again and again while it is under way.
inline constexpr size_t waiters_per_key_max = 64;

// --- time ---
// Most agents give up after 5000 ms and a REQ socket that got no reply is stuck for good: answer before it.
inline constexpr int64_t dropin_budget_ms = 4500;
inline constexpr int64_t budget_ms_max = 300'000;
// A request may be held back for company no longer than the slowest of the presets.
inline constexpr int64_t linger_ms_max = 1000;
// A call may wait this long for a connection to its target before it is NOT_SENT: callers learn of a dead process
// within a second on the same host.
inline constexpr int64_t connect_wait_ms = 800;
// The callee's budget is this much shorter, so that its error, which knows more, arrives before the caller's.
inline constexpr int64_t hop_margin_ms = 20;
inline constexpr int64_t heartbeat_busy_ms = 500;
inline constexpr int64_t heartbeat_dead_ms = 1500;
inline constexpr int64_t heartbeat_idle_ms = 15'000;
inline constexpr int64_t link_idle_close_ms = 60'000;
inline constexpr int64_t drain_ms = 8000;
// Of these, how long it waits for peers to say that they know, and again that they have heard all answers.
inline constexpr int64_t farewell_ms = 1500;
// How often a call is sent in all, where it may be sent again.
inline constexpr uint32_t attempts_max = 4;
// Of one service: a call marks those that it tried as bits.
inline constexpr size_t instances_max = 32;
// After its deadline a serial agent is given this long to come back before its connection is replaced.
inline constexpr int64_t agent_abandon_ms = 30'000;

// --- reading ---
inline constexpr size_t read_block_bytes = 256 * KiB;
// From here on the rest of a frame is read straight into its own block.
inline constexpr size_t direct_read_bytes = 16 * KiB;

static_assert(dropin_body_bytes <= message_bytes);
static_assert(lease_ms < purge_wait_ms);
static_assert(purge_wait_ms < admin_answer_ms);
static_assert(purge_orders_per_second < commands_per_second);
static_assert(inline_body_bytes < bulk_body_bytes);
static_assert(batch_bytes <= message_bytes);
static_assert(reconnect_min_ms < reconnect_max_ms);
static_assert(heartbeat_busy_ms < heartbeat_dead_ms);
static_assert(client_open_calls_max * 2 <= calls_per_target_max);
static_assert(stall_check_ms < stall_ms);
static_assert(stream_low_water_bytes < stream_high_water_bytes);
static_assert(direct_read_bytes < read_block_bytes);

}  // namespace mesh::limits
