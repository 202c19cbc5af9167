"""Two sidecars between libzmq clients and echo agents that are processes, over tcp and ipc on both sides."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from mesh import Mesh  # noqa: E402

HERE = Path(__file__).resolve().parent
KINDS = ("rep", "router", "dealer")
TRANSPORTS = ("tcp", "ipc")
BODIES = [b"", b"x", b"\xc0\xff\xee not UTF-8 \x80", bytes(range(255)), bytes(range(256)), os.urandom(65536),
          os.urandom(1 << 20)]


class AgentProcess:
    """echo_agent.py at `endpoint`; kill() leaves no farewell, like a crash."""

    def __init__(self, endpoint: str, kind: str):
        self._process = subprocess.Popen([sys.executable, str(HERE / "echo_agent.py"), endpoint, kind],
                                         stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "bound\n":
            raise RuntimeError(f"no agent at {endpoint}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class InteropMesh(Mesh):
    """Host b serves `<kind>_<transport>` for every kind of agent and transport; each has a tcp and an ipc port on a."""

    def __init__(self, services: dict | None = None, budget_ms: int = 4000):
        self.services = services or {f"{k}_{t}": {"socket": k} for k, t in itertools.product(KINDS, TRANSPORTS)}
        terms = {"max_bytes": 4 << 20, "budget_ms": budget_ms}
        super().__init__(self.services, contracts=dict.fromkeys(self.services, terms))

    def start(self, host: str) -> None:
        root = Path(self.directory.name)
        self.endpoints = {name: f"ipc://{root}/{name}.agent" if name.endswith("ipc") else f"tcp://127.0.0.1:{port}"
                          for name, port in self.agent_ports.items()}
        for name, agent in self.configs["b"]["agents"].items():
            agent["endpoint"] = self.endpoints[name]
        for name in self.services:
            self.configs["a"]["ports"][f"{name}_by_ipc"] = {"listen": f"ipc://{name}.port", "service": name}
        super().start(host)

    def agent(self, name: str) -> AgentProcess:
        return AgentProcess(self.endpoints[name], self.services[name].get("socket", "rep"))

    def caller(self, name: str, transport: str, kind=zmq.REQ) -> zmq.Socket:
        if transport == "tcp":
            return self.client(name, kind)
        return self._connect(f"ipc://{self.directory.name}/a/{name}.port", kind)
