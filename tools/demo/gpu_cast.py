"""Who plays in the GPU chapter: an arbiter with a card of files in memory, and agents that are told what to do when."""
from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from demo.cast import AGENTS_FOLDER
from demo.hosts import Hosts
from demo.options import REPOSITORY
from demo.processes import Process, Processes, RunError

ANSWER_SECONDS = 40.0
MIB = 1 << 20


class Here(Hosts):
    """This computer as it is: agents and arbiter meet at a socket in a folder, so no network is needed."""

    names = ["here"]

    def command(self, host: str, command: list[str]) -> list[str]:
        return command

    def environment(self, host: str) -> dict[str, str]:
        return {}


class Arbiter:
    def __init__(self, processes: Processes, binary: Path, folder: Path, card_mib: int) -> None:
        self.folder = folder
        folder.mkdir(mode=0o750)
        self.process = processes.start("arbiter", "here", [str(binary), "--device", f"memfd:{card_mib}M", "--reserve", "0",
                                                         "--runtime-dir", str(folder)])
        self.wait_for(lambda: self.gpus() and all(card["is_sampled"] for card in self.gpus()), "to measure its card")

    @property
    def socket(self) -> Path:
        return self.folder / "gpu.leases"

    def ask(self, word: str) -> dict:
        """Of the admin socket; nothing while nobody answers."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            try:
                admin.connect(str(self.folder / "gpu.admin"))
                admin.sendall(word.encode() + b"\n")
                return json.loads(admin.makefile().read())
            except (OSError, ValueError):
                return {}

    def gpus(self) -> list[dict]:
        return self.ask("gpus").get("gpus", [])

    def lease_ids(self) -> set[str]:
        return {lease["lease"] for lease in self.ask("leases").get("leases", [])}

    def kill(self) -> float:
        """kill -9 of the arbiter; its keeper starts the next. When it was, on the clock all processes share."""
        keeper = self.process.pid
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        if not children:
            raise RunError("the arbiter has no keeper that would start it again")
        os.kill(int(children[0]), signal.SIGKILL)
        return time.monotonic()

    def wait_for(self, condition, what: str, within: float = 20.0) -> float:
        """Seconds it took."""
        began = time.monotonic()
        while not condition():
            self.process.must_live()
            if time.monotonic() - began > within:
                raise RunError(f"the arbiter did not get {what} within {within:.0f} s:\n{self.process.log_tail()}")
            time.sleep(0.005)
        return time.monotonic() - began


class Driven:
    """An agent that does what it is told, a word at a time."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def tell(self, word: str) -> None:
        try:
            self.process.popen.stdin.write(word + "\n")
        except BrokenPipeError:
            self.process.must_live()
            raise

    def answer(self, within: float = ANSWER_SECONDS) -> dict:
        # An answer is a line, and each is read before the next word: nothing waits in the reader's own buffer.
        ready, _, _ = select.select([self.process.popen.stdout], [], [], within)
        line = self.process.popen.stdout.readline() if ready else ""
        if not line:
            self.process.popen.poll()
            raise RunError(f"{self.process.name} did not answer within {within:.0f} s:\n{self.process.log_tail()}")
        return json.loads(line)

    def has_answered(self) -> bool:
        return bool(select.select([self.process.popen.stdout], [], [], 0)[0])

    def ask(self, word: str) -> dict:
        self.tell(word)
        return self.answer()

    def kill(self) -> float:
        self.process.popen.kill()
        return time.monotonic()

    def end(self) -> None:
        self.process.popen.stdin.close()
        self.process.popen.wait(10)

    def pss_bytes(self) -> int:
        """Its part of the memory it uses: a page that four map counts a quarter."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RunError(f"nobody says how much memory {self.process.name} uses")


def ask_all(agents: list[Driven], word: str) -> list[dict]:
    """At once."""
    for agent in agents:
        agent.tell(word)
    return [agent.answer() for agent in agents]


def start_agent(processes: Processes, name: str, script: str, arguments: list[str], library: Path,
                arbiter: Arbiter | None) -> Driven:
    path = os.pathsep.join([str(REPOSITORY / "tools/sdk/python"), str(AGENTS_FOLDER)])
    # One thread each, so that a product has one order of additions.
    variables = [f"PYTHONPATH={path}", f"MESH_VRAM_LIBRARY={library}", "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1"]
    variables += [f"MESH_VRAM_SOCKET={arbiter.socket}"] if arbiter else []
    command = ["env", *variables, sys.executable, str(AGENTS_FOLDER / script), *arguments]
    return Driven(processes.start(name, "here", command, driven=True))
