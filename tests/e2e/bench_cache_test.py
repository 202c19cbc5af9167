#!/usr/bin/python3
"""tools/bench/cache measures what it says: tiny runs of the real thing, and goals that can be checked by hand.

MESH_SIDECAR in the environment says which build to take, else .build; without a built benchmark the test is skipped (exit code 77).
"""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SIDECAR = Path(os.environ.get("MESH_SIDECAR", REPOSITORY / ".build" / "sidecar" / "proxy" / "mesh-sidecar"))
BUILD = SIDECAR.parents[2]
BENCH = BUILD / "tools" / "bench"

sys.dont_write_bytecode = True
sys.path.insert(0, str(REPOSITORY / "tools"))

from bench.caching import report  # noqa: E402 - the path above comes first
from bench.caching.measure import Lookups  # noqa: E402
from bench.caching.traces import Demo  # noqa: E402

KEPT = ["local", "shared", "home", "disk"]
PLACES = ["direct", *KEPT, "uncached"] + (["redis"] if shutil.which("redis-server") else []) + ["table"]


def run_bench(*options: str, environment: dict | None = None) -> subprocess.CompletedProcess:
    command = [REPOSITORY / "tools" / "bench" / "cache", "--build", BUILD, "--seconds", "0.05", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | (environment or {}))


def looked_up(p50_us: float = 100, per_s: float = 1000) -> Lookups:
    return Lookups(p50_us=p50_us, p99_us=p50_us, per_s=per_s, lookups=1, hit_share=None, client_cpu=0.5, client_thread_cpu=0.5,
                   answering_cpu={"caller's sidecar": 0.5}, idle_cpus=1, distribution=[(0.0, p50_us)])


class Goals(unittest.TestCase):
    def test_the_ratio_is_taken_within_a_repetition_before_the_median(self) -> None:
        results = report.Results(latency=[{"direct": looked_up(100), "local": looked_up(120)},
                                          {"direct": looked_up(900), "local": looked_up(900)},
                                          {"direct": looked_up(10), "local": looked_up(20)}])
        [goal] = report.goals(results)
        self.assertTrue(goal.hit, goal)
        self.assertTrue(goal.measured.startswith("1.20 (1.00–2.00)"), goal)

    def test_few_hits_are_excused_only_by_a_client_that_can_do_no_more(self) -> None:
        slow = looked_up(per_s=90_000)
        for client, is_hit in ((0.5, False), (0.95, True)):
            [goal] = report.goals(report.Results(throughput=[{"local": replace(slow, client_thread_cpu=client)}]))
            self.assertEqual(goal.hit, is_hit, goal)
        [goal] = report.goals(report.Results(throughput=[{"local": looked_up(per_s=100_000)}]))
        self.assertTrue(goal.hit)

    def test_duplicates_are_compared_by_their_share_of_the_requests(self) -> None:
        kept = {"requests": 100, "reached_again": 10, "saved_of_optimum": 0.9}
        asked = {"requests": 200, "reached_again": 100, "saved_of_optimum": 0.0}
        self.assertAlmostEqual(Demo(kept, asked, 0.6).fewer_reached, 0.8)
        saved, fewer = report.goals(report.Results(demos=[Demo(kept, asked, 0.6)]))
        self.assertEqual((saved.hit, fewer.hit), (False, True))


@unittest.skipUnless((BENCH / "mesh-bench-lookup").exists(), "the benchmark is not built")
class Cache(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "cache.json")

    @unittest.skipUnless(SIDECAR.exists(), "there is no sidecar")
    def test_every_place_is_measured_and_a_kept_reply_is_a_hit(self) -> None:
        done = run_bench("--parts", "latency,throughput", "--places", ",".join(PLACES), "--reps", "1", "--json", str(self.file))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        document = json.loads(self.file.read_text())
        [latency], [throughput] = document["latency"], document["throughput"]
        self.assertEqual(list(latency), PLACES)
        self.assertEqual(set(throughput), set(PLACES) - {"table"})
        for name, one in [*latency.items(), *throughput.items()]:
            with self.subTest(place=name):
                self.assertGreater(one["lookups"], 0)
                self.assertLessEqual(one["p50_us"], one["p99_us"])
                self.assertGreater(one["client_cpu"], 0)
                self.assertEqual(one["hit_share"] is not None, name in KEPT)
        self.assertTrue(all(latency[name]["hit_share"] >= 0.99 for name in KEPT), latency)
        self.assertLess(latency["table"]["p50_us"], latency["direct"]["p50_us"])
        self.assertNotIn("\x1b[", done.stdout, "no colours where nobody looks")

    @unittest.skipUnless(SIDECAR.exists(), "there is no sidecar")
    def test_a_slow_agent_is_the_limit_only_where_nothing_is_kept(self) -> None:
        done = run_bench("--parts", "slow", "--reps", "1", "--json", str(self.file))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        [slow] = json.loads(self.file.read_text())["slow"]
        self.assertLess(slow["slow agent"]["per_s"], 11)
        self.assertGreater(slow["slow agent, kept"]["per_s"], 100)

    @unittest.skipUnless(SIDECAR.exists(), "there is no sidecar")
    def test_a_place_that_keeps_nothing_may_not_pass_for_hits(self) -> None:
        # A sidecar without memory for replies asks its agent each time.
        without = Path(self.file.parent, "mesh-sidecar")
        without.write_text("#!/usr/bin/python3\nimport json, os, sys\nfile = sys.argv[-1]\nconfig = json.load(open(file))\n"
                           "config['limits'] = {'cache_local_bytes': 0}\njson.dump(config, open(file, 'w'))\n"
                           f"os.execv({str(SIDECAR)!r}, sys.argv)\n")
        without.chmod(0o755)
        done = run_bench("--parts", "latency", "--places", "local", "--reps", "1", "--sidecar", str(without))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("local: only 0.0 % of the lookups were hits", done.stderr)

    def test_traces_are_compared_and_no_policy_beats_the_bound(self) -> None:
        done = run_bench("--parts", "traces", "--requests", "4000", "--json", str(self.file))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        traces = json.loads(self.file.read_text())["traces"]
        self.assertEqual(len(traces), 7)
        for trace in traces:
            for size in trace["sizes"]:
                for policy in ("memory_tier", "lru", "s3fifo", "belady"):
                    self.assertLessEqual(size[policy][0], size["bound"][0] + 1e-9, (trace["trace"], size))
                self.assertLessEqual(size["bound"][0], trace["duplicate_share"] + 1e-9)
                self.assertAlmostEqual(size["curve"], size["lru"][0], delta=0.03)

    def test_what_is_wrong_is_said_before_anything_is_measured(self) -> None:
        for options in (["--places", "moon"], ["--parts", ""], ["--reps", "0"], ["--json", "/nowhere/x.json"]):
            done = run_bench(*options)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn("usage: tools/bench/cache", done.stderr)

    def test_the_help_names_every_place_and_part(self) -> None:
        done = run_bench("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("direct", "local", "uncached", "redis", "table", "latency", "throughput", "slow", "traces", "demo", "examples:"):
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
