#!/usr/bin/python3
"""tools/bench/gpu replays what it says, and nobody is lent what a card does not have.

MESH_SIDECAR in the environment says which build to take, else .build; without a built benchmark the test is skipped (exit code 77).
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SIDECAR = Path(os.environ.get("MESH_SIDECAR", REPOSITORY / ".build" / "sidecar" / "proxy" / "mesh-sidecar"))
BUILD = SIDECAR.parents[2]
LENDERS = ["hard pools", "stretched pools", "count LRU", "byte LRU", "arbiter"]


def run_bench(*options: str) -> subprocess.CompletedProcess:
    command = [REPOSITORY / "tools" / "bench" / "gpu", "--build", BUILD, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@unittest.skipUnless((BUILD / "tools" / "bench" / "mesh-bench-vram").exists(), "the benchmark is not built")
class Gpu(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "gpu.json"

    def write_trace(self, *lines: object) -> str:
        file = self.folder / "lab.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return f"lab={file}"

    def test_every_lender_serves_or_refuses_each_request_and_no_card_holds_more_than_it_has(self) -> None:
        done = run_bench("--requests", "500", "--seeds", "1", "--json", str(self.file))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        document = json.loads(self.file.read_text())
        self.assertEqual(list(document["outcomes"]), ["12 GiB", "24 GiB", "24+12 GiB"])
        self.assertEqual(len(document["rows"]), 3 * 3 * len(LENDERS))
        for outcomes in document["outcomes"].values():
            for one in outcomes:
                with self.subTest(trace=one["trace"], lender=one["lender"]):
                    self.assertEqual(one["served"] + one["refused"], 500)
                    self.assertLessEqual(one["wait_p50_s"], one["wait_p99_s"])
                    self.assertLessEqual(one["resident"], 1)
                    for card in one["cards"]:
                        self.assertLessEqual(card["held_max_bytes"], card["bytes"])
                        self.assertGreater(card["held_max_bytes"], 0)
                    self.assertTrue(one["refused"] == 0 or one["lender"] == "hard pools")
        for lender in LENDERS:
            self.assertIn(lender, done.stdout)
        self.assertNotIn("\x1b[", done.stdout, "no colours where nobody looks")

    def test_a_trace_from_a_file_is_replayed_as_it_is_written(self) -> None:
        asked = {"model": "voice", "bytes": 1 << 30, "load_ms": 700, "hold_ms": 100}
        trace = self.write_trace({"at_ms": 0, **asked}, {"at_ms": 5000, **asked}, {"at_ms": 6000, **asked, "host": 0})
        done = run_bench("--seeds", "0", "--cards", "24", "--trace", trace, "--json", str(self.file))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for one in json.loads(self.file.read_text())["outcomes"]["24 GiB"]:
            self.assertEqual((one["trace"], one["served"], one["loads"]), ("lab", 3, 1))
            self.assertAlmostEqual(one["wait_mean_s"], 0.7 / 3, places=3)
            self.assertEqual(one["cards"][0]["held_max_bytes"], 1 << 30)

    def test_a_line_that_says_too_little_is_named(self) -> None:
        trace = self.write_trace({"at_ms": 0, "model": "voice", "bytes": 1 << 30, "load_ms": 700, "hold_ms": 100}, {"at_ms": 1})
        done = run_bench("--seeds", "0", "--trace", trace)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("lab.jsonl, line 2: model is missing", done.stderr)

    def test_what_is_wrong_is_said_before_anything_is_replayed(self) -> None:
        for options in (["--cards", "big"], ["--requests", "1"], ["--seeds", "0"], ["--trace", "lab=nowhere"], ["--json", "/nowhere/x.json"]):
            done = run_bench(*options)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn("usage: tools/bench/gpu", done.stderr)


if __name__ == "__main__":
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
