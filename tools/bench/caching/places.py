"""The places that a reply may come from, each as processes on loopback. A row here is a row in every table."""
from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.paths import ANY_PORT, BenchError, START_SECONDS, Started, Tools, free_ports, mesh_configs

BODY_BYTES = 1024
KEYS = 1000
SLOW_KEYS = 8  # asked of an agent that answers ten times a second
TTL_S = 3600
HIT_SHARE_MIN = 0.99
DISK_KEYS = 200  # all of them are on disk after the warm-up
SMALL_MEMORY = {"cache_local_bytes": 16 << 10}  # for some ten replies


@dataclass
class Source:
    """A place that is up. `client` makes the command of a client: outstanding, warm-up and timed seconds."""
    client: Callable[[int, float, float], list[str]]
    answering: list[int] = field(default_factory=list)  # all processes but the client's
    hits: Callable[[], int] | None = None  # replies given so far without asking the agent; None: nobody claims any


@dataclass(frozen=True)
class Place:
    name: str
    text: str
    start: Callable[[Tools, Started], Source]


def zmq_client(tools: Tools, endpoint: str, keys: int = KEYS) -> Callable[[int, float, float], list[str]]:
    def command(outstanding: int, warmup: float, seconds: float) -> list[str]:
        return [str(tools.bench / "mesh-bench-client"), "--endpoint", endpoint, "--size", str(BODY_BYTES), "--keys", str(keys),
                "--socket", "req" if outstanding == 1 else "dealer", "--outstanding", str(outstanding),
                "--warmup", str(warmup), "--seconds", str(seconds)]
    return command


def lookup_client(tools: Tools, where: str) -> Callable[[int, float, float], list[str]]:
    def command(outstanding: int, warmup: float, seconds: float) -> list[str]:
        return [str(tools.bench / "mesh-bench-lookup"), where, str(KEYS), str(BODY_BYTES), str(outstanding), str(warmup), str(seconds)]
    return command


def direct(tools: Tools, started: Started) -> Source:
    server, endpoint = started.start_listener([tools.bench / "mesh-bench-server", ANY_PORT], tools.ends_cpus)
    return Source(zmq_client(tools, endpoint), [server.pid])


def mesh(contract: dict, nap_ms: int = 0, keys: int = KEYS, limits: dict | None = None) -> Callable[[Tools, Started], Source]:
    """Two sidecars and an agent behind the second. `limits` are those of both hosts."""
    def start(tools: Tools, started: Started) -> Source:
        server, agent = started.start_listener([tools.bench / "mesh-bench-server", ANY_PORT, str(nap_ms)], tools.ends_cpus)
        port, link = free_ports(2)
        configs = mesh_configs(port, link, agent, contract, in_flight=1 if nap_ms else 256)
        for config in configs:
            config.update({"limits": limits or {}, "data_dir": str(started.folder / config["host"] / "data")})
        callee, caller = (started.start_sidecar(tools.sidecar, config, tools.middle_cpus).pid for config in reversed(configs))
        folders = [started.folder / config["host"] for config in configs]
        wait_for_agent(folders[1])
        hits = (lambda: sum(counter(folder, "cache_hits") for folder in folders)) if "cache" in contract else None
        return Source(zmq_client(tools, f"tcp://127.0.0.1:{port}", keys), [caller, callee, server.pid], hits)
    return start


def kept_in(tier: str, keys: int = KEYS, limits: dict | None = None) -> Callable[[Tools, Started], Source]:
    return mesh({"cache": {"ttl_s": TTL_S, "tiers": tier, "echo_fields": "request_id"}}, keys=keys, limits=limits)


def redis(tools: Tools, started: Started) -> Source:
    [port] = free_ports(1)
    popen, log = started.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                                "--dir", started.folder, "--logfile", started.folder / "redis.log"], tools.middle_cpus)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Source(lookup_client(tools, str(port)), [popen.pid])
        except OSError as error:
            if popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"redis-server did not come up; {log} is what it said") from error
            time.sleep(0.01)


def table(tools: Tools, _started: Started) -> Source:
    return Source(lookup_client(tools, "map"))


ROWS = [
    Place("direct", "libzmq at both ends, nothing in between: the control", direct),
    Place("local", "a reply that the caller's sidecar keeps (tier 1)", kept_in("local")),
    Place("shared", "one that memory of the caller's host has (tier 2)", kept_in("shared")),
    Place("home", "one that is kept beside the agent (tier 3)", kept_in("home")),
    Place("disk", "one that is on the agent's host's disk, and in memory only by chance (tier 4)", kept_in("disk", DISK_KEYS, SMALL_MEMORY)),
    Place("uncached", "two sidecars and the agent, asked each time", mesh({})),
    Place("redis", "GET from a Redis server on loopback, plain RESP", redis),
    Place("table", "std::unordered_map in the client's own process", table),
]
PLACES = {place.name: place for place in ROWS}
# An agent that answers, then sleeps 0.1 s before it looks for the next request.
SLOW = [
    Place("slow agent", "two sidecars and an agent that sleeps 0.1 s after each reply", mesh({}, 100, SLOW_KEYS)),
    Place("slow agent, kept", "the same, and its replies are kept", mesh(
        {"cache": {"ttl_s": TTL_S, "tiers": "local", "echo_fields": "request_id"}}, 100, SLOW_KEYS)),
]


def without_missing(places: dict[str, Place]) -> tuple[dict[str, Place], list[str]]:
    """The places that this machine has the programs for, and a line for each other."""
    if shutil.which("redis-server"):
        return places, []
    return ({name: place for name, place in places.items() if name != "redis"},
            ["redis is left out: there is no redis-server here (apt-get install --no-install-recommends redis-server)"])


@contextmanager
def running(place: Place, tools: Tools) -> Iterator[Source]:
    """Starts it afresh, so that no measurement inherits what another kept, and ends it."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        started = Started(Path(folder))
        try:
            yield place.start(tools, started)
        except BenchError as error:
            logs = started.logs()
            raise BenchError(f"{place.name}: {error}" + (f"\n{logs}" if logs and logs not in str(error) else "")) from error
        finally:
            started.stop()


def ask_admin(folder: Path, question: str) -> dict:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(START_SECONDS)
        admin.connect(str(folder / "main.admin"))
        admin.sendall(f"{question} json\n".encode())
        return json.loads(admin.makefile().read())


def counter(folder: Path, name: str) -> int:
    return ask_admin(folder, "counters")[name]


def wait_for_agent(folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(agent["connected"] for agent in ask_admin(folder, "health")["agents"]):
        if time.monotonic() > deadline:
            raise BenchError("the sidecar did not reach its agent")
        time.sleep(0.01)
