"""One experiment: sidecars, agents and callers at work, something broken on purpose, and the verdict on what was seen."""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hosts import AGENT_PORTS, AGENT_SOCKETS, DROP_IN_PORTS, HERE, Hosts, TwoHostMesh, end, wait_for
from verdict import MACHINE_S, RESUME_S, Call, Fault, Verdict, judge

# How many callers of each kind ask for each service.
CALLERS = {"a": {"rep": {"faithful": 3, "fresh": 2, "dealer": 1}, "router": {"faithful": 3, "fresh": 2, "dealer": 1},
                 "pay": {"faithful": 1, "dealer": 1}, "look": {"fresh": 1, "dealer": 1}},
           "b": {"rep": {"faithful": 1, "dealer": 1}, "router": {"fresh": 1, "dealer": 1},
                 "pay": {"fresh": 1}, "look": {"faithful": 1}}}
PROCESS_KINDS = ("agent-rep", "agent-router", "agent-pay", "sidecar-a", "sidecar-b")
WARM_UP_SECONDS = 0.5
SETTLE_SECONDS = 0.4
TRAFFIC_SECONDS_MAX = 600


class Traffic:
    """The callers of both hosts, from when they are made until stop()."""

    def __init__(self, hosts: Hosts, folder: Path, run: str, budget_s: float) -> None:
        self.results = folder / f"{run}.results"
        self.results.touch()
        self.read_to = 0
        self.calls: list[Call] = []
        self.processes = [self.start(hosts, host, run, budget_s) for host in CALLERS]
        for process in self.processes:
            process.stdout.readline()

    def start(self, hosts: Hosts, host: str, run: str, budget_s: float) -> subprocess.Popen:
        plan = {"host": host, "run": run, "seed": random.getrandbits(32), "budget_s": budget_s,
                "results": str(self.results), "seconds_max": TRAFFIC_SECONDS_MAX, "callers": CALLERS[host],
                "ports": {name: f"tcp://127.0.0.1:{port}" for name, port in DROP_IN_PORTS.items()}}
        return hosts.start(host, [sys.executable, str(HERE / "callers.py"), json.dumps(plan)],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self) -> list[Call]:
        """All calls that have ended by now."""
        with self.results.open("rb") as file:
            file.seek(self.read_to)
            *lines, rest = file.read().split(b"\n")
            self.read_to = file.tell() - len(rest)
        self.calls += [Call(**json.loads(line)) for line in lines]
        return self.calls

    def is_served_since(self, moment: float) -> bool:
        """Each service has answered callers on each host."""
        good = {(call.host, call.service) for call in self.read()
                if call.result == "OK" and call.ended > moment}
        return good == {(host, service) for host, services in CALLERS.items() for service in services}

    def stop(self) -> list[Call]:
        """Asks no more, and returns when the last call has ended or was given up."""
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            if process.wait(timeout=60) != 0:
                raise AssertionError("callers ended before they were told to")
        return self.read()

    def kill(self) -> None:
        for process in self.processes:
            end(process)


class Experiment:
    """Close it whatever happens, also in start(); judge() is for when all went through."""

    def __init__(self, hosts: Hosts, name: str, budget_s: float) -> None:
        self.hosts, self.name, self.budget_s = hosts, name, budget_s
        self.agents: dict[str, subprocess.Popen] = {}
        self.traffic: Traffic | None = None
        self.faults: list[Fault] = []
        self.mesh = TwoHostMesh(hosts, int(1000 * budget_s))
        self.folder = Path(self.mesh.directory.name)

    def start(self) -> None:
        for host in self.mesh.configs:
            self.mesh.start(host)
        for service in AGENT_PORTS:
            self.start_agent(service)
        self.mesh.wait_for_agents()

    def start_agent(self, service: str) -> None:
        command = [sys.executable, str(HERE / "ledger_agent.py"), AGENT_SOCKETS[service],
                   f"tcp://127.0.0.1:{AGENT_PORTS[service]}", str(self.folder / "ledger")]
        self.agents[service] = self.hosts.start("b", command, stdout=subprocess.PIPE)
        if not self.agents[service].stdout.readline():
            raise AssertionError(f"the agent of {service} ended by itself")

    @contextmanager
    def traffic_of(self, run: str) -> Iterator[Traffic]:
        self.traffic = Traffic(self.hosts, self.folder, run, self.budget_s)
        try:
            wait_for(lambda: self.traffic.is_served_since(0), "the first answers")
            time.sleep(WARM_UP_SECONDS)
            yield self.traffic
        finally:
            self.traffic.kill()

    def suffer(self, ills: dict, seconds: float) -> None:
        """The wire is so for a while."""
        began = time.monotonic()
        self.hosts.make_wire(ills)
        time.sleep(seconds)
        self.hosts.make_wire({})
        self.faults.append(Fault("wire", "cut", "a", began, time.monotonic()))

    def process(self, who: str) -> subprocess.Popen:
        kind, _, name = who.partition("-")
        process = (self.agents if kind == "agent" else self.mesh.processes)[name]
        if process.poll() is not None:
            raise AssertionError(f"{who} had ended by itself with {process.returncode}")
        return process

    def kill(self, who: str, away_s: float) -> None:
        process, began = self.process(who), time.monotonic()
        end(process)
        time.sleep(away_s)
        kind, _, name = who.partition("-")
        if kind == "agent":
            self.start_agent(name)
        else:
            self.mesh.start(name)
        self.faults.append(Fault(who, "kill", host_of(who), began, time.monotonic()))

    def stop(self, who: str, seconds: float) -> None:
        process, began = self.process(who), time.monotonic()
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        self.faults.append(Fault(who, "stop", host_of(who), began, time.monotonic()))

    def wait_until_resumed(self) -> None:
        """No longer than promised: what has not come back by then is the verdict's to tell."""
        ended = self.faults[-1].ended
        while time.monotonic() < ended + RESUME_S + MACHINE_S and not self.traffic.is_served_since(ended):
            time.sleep(0.05)
        time.sleep(SETTLE_SECONDS)

    def judge(self) -> Verdict:
        """Of the traffic that was last."""
        calls = self.traffic.stop()
        names = [line.split()[0] for line in (self.folder / "ledger").read_text().splitlines()]
        ours = [name for name in names if name.startswith(self.traffic.results.stem + "/")]
        verdict = judge(calls, ours, self.faults, self.budget_s)
        for host, process in self.mesh.processes.items():
            if process.poll() is not None:
                verdict.find(f"the sidecar of {host} ended by itself with {process.returncode}")
        return verdict

    def close(self) -> None:
        try:
            self.hosts.make_wire({})
            if keep := os.environ.get("MESH_FAULTS_KEEP"):
                self.keep(Path(keep, self.name.replace("/", "-")))
        finally:
            codes = self.mesh.stop()
            for agent in self.agents.values():
                end(agent)
        if set(codes.values()) - {0}:
            raise AssertionError(f"sidecars ended with {codes}")

    def keep(self, folder: Path) -> None:
        """What the verdict was made from, for whoever wants to know why."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder.glob("*.*"):
            if file.is_file():
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "ledger").write_bytes((self.folder / "ledger").read_bytes())
        (folder / "faults.json").write_text(json.dumps([vars(fault) for fault in self.faults], indent=1))


def host_of(who: str) -> str:
    return "a" if who == "sidecar-a" else "b"
