"""Two hosts, real sidecars, and whatever can break between and on them: each call still ends in exactly one way.

Every experiment runs the same traffic twice, first with nothing broken, when all of it must be OK. MESH_FAULTS_LONG is
for the whole programme, MESH_FAULTS_REPORT a file for the table (beside it there is JSON), MESH_FAULTS_KEEP a folder for what the
verdicts were made from, MESH_FAULTS_SEED a number to break the same things at the same moments again.

Exit code 77: this machine has no network namespaces for us.
"""
from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path

from experiment import PROCESS_KINDS, Experiment
from hosts import Hosts, HostsError
from report import line_of, table, write
from verdict import MACHINE_S, RESUME_S, TOLD, Verdict

LONG = bool(os.environ.get("MESH_FAULTS_LONG"))
SEED = int(os.environ.get("MESH_FAULTS_SEED") or random.getrandbits(32))
CONTROL_SECONDS = 5.0 if LONG else 0.5
BUDGET_S = 2.0
KILL_BUDGET_S = 4.0  # so that it is the mesh that tells of a death and not the deadline
KILLS = 100 if LONG else 6
KILLS_PER_RUN = 25
DEAD = {"loss": 1}
FINDINGS_SHOWN = 20  # of each run; the report has all
TABLE: list[dict] = []


def setUpModule() -> None:
    global hosts
    try:
        hosts = Hosts()
    except (HostsError, OSError) as error:
        print(f"skipped: {error}", file=sys.stderr)
        sys.exit(77)
    unittest.addModuleCleanup(hosts.close)
    unittest.addModuleCleanup(report)
    print(f"hosts joined by {hosts.description}; MESH_FAULTS_SEED={SEED}", flush=True)


def report() -> None:
    print(table(TABLE), flush=True)
    if path := os.environ.get("MESH_FAULTS_REPORT"):
        write(TABLE, Path(path))


