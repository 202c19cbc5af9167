"""The same requests by two paths, in slices of time that take turns: what else the computer does hits both alike."""
from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from demo.cast import Call, client_command
from demo.hosts import Hosts
from demo.processes import Process, Processes, RunError
from demo.usage import Usage, usage_of_sessions

MESH, HABIT = "mesh", "habit"
SLICE_SECONDS = 1.5
# A request may take its 5 s, and the machine may be busy.
GRACE_SECONDS = 15


@dataclass(frozen=True)
class Asked:
    """One request and what came of it; `at` is on the clock of the client's process, the same for all."""
    service: str
    action: str
    key: str
    at: float
    ms: float
    reply_bytes: int


@dataclass
class Series:
    """What became of the requests of one service by one path."""
    latencies_ms: list[float] = field(default_factory=list)
    right: int = 0
    errors: int = 0
    wrong: int = 0
    lost: int = 0
    complaints: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.right + self.errors + self.wrong + self.lost

    def add(self, record: dict) -> None:
        outcome = record["outcome"]
        self.asked.append(Asked(*(record[name] for name in ("service", "action", "key", "at", "ms", "reply_bytes"))))
        if outcome == "right":
            self.right += 1
            self.latencies_ms.append(record["ms"])
            return
        if outcome == "error":
            self.errors += 1
        elif outcome == "wrong":
            self.wrong += 1
        else:
            self.lost += 1
        self.complaints.append(f"{outcome} {record['code']} {record['action']} {record['request_id']}: "
                               f"{record['detail']}")

    def percentile_ms(self, percent: float) -> float | None:
        """Of the right replies; None without any."""
        if not self.latencies_ms:
            return None
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Cost:
    """What one path took, over all its slices."""
    seconds: float = 0.0
    connections: int | None = 0
    wire_bytes: int | None = 0
    usage: dict[str, Usage] = field(default_factory=dict)  # by role: agents, sidecars, clients

    def add_link(self, connections: int | None, wire_bytes: int | None) -> None:
        self.connections = None if connections is None or self.connections is None else self.connections + connections
        self.wire_bytes = None if wire_bytes is None or self.wire_bytes is None else self.wire_bytes + wire_bytes


class Client:
    """A client agent that works when told to, and its records."""

    def __init__(self, call: Call, path: str, process: Process, records: Path) -> None:
        self.call = call
        self.path = path
        self.process = process
        self.records = records
        self.read_to = 0
        self.series = Series()

    def read_records(self) -> None:
        """Takes in the records written since the last time. A line that is not complete yet waits for the next time."""
        with open(self.records, "rb") as file:
            file.seek(self.read_to)
            whole, _, _ = file.read().rpartition(b"\n")
        if whole:
            self.read_to += len(whole) + 1
            for line in whole.splitlines():
                self.series.add(json.loads(line))


class Traffic:
    """Runs the slices and keeps the accounts."""

    def __init__(self, hosts: Hosts, processes: Processes, calls: list[Call], sidecar_ports: set[int],
                 folder: Path) -> None:
        self.hosts = hosts
        self.processes = processes
        self.sidecar_ports = sidecar_ports
        self.costs = {MESH: Cost(), HABIT: Cost()}
        self.clients: list[Client] = []
        for call in calls:
            for path in (MESH, HABIT):
                records = folder / f"{call.caller}-{call.service}-{path}.jsonl"
                records.touch()
                if path == MESH:
                    target = (hosts.local_address(call.caller), call.dropin_port)
                else:
                    target = (hosts.address_seen_from(call.caller, call.callee), call.agent_port)
                process = processes.start(f"{call.service}-client-{path}", call.caller,
                                          client_command(call, *target, records), driven=True)
                self.clients.append(Client(call, path, process, records))
        self.wait(self.clients, GRACE_SECONDS, lambda: None)

    def run(self, seconds: float, roles: dict[str, list[Process]], show: Callable[[float], None]) -> None:
        """Alternates the paths for so many seconds in all. `show` is called often, with the share that is done."""
        pairs = max(1, round(seconds / 2 / SLICE_SECONDS))
        length = seconds / 2 / pairs
        # mesh habit habit mesh …: a machine that slows down or warms up favours neither.
        order = [path for pair in range(pairs) for path in ((MESH, HABIT) if pair % 2 == 0 else (HABIT, MESH))]
        started = time.monotonic()
        for path in order:
            self.slice(path, length, roles, lambda: show(min(1.0, (time.monotonic() - started) / seconds)))
        show(1.0)

    def slice(self, path: str, seconds: float, roles: dict[str, list[Process]], show: Callable[[], None]) -> None:
        working = [client for client in self.clients if client.path == path]
        watched = {**roles, "clients": [client.process for client in working]}
        before, link_before, started = self.read(watched), self.hosts.count(), time.monotonic()
        for client in working:
            client.process.popen.stdin.write(f"{seconds}\n")
        self.wait(working, seconds + GRACE_SECONDS, show)
        after, link_after = self.read(watched), self.hosts.count()

        cost = self.costs[path]
        cost.seconds += time.monotonic() - started
        for role in watched:
            cost.usage[role] = cost.usage.get(role, Usage()) + (after[role] - before[role])
        attempts = -sum(client.series.requests for client in working)
        for client in working:
            client.read_records()
        attempts += sum(client.series.requests for client in working)
        if link_after.connections is None:
            # Nobody counts here. But a client of the old kind opens one connection per attempt, by construction, and
            # those of the sidecars live on, so that those seen now are those opened.
            opened = self.hosts.established(self.sidecar_ports) if path == MESH else cost.connections + attempts
            cost.connections = opened
            cost.wire_bytes = None
        else:
            cost.add_link(link_after.connections - link_before.connections,
                          link_after.wire_bytes - link_before.wire_bytes)

    def wait(self, clients: list[Client], seconds: float, show: Callable[[], None]) -> None:
        """Until each client has printed a line."""
        deadline = time.monotonic() + seconds
        waiting = {client.process.popen.stdout.fileno(): client for client in clients}
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], 0.25)
            for descriptor in ready:
                printed = os.read(descriptor, 65536)
                if not printed:
                    waiting[descriptor].process.popen.wait()
                    waiting[descriptor].process.must_live()
                if printed.endswith(b"\n"):  # a print() may come in pieces, its end last
                    del waiting[descriptor]
            self.processes.must_live()
            show()
            if waiting and time.monotonic() > deadline:
                late = next(iter(waiting.values())).process
                raise RunError(f"{late.name} on {late.host} did not finish its slice in time:\n{late.log_tail()}")

    @staticmethod
    def read(watched: dict[str, list[Process]]) -> dict[str, Usage]:
        leaders = {process.pid for processes in watched.values() for process in processes}
        found = usage_of_sessions(leaders)
        return {role: sum((found[process.pid] for process in processes), Usage())
                for role, processes in watched.items()}

    def asked(self, path: str) -> list[Asked]:
        return [one for client in self.clients if client.path == path for one in client.series.asked]

    def series(self, path: str, service: str | None = None) -> Series:
        """Everything of a path, or of one service by it."""
        total = Series()
        for client in self.clients:
            if client.path == path and service in (None, client.call.service):
                one = client.series
                total.latencies_ms += one.latencies_ms
                total.right += one.right
                total.errors += one.errors
                total.wrong += one.wrong
                total.lost += one.lost
                total.complaints += one.complaints
        return total
