#!/usr/bin/python3
"""tools/run does what it says: it shows the real mesh, notices a broken one, and leaves nothing behind.

MESH_SIDECAR from the environment is the sidecar to use, else the one in .build; skipped (exit code 77) without it or
without the programs that the demo agents call. MESH_ARBITER and MESH_VRAM_LIBRARY likewise; without them, the chapter on
a GPU's memory is skipped.
"""
from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
import uuid
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SIDECAR = Path(os.environ.get("MESH_SIDECAR", REPOSITORY / ".build/sidecar/proxy/mesh-sidecar"))
PROGRAMS = ("espeak-ng", "tesseract", "apertium", "ip")
ARBITER = Path(os.environ.get("MESH_ARBITER", REPOSITORY / ".build/sidecar/arbiter/mesh-arbiter"))
VRAM = Path(os.environ.get("MESH_VRAM_LIBRARY", REPOSITORY / ".build/tools/sdk/vram/libmesh_vram.so"))
# Python does not open a library that has to be loaded before it.
HAS_GPU = ARBITER.exists() and VRAM.exists() and importlib.util.find_spec("numpy") and not os.environ.get("MESH_SANITIZED")
NO_GPU = "the GPU chapter needs mesh-arbiter, libmesh_vram.so without a sanitizer, and numpy"

# Stands where a sidecar would, between the drop-in ports and the agents, and crosses replies.
CROSSING_MESH = """\
    #!/usr/bin/python3
    import json, sys, zmq
    AGENT_PORTS = {"speech": 5701, "vision": 5702, "slow": 5703, "memory": 5801, "translation": 5802, "slow2": 5803}
    config = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
    sidecar = next(iter(config["peers"].values()))["sidecars"]["main"]["endpoint"]
    other_host = sidecar.rpartition(":")[0]
    context, poller, other_side, before = zmq.Context(), zmq.Poller(), {}, {}
    for port in config["ports"].values():
        clients, agent = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        clients.bind(port["listen"])
        agent.connect(f"{other_host}:{AGENT_PORTS[port['service']]}")
        other_side[clients], other_side[agent], before[agent] = agent, clients, []
        poller.register(clients, zmq.POLLIN)
        poller.register(agent, zmq.POLLIN)
    print("event=ready", file=sys.stderr, flush=True)
    while True:
        for source, _ in poller.poll():
            frames = source.recv_multipart()
            if source in before:
                before[source].append(frames[-1])
                if len(before[source]) % 7 == 0:
                    frames[-1] = before[source][-2]
            other_side[source].send_multipart(frames)
"""
DYING_SIDECAR = """\
    #!/bin/sh
    echo event=ready >&2
    sleep 3
    echo 'event=oops text="out of cheese"' >&2
    exit 3
"""


