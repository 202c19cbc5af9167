"""The GPU chapter: agents on one card, with and without mesh-arbiter. Every line of its table is a claim that may fail.

The card is one of files in memory: what is leased are real pages, handed out by the real arbiter to real processes. What it
cannot show is a GPU's speed.
"""
from __future__ import annotations

import hashlib
import os
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from agents.stand_in_card import Card
from demo.gpu_cast import MIB, Arbiter, Driven, Here, ask_all, start_agent
from demo.processes import Processes, RunError
from demo.report import Paint, number

AGENTS = 4
WEIGHTS_MIB = 256
LOADER_MIB = 160
ROOM_MIB = 256  # of the card, beside the weights: for one loader, not for two
BLOCK_MIB = 16
# Bounds, not measurements: what waits for somebody to finish by himself takes 10 s and more, what works some 100 ms.
EVICTION_MS_MAX = 8000
DEATH_MS_MAX = 5000
RESTART_MS_MAX = 10_000


@dataclass
class Claim:
    part: str
    text: str
    seen: str
    holds: bool


@dataclass
class Chapter:
    """What was claimed, what was seen, and the numbers for a program."""
    claims: list[Claim] = field(default_factory=list)
    numbers: dict[str, float | int | str | bool] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return all(claim.holds for claim in self.claims)

    def claim(self, part: str, text: str, seen: str, holds: bool) -> None:
        self.claims.append(Claim(part, text, seen, holds))

    def as_json(self) -> dict:
        return {"ok": self.ok, "card": "files in memory", "seconds": round(self.seconds, 2), **self.numbers,
                "claims": [vars(claim) for claim in self.claims]}


def lines_of(chapter: Chapter, paint: Paint) -> list[str]:
    card = f"{chapter.numbers['weights_mib'] + ROOM_MIB} MiB made of files in memory"
    lines = [paint.dim(f"GPU memory, on a card of {card}; real processes, {number(chapter.seconds)} s")]
    last = ""
    for one in chapter.claims:
        line = f"{one.part if one.part != last else '':<12}{one.text:<68}{one.seen:<58}{'✓' if one.holds else '✗ fails'}"
        lines.append(line if one.holds else paint.bad(line))
        last = one.part
    return lines


def count(different: set, what: str) -> str:
    return f"{len(different)} different {what}{'' if len(different) == 1 else 's'}"


