// What an agent is told, as packets. Private to the session.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "lease.pb.h"
#include "sidecar/arbiter/session.h"

namespace mesh::arbiter {

// 16 bytes; zero for none of them, nothing for any other number.
std::optional<Id> read_id(std::string_view bytes);
std::string write_id(const Id& id);

Frame welcome(uint64_t number, const SessionTerms& terms);
Frame queued(uint64_t number, LeaseId lease, const SessionTerms& terms);
// In as many packets as its chunks need.
void granted(uint64_t number, bool is_claimed, const SendGrant& grant, const SessionTerms& terms, Frames& out);
Frame refused(uint64_t number, const SendRefusal& refusal);
Frame done(uint64_t number);
Frame failed(uint64_t number, LeaseId lease, const Error& error);
Frame yield_asked(const AskYield& asked, const SessionTerms& terms);
Frame standing(uint64_t number, const std::vector<std::pair<std::string, Outlook>>& outlooks,
               const SessionTerms& terms);

}  // namespace mesh::arbiter
