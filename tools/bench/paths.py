"""The four paths between the client and the server, as processes on loopback."""
from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
START_SECONDS = 10
STOP_SECONDS = 5
ANY_PORT = "tcp://127.0.0.1:*"

PATHS = {
    "direct": "nothing in between",
    "relay_pair": "two one-thread plain-socket relays that pass bytes on unread: the limit",
    "zmq_proxy_pair": "two libzmq zmq_proxy hops, ROUTER to DEALER",
    "mesh_pair": "two mesh-sidecar processes: drop-in port, link, agent",
}


class BenchError(Exception):
    """Something a person must be told; what to do about it is part of the text."""


@dataclass
class Tools:
    """Where the programs are, and on which CPUs they may run (None: wherever the kernel puts them)."""
    bench: Path
    sidecar: Path
    ends_cpus: set[int] | None = None
    middle_cpus: set[int] | None = None


@dataclass
class Running:
    """A path that is up: where the client connects, and who stands in the middle."""
    endpoint: str
    middle: list[int] = field(default_factory=list)


class Started:
    """The processes of one path. Every one of them ends with it, or with us, whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[tuple[subprocess.Popen, Path]] = []

    def start(self, command: list[str | Path], cpus: set[int] | None) -> tuple[subprocess.Popen, Path]:
        def prepare() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpus:
                os.sched_setaffinity(0, cpus)

        log = self.folder / f"{len(self.all)}-{Path(command[0]).name}.log"
        with open(log, "wb") as sink:
            try:
                popen = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink,
                                         preexec_fn=prepare)
            except OSError as error:
                raise BenchError(f"{command[0]} does not start: {error.strerror}. tools/bench/run and tools/bench/cache build it, unless told --no-build or --build.")
        self.all.append((popen, log))
        return self.all[-1]

    def start_listener(self, command: list[str | Path], cpus: set[int] | None) -> tuple[subprocess.Popen, str]:
        """For programs that print "listening ENDPOINT" once they are up; returns that endpoint."""
        popen, log = self.start(command, cpus)
        readable, _, _ = select.select([popen.stdout], [], [], START_SECONDS)
        word, _, endpoint = (popen.stdout.readline().decode() if readable else "").partition(" ")
        if word != "listening":
            raise BenchError(f"{Path(command[0]).name} did not come up. It said:\n{log_tail(log)}")
        return popen, endpoint.strip()

    def start_sidecar(self, binary: Path, config: dict, cpus: set[int] | None) -> subprocess.Popen:
        name = config["host"]
        (self.folder / name).mkdir()
        config_file = self.folder / f"{name}.json"
        config_file.write_text(json.dumps(dict(config, runtime_dir=str(self.folder / name)), indent=1))
        popen, log = self.start([binary, "--config", config_file], cpus)
        deadline = time.monotonic() + START_SECONDS
        while "event=ready" not in log.read_text(errors="replace"):
            if popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the sidecar of host {name} is not ready (exit code {popen.poll()}). It said:\n{log_tail(log)}")
            time.sleep(0.005)
        return popen

    def stop(self) -> None:
        for popen, _ in reversed(self.all):
            popen.terminate()
        for popen, _ in self.all:
            try:
                popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
            popen.stdout.close()

    def logs(self) -> str:
        return "\n".join(f"{log.name}:\n{log_tail(log)}" for _, log in self.all if log.stat().st_size)


def log_tail(log: Path, lines: int = 12) -> str:
    return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; kept bound until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def mesh_configs(port: int, link: int, agent: str, contract: dict | None = None, in_flight: int = 256) -> tuple[dict, dict]:
    """Host a with the client's drop-in port, host b with the agent."""
    link_endpoint = f"tcp://127.0.0.1:{link}"
    contracts = {"echo": {"max_bytes": 4 << 20, **(contract or {})}}
    host_a = {
        "host": "a",
        "sidecars": {"main": {}},
        "ports": {"echo": {"listen": f"tcp://127.0.0.1:{port}", "service": "echo"}},
        "peers": {"b": {"compression": "never", "sidecars": {"main": {"endpoint": link_endpoint, "services": ["echo"]}}}},
        "contracts": contracts,
    }
    host_b = {
        "host": "b",
        "sidecars": {"main": {"listen": link_endpoint}},
        "agents": {"echo": {"endpoint": agent, "socket": "router", "in_flight": in_flight}},
        "peers": {"a": {"compression": "never"}},
        "contracts": contracts,
    }
    return host_a, host_b


@contextmanager
def running(path: str, tools: Tools) -> Iterator[Running]:
    """Starts a path afresh, so that no measurement inherits another's memory or connections, and ends it."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        started = Started(Path(folder))
        try:
            _, target = started.start_listener([tools.bench / "mesh-bench-server", ANY_PORT], tools.ends_cpus)
            yield start_middle(path, tools, started, target)
        except BenchError as error:
            logs = started.logs()
            raise BenchError(f"{path}: {error}" + (f"\n{logs}" if logs and logs not in str(error) else ""))
        finally:
            started.stop()


def start_middle(path: str, tools: Tools, started: Started, target: str) -> Running:
    if path == "direct":
        return Running(target)
    if path == "mesh_pair":
        port, link = free_ports(2)
        host_a, host_b = mesh_configs(port, link, target)
        middle = [started.start_sidecar(tools.sidecar, config, tools.middle_cpus).pid for config in (host_b, host_a)]
        return Running(f"tcp://127.0.0.1:{port}", middle)
    hop = tools.bench / {"relay_pair": "mesh-bench-relay", "zmq_proxy_pair": "mesh-bench-zmq-proxy"}[path]
    middle = []
    for _ in range(2):
        popen, target = started.start_listener([hop, ANY_PORT, target], tools.middle_cpus)
        middle.append(popen.pid)
    return Running(target, middle)
