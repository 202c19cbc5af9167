#include "tools/sdk/vram/faults.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace mesh::sdk {
namespace {

template <size_t N>
void put(char (&into)[N], const std::string& text) {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(into, text.data(), length);
  into[length] = '\0';
}

struct Known {
  std::string_view rule;
  mesh_vram_code code;
  const char* text;
  const char* hint;
};

// Reasons of Refused and rules of Failed. What is not among them is INTERNAL, in the arbiter's words.
constexpr Known kKnown[] = {
    {"never_fits", MESH_VRAM_TOO_LARGE, "No card of this host can ever hold that much",
     "ask for less, e.g. a smaller quantization or less context"},
    {"deadline", MESH_VRAM_TIMED_OUT, "The memory was not to be had in time",
     "wait longer (wait_ms), ask for less, or see who holds it: meshctl gpu"},
    {"too_many", MESH_VRAM_BUSY, "There are too many leases, waiters, or users of these weights",
     "try again later; see meshctl gpu leases"},
    {"lease_count", MESH_VRAM_BUSY, "This process has too many leases or requests open",
     "release some; one process may have 128"},
    {"policed", MESH_VRAM_POLICED, "This process uses more memory than it leased",
     "free what goes beyond its leases, or lease it first"},
    {"chunks_failed", MESH_VRAM_NO_MEMORY, "The driver could not make the memory that was granted",
     "somebody outside the arbiter took it: see others in meshctl gpu"},
    {"lease_backed", MESH_VRAM_UNSUPPORTED, "This host hands out no memory", "ask for an accounted lease"},
    {"lease_unknown", MESH_VRAM_LOST, "The lease is not this process's any more",
     "free what it held, release it and acquire anew"},
    {"invalid", MESH_VRAM_INVALID, "The request makes no sense",
     "sizes: at least 2 MiB, min not above want; shared weights need a model and one GPU"},
    {"lease_gpus", MESH_VRAM_INVALID, "It asks for a GPU that is not there", "mesh_vram_gpus lists those there are"},
    {"lease_state", MESH_VRAM_INVALID, "It was committed before", "commit once, after loading"},
    {"lease_size", MESH_VRAM_INVALID, "It commits to more than it has", "commit at most what was granted"},
    {"pid_not_yours", MESH_VRAM_INVALID, "This user has no process of that pid here",
     "name a living process of the same user, by the pid that the host knows it by"},
    {"pid_kind", MESH_VRAM_INVALID, "What the arbiter hands out is for the process that asks",
     "lease for another process with an accounted lease"},
    {"process_ended", MESH_VRAM_LOST, "The process that it was leased for has ended", "lease for another one"},
    {"lease_kind", MESH_VRAM_INVALID, "It asks for a kind, priority or revocability that is not known",
     "use the values of mesh_vram.h"},
};

}  // namespace

std::string size_text(uint64_t bytes) {
  char text[40];
  const double mib = static_cast<double>(bytes >> 20);
  if (mib < 1024) {
    std::snprintf(text, sizeof(text), "%.0f MiB", mib);
  } else {
    std::snprintf(text, sizeof(text), "%.2f GiB", static_cast<double>(static_cast<uint64_t>(mib / 10.24)) / 100);
  }
  return text;
}

mesh_vram_code tell(mesh_vram_error* error, mesh_vram_code code, const std::string& rule, const std::string& text,
                    const std::string& hint, uint64_t largest_bytes) {
  if (error == nullptr) return code;
  error->code = code;
  put(error->rule, rule);
  put(error->text, text);
  put(error->hint, hint);
  error->largest_bytes = largest_bytes;
  return code;
}

mesh_vram_code unreachable(mesh_vram_error* error, const std::string& path, int number) {
  return tell(error, MESH_VRAM_UNREACHABLE, "unreachable",
              "No arbiter answers at " + path + ": " + std::strerror(number),
              "start mesh-arbiter, or name its socket (argument, or MESH_VRAM_SOCKET); it may be opened by its group");
}

mesh_vram_code invalid(mesh_vram_error* error, const std::string& text) {
  return tell(error, MESH_VRAM_INVALID, "argument", text, "see mesh_vram.h");
}

mesh_vram_code lost(mesh_vram_error* error) {
  return tell(error, MESH_VRAM_LOST, "lease_unknown", "The lease is not this process's any more",
              "free what it held, release it and acquire anew");
}

mesh_vram_code not_done(mesh_vram_error* error, const Outcome& outcome) {
  if (outcome.ended == Ended::kShut)
    return tell(error, MESH_VRAM_CLOSED, "closed", "This connection was shut", "connect again");
  if (outcome.ended == Ended::kUnreachable)
    return tell(error, MESH_VRAM_UNREACHABLE, "unreachable", "The arbiter is away, and did not come back in time",
                "leases are held all the same; see whether mesh-arbiter runs");
  const pb::Reply& reply = outcome.packet.reply;
  const bool is_late = outcome.ended == Ended::kTimedOut;
  const std::string rule = is_late               ? "deadline"
                           : reply.has_refused() ? reply.refused().reason()
                                                 : reply.failed().rule();
  const uint64_t largest = reply.refused().largest_bytes();
  for (const Known& known : kKnown) {
    if (known.rule != rule) continue;
    std::string text = known.text;
    if (known.code == MESH_VRAM_TOO_LARGE) text += "; the most is " + size_text(largest);
    return tell(error, known.code, rule, text, known.hint, largest);
  }
  return tell(error, MESH_VRAM_INTERNAL, rule, reply.has_failed() ? reply.failed().text() : "The arbiter said " + rule,
              "is the arbiter of another version?", largest);
}

}  // namespace mesh::sdk