class ToolsRun(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="run-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.token = uuid.uuid4().hex
        # Inherited by all that tools/run starts, so that what it leaves behind can be told from everybody else's.
        self.environment = dict(os.environ, MESH_RUN_TEST=self.token, TMPDIR=str(self.folder))

    def start(self, *options: str, sidecar: Path = SIDECAR, gpu: bool = False) -> subprocess.Popen:
        quick = [] if gpu or "--gpu" in options else ["--no-gpu"]
        process = subprocess.Popen([REPOSITORY / "tools/run", "--sidecar", sidecar, *quick, *options], env=self.environment,
                                   text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def run_to_end(self, *options: str, sidecar: Path = SIDECAR, gpu: bool = False) -> tuple[int, str]:
        process = self.start(*options, sidecar=sidecar, gpu=gpu)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def program(self, text: str) -> Path:
        file = self.folder / "stand-in"
        file.write_text(textwrap.dedent(text))
        file.chmod(0o755)
        return file

    def assert_nothing_is_left(self, run: int | None = None) -> None:
        # A process that was killed may take a moment to be gone.
        deadline = time.monotonic() + 3
        while (left := self.left_processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(left, [])
        self.assertEqual(list(self.folder.glob("mesh-run-*")), [])
        if run:
            self.assertEqual(list(Path("/run/netns").glob(f"mesh-run-{run}-*")), [])

    def left_processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"MESH_RUN_TEST={self.token}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def assert_is_a_good_result(self, result: dict) -> None:
        self.assertTrue(result["ok"])
        self.assertEqual((result["lost"], result["wrong"]), (0, 0))
        self.assertEqual({one["service"] for one in result["services"]},
                         {"memory", "translation", "slow", "slow2", "speech", "vision"})
        self.assertEqual(result["requests"], result["mesh"]["requests"] + result["habit"]["requests"])
        for one in result["services"] + result["habit_services"]:
            self.assertGreater(one["requests"], 0, one)
            self.assertLessEqual(one["p50_ms"], one["p99_ms"])
        # The old way opens a connection for each request; the mesh keeps the few it has.
        self.assertEqual(result["habit"]["connections"], result["habit"]["requests"])
        self.assertLess(result["mesh"]["connections"], 10)

    @unittest.skipUnless(os.geteuid() == 0, "namespaces need root")
    def test_a_run_in_namespaces_answers_everything_and_counts_the_wire(self) -> None:
        file = self.folder / "result.json"
        process = self.start("--seconds", "3", "--json", str(file))
        output, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, output)
        result = json.loads(file.read_text())
        self.assert_is_a_good_result(result)
        for path in ("mesh", "habit"):
            self.assertGreater(result[path]["wire_bytes"], 10_000)
            self.assertGreater(result[path]["cpu_s"], 0)
        self.assertNotIn("\x1b[", output, "no colours where nobody looks")
        self.assert_nothing_is_left(process.pid)

    def test_a_run_on_loopback_addresses_needs_no_rights(self) -> None:
        file = self.folder / "result.json"
        code, output = self.run_to_end("--loopback", "--seconds", "3", "--json", str(file))
        self.assertEqual(code, 0, output)
        result = json.loads(file.read_text())
        self.assert_is_a_good_result(result)
        self.assertIsNone(result["mesh"]["wire_bytes"], "nobody can count it here")
        self.assert_nothing_is_left()

    def test_a_lan_costs_the_old_way_more_than_the_mesh(self) -> None:
        file = self.folder / "result.json"
        code, output = self.run_to_end("--lan", "--seconds", "3", "--json", str(file))
        self.assertEqual(code, 0, output)
        result = json.loads(file.read_text())
        self.assert_is_a_good_result(result)
        kept = {"memory", "translation", "speech", "vision"}
        for one in [one for one in result["services"] if one["service"] not in kept] + result["habit_services"]:
            self.assertGreaterEqual(one["p50_ms"], 0.6, "there and back takes twice 0.3 ms")
        # A new connection is three round trips before the request leaves.
        p50 = {path: {one["service"]: one["p50_ms"] for one in result[key]}
               for path, key in (("mesh", "services"), ("habit", "habit_services"))}
        self.assertLess(p50["mesh"]["memory"], p50["habit"]["memory"])
        self.assert_nothing_is_left()

    def test_duplicates_do_not_reach_the_agents_unless_told_so(self) -> None:
        file, trace = self.folder / "result.json", self.folder / "trace"
        code, output = self.run_to_end("--loopback", "--seconds", "4", "--json", str(file))
        self.assertEqual(code, 0, output)
        mesh = json.loads(file.read_text())["duplicates"]["mesh"]
        self.assertGreater(mesh["share"], 0.3)
        self.assertLess(mesh["reached"], mesh["requests"])
        self.assertGreater(mesh["saved_of_optimum"], 0.9)
        code, output = self.run_to_end("--loopback", "--seconds", "4", "--no-cache", "--json", str(file), "--trace", str(trace))
        self.assertEqual(code, 0, output)
        mesh = json.loads(file.read_text())["duplicates"]["mesh"]
        self.assertEqual(mesh["reached"], mesh["requests"])
        self.assertEqual(len(trace.read_text().splitlines()), mesh["requests"])

    # --- the chapter on a GPU's memory ---

    @unittest.skipUnless(HAS_GPU, NO_GPU)
    def test_the_gpu_chapter_shows_what_it_claims_behind_the_traffic(self) -> None:
        file = self.folder / "result.json"
        code, output = self.run_to_end("--loopback", "--seconds", "3", "--json", str(file), gpu=True)
        self.assertEqual(code, 0, output)
        result = json.loads(file.read_text())
        self.assert_is_a_good_result(result)
        gpu = result["gpu"]
        self.assertEqual([claim for claim in gpu["claims"] if not claim["holds"]], [])
        self.assertEqual({claim["part"] for claim in gpu["claims"]}, {"sharing", "racing", "eviction", "crash"})
        weights = gpu["weights_mib"] << 20
        self.assertGreater(gpu["own_pss_bytes"], 4 * weights)
        self.assertLess(gpu["shared_pss_bytes"] - weights, gpu["own_pss_bytes"] - 4 * weights + weights // 4)
        self.assertLess(gpu["race_plain_loaded"], gpu["race_leased_loaded"])
        for name in ("eviction_ms", "holder_death_ms", "arbiter_restart_ms"):
            self.assertGreater(gpu[name], 0)
        self.assertEqual(output.count("✓"), len(gpu["claims"]))
        self.assert_nothing_is_left()

    @unittest.skipUnless(HAS_GPU, NO_GPU)
    def test_an_arbiter_that_grants_more_than_the_card_has_is_found_out(self) -> None:
        file = self.folder / "result.json"
        self.environment["MESH_ARBITER"] = str(self.program(f"""\
            #!/bin/bash
            exec {ARBITER} "${{@/memfd:/memfd:9}}"
        """))
        code, output = self.run_to_end("--gpu", "--json", str(file))
        self.assertEqual(code, 1, output)
        self.assertIn("✗ fails", output)
        result = json.loads(file.read_text())
        self.assertFalse(result["ok"] or result["gpu"]["ok"])
        self.assertIn("racing", {claim["part"] for claim in result["gpu"]["claims"] if not claim["holds"]})
        self.assert_nothing_is_left()

    @unittest.skipUnless(HAS_GPU, NO_GPU)
    def test_an_arbiter_that_is_not_started_again_ends_the_run_with_the_reason(self) -> None:
        self.environment["MESH_ARBITER"] = str(self.program(f"""\
            #!/bin/sh
            exec {ARBITER} --no-keeper "$@"
        """))
        code, output = self.run_to_end("--gpu")
        self.assertEqual(code, 1, output)
        self.assertIn("no keeper", output)
        self.assertEqual(self.left_processes(), [])

    def test_a_mesh_that_crosses_replies_is_found_out(self) -> None:
        file = self.folder / "result.json"
        code, output = self.run_to_end("--loopback", "--seconds", "5", "--json", str(file),
                                       sidecar=self.program(CROSSING_MESH))
        self.assertEqual(code, 1, output)
        result = json.loads(file.read_text())
        self.assertFalse(result["ok"])
        self.assertEqual(result["habit"]["wrong"], 0)
        wrong = {one["service"] for one in result["services"] if one["wrong"]}
        self.assertLessEqual({"memory", "translation", "slow", "slow2", "speech"}, wrong)
        self.assert_nothing_is_left()

    def test_a_sidecar_that_dies_ends_the_run_with_its_last_words(self) -> None:
        code, output = self.run_to_end("--loopback", "--seconds", "3", sidecar=self.program(DYING_SIDECAR))
        self.assertEqual(code, 1, output)
        self.assertIn("ended by itself (exit 3)", output)
        self.assertIn("out of cheese", output)
        self.assertEqual(self.left_processes(), [])

    def test_ctrl_c_leaves_nothing_behind(self) -> None:
        process = self.start("--seconds", "60")
        for line in process.stdout:
            if "logs in" in line:
                break
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130, output)
        self.assert_nothing_is_left(process.pid)

    @unittest.skipUnless(os.geteuid() == 0, "namespaces need root")
    def test_namespaces_of_a_run_that_was_killed_go_with_the_next_run(self) -> None:
        process = self.start("--seconds", "60")
        for line in process.stdout:
            if "logs in" in line:
                break
        time.sleep(1)
        process.kill()
        process.wait()
        orphans = list(Path("/run/netns").glob(f"mesh-run-{process.pid}-*"))
        self.assertEqual(len(orphans), 2)
        shutil.rmtree(next(self.folder.glob("mesh-run-*")))
        code, output = self.run_to_end("--seconds", "1")
        self.assertEqual(code, 0, output)
        self.assert_nothing_is_left(process.pid)

    def test_the_lines_that_keep_prints_work_as_printed(self) -> None:
        process = self.start("--keep", "--seconds", "0")
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("drop-in ports"):
                break
        blocks = re.findall(r"^on .*?:  (\S.*)\n((?:    .*\n){3})", text, re.MULTILINE)
        self.assertEqual(len(blocks), 2, text)
        by_name = re.search(r"^or by the name .*\n((?:    .*\n){3})", text, re.MULTILINE)
        blocks.append(("/usr/bin/python3", by_name.group(1)))
        for shell, code in blocks:
            done = subprocess.run([*shell.split(), "-c", textwrap.dedent(code)], capture_output=True, text=True,
                                  timeout=20, check=False)
            self.assertIn('"status": "success"', done.stdout, (code, done.stderr, text))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0)
        self.assert_nothing_is_left(process.pid)

    def test_scale_measures_both_layouts_with_the_same_traffic(self) -> None:
        file = self.folder / "scale.json"
        code, output = self.run_to_end("--scale", "8", "--seconds", "4", "--json", str(file))
        self.assertEqual(code, 0, output)
        result = json.loads(file.read_text())
        each, shared = result["scale"]
        self.assertEqual((result["lost"], result["wrong"], result["errors"]), (0, 0, 0))
        self.assertEqual((each["sidecars"], shared["sidecars"]), (8, 2))
        self.assertGreater(each["anonymous_kb"], shared["anonymous_kb"])
        self.assertGreater(each["connections_established"], shared["connections_established"])
        for one in (each, shared):
            self.assertGreaterEqual(one["envelopes_per_batch"], 1)
        self.assert_nothing_is_left()

    def test_bad_usage_is_told_before_anything_starts(self) -> None:
        for options in (["--seconds", "0"], ["--gpu", "--keep"], ["--scale", "1"], ["--json", "/nowhere/x.json"], ["--nonsense"]):
            code, output = self.run_to_end(*options)
            self.assertEqual(code, 64, output)
            self.assertIn("--help", output)
        code, output = self.run_to_end(sidecar=self.folder / "none")
        self.assertEqual(code, 64, output)


if __name__ == "__main__":
    missing = [name for name in PROGRAMS if not shutil.which(name)] + ([] if SIDECAR.exists() else [str(SIDECAR)])
    if missing:
        print(f"skipped: {', '.join(missing)} not there")
        sys.exit(77)
    unittest.main()
