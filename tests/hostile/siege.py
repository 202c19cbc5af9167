"""One attack on one port while good requests run: what happened to everybody, and what of it must not be."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from attacks import ATTACKS
from besieged import Besieged, Holdings, Newcomers

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


def refusals(counters: dict, port: str, service: str) -> Counter:
    """How many peers were refused at this port, by rule; by kind of refusal where the sidecar does not say the rule."""
    if "refused" in counters:
        label = f"drop_in:{service}" if port == "drop_in" else port
        return Counter({one["rule"]: one["count"] for one in counters["refused"] if one["port"] == label})
    return Counter({name: counters[name] for name in ("protocol_errors", "handshake_timeouts", "client_refusals")})


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


def decoy_interval(besieged: Besieged, decoy: Besieged, name: str, port: str, seconds: float) -> dict:
    """Good requests while the same attack is laid on two other sidecars: on a machine with few processors the attackers
    alone cost the good ones time, and that is not what is to be measured."""
    before = {host: decoy.holdings(host) for host in HOSTS}
    newcomers = Newcomers(decoy, port)
    besieged.good.begin_interval()
    besieged.good.report()
    newcomers.start()
    try:
        run_attackers(decoy, Siege(name, port), "other" if ATTACKS[name].floods_agent else "echo", seconds, before)
    finally:
        newcomers.stop()
    besieged.good.begin_interval()
    return besieged.good.report()


def run_attackers(besieged: Besieged, siege: Siege, service: str, seconds: float, before: dict[str, Holdings]) -> dict:
    """What the attackers say they saw. Meanwhile watches the memory of both sidecars."""
    # What is measured is the sidecar under attack, not the scheduler: attackers get what the others leave.
    command = ["nice", "-n", "10", sys.executable, str(Path(__file__).with_name("attacks.py")), siege.attack, siege.port,
               besieged.address_of(siege.port, service), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        end = time.monotonic() + seconds + ATTACKERS_END_WITHIN_S
        try:
            while attackers.poll() is None:
                for host in HOSTS:
                    grown = besieged.holdings(host).anonymous_bytes - before[host].anonymous_bytes
                    siege.grown_bytes = max(siege.grown_bytes, grown)
                if time.monotonic() > end:
                    raise AssertionError(f"the attackers did not end by themselves, {siege.grown_bytes / MIB:.0f} MiB later")
                time.sleep(0.04)
        finally:
            attackers.kill()
        return json.loads(attackers.stdout.read())


def lay_siege(besieged: Besieged, name: str, port: str, seconds: float, control_s: float, decoy: Besieged | None = None) -> Siege:
    """With a decoy the control is the same attack on it, otherwise no attack at all."""
    siege = Siege(name, port)
    attack, host = ATTACKS[name], besieged.host_of(port)
    service = "other" if attack.floods_agent else "echo"
    before = {each: besieged.holdings(each) for each in HOSTS}
    counters_before, lines_before = besieged.admin(host, "counters"), len(besieged.log_of(host))
    if decoy is None:
        controls = [control_interval(besieged, control_s)]
    else:
        controls = [decoy_interval(besieged, decoy, name, port, seconds)]
    besieged.good.begin_interval()
    besieged.good.report()
    newcomers = Newcomers(besieged, port)
    newcomers.start()
    try:
        seen = run_attackers(besieged, siege, service, seconds, before)
    finally:
        newcomers.stop()
    besieged.good.begin_interval()
    attacked = besieged.good.report()
    after = wait_until_recovered(besieged, before)
    counters, lines = besieged.admin(host, "counters"), besieged.log_of(host)[lines_before:]

    siege.control_p99_us = sum(control["p99_us"] for control in controls) / len(controls)
    siege.attacked_p99_us = attacked["p99_us"]
    siege.closed_within_s, siege.newcomer_s = seen["slowest_close_s"], newcomers.slowest_s
    siege.sent_bytes, siege.peers = seen["sent_bytes"], seen["peers"]
    judge_the_good(siege, [*controls, attacked], newcomers)
    judge_the_hostile(siege, seen)
    judge_the_process(siege, before, after)
    judge_the_record(siege, refusals(counters_before, port, service), refusals(counters, port, service), lines)
    if attack.ends == "answered" and port == "mesh":
        siege.promise(counters["results"]["INVALID"] >= 0, "no result INVALID was counted")
    return siege


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
    attack = ATTACKS[siege.attack]
    grown = after - before
    named = attack.rules if not set(after) & {"protocol_errors", "client_refusals"} else frozenset()
    busiest = busiest_second(lines)
    siege.promise(busiest <= LOG_LINES_PER_S_MAX, f"the log had {busiest} lines in one second, such as {lines[-1:]}")
    if attack.ends != "closed" or attack.harmless:
        return
    siege.promise(grown.total() > 0, "no counter tells of a refusal")
    siege.promise(named <= set(grown), f"no refusal was counted for {sorted(named - set(grown))}, only for {sorted(grown)}")
    siege.promise(any("refused" in line for line in lines), "the log has no line about it")
