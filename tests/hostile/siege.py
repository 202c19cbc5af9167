"""One attack on one port while good requests run: what happened to everybody, and what of it must not be."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attacks import ATTACKS
from besieged import Besieged, Holdings, Newcomers
from crowd import BYTES_PER_S

MIB = 1 << 20
HOSTS = ("a", "b")

CLOSED_WITHIN_S = 5.0
SERVED_WITHIN_S = 1.0
GROWTH_BYTES_MAX = 16 * MIB
LEFT_BEHIND_BYTES_MAX = 4 * MIB
LOG_LINES_PER_S_MAX = 12
RECOVERS_WITHIN_S = 5.0
P99_RATIO_MAX = 2.0
ATTACKERS_END_WITHIN_S = 20


def label_of(port: str, service: str) -> str:
    """What counters and log call the port."""
    return f"drop_in:{service}" if port == "drop_in" else port


def refusals(counters: dict, label: str) -> Counter:
    """How many peers were refused at this port, by rule."""
    return Counter({one["rule"]: one["count"] for one in counters["refused"] if one["port"] == label})


def busiest_second(lines: list[str]) -> int:
    """Of log lines, those in the second that has most."""
    seconds = Counter(match.group(1) for line in lines if (match := re.match(r"ts=(\S+?)\.", line)))
    return max(seconds.values(), default=0)


@dataclass
class Siege:
    """What one attack did."""

    attack: str
    port: str
    control_p99_us: float = float("nan")
    attacked_p99_us: float = float("nan")
    grown_bytes: int = 0
    closed_within_s: float = 0.0
    newcomer_s: float = 0.0
    sent_bytes: int = 0
    peers: int = 0
    broken: list[str] = field(default_factory=list)  # promises, in words

    def promise(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self.broken.append(otherwise)

    @property
    def ratio(self) -> float:
        return self.attacked_p99_us / self.control_p99_us


def wait_until_recovered(besieged: Besieged, before: dict[str, Holdings]) -> dict[str, Holdings]:
    """The holdings once they are back where they were, or when the time for that is over."""
    end = time.monotonic() + RECOVERS_WITHIN_S
    while True:
        now = {host: besieged.holdings(host) for host in HOSTS}
        back = all(now[host].files == before[host].files
                   and now[host].anonymous_bytes <= before[host].anonymous_bytes + LEFT_BEHIND_BYTES_MAX for host in HOSTS)
        if back or time.monotonic() > end:
            return now
        time.sleep(0.03)


def control_interval(besieged: Besieged, seconds: float) -> dict:
    """Good requests without an attack."""
    besieged.good.begin_interval()
    besieged.good.report()
    time.sleep(seconds)
    besieged.good.begin_interval()
    return besieged.good.report()


def attacked_interval(besieged: Besieged, beset: Besieged, name: str, ports: Sequence[str], seconds: float) -> "Attacked":
    """Good requests through `besieged` while all `ports` of `beset`, which may be the same or a decoy, are attacked at once."""
    before = {host: beset.holdings(host) for host in HOSTS}
    newcomers = {port: Newcomers(beset, port, ATTACKS[name].newcomer_bytes) for port in ports}
    besieged.good.begin_interval()
    besieged.good.report()
    for each in newcomers.values():
        each.start()
    try:
        seen, grown_bytes = run_attackers(beset, name, ports, seconds, before)
    finally:
        for each in newcomers.values():
            each.stop()
    besieged.good.begin_interval()
    return Attacked(before, seen, grown_bytes, newcomers, besieged.good.report())


@dataclass
class Attacked:
    """What was observed during an attack."""

    before: dict[str, Holdings]
    seen: dict[str, dict]  # by the attackers of each port
    grown_bytes: int
    newcomers: dict[str, Newcomers]
    good: dict


def run_attackers(beset: Besieged, name: str, ports: Sequence[str], seconds: float, before: dict[str, Holdings]) -> tuple[dict[str, dict], int]:
    """What the attackers of each port say they saw, and by how much the memory of either sidecar grew meanwhile."""
    # Where latencies are judged, it is the sidecar's and not the scheduler's: then attackers get what the others leave. But
    # that may be next to nothing, and an attack that comes too slowly is none.
    meekly = ["chrt", "--idle", "0"] if os.environ.get("MESH_HOSTILE_LONG") else ["nice", "-n", "10"]
    attackers = {port: subprocess.Popen(
        [*meekly, sys.executable, str(Path(__file__).with_name("attacks.py")), name, port,
         beset.address_of(port, service_of(name)), "--seconds", str(seconds), "--bytes-per-s", str(BYTES_PER_S / len(ports))],
        stdout=subprocess.PIPE, text=True) for port in ports}
    grown_bytes, end = 0, time.monotonic() + seconds + ATTACKERS_END_WITHIN_S
    try:
        while any(each.poll() is None for each in attackers.values()):
            grown_bytes = max(grown_bytes, *(beset.anonymous_bytes(host) - before[host].anonymous_bytes for host in HOSTS))
            if time.monotonic() > end:
                raise AssertionError(f"the attackers did not end by themselves, {grown_bytes / MIB:.0f} MiB later")
            time.sleep(0.04)
        return {port: json.loads(each.stdout.read()) for port, each in attackers.items()}, grown_bytes
    finally:
        for each in attackers.values():
            each.kill()
            each.wait()
            each.stdout.close()


def service_of(name: str) -> str:
    return "other" if ATTACKS[name].floods_agent else "echo"


def lay_siege(besieged: Besieged, name: str, ports: Sequence[str], seconds: float, control_s: float,
              decoy: Besieged | None = None) -> list[Siege]:
    """One attack on all these ports at once, one result for each. With a decoy the control is the same attack on it, as on
    a machine with few processors the attackers alone cost the good ones time; otherwise it is no attack at all."""
    counters_before = {host: besieged.admin(host, "counters") for host in HOSTS}
    lines_before = {host: len(besieged.log_of(host)) for host in HOSTS}
    if decoy is None:
        control = control_interval(besieged, control_s)
    else:
        control = attacked_interval(besieged, decoy, name, ports, seconds).good
    attacked = attacked_interval(besieged, besieged, name, ports, seconds)
    after = wait_until_recovered(besieged, attacked.before)
    counters = {host: besieged.admin(host, "counters") for host in HOSTS}
    lines = {host: besieged.log_of(host)[lines_before[host]:] for host in HOSTS}

    sieges = []
    for port in ports:
        seen, newcomers, host = attacked.seen[port], attacked.newcomers[port], besieged.host_of(port)
        siege = Siege(name, port, control["p99_us"], attacked.good["p99_us"], attacked.grown_bytes, seen["slowest_close_s"],
                      newcomers.slowest_s, seen["sent_bytes"], seen["peers"])
        label = label_of(port, service_of(name))
        judge_the_good(siege, [control, attacked.good], newcomers)
        judge_the_hostile(siege, seen)
        judge_the_process(siege, attacked.before, after)
        judge_the_record(siege, refusals(counters_before[host], label), refusals(counters[host], label),
                         [line for line in lines[host] if f"who={label}" in line])
        if ATTACKS[name].ends == "answered" and port == "mesh":
            invalid = counters[host]["results"]["INVALID"] - counters_before[host]["results"]["INVALID"]
            siege.promise(invalid == seen["right_answers"], f"{invalid} results INVALID were counted, {seen['right_answers']} were given")
        busiest = max(busiest_second(lines[each]) for each in HOSTS)
        siege.promise(busiest <= LOG_LINES_PER_S_MAX * len(ports), f"a log had {busiest} lines in one second")
        sieges.append(siege)
    return sieges


def judge_the_good(siege: Siege, intervals: list[dict], newcomers: Newcomers) -> None:
    for interval in intervals:
        siege.promise(interval["lost"] == 0, f"{interval['lost']} of {interval['sent']} good requests were lost")
        siege.promise(interval["wrong"] == 0, f"{interval['wrong']} good requests got a wrong reply")
        siege.promise(not interval["errors"], f"good requests were refused: {interval['errors']}")
        siege.promise(interval["right"] > 0, "no good request was served")
    siege.promise(newcomers.served > 0, "no newcomer was served")
    siege.promise(not newcomers.failures, f"{len(newcomers.failures)} newcomers were never served: {newcomers.failures[:1]}")
    siege.promise(newcomers.slowest_s <= SERVED_WITHIN_S, f"a newcomer waited {newcomers.slowest_s:.2f} s")


def judge_the_hostile(siege: Siege, seen: dict) -> None:
    ends = ATTACKS[siege.attack].ends
    siege.promise(seen["peers"] > 0, "nobody attacked")
    siege.promise(seen["left_open"] == 0, f"{seen['left_open']} of {seen['peers']} hostile peers were left open")
    if ends == "closed":
        siege.promise(siege.closed_within_s <= CLOSED_WITHIN_S, f"a hostile peer was closed after {siege.closed_within_s:.2f} s")
    if ends == "answered":
        siege.promise(not seen["wrong_answers"], f"wrong answers: {seen['wrong_answers'][:3]}")
        siege.promise(seen["right_answers"] > 0 and seen["closed"] == 0, f"{seen['right_answers']} answers, {seen['closed']} closed")


def judge_the_process(siege: Siege, before: dict[str, Holdings], after: dict[str, Holdings]) -> None:
    for host in HOSTS:
        siege.promise(after[host].files == before[host].files,
                      f"{after[host].files} files are open on {host}, {before[host].files} were before")
    if os.environ.get("MESH_SANITIZED"):
        return
    siege.promise(siege.grown_bytes <= GROWTH_BYTES_MAX, f"memory grew by {siege.grown_bytes / MIB:.1f} MiB")
    for host in HOSTS:
        left = after[host].anonymous_bytes - before[host].anonymous_bytes
        siege.promise(left <= LEFT_BEHIND_BYTES_MAX, f"{left / MIB:.1f} MiB of memory stayed behind on {host}")


def judge_the_record(siege: Siege, before: Counter, after: Counter, lines: list[str]) -> None:
    """`lines` of the log name this port."""
    attack = ATTACKS[siege.attack]
    if attack.ends != "closed" or attack.harmless:
        return
    grown = after - before
    siege.promise(grown.total() > 0, "no counter tells of a refusal")
    siege.promise(attack.rules <= set(grown), f"no refusal was counted for {sorted(attack.rules - set(grown))}, only for {sorted(grown)}")
    siege.promise(any("event=refused" in line for line in lines), "the log has no line about it")
