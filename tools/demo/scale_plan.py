"""The configs of --scale: as many trivial agents as the real system has, with a sidecar each or with one per host."""
from __future__ import annotations

from demo.cast import Config

EACH, SHARED = "a sidecar each", "one per host"
ADDRESSES = {"mainpc": "10.77.0.1", "pc2": "10.77.0.2"}
AGENT_PORTS = {"mainpc": 20001, "pc2": 21001}
DROPIN_PORTS = {"mainpc": 22001, "pc2": 24001}
SIDECAR_PORT = 7700
# How many agents of the other host each agent calls, if there are so many.
NEIGHBOURS = 3


def names(agents: int) -> dict[str, list[str]]:
    """54 of 77 live on MainPC; any other number is divided alike."""
    on_mainpc = round(agents * 54 / 77)
    return {"mainpc": [f"m{number:03}" for number in range(on_mainpc)],
            "pc2": [f"p{number:03}" for number in range(agents - on_mainpc)]}


def configs(agents: int, layout: str) -> list[Config]:
    """Both hosts' configs. Ports and services are the same in both layouts; only who owns them differs."""
    all_names = names(agents)
    return [config(host, other, all_names, layout) for host, other in (("mainpc", "pc2"), ("pc2", "mainpc"))]


def config(host: str, other: str, all_names: dict[str, list[str]], layout: str) -> Config:
    here, there = all_names[host], all_names[other]

    def owner(agent: str) -> str:
        return f"of-{agent}" if layout == EACH else "main"

    def sidecars_of(where: str) -> dict[str, int]:
        owners = dict.fromkeys(owner(agent) for agent in all_names[where])
        return {name: SIDECAR_PORT + number for number, name in enumerate(owners)}

    neighbours = min(NEIGHBOURS, len(there))
    ports: Config = {}
    for number, agent in enumerate(here):
        for step in range(neighbours):
            callee = there[(number + step * (len(there) // neighbours)) % len(there)]
            port = DROPIN_PORTS[host] + len(ports)
            ports[f"{agent}-to-{callee}"] = {"listen": f"tcp://127.0.0.1:{port}", "service": callee,
                                             "sidecar": owner(agent)}
    peers: Config = {}
    for name, port in sidecars_of(other).items():
        peers[name] = {"endpoint": f"tcp://{ADDRESSES[other]}:{port}",
                       "services": [agent for agent in there if owner(agent) == name]}
    return {
        "host": host,
        "insecure": True,
        "runtime_dir": "/run/mesh",
        "sidecars": {name: {"listen": f"tcp://{ADDRESSES[host]}:{port}"} for name, port in sidecars_of(host).items()},
        "agents": {agent: {"endpoint": f"tcp://127.0.0.1:{AGENT_PORTS[host] + number}", "sidecar": owner(agent)}
                   for number, agent in enumerate(here)},
        "ports": ports,
        "peers": {other: {"sidecars": peers}},
    }
