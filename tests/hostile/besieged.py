"""Two real sidecars under attack, the good traffic through them, and what the machine can tell about them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import zmq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
sys.path.insert(0, str(HERE.parent / "interop"))

import wire_bytes as wire  # noqa: E402
from fixture import AgentProcess  # noqa: E402
from good_load import DEALERS  # noqa: E402
from mesh import Mesh, ask, wait_for  # noqa: E402
from zmtp_bytes import COMMAND, GREETING, MORE, frames_in, message, ready  # noqa: E402

GOOD_PER_S = 500
NEWCOMER_EVERY_S = 0.2
NEWCOMER_GIVES_UP_S = 3.0
NEWCOMER = b"good-visitor"  # in no rule that the log names


@dataclass(frozen=True)
class Holdings:
    """What a process has: files by descriptor, but for pooled links; memory that is nobody else's."""

    files: int
    anonymous_bytes: int


class GoodLoad:
    """good_load.py as a process; see there."""

    def __init__(self, port: int, per_s: int):
        self._process = subprocess.Popen([sys.executable, str(HERE / "good_load.py"), str(port), str(per_s)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def begin_interval(self) -> None:
        """Ends the one before, whose report() follows."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def report(self) -> dict:
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Besieged(Mesh):
    """Host a has a drop-in port for each service and the mesh socket, host b the link port and the agents. Good requests
    go to `echo`, well-formed hostile ones to `other`, so that what is measured is not one agent's queue."""

    def __init__(self, good_per_s: int = GOOD_PER_S) -> None:
        # meson has malloc fill what it gives, and then memory that nobody touched counts.
        super().__init__({"echo": {}, "other": {}}, environment={"MALLOC_PERTURB_": "0"})
        self._agents, self.good = [], None
        try:
            self._agents += [AgentProcess(f"tcp://127.0.0.1:{port}", "rep") for port in self.agent_ports.values()]
            self._begin(good_per_s)
        except BaseException:
            self.stop()
            raise

    def _begin(self, good_per_s: int) -> None:
        self.wait_for_agents()
        for service in self.ports:
            wait_for(lambda name=service: ask(self.client(name), b"hello") == b"hello", f"{service} to be served")
        while self.clients:
            self.clients.pop().close()
        if good_per_s == 0:
            return
        self.good = GoodLoad(self.ports["echo"], good_per_s)
        self.good.begin_interval()
        wait_for(lambda: self.admin("a", "health")["clients"] == DEALERS, "the good load to be all there is")
        self.good.report()

    def host_of(self, port: str) -> str:
        return "b" if port == "link" else "a"

    def address_of(self, port: str, service: str = "echo") -> str:
        """As attacks.py wants it."""
        root = Path(self.directory.name) / "a"
        return {"drop_in": str(self.ports[service]), "mesh": str(root / "mesh.sock"), "link": str(self.link_port),
                "admin": str(root / "main.admin")}[port]

    def _pooled_links(self) -> int:
        """Connections from host a to host b, which come and go by rules of their own."""
        files = Path(f"/proc/{self.processes['a'].pid}/fd")
        targets = set()
        for name in os.listdir(files):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                targets.add(os.readlink(files / name))
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].endswith(f":{self.link_port:04X}") and f"socket:[{row[9]}]" in targets for row in rows)

    def anonymous_bytes(self, host: str) -> int:
        """Raises AssertionError if the sidecar is no more."""
        if self.processes[host].poll() is not None:
            raise AssertionError(f"sidecar {host} ended with {self.processes[host].returncode}: {self.log_of(host)[-1:]}")
        status = Path(f"/proc/{self.processes[host].pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")))

    def holdings(self, host: str) -> Holdings:
        """Raises AssertionError if the sidecar is no more."""
        files = len(os.listdir(f"/proc/{self.processes[host].pid}/fd")) - self._pooled_links()
        return Holdings(files, self.anonymous_bytes(host))

    def log_of(self, host: str) -> list[str]:
        """All lines but those about good newcomers."""
        lines = (Path(self.directory.name) / f"{host}.log").read_text(errors="replace").splitlines()
        return [line for line in lines if NEWCOMER.decode() not in line]

    def stop(self) -> dict[str, int]:
        try:
            if self.good:
                self.good.stop()
            return super().stop()
        finally:
            for agent in self._agents:
                agent.kill()

    # --- a good peer that comes in the middle of it ---

    def visit(self, port: str, body_bytes: int) -> None:
        """Connects to the port as a good peer would, and is served once; raises if it is not."""
        body = bytes(body_bytes) + NEWCOMER
        if port == "link":
            return self._visit_link(body)
        if port == "admin":
            if self.admin("a", "health") is None:
                raise ConnectionError("no answer from the admin socket")
            return None
        with zmq.Context.instance().socket(zmq.REQ) as newcomer:
            newcomer.setsockopt(zmq.LINGER, 0)
            newcomer.setsockopt(zmq.RCVTIMEO, int(NEWCOMER_GIVES_UP_S * 1000))
            newcomer.connect(f"ipc://{self.address_of('mesh')}" if port == "mesh" else f"tcp://127.0.0.1:{self.ports['echo']}")
            newcomer.send_multipart([b'{"service":"echo"}'] * (port == "mesh") + [body])
            reply = newcomer.recv_multipart()[-1]
            if reply != body:
                raise ValueError(f"a newcomer got {reply[:200]}")
        return None

    def _visit_link(self, body: bytes) -> None:
        """What another sidecar does: hello, a request, its reply."""
        with socket.create_connection(("127.0.0.1", self.link_port), timeout=NEWCOMER_GIVES_UP_S) as link:
            link.sendall(GREETING + ready() + wire.hello(host=NEWCOMER, epoch=time.monotonic_ns())
                         + message(wire.batch(wire.request(1, b"echo", body))))
            received = b""
            while True:
                data = link.recv(65536)
                if not data:
                    raise ConnectionError("the link port hung up on a good peer")
                received += data
                if any(last.endswith(body) for flags, last in frames_in(received[64:])[0] if not flags & (MORE | COMMAND)):
                    return


class Newcomers(threading.Thread):
    """Good peers that come one after the other, all through the attack; each tries again like libzmq does."""

    def __init__(self, besieged: Besieged, port: str, body_bytes: int):
        super().__init__()
        self._besieged, self._port, self._body_bytes = besieged, port, body_bytes
        self._leave = threading.Event()
        self.served = 0
        self.slowest_s = 0.0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._leave.wait(NEWCOMER_EVERY_S):
            began = time.monotonic()
            while True:
                try:
                    self._besieged.visit(self._port, self._body_bytes)
                    self.served += 1
                    break
                except (OSError, ValueError, zmq.Again) as failure:
                    if time.monotonic() - began > NEWCOMER_GIVES_UP_S:
                        self.failures.append(repr(failure))
                        break
                    time.sleep(0.1)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def stop(self) -> None:
        self._leave.set()
        self.join()
