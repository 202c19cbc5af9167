"""Host a, where callers are, and host b, where agents are: two network namespaces and a wire of ours between them."""
from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parents[2] / "tools")]

from demo.hosts import NAMESPACE_PREFIX, HostsError, die_with_parent, inside, ip, remove_orphans, switch_offloads_off
from mesh import SIDECAR, Mesh, wait_for

ADDRESSES = {"a": "10.78.0.1", "b": "10.78.0.2"}
NETWORK = "10.78.0.0/24"
LINK_PORT = 7700
AGENT_PORTS = {"rep": 5701, "router": 5702, "pay": 5703, "look": 5704}
DROP_IN_PORTS = {"rep": 5801, "router": 5802, "pay": 5803, "look": 5804}
AGENT_SOCKETS = {"rep": "rep", "router": "router", "pay": "rep", "look": "rep"}
# What it costs to execute a call twice: an order is executed once for its key, to look does no harm.
TERMS = {"pay": {"durable": True, "idempotency_field": "id"}, "look": {"idempotent": True}}
DEVICE = "wire0"


class Hosts:
    """Needs root. HostsError where the machine has no namespaces; then, too, nothing is left behind."""

    def __init__(self) -> None:
        self.namespaces = {name: f"{NAMESPACE_PREFIX}{os.getpid()}-fault-{name}" for name in (*ADDRESSES, "wire")}
        self.wire: subprocess.Popen | None = None
        remove_orphans()
        atexit.register(self.close)  # also after Ctrl-C, when no clean-up of a test runs
        try:
            self.set_up()
        except BaseException:
            self.close()
            raise

    def set_up(self) -> None:
        for namespace in self.namespaces.values():
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        has_tun = os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.environ.get("MESH_FAULTS_WIRE") != "veth"
        ends = self.tun_ends() if has_tun else self.veth_ends()
        self.description = "TUN devices" if has_tun else "veth pairs"
        self.wire = self.start(None, [sys.executable, str(HERE / "wire.py"), *ends],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        if not self.wire.stdout.readline():
            raise HostsError("the wire between the hosts ended by itself")
        for name in ADDRESSES:
            self.choose_congestion_control(name)

    def tun_ends(self) -> list[str]:
        return [f"tun:{self.namespaces[name]}:{DEVICE}:{address}/24" for name, address in ADDRESSES.items()]

    def veth_ends(self) -> list[str]:
        wire, hardware = self.namespaces["wire"], {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b"}
        for name, other in (("a", "b"), ("b", "a")):
            own = self.namespaces[name]
            ip("link", "add", DEVICE, "netns", own, "address", hardware[name], "type", "veth",
               "peer", "name", name, "netns", wire)
            ip("-n", own, "address", "add", f"{ADDRESSES[name]}/24", "dev", DEVICE)
            ip("-n", own, "link", "set", DEVICE, "up")
            ip("-n", wire, "link", "set", "dev", name, "up")
            # A lost question for an address would cost a second that is not TCP's fault.
            ip("-n", own, "neighbour", "replace", ADDRESSES[other], "lladdr", hardware[other], "dev", DEVICE)
            with inside(own):
                switch_offloads_off(DEVICE)
        return [f"veth:{wire}:{name}" for name in ADDRESSES]

    def choose_congestion_control(self, name: str) -> None:
        """What most computers have. One that measures the wire first would need longer runs to show anything."""
        namespace = self.namespaces[name]
        try:
            ip("-n", namespace, "route", "replace", NETWORK, "dev", DEVICE, "src", ADDRESSES[name], "congctl", "cubic")
        except HostsError:
            with inside(namespace):
                Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")

    def start(self, host: str | None, command: list[str], **options) -> subprocess.Popen:
        """On a host, or for None beside them. The process dies with this one, and hears no Ctrl-C."""
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, "preexec_fn": die_with_parent} | options
        if host is None:
            return subprocess.Popen(command, **options)
        with inside(self.namespaces[host]):
            return subprocess.Popen(command, **options)

    def make_wire(self, ills: dict) -> dict[str, list[int]]:
        """From now on the wire is so; {} is whole. How many packets it carried and dropped so far, by direction."""
        self.wire.stdin.write(json.dumps(ills) + "\n")
        return json.loads(self.wire.stdout.readline())

    def close(self) -> None:
        atexit.unregister(self.close)
        if self.wire:
            end(self.wire)
        for namespace in self.namespaces.values():
            if Path("/run/netns", namespace).exists():
                ip("netns", "delete", namespace)


class TwoHostMesh(Mesh):
    """The sidecars of both hosts, none of which runs yet. Each has a drop-in port for each service; agents are b's."""

    def __init__(self, hosts: Hosts, budget_ms: int) -> None:
        self.hosts = hosts
        self.environment = dict(os.environ)
        self.directory = tempfile.TemporaryDirectory(prefix="mesh-")
        self.via, self.clients, self.processes = None, [], {}
        root = Path(self.directory.name)
        contracts = {name: {"budget_ms": budget_ms, **TERMS.get(name, {})} for name in AGENT_PORTS}
        shared = {"insecure": True, "data_dir": str(root / "data"), "contracts": contracts,
                  "ports": {name: {"listen": f"tcp://127.0.0.1:{port}"} for name, port in DROP_IN_PORTS.items()}}
        link = f"tcp://{ADDRESSES['b']}:{LINK_PORT}"
        self.configs = {
            "a": {"host": "a", "runtime_dir": str(root / "a"), "sidecars": {"main": {}}, **shared,
                  "peers": {"b": {"sidecars": {"main": {"endpoint": link, "services": list(AGENT_PORTS)}}}}},
            "b": {"host": "b", "runtime_dir": str(root / "b"), "sidecars": {"main": {"listen": link}}, **shared,
                  "agents": {name: {"endpoint": f"tcp://127.0.0.1:{port}", "socket": AGENT_SOCKETS[name]}
                             for name, port in AGENT_PORTS.items()}},
        }

    def start(self, host: str) -> None:
        path = Path(self.config_path(host))
        path.write_text(json.dumps(self.configs[host]))
        with path.with_suffix(".log").open("ab") as log:
            self.processes[host] = self.hosts.start(host, [SIDECAR, "--config", str(path)], stderr=log)
        wait_for(lambda: self.admin(host, "health") is not None, "the sidecar to answer on its admin socket")


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()