class Faults(unittest.TestCase):
    def setUp(self) -> None:
        random.seed(f"{SEED} {self.id()}")
        self.findings: list[str] = []

    def tearDown(self) -> None:
        if self.findings:
            self.fail("\n".join(self.findings))

    def experiment(self, name: str, misfortune: Callable[[Experiment], None], budget_s: float = BUDGET_S) -> Verdict:
        """The traffic without and with the misfortune; the verdict on the latter. Findings fail the test at its end."""
        tried = Experiment(hosts, name, budget_s)
        self.addCleanup(tried.close)
        tried.start()
        with tried.traffic_of("control"):
            time.sleep(CONTROL_SECONDS)
            self.take(f"{name}: control", tried.judge())
        with tried.traffic_of("fault"):
            misfortune(tried)
            verdict = tried.judge()
        self.calls = tried.traffic.calls
        self.take(name, verdict)
        self.doCleanups()
        return verdict

    def take(self, name: str, verdict: Verdict) -> None:
        TABLE.append(line_of(name, verdict))
        self.findings += [f"{name}: {finding}" for finding in verdict.findings[:FINDINGS_SHOWN]]
        self.assertGreater(verdict.calls, 50, name)

    def cut(self, name: str, ills: dict, seconds: float, times: int = 1) -> Verdict:
        def misfortune(tried: Experiment) -> None:
            for _ in range(times):
                if times > 1:
                    time.sleep(seconds)
                tried.suffer(ills, seconds)
            tried.wait_until_resumed()
        return self.experiment(name, misfortune)

    def test_a_partition_of_any_length_heals_by_itself_and_nothing_is_executed_twice(self) -> None:
        for seconds in (10, 60) if LONG else (4,):
            verdict = self.cut(f"partition {seconds} s", {"forth": DEAD, "back": DEAD}, seconds)
            self.assertGreater(verdict.errors["NOT_SENT"], 0)
            self.assertGreater(verdict.errors["OUTCOME_UNKNOWN"], 0)

    def test_a_wire_that_is_dead_one_way_is_noticed_from_both_ends_and_heals(self) -> None:
        for direction, text in (("forth", "a to b"), ("back", "b to a")):
            verdict = self.cut(f"dead from {text}", {direction: DEAD}, 10 if LONG else 3)
            self.assertGreater(sum(verdict.errors.values()), 0)

    @unittest.skipUnless(LONG, "MESH_FAULTS_LONG")
    def test_a_wire_that_comes_and_goes_makes_nothing_run_twice(self) -> None:
        self.cut("flapping 1 s", {"forth": DEAD, "back": DEAD}, 1, times=10)
        self.cut("flapping 3 s", {"forth": DEAD, "back": DEAD}, 3, times=5)

    def test_lost_packets_cost_time_and_hardly_a_call(self) -> None:
        for percent in (1, 3, 5) if LONG else (3,):
            before = hosts.make_wire({})
            verdict = self.cut(f"loss {percent} %", {"forth": {"loss": percent / 100}, "back": {"loss": percent / 100}},
                               20 if LONG else 4)
            dropped = sum(after[1] - then[1] for after, then in zip(hosts.make_wire({}).values(), before.values()))
            self.assertGreater(dropped, 10)
            self.assertGreater(verdict.ok, 0.9 * verdict.calls)

    @unittest.skipUnless(LONG, "MESH_FAULTS_LONG")
    def test_a_long_and_uneven_way_costs_no_call(self) -> None:
        self.endure("delay 50 ± 20 ms", {"delay_ms": 50, "jitter_ms": 20}, 20)
        self.assertGreater(statistics.median(self.far_seconds()), 0.08)

    @unittest.skipUnless(LONG, "MESH_FAULTS_LONG")
    def test_a_narrow_way_costs_no_call(self) -> None:
        self.endure("rate 10 Mbit/s", {"rate_kbit": 10_000}, 20)
        self.assertGreater(max(self.far_seconds()), 0.1)

    def far_seconds(self) -> list[float]:
        """How long the calls between the hosts took that the agent is quick with."""
        return [call.ended - call.sent for call in self.calls if (call.host, call.service) == ("a", "rep")]

    def endure(self, name: str, ills: dict, seconds: float) -> None:
        """What is no reason for any error."""
        def misfortune(tried: Experiment) -> None:
            hosts.make_wire({"forth": ills, "back": ills})
            time.sleep(seconds)
        self.experiment(name, misfortune)

    def test_whoever_is_killed_callers_are_told_soon_and_served_again_after_the_restart(self) -> None:
        for first in range(0, KILLS, KILLS_PER_RUN):
            count = min(KILLS_PER_RUN, KILLS - first)
            # The moments are random, who is hit is not left to chance alone. After a caller's sidecar it takes the
            # longest to see that all is well again, so one is last.
            victims = random.sample(PROCESS_KINDS, len(PROCESS_KINDS))
            victims += [*random.choices(PROCESS_KINDS, k=count - len(victims) - 1), "sidecar-a"]
            verdict = self.experiment(f"kill -9, {first + 1} to {first + count}",
                                      lambda tried, victims=victims: self.kill_all(tried, victims), KILL_BUDGET_S)
            self.assertTrue(verdict.measures[TOLD[False]], "nobody noticed any of it")

    def kill_all(self, tried: Experiment, victims: list[str]) -> None:
        for victim in victims:
            time.sleep(random.uniform(0, 0.5))
            tried.kill(victim, away_s=random.uniform(0, 2.0 if LONG else 1.2))
            tried.wait_until_resumed()
        # Long enough to see what becomes of the sockets that the death of their sidecar left waiting.
        time.sleep(RESUME_S + MACHINE_S)

    def test_whoever_stands_still_costs_no_answer_once_it_goes_on(self) -> None:
        # Longer than calls have, so that some end by their deadline.
        seconds = 5 if LONG else 3
        for victim in PROCESS_KINDS if LONG else ("sidecar-b", "agent-rep"):
            self.experiment(f"{victim} stopped for {seconds} s",
                            lambda tried, victim=victim: self.halt(tried, victim, seconds))

    def halt(self, tried: Experiment, victim: str, seconds: float) -> None:
        tried.stop(victim, seconds)
        tried.wait_until_resumed()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started must end with us
    unittest.main()
