"""An adapter as a process of its own, between a stand-in of its server and a real arbiter."""

import http.client
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from urllib.parse import urlsplit

SDK = Path(__file__).parents[2] / "tools" / "sdk" / "python"
sys.path.insert(0, str(SDK))

import mesh_vram as vram  # noqa: E402
from arbiters import Arbiter, wait_for  # noqa: E402

MIB = 1 << 20
LLAMA, MISTRAL = "llama:latest", "mistral:latest"
SIZES = {LLAMA: 600 * MIB, MISTRAL: 500 * MIB}


def hold(path: str, pipe) -> None:
    """Leases what it is told, until it is told something else."""
    connection = vram.Connection(path, client="other")
    pipe.send("ready")
    while order := pipe.recv():
        with connection.lease("mine", **order) as lease:
            pipe.send(lease.bytes)
            pipe.recv()
        pipe.send(0)
    connection.close()


class Other:
    """An agent that wants memory, of a process of its own: the stand-in's is the test's, and nobody is asked to yield to himself."""

    def __init__(self, path: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=hold, args=(path, there), daemon=True)
        self.process.start()
        there.close()
        self.pipe.recv()

    def lease(self, **order) -> "Other":
        """Raises EOFError where it is not granted."""
        self.pipe.send(order)
        self.pipe.recv()
        return self

    def release(self) -> None:
        self.pipe.send("release")
        self.pipe.recv()

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def stop(self) -> None:
        if self.process.is_alive():
            try:
                self.pipe.send(None)
            except OSError:
                pass
        self.process.join(10)
        self.process.kill()


class AdapterCase(unittest.TestCase):
    """A card of 1 GiB."""

    def setUp(self) -> None:
        self.arbiter = Arbiter("1G")
        self.other = Other(self.arbiter.socket)
        self.adapter: subprocess.Popen | None = None

    def tearDown(self) -> None:
        self.other.stop()
        broken = wait_for(lambda: self.arbiter.ask("counters"))["broken_rules"]
        codes = []
        if self.adapter:
            self.adapter.terminate()
            codes.append(self.adapter.wait(10))
            self.adapter.stdout.close()
        codes.append(self.arbiter.stop())
        self.assertEqual((set(codes), broken), ({0}, {}), "a good client breaks no rule")

    def serve(self, kind, sizes: dict[str, int], **more):
        server = kind(sizes, **more)
        self.addCleanup(server.stop)
        return server

    def adapt(self, kind: str, url: str, *more: str, listen: bool = True) -> None:
        command = [sys.executable, "-m", "mesh_vram.adapters", kind, "--url", url, "--arbiter", self.arbiter.socket,
                   "--interval", "0.1", *more, *(["--listen", "127.0.0.1:0"] if listen else [])]
        log = open(self.arbiter.path / "adapter.log", "w")
        self.addCleanup(log.close)
        self.adapter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                        env={**os.environ, "PYTHONPATH": str(SDK)})
        line = self.adapter.stdout.readline()
        self.front = urlsplit(line.split("listening on ")[1].split(",")[0]).netloc if listen else ""

    def log(self) -> str:
        return (self.arbiter.path / "adapter.log").read_text()

    def models(self) -> dict[str, dict]:
        """Leases of the adapter by size in MiB, since the arbiter shows models by number."""
        return {each["bytes"] // MIB: each for each in self.arbiter.ask("leases").get("leases", [])
                if each["client"] != "other" and each["bytes"]}

    def held(self) -> list[int]:
        return sorted(self.models())

    def evict(self) -> None:
        """By hand: for a waiter the arbiter asks after some seconds only, so soon after a load."""
        [lease] = self.models().values()
        self.arbiter.ask("evict " + lease["lease"])

    def ask(self, path: str, body: object, at: str | None = None, within: float = 20) -> tuple[int, dict, bytes]:
        connection = http.client.HTTPConnection(at or self.front, timeout=within)
        try:
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def generate(self, model: str, tokens: int = 3, **more) -> tuple[int, dict, bytes]:
        return self.ask("/api/generate", {"model": model, "prompt": "hello", "tokens": tokens}, **more)

    def in_background(self, what, *arguments, **more) -> tuple[threading.Thread, list]:
        got: list = []
        thread = threading.Thread(target=lambda: got.append(what(*arguments, **more)), daemon=True)
        thread.start()
        return thread, got
