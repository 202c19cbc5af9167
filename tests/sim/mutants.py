"""Plants one bug after the other and has the simulation find each: a simulation that finds nothing may be blind.

usage: mutants.py BUILD_DIR [--only NAME] [--seeds N]

Each mutant is a change of a few words in one source file. It is compiled into a program of its own, whose object comes before
the library that has the right one. Exit code 1 if one survives N seeds (2000), or no longer fits the source; found with a seed
with which the right program fails, too, it has survived.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROXY = "sidecar/proxy/"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    right: str
    wrong: str
    also: tuple[tuple[str, str], ...] = ()  # further changes of the same file
    through: str = ""  # a header is compiled as this source, which includes it


MUTANTS = [
    Mutant("deadline forgotten on reconnect", PROXY + "outbound_peers.cc",
           "calls_at(event.peer, event.lane)) calls_.set_deadline(id, calls_.find(id)->deadline);",
           "calls_at(event.peer, event.lane)) calls_.set_deadline(id, kNever);"),
    Mutant("retry after send", PROXY + "outbound_choice.cc",
           "const bool is_harmless = call.idempotent && !call.key && code == Code::kOutcomeUnknown;",
           "const bool is_harmless = code == Code::kOutcomeUnknown;"),
    Mutant("id reused", "common/routing/call_table.h", "at.generation = (at.generation + 1) & kGenerationMask;", "at.generation += 0;",
           through=PROXY + "inbound.cc"),
    Mutant("late reply delivered", PROXY + "inbound.cc",
           "return agent.correlate && agent.socket != AgentSocket::kRep && !call.keyed && !call.wrongs;", "return agent.in_flight > 0;"),
    Mutant("credit leak", PROXY + "outbound.cc",
           "  const Call call = calls_.close(id);\n  leave_instance(call);\n", "  const Call call = calls_.close(id);\n"),
    Mutant("memory leak in the books", PROXY + "outbound.cc", "  held_bytes_ -= call.bytes;\n  if (call.wrongs != nullptr)", "  if (call.wrongs != nullptr)"),
    Mutant("batch replayed at another instance", PROXY + "outbound_peers.cc", "} else if (contains(event.not_sent, id)) {", "} else if (id > 0) {"),
    Mutant("dedup skipped", PROXY + "inbound.cc", "if (answer_known(request, asked, now, out)) return;",
           "if (const auto* known = keyed_calls_.find(asked.key); known != nullptr && known->open_call == 0)\n"
           "      keyed_calls_.forget(asked.key);\n    else if (answer_known(request, asked, now, out))\n      return;"),
    Mutant("key moves to another replica", PROXY + "outbound_choice.cc", "  if (call.key) [[unlikely]]\n    return home_of_key(call, choices);\n", ""),
    Mutant("intent never written", PROXY + "inbound_keyed.cc", "if (!keyed.is_durable) return admit(id, now, out);", "return admit(id, now, out);"),
    Mutant("intent written after delivery", PROXY + "inbound_keyed.cc", "if (!keyed.is_durable) return admit(id, now, out);",
           "if (keyed.is_durable) {\n    wire::KeptRecord late;\n    late.payload = keyed.payload;\n"
           "    out.push_back(PutRecord{0, keyed.key, wire::encode_kept(late)});\n  }\n  return admit(id, now, out);"),
    Mutant("what was written down is not read", PROXY + "inbound_keyed.cc", "  found_.push_back({key, head, age, bytes});\n",
           "  if (!has_records_) return;\n  found_.push_back({key, head, age, bytes});\n"),
    Mutant("earlier attempt forgotten", PROXY + "outbound.cc", "if (call.may_be_executed) [[unlikely]]", "if (call.bytes > (1U << 30))"),
    Mutant("way back lost between two that were asked", PROXY + "outbound_hedge.cc", "      take_purpose(call, other);\n", ""),
    Mutant("queue bound off", PROXY + "outbound.cc", "if (held_bytes_ + bytes > config_.limits.process_queued_bytes) {", "if (false) {"),
    Mutant("epoch ignored", PROXY + "driver.cc", "hello.epoch = settings_.epoch;", "hello.epoch = 1;"),
    # The clock is the transport's affair, which is not simulated: this one changes the harness, and shows that a clock which
    # somebody sets would be noticed.
    Mutant("timer in wall clock", "tests/sim/virtual_network.cc", "return network_.local_now(site_);", "return network_.wall_now(site_);"),
    Mutant("drain loses parked calls", PROXY + "driver.cc",
           "engine_.idle() && unsent == 0 && !may_come_more", "unsent == 0 && !may_come_more"),
    Mutant("drain does not wait until peers know", PROXY + "driver.cc",
           "engine_.idle() && unsent == 0 && !may_come_more", "engine_.idle() && unsent == 0"),
    Mutant("cancelled and sent all the same", PROXY + "peer_lane.cc", "    queue_.erase(at);\n    return;", "    return;"),
    Mutant("sent after all to an agent that was given up", PROXY + "agent_session.cc", "if (call.end > stream_->handed_bytes()) not_sent", "not_sent"),
    Mutant("reply of one for another", PROXY + "driver.cc", "tell(PeerReplied{lane->peer(), envelope.call_id,", "tell(PeerReplied{lane->peer(), envelope.call_id ^ 1,"),
    Mutant("calls of a lost agent forgotten", PROXY + "inbound_agents.cc", "    if (call.agent == event.agent && has_it) lost.push_back(id);", ""),
    Mutant("kept although it became wrong on its way", PROXY + "outbound_cache.cc", "if (keeping != CacheKeeping::kKept) return",
           "if (keeping != CacheKeeping::kKept && keeping != CacheKeeping::kPurged) return",
           also=((".since = fetch.since,", ".since = purges_.position(),"),)),
    Mutant("waits for what began before it became wrong", PROXY + "outbound_cache.cc",
           "is_timely && purges_.holds(fetch.since, fetch.names())", "is_timely"),
    Mutant("a write makes nothing wrong", PROXY + "inbound_purge.cc", "is_untouched(outcome.code) ? 0", "true ? 0"),
    Mutant("a write makes nothing wrong beside its agent", PROXY + "inbound_purge.cc",
           "  for (const uint64_t name : names) purges_.purge(name);\n  const uint64_t round", "  const uint64_t round"),
    Mutant("a purge round is told to nobody", PROXY + "purge_rounds.cc", "for (const auto& [link, until] : holders_) {",
           "for (const auto& [link, until] : decltype(holders_)()) {"),
    Mutant("a writer is answered before the round has ended", PROXY + "inbound_purge.cc", "if (!rounds_.is_open(round)) return answer(origin,",
           "return answer(origin,"),
    Mutant("a process knows nothing of the leases of the one before", PROXY + "purge_rounds.cc",
           "quiet_until_ = now + milliseconds(limits::lease_ms);", "quiet_until_ = now;"),
    Mutant("a lease never runs out", PROXY + "leases.h", "return now < leases_[peer].until;", "return leases_[peer].until != Instant{};",
           through=PROXY + "outbound_leases.cc"),
    Mutant("what was missed without a lease is not noticed", PROXY + "leases.cc",
           "if (!has_missed) return std::nullopt;", "if (!has_missed || is_shared_ || true) return std::nullopt;"),
    Mutant("a purge that was missed is not noticed with the next", PROXY + "leases.cc",
           "return has_missed ? std::optional(purges_.mark()) : std::nullopt;", "return std::nullopt;"),
    Mutant("given without a lease", PROXY + "outbound_leases.cc", "  bool is_leased = true;\n", "  bool is_leased = true;\n  return true;\n"),
    Mutant("what shared memory has is given although it became wrong", PROXY + "tiered_cache.cc",
           "if (!found || !purges_.holds(found->kept.since, found->kept.names())) return nullptr;", "if (!found) return nullptr;"),
    Mutant("what became wrong stays on disk", PROXY + "inbound_purge.cc", "  if (erases && has_disk_) {", "  if (false) {",
           also=(("is_relayed, erases && has_disk_, now", "is_relayed, false, now"),)),
    Mutant("what is being erased is taken from disk", PROXY + "outbound_disk.cc", " && !inbound_.is_being_erased(kept.names())", ""),
    Mutant("a durable reply leaves before its result is on disk", PROXY + "inbound_keyed.cc",
           "  keyed.outcome = std::move(outcome);\n  calls_.set_deadline(id, keyed.waiters.empty()",
           "  keyed.outcome = std::move(outcome);\n  answer_waiters(call, keyed.outcome, now, out);\n  calls_.set_deadline(id, keyed.waiters.empty()"),
    Mutant("durable results are unknown after a restart", PROXY + "inbound_keyed.cc",
           "const Code code = head.is_result ? head.code : Code::kOutcomeUnknown;", "const Code code = Code::kOutcomeUnknown;"),
    Mutant("durable results cannot be read from disk", PROXY + "inbound_keyed.cc",
           "if (record && record->is_result) {", "if (record && record->is_result && record->body.size() > (1U << 30)) {"),
    Mutant("a fifth of all calls is refused as INTERNAL", PROXY + "inbound.cc", "  if (request.deadline <= now) {",
           "  if (request.payload.body.size() % 5 == 0) return reject(Code::kInternal, \"x\", \"x\", \"x\");\n  if (request.deadline <= now) {"),
    Mutant("a queue is sent from its end", PROXY + "peer_lane.cc", "  queue_.push_back(std::move(call));", "  queue_.push_front(std::move(call));"),
    Mutant("stuck REQ sockets are never freed", PROXY + "client_session.cc", "if (std::exchange(may_be_stuck_, false)) free_stuck(now);",
           "may_be_stuck_ = false;"),
    Mutant("a peer that is back is looked for too late", PROXY + "peer_lane.cc",
           "host_.now() + backoff_.next(prng_)", "host_.now() + 4 * backoff_.next(prng_)"),
    Mutant("a result that is only in memory is not kept", PROXY + "inbound_keyed.cc",
           "  if (outcome.code == Code::kOk) keyed_calls_.keep_body(keyed.key, outcome.payload.body, outcome.payload.part_sizes);\n", ""),
    Mutant("a target takes more than it may", PROXY + "outbound_choice.cc",
           "if (!next || is_full(services_[call.service].instances[*next], call.bytes)) return false;", "if (!next) return false;"),
    Mutant("an answer is late by the clock of who gave it", PROXY + "outbound.cc",
           "  conclude(event.call_id, std::move(event.outcome), {event.spans, event.decompress_us, event.batch}, now, out);",
           "  const bool is_late = event.spans != nullptr &&\n"
           "                       microseconds(static_cast<int64_t>(event.spans->received_us)) > call->deadline.time_since_epoch();\n"
           "  if (is_late) return expire(event.call_id, now, out);\n"
           "  conclude(event.call_id, std::move(event.outcome), {event.spans, event.decompress_us, event.batch}, now, out);"),
    Mutant("given by a home to who knows more of the other instances", PROXY + "outbound_home.cc",
           "return caller.delivery->knowledge == knowledge_beside(", "return caller.delivery->knowledge != 0 || 0 == knowledge_beside("),
    Mutant("what another instance says is not passed on", PROXY + "outbound_leases.cc",
           "if (!event.is_relayed && shares_service_with(event.peer)) {", "if (false && shares_service_with(event.peer)) {"),
    Mutant("an order is confirmed before a peer has confirmed it", PROXY + "purge_orders.cc",
           "  add(order, std::move(ask));\n}\n\nPurgeOrders::Doubt", "  note(orders_.at(order), peer, Doubt::kNone);\n}\n\nPurgeOrders::Doubt"),
    Mutant("an order is confirmed to a peer before all have heard of it", PROXY + "inbound_purge.cc",
           "release_after(round, {.round = 0, .origin = {event.link, 0},", "release_after(0, {.round = 0, .origin = {event.link, 0},"),
    Mutant("an order does not reach the disk of a peer", PROXY + "inbound_purge.cc",
           "purge(event.names, false, true, now, out);", "purge(event.names, false, false, now, out);"),
    Mutant("an order of this sidecar does not reach its own agents' keepers", PROXY + "outbound_purge.cc",
           "    inbound_.purge_for(order, names, now, out);", "    orders_.on_own_purged(order);"),
    Mutant("an order by key names another key", PROXY + "purge_spec.cc", "return cache::key_name(key);", "return key.high;"),
    Mutant("who does not confirm an order is waited for longer", PROXY + "purge_orders.cc",
           "orders_[++last_order_].until = until;", "orders_[++last_order_].until = until + milliseconds(2000);"),
    Mutant("what a sidecar was told counts for services that it does not know", PROXY + "services.cc",
           "if (!instance.local) views[instance.peer] += routing::rendezvous_weight(view, instance.name_digest);", "(void)view;"),
    Mutant("an agent computes before there is memory for its model", PROXY + "inbound.h",
           "return call.model != kNoModel && !call.has_model; }", "return call.model != kNoModel && false; }", through=PROXY + "inbound.cc"),
    Mutant("memory goes back while a model is used", PROXY + "model_leases.cc", "  if (model.users == 0) replace(index, out);\n", "  replace(index, out);\n"),
    Mutant("memory of a model that nobody uses is kept", PROXY + "model_leases.cc",
           "if (models_[index].idle_until <= now) give_back(index, out);", "if (models_[index].idle_until <= now) models_[index].idle_until = kNever;"),
    Mutant("who came while memory was recalled does not get it again", PROXY + "model_leases.cc",
           "  give_back(index, out);\n  if (!models_[index].waiting.empty()) ask(", "  give_back(index, out);\n  if (false) ask("),
    Mutant("an agent's next process has the memory of the one before", PROXY + "inbound_models.cc",
           "if (models_.is_for_another(model, user)) take_back_model(model);", ""),
    Mutant("an arbiter believes memory back when a socket closes", "sidecar/arbiter/engine.cc",
           "if (has_nothing && entry.chunks_pending == 0) {", "if (entry.chunks_pending == 0) {"),
    Mutant("a link over which standings come is never idle", PROXY + "link_session.cc",
           "      return true;  // it comes with each pong: nobody has used the link", "      break;"),
    Mutant("kept for too long", PROXY + "outbound_cache.cc", "kept.error_until += milliseconds(", "kept.error_until += 60 * milliseconds("),
]


def run(command: str, directory: Path) -> None:
    done = subprocess.run(command, shell=True, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")


def build_mutant(mutant: Mutant, build: Path, scratch: Path) -> Path:
    """The simulation with this bug in it."""
    text = (ROOT / mutant.file).read_text()
    for right, wrong in ((mutant.right, mutant.wrong), *mutant.also):
        if text.count(right) != 1:
            raise RuntimeError(f"mutant '{mutant.name}' does not fit {mutant.file} any more")
        text = text.replace(right, wrong)
    source = ROOT / (mutant.through or mutant.file)
    changed = scratch / mutant.file if mutant.through else scratch / source.name
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text(text)
    entry = next(one for one in json.loads((build / "compile_commands.json").read_text())
                 if Path(one["directory"], one["file"]).resolve() == source)
    target = scratch / "mutant.o"
    words = shlex.split(entry["command"])
    words[words.index("-o") + 1] = str(target)
    if mutant.through:
        first_option = next(i for i, word in enumerate(words) if word.startswith("-"))
        words.insert(first_option, f"-I{scratch}")  # the changed header comes before the right one
    else:
        words[words.index("-c") + 1] = str(changed)
    # The tree itself is no longer where the file is; and what a mutant leaves unused is no error.
    run(shlex.join([*words, f"-I{ROOT}", "-Wno-error"]), build)
    commands = subprocess.run(["ninja", "-t", "commands", "tests/sim/explore"], cwd=build, capture_output=True, text=True, check=True)
    link = shlex.split(commands.stdout.splitlines()[-1])
    program = scratch / "explore"
    link[link.index("-o") + 1] = str(program)
    own_object = f"tests/sim/explore.p/{source.name}.o"
    if own_object in link:
        link[link.index(own_object)] = str(target)
        run(shlex.join(link), build)
        return program
    first_library = next(i for i, word in enumerate(link) if word.endswith(".a"))
    run(shlex.join([*link[:first_library], str(target), *link[first_library:]]), build)
    return program


def fails_without_it(build: Path, lines: list[str]) -> bool:
    """Whether the right program fails with the seed of the finding, too: then it says nothing of the mutant."""
    seed = re.match(r"seed (\d+):", lines[0] if lines else "")
    if seed is None:
        return False
    right = subprocess.run([build / "tests/sim/explore", "--first", seed[1], "--count", "1"], capture_output=True)
    return right.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", help="the mutants whose names hold this")
    parser.add_argument("--seeds", type=int, default=2000)
    chosen = parser.parse_args()
    survivors = 0
    mutants = [mutant for mutant in MUTANTS if chosen.only is None or chosen.only in mutant.name]
    for mutant in mutants:
        with tempfile.TemporaryDirectory() as scratch:
            program = build_mutant(mutant, chosen.build.resolve(), Path(scratch))
            done = subprocess.run([program, "--count", str(chosen.seeds), "--failures", "1"], capture_output=True, text=True)
        lines = (done.stdout or done.stderr).splitlines()
        is_blamed_wrongly = done.returncode != 0 and fails_without_it(chosen.build, lines)
        survived = done.returncode == 0 or is_blamed_wrongly
        survivors += survived
        story = "survived" if done.returncode == 0 else lines[0] if lines else f"ended with {done.returncode}"
        if is_blamed_wrongly:
            story = f"not shown to be caught, as the right program fails there, too: {story}"
        print(f"{mutant.name}: {story}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return 1 if survivors or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
