"""Who plays in the demo: which script serves and which one asks for each service of the deploy files."""
from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.hosts import Hosts, HostsError, LoopbackHosts, NamespaceHosts

AGENTS_FOLDER = Path(__file__).parents[1] / "agents"

AGENT_SCRIPTS = {"memory": "memory_agent.py", "translation": "translation_agent.py", "speech": "speech_agent.py",
                 "vision": "vision_agent.py", "slow": "slow_agent.py", "slow2": "slow_agent.py"}
CLIENT_SCRIPTS = {"memory": "reader_client.py", "translation": "translator_client.py", "speech": "listener_client.py",
                  "vision": "seer_client.py", "slow": "status_client.py", "slow2": "status_client.py"}

Config = dict[str, Any]


@dataclass
class Call:
    """One client agent's task: a service on the other host, by a drop-in port of its own host or straight."""
    service: str
    caller: str
    callee: str
    dropin_port: int
    agent_port: int


def load_config(path: Path) -> Config:
    return json.loads(path.read_text(encoding="utf-8"))


def split_endpoint(endpoint: str) -> tuple[str, int]:
    address, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return address, int(port)


def host_address(config: Config) -> str:
    """The address that the config's first sidecar listens on for the other hosts."""
    return split_endpoint(next(iter(config["sidecars"].values()))["listen"])[0]


def sidecar_ports(configs: list[Config]) -> set[int]:
    return {split_endpoint(sidecar["listen"])[1] for config in configs for sidecar in config["sidecars"].values()}


def ports_between_hosts(configs: list[Config]) -> list[int]:
    """Ports one host reaches on the other: the sidecars' and, the old way, the agents'."""
    agents = {split_endpoint(agent["endpoint"])[1] for config in configs for agent in config["agents"].values()}
    return sorted(agents | sidecar_ports(configs))


def all_ports(configs: list[Config]) -> list[int]:
    """Those, and the drop-in ports."""
    endpoints = [port["listen"] for config in configs for port in config["ports"].values()]
    endpoints += [agent["port"] for config in configs for agent in config["agents"].values() if "port" in agent]
    return sorted({split_endpoint(endpoint)[1] for endpoint in endpoints} | set(ports_between_hosts(configs)))


def open_hosts(configs: list[Config], lan: bool, loopback: bool) -> Hosts:
    """Namespaces where we may have them, else loopback addresses."""
    if os.geteuid() == 0 and not loopback:
        try:
            return NamespaceHosts({config["host"]: host_address(config) for config in configs}, lan)
        except HostsError as refused:  # root of a container may not make any
            print(f"tools/run: no network namespaces here, so on two loopback addresses: {refused}", file=sys.stderr)
    relayed = ports_between_hosts(configs) if lan else []
    return LoopbackHosts([config["host"] for config in configs], all_ports(configs), relayed)


def place(config: Config, configs: list[Config], hosts: Hosts, folder: Path) -> Path:
    """Writes the config with this run's addresses and runtime folder, the ports unchanged. Returns the file."""
    here = config["host"]
    addresses = {host_address(config): hosts.address(here), "127.0.0.1": hosts.local_address(here)}
    for other in configs:
        if other["host"] != here:
            addresses[host_address(other)] = hosts.address_seen_from(here, other["host"])

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        if isinstance(value, str) and value.startswith("tcp://"):
            address, port = split_endpoint(value)
            return f"tcp://{addresses.get(address, address)}:{port}"
        return value

    runtime = folder / here
    runtime.mkdir(mode=0o750, exist_ok=True)
    file = folder / f"{here}.json"
    file.write_text(json.dumps({**moved(config), "runtime_dir": str(runtime)}, indent=2) + "\n", encoding="utf-8")
    return file


def calls_of(configs: list[Config]) -> list[Call]:
    """Every drop-in port to a service of the other host becomes a client on this one."""
    served = {agent.get("service", name): (config["host"], split_endpoint(agent["endpoint"])[1])
              for config in configs for name, agent in config["agents"].items()}
    return [Call(port["service"], config["host"], served[port["service"]][0],
                 split_endpoint(port["listen"])[1], served[port["service"]][1])
            for config in configs for port in config["ports"].values()]


def agent_command(name: str, endpoint: str) -> list[str]:
    return [sys.executable, str(AGENTS_FOLDER / AGENT_SCRIPTS[name]), "--port", str(split_endpoint(endpoint)[1])]


def client_command(call: Call, address: str, port: int, records: Path) -> list[str]:
    return [sys.executable, str(AGENTS_FOLDER / CLIENT_SCRIPTS[call.service]), "--driven", "--host", address,
            "--port", str(port), "--records", str(records)]