def write_weights(file: Path, mib: int) -> str:
    """The same bytes every time. Their digest."""
    block = numpy.random.default_rng(20).random(BLOCK_MIB * MIB // 4, dtype=numpy.float32)
    digest = hashlib.sha256()
    with open(file, "wb") as sink:
        for i in range(mib // BLOCK_MIB):
            piece = memoryview(block * numpy.float32(i + 1)).cast("B")
            digest.update(piece)
            sink.write(piece)
    return digest.hexdigest()


class Play:
    def __init__(self, chosen: Namespace, folder: Path) -> None:
        self.chosen, self.folder = chosen, folder / "gpu"
        self.folder.mkdir()
        self.processes = Processes(Here(), self.folder)
        self.chapter = Chapter()
        self.weights = self.folder / "weights.f32"

    def run(self) -> Chapter:
        began = time.monotonic()
        try:
            free_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
            mib = WEIGHTS_MIB if free_mib > 10 * WEIGHTS_MIB else WEIGHTS_MIB // 4
            self.chapter.numbers["weights_mib"] = mib
            self.key = f"demo-weights@sha256:{write_weights(self.weights, mib)}"
            self.arbiter = Arbiter(self.processes, self.chosen.arbiter, self.folder / "run", mib + ROOM_MIB)
            self.card = self.folder / "card.json"
            readers = self.share(mib)
            self.race()
            self.evict()
            self.lose_a_holder()
            self.lose_the_arbiter(readers)
        finally:
            self.processes.stop()
            self.weights.unlink(missing_ok=True)
        self.chapter.seconds = time.monotonic() - began
        return self.chapter

    # --- who plays ---

    def loader(self, name: str, leased: bool, priority: str = "normal") -> Driven:
        arguments = ["--card", str(self.card), "--mib", str(LOADER_MIB), "--priority", priority, *(["--leased"] if leased else [])]
        return start_agent(self.processes, name, "loader_agent.py", arguments, self.chosen.vram_library,
                           self.arbiter if leased else None)

    # --- the parts ---

    def share(self, mib: int) -> list[Driven]:
        """Each with a copy of its own at first, then all with one, which they keep to the end."""
        arguments = ["--weights", str(self.weights), "--key", self.key]
        agents = [start_agent(self.processes, f"reader-{i}", "weights_agent.py", arguments, self.chosen.vram_library, self.arbiter)
                  for i in range(AGENTS)]
        ask_all(agents, "own")
        own_digests = {answer["digest"] for answer in ask_all(agents, "compute")}
        own_pss = sum(agent.pss_bytes() for agent in agents)
        ask_all(agents, "drop")
        before = sum(agent.pss_bytes() for agent in agents)
        loaded = ask_all(agents, "shared")
        self.digests = {answer["digest"] for answer in ask_all(agents, "compute")}
        shared_pss = sum(agent.pss_bytes() for agent in agents)
        segments = [segment for segment in self.arbiter.ask("segments").get("segments", []) if segment["users"]]

        claim = self.chapter.claim
        part = "sharing"
        writers = sum(answer["filled"] for answer in loaded)
        readers = sum(answer["read_only"] for answer in loaded)
        claim(part, f"{AGENTS} agents map one segment, one of them filled it",
              f"{len(segments)} segment, {segments[0]['users'] if segments else 0} users, {writers} filled it, {readers} read-only",
              len(segments) == 1 and segments[0]["users"] == AGENTS and writers == 1 and readers == AGENTS)
        claim(part, "all compute the same as with a copy of their own", f"{count(self.digests | own_digests, 'result')} of {2 * AGENTS}",
              len(self.digests | own_digests) == 1)
        claim(part, f"{AGENTS} agents use one copy of {mib} MiB instead of {AGENTS}",
              f"{shared_pss // MIB} MiB in all (PSS), {own_pss // MIB} MiB with own copies",
              shared_pss - before < 1.25 * mib * MIB and own_pss > 0.95 * AGENTS * mib * MIB)
        self.chapter.numbers |= {"shared_pss_bytes": shared_pss, "own_pss_bytes": own_pss, "agents": AGENTS}
        return agents

    def race(self) -> None:
        """Two loaders see enough free memory at the same time, and both load."""
        for leased in (False, True):
            Card(self.card, ROOM_MIB * MIB)
            pair = [self.loader(f"racer-{'leased' if leased else 'plain'}-{i}", leased) for i in range(2)]
            seen = ask_all(pair, "look")
            both_saw_room = all(answer["free_mib"] >= answer["needed_mib"] for answer in seen)
            answers = self.finish(pair) if leased else ask_all(pair, "load")
            loaded = sum(answer["loaded"] for answer in answers)
            if leased:
                waited = max(answer["granted"] - answer["began"] for answer in answers if answer["loaded"]) * 1000 if loaded else 0
                self.chapter.claim("racing", "with leases both finish, one after the other", f"{loaded} of 2 loaded, the second after "
                                   f"{number(waited, 0)} ms", both_saw_room and loaded == 2)
                self.chapter.numbers["race_leased_loaded"] = loaded
            else:
                self.chapter.claim("racing", "two loaders see the same room: without leases not both load",
                                   f"{loaded} of 2 loaded, {2 - loaded} out of memory", both_saw_room and loaded < 2)
                self.chapter.numbers["race_plain_loaded"] = loaded
            for agent in pair:
                agent.end()

    def finish(self, pair: list[Driven]) -> list[dict]:
        """Both load at once; whoever has it computes and frees it, then the other has it."""
        for agent in pair:
            agent.tell("load")
        left, answers = list(pair), []
        deadline = time.monotonic() + 20
        while left and time.monotonic() < deadline:
            for agent in [agent for agent in left if agent.has_answered()]:
                answers.append(agent.answer())
                agent.ask("work")
                agent.ask("free")
                left.remove(agent)
            time.sleep(0.002)
        return answers + [{"loaded": False}] * len(left)

    def evict(self) -> None:
        Card(self.card, ROOM_MIB * MIB)
        holder, visitor = self.loader("batch", True, "batch"), self.loader("interactive", True, "interactive")
        holder.ask("load")
        visitor.ask("look")  # it is up
        got = visitor.ask("load")
        told = holder.ask("status")
        self.chapter.claim("eviction", "an interactive agent gets what an idle batch agent holds", *self.judge_eviction(got, told))
        visitor.ask("free")
        for agent in (holder, visitor):
            agent.end()

    def judge_eviction(self, got: dict, told: dict) -> tuple[str, bool]:
        if not got["loaded"]:
            return got["error"], False
        if told["asked_at"] is None:
            return "the batch agent was not asked", False
        took, unloading = (got["granted"] - got["began"]) * 1000, (told["freed_at"] - told["asked_at"]) * 1000
        self.chapter.numbers["eviction_ms"] = took
        seen = f"{LOADER_MIB} MiB after {number(took)} ms, of which its unloading {number(unloading)} ms"
        return seen, took < EVICTION_MS_MAX and not told["has_memory"] and told["freed_at"] <= got["granted"]

    def lose_a_holder(self) -> None:
        Card(self.card, ROOM_MIB * MIB)
        holder, heir = self.loader("holder", True, "critical"), self.loader("heir", True)
        holder.ask("load")
        heir.ask("look")
        heir.tell("load")
        self.arbiter.wait_for(lambda: heir.has_answered() or self.arbiter.ask("queue").get("queue"), "a waiter")
        had_to_wait = not heir.has_answered()
        killed = holder.kill()
        got = heir.answer()
        took = (got["granted"] - killed) * 1000 if got["loaded"] else None
        self.chapter.claim("crash", "kill -9 of a holder: its memory is another's as soon as it is free",
                           f"{LOADER_MIB} MiB after {number(took)} ms" if got["loaded"] else got["error"],
                           had_to_wait and took is not None and 0 < took < DEATH_MS_MAX)
        self.chapter.numbers["holder_death_ms"] = took
        heir.ask("free")
        heir.end()

    def lose_the_arbiter(self, readers: list[Driven]) -> None:
        newcomer = self.loader("newcomer", True)
        newcomer.ask("look")
        before = self.arbiter.lease_ids()
        killed = self.arbiter.kill()
        newcomer.tell("load")
        meanwhile = {answer["digest"] for answer in ask_all(readers, "compute")}
        got = newcomer.answer()
        took = (got["granted"] - killed) * 1000 if got["loaded"] else None
        self.arbiter.wait_for(lambda: before <= self.arbiter.lease_ids(), "all leases shown to it")
        cards = self.arbiter.gpus()
        agree = all(card["books_agree"] for card in cards) and bool(cards)
        after = {answer["digest"] for answer in ask_all(readers, "compute")}
        self.chapter.claim("crash", "kill -9 of the arbiter: agents go on, and nothing is lost",
                           f"{len(before & self.arbiter.lease_ids())} of {len(before)} leases, {count(meanwhile | after | self.digests, 'result')}",
                           before <= self.arbiter.lease_ids() and agree and meanwhile | after == self.digests and len(before) == AGENTS)
        self.chapter.claim("crash", "a lease asked for while it is away is granted by the next one", f"after {number(took, 0)} ms",
                           took is not None and took < RESTART_MS_MAX)
        self.chapter.numbers["arbiter_restart_ms"] = took


def play(chosen: Namespace, folder: Path, paint: Paint) -> Chapter:
    """Prints the table. A chapter that could not be played to its end is a RunError."""
    try:
        chapter = Play(chosen, folder).run()
    except (KeyError, OSError, ValueError) as error:
        raise RunError(f"the GPU chapter broke off: {error!r}") from error
    print("\n".join(["", *lines_of(chapter, paint)]), flush=True)
    return chapter
