#!/usr/bin/python3
"""tools/bench/run measures what it says: tiny runs of the real thing, and arithmetic that can be checked by hand.

MESH_SIDECAR in the environment says which build to take, else .build; without a built benchmark the test is skipped (exit code 77).
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import zmq

REPOSITORY = Path(__file__).resolve().parents[2]
SIDECAR = Path(os.environ.get("MESH_SIDECAR", REPOSITORY / ".build" / "sidecar" / "proxy" / "mesh-sidecar"))
BUILD = SIDECAR.parents[2]
BENCH = BUILD / "tools" / "bench"

sys.dont_write_bytecode = True
sys.path.insert(0, str(REPOSITORY / "tools"))

from bench import report  # noqa: E402 - the path above comes first
from bench.measure import Case, Measurement  # noqa: E402


def run_bench(*options: str) -> subprocess.CompletedProcess:
    command = [REPOSITORY / "tools" / "bench" / "run", "--build", BUILD, "--seconds", "0.05", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def measured(p50_us: float = 100, rps: float = 1000, cpu: float = 1) -> Measurement:
    return Measurement(p50_us=p50_us, p99_us=p50_us, p999_us=p50_us, rps=rps, cpu_s_per_100k=cpu, switches_per_request=1, rss_kb=1,
                       requests=1, libzmq="4.3.4", distribution=[(0.0, p50_us)])


class TheReport(unittest.TestCase):
    case = Case(1024, "1")

    def test_the_median_is_of_the_paired_ratios_not_a_ratio_of_medians(self) -> None:
        # The machine is twice and four times as fast in the later repetitions; the ratio within each is what counts.
        repetitions = [{"zmq_proxy_pair": measured(rps=zmq), "mesh_pair": measured(rps=mesh)}
                       for zmq, mesh in ((100, 300), (200, 200), (400, 800))]
        ratio = report.paired_ratio("rps", self.case, "mesh_pair", repetitions)
        self.assertEqual((ratio.median, ratio.low, ratio.high, ratio.repetitions), (2.0, 1.0, 3.0, 3))

    def test_added_latency_is_what_a_path_adds_to_direct(self) -> None:
        repetition = {"direct": measured(100), "zmq_proxy_pair": measured(300), "mesh_pair": measured(150)}
        self.assertEqual(report.paired_ratio("added_p50", self.case, "mesh_pair", [repetition]).median, 0.25)

    def test_a_path_below_direct_is_noise_and_gives_no_ratio(self) -> None:
        repetition = {"direct": measured(100), "zmq_proxy_pair": measured(300), "mesh_pair": measured(90)}
        self.assertIsNone(report.paired_ratio("added_p50", self.case, "mesh_pair", [repetition]))

    def test_goals_are_missed_on_the_wrong_side_of_the_limit(self) -> None:
        more_is_better = report.Goal("rps", self.case, 1.8)
        less_is_better = report.Goal("cpu", self.case, 0.55)
        self.assertTrue(more_is_better.hit(1.8) and less_is_better.hit(0.55))
        self.assertFalse(more_is_better.hit(1.79) or less_is_better.hit(0.56))


@unittest.skipUnless((BENCH / "mesh-bench-client").exists(), f"no benchmark in {BUILD}")
class ATinyRun(unittest.TestCase):
    def test_every_path_and_mode_has_a_row_and_the_ratios_follow(self) -> None:
        paths = ["direct", "relay_pair", "zmq_proxy_pair"] + (["mesh_pair"] if SIDECAR.exists() else [])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "bench.json")
            done = run_bench("--paths", ",".join(paths), "--sizes", "128,65536", "--reps", "2", "--json", str(file))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            document = json.loads(file.read_text())
        cases = {(row["path"], row["size"], row["mode"]) for row in document["rows"]}
        self.assertEqual(cases, {(path, size, mode) for path in paths for size in (128, 65536) for mode in ("1", "64", "16x1")})
        for row in document["rows"]:
            with self.subTest(row=row):
                self.assertLessEqual(row["p50_us"], row["p99_us"])
                self.assertLessEqual(row["p99_us"], row["p999_us"])
                self.assertGreater(row["rps"], 0)
                if row["path"] == "direct":
                    self.assertEqual((row["cpu_s_per_100k"], row["rss_kb"]), (0, 0))
                else:
                    self.assertGreater(row["cpu_s_per_100k"], 0)
                    self.assertGreater(row["rss_kb"], 1000)
        rates = [ratio for ratio in document["ratios"] if ratio["metric"] == "rps"]
        self.assertEqual(len(rates), 6 * (len(paths) - 2))
        for ratio in rates:
            self.assertLessEqual(ratio["low"], ratio["median"])
            self.assertLessEqual(ratio["median"], ratio["high"])
        self.assertGreaterEqual(document["machine"]["cpus"], 1)

    def test_a_sidecar_that_does_not_start_ends_the_run_with_its_words(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder, "mesh-sidecar")
            broken.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 3\n")
            broken.chmod(0o755)
            done = run_bench("--paths", "mesh_pair", "--sizes", "128", "--modes", "1", "--reps", "1", "--sidecar", str(broken))
        self.assertEqual(done.returncode, 1)
        self.assertIn("mesh_pair", done.stderr)
        self.assertIn("no such luck", done.stderr)

    def test_a_reply_with_another_requests_body_is_wrong(self) -> None:
        done = self.client_against(lambda body, seen: seen[0])
        self.assertEqual(done.returncode, 1)
        self.assertIn("not the body of a request in flight", done.stderr)

    def test_a_reply_cut_short_is_wrong(self) -> None:
        done = self.client_against(lambda body, seen: body[:-1])
        self.assertEqual(done.returncode, 1)
        self.assertIn("another length than the request", done.stderr)

    def test_an_honest_echo_is_accepted(self) -> None:
        done = self.client_against(lambda body, seen: body)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["requests"], 20)

    def client_against(self, reply) -> subprocess.CompletedProcess:
        """The client with a REP server of pyzmq, which answers with reply(body, all bodies so far)."""
        context = zmq.Context()
        server = context.socket(zmq.REP)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        stop = threading.Event()

        def serve() -> None:
            seen = []
            while not stop.is_set():
                if server.poll(20):
                    seen.append(server.recv())
                    server.send(reply(seen[-1], seen))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return subprocess.run([BENCH / "mesh-bench-client", "--endpoint", f"tcp://127.0.0.1:{port}", "--size", "64", "--warmup", "0.01",
                                   "--seconds", "10", "--requests", "20"], input="\n\n", capture_output=True, text=True, timeout=30, check=False)
        finally:
            stop.set()
            thread.join()
            server.close(0)
            context.term()


if __name__ == "__main__":
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
