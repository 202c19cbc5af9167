"""Two sidecars and their agents on loopback, as real processes, for tests that speak to them through libzmq."""

import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import zmq

SIDECAR = os.environ["MESH_SIDECAR"]


# Below those that the system gives to sockets that connect: one of these could be taken until it is listened on.
PORTS_END = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
PORTS_BEGIN = min(10_000, PORTS_END // 2)
PORTS = itertools.count(random.randrange(PORTS_END))  # suites run beside each other


def free_port() -> int:
    while True:
        port = PORTS_BEGIN + next(PORTS) % (PORTS_END - PORTS_BEGIN)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Agent:
    """A REP or ROUTER server in a thread of this process; `serve` maps a body to a reply."""

    def __init__(self, port: int, serve, kind=zmq.REP):
        self.executed: list[bytes] = []
        self._stop = threading.Event()
        self._serve = serve
        self._socket = zmq.Context.instance().socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._run, args=(kind,), daemon=True)
        self._thread.start()

    def _run(self, kind) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            frames = self._socket.recv_multipart()
            envelope, body = ([], frames) if kind == zmq.REP else (frames[:-1], frames[-1:])
            self.executed.append(body[-1])
            reply = self._serve(body[-1])
            self._socket.send_multipart([*envelope, *body[:-1], reply])
        self._socket.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class Mesh:
    """Host a (callers) and host b (agents). `agents` are b's entries; each gets a drop-in port on a.

    `via` makes something between the two from b's link port, and says by its `port` where a connects. `environment` is
    added to that of every sidecar."""

    def __init__(self, agents: dict, contracts: dict | None = None, limits: dict | None = None, via=None,
                 compression: str = "auto", environment: dict | None = None, data_dir: str | None = None):
        self.environment = os.environ | (environment or {})
        self.directory = tempfile.TemporaryDirectory(prefix="mesh-")
        root = Path(self.directory.name)
        self.link_port = free_port()
        self.agent_ports = {name: free_port() for name in agents}
        self.ports = {name: free_port() for name in agents}
        self.via = via(self.link_port) if via else None
        dialed_port = self.via.port if self.via else self.link_port
        shared = {"contracts": contracts or {}, "limits": limits or {}, "data_dir": data_dir or str(root / "data")}
        self.configs = {
            "a": {
                "host": "a", "runtime_dir": str(root / "a"), "sidecars": {"main": {"mesh": "ipc://mesh.sock"}},
                "ports": {n: {"listen": f"tcp://127.0.0.1:{p}", "service": n} for n, p in self.ports.items()},
                "peers": {"b": {"compression": compression,
                                "sidecars": {"main": {"endpoint": f"tcp://127.0.0.1:{dialed_port}",
                                                      "services": list(agents)}}}}, **shared},
            "b": {
                "host": "b", "runtime_dir": str(root / "b"),
                "sidecars": {"main": {"listen": f"tcp://127.0.0.1:{self.link_port}"}},
                "agents": {n: {"endpoint": f"tcp://127.0.0.1:{self.agent_ports[n]}", **e} for n, e in agents.items()},
                **shared},
        }
        self.processes: dict[str, subprocess.Popen] = {}
        self.clients: list[zmq.Socket] = []
        for host in self.configs:
            self.start(host)

    def start(self, host: str) -> None:
        root = Path(self.directory.name)
        path = root / f"{host}.json"
        path.write_text(json.dumps(self.configs[host]))
        log = (root / f"{host}.log").open("ab")
        self.processes[host] = subprocess.Popen([SIDECAR, "--config", str(path)], stderr=log, env=self.environment)
        log.close()
        wait_for(lambda: self.admin(host, "health") is not None, "the sidecar to answer on its admin socket")

    def kill(self, host: str) -> None:
        self.processes[host].kill()
        self.processes[host].wait()

    def admin(self, host: str, question: str):
        try:
            with socket.socket(socket.AF_UNIX) as admin:
                admin.connect(str(Path(self.directory.name) / host / "main.admin"))
                admin.sendall(question.encode() + b" json\n")
                return json.loads(admin.makefile().read())
        except (OSError, ValueError):
            return None

    def config_path(self, host: str) -> str:
        return str(Path(self.directory.name) / f"{host}.json")

    def wait_for_agents(self) -> None:
        wait_for(lambda: all(a["connected"] for a in self.admin("b", "health")["agents"]), "the agents to be connected")

    def _connect(self, endpoint: str, kind) -> zmq.Socket:
        client = zmq.Context.instance().socket(kind)
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVTIMEO, 6000)
        client.connect(endpoint)
        self.clients.append(client)
        return client

    def client(self, service: str, kind=zmq.REQ) -> zmq.Socket:
        return self._connect(f"tcp://127.0.0.1:{self.ports[service]}", kind)

    def mesh_client(self) -> zmq.Socket:
        return self._connect(f"ipc://{self.directory.name}/a/mesh.sock", zmq.REQ)

    def stop(self) -> dict[str, int]:
        for client in self.clients:
            client.close()
        codes = {}
        if self.via:
            self.via.close()
        for host, process in self.processes.items():
            process.terminate()
            try:
                codes[host] = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[host] = process.wait()
        for host in self.processes:
            log = (Path(self.directory.name) / f"{host}.log").read_text(errors="replace")
            if codes[host] not in (0, -9):
                print(f"--- {host} ended with {codes[host]}\n{log[-4000:]}", file=sys.stderr)
        self.directory.cleanup()
        return codes


def wait_for(condition, what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


def ask(client: zmq.Socket, body: bytes) -> bytes:
    client.send(body)
    return client.recv()


def code_of(reply: bytes) -> str:
    return json.loads(reply)["code"]
