"""A mesh-arbiter of its own for a test, with a card made of files in memory."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(what: Callable[[], object], within_s: float = 10):
    """What it gives as soon as that is true; fails if it never is."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError(f"did not become true within {within_s} s: {what}")


class Arbiter:
    def __init__(self, *cards: str, reserve: str = "0", arguments: tuple[str, ...] = ()) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="mesh-arbiter-")
        self.path = Path(self.directory.name)
        command = [os.environ["MESH_ARBITER"], "--runtime-dir", str(self.path), "--reserve", reserve, *arguments]
        for card in cards or ("1G",):
            command += ["--device", f"memfd:{card}"]
        self.log = open(self.path / "log", "w")
        self.keeper = subprocess.Popen(command, stderr=self.log)
        wait_for(lambda: all(card["is_sampled"] for card in self.ask("gpus").get("gpus", [{"is_sampled": False}])))

    @property
    def socket(self) -> str:
        return str(self.path / "gpu.leases")

    def ask(self, line: str) -> dict:
        """Of the admin socket; nothing while nobody answers."""
        with socket.socket(socket.AF_UNIX) as admin:
            try:
                admin.connect(str(self.path / "gpu.admin"))
                admin.sendall(line.encode() + b"\n")
                return json.loads(admin.makefile().read())
            except (OSError, ValueError):
                return {}

    def leased(self) -> int:
        return sum(card["leased_bytes"] for card in self.ask("gpus")["gpus"])

    def leases(self) -> list[dict]:
        return self.ask("leases")["leases"]

    def kill(self) -> None:
        """The arbiter, not its keeper, which starts the next one."""
        children = Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def stop(self) -> int:
        self.keeper.terminate()
        code = self.keeper.wait(timeout=20)
        self.log.close()
        self.directory.cleanup()
        return code
