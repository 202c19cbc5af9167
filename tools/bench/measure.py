"""One measurement: one client, one path, one size and mode; and what the processes in the middle spent on it."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import paths
from bench.paths import BenchError, Tools
from demo import usage

# Mode: the client's socket, how many of them, and how many requests outstanding on each.
MODES = {"1": ("req", 1, 1), "64": ("dealer", 1, 64), "16x1": ("req", 16, 1)}
WARMUP_SHARE = 0.15
STRACE_REQUESTS = 2000
STRACE_ATTACH_SECONDS = 10


@dataclass(frozen=True)
class Case:
    size: int
    mode: str


@dataclass
class Measurement:
    p50_us: float
    p99_us: float
    p999_us: float
    rps: float
    cpu_s_per_100k: float  # all processes in the middle together
    switches_per_request: float  # likewise
    rss_kb: int  # of the larger process in the middle, at the end of the timed part
    requests: int
    libzmq: str
    distribution: list[tuple[float, float]]  # (share of requests, µs)
    syscalls_per_request: dict[str, float] = field(default_factory=dict)


@dataclass
class SidecarMemory:
    """Of the larger of the two sidecars: before any client came, and after a load of 64 KiB bodies whose client has left."""
    idle_rss_kb: int
    idle_anonymous_kb: int
    after_rss_kb: int
    after_anonymous_kb: int
    idle_wakeups_per_s: float  # both sidecars


def load_command(tools: Tools, endpoint: str, case: Case, seconds: float, requests: int | None = None, bare: bool = False) -> list[str]:
    kind, sockets, outstanding = MODES[case.mode]
    command = [str(tools.bench / "mesh-bench-client"), "--endpoint", endpoint, "--size", str(case.size), "--sockets", str(sockets),
               "--socket", "bare" if bare and kind == "dealer" else kind, "--outstanding", str(outstanding),
               "--seconds", str(seconds), "--warmup", str(max(0.05, seconds * WARMUP_SHARE))]
    return command if requests is None else [*command, "--requests", str(requests)]


class Client:
    """mesh-bench-client or one like it, which stops before and after its timed part until it is told to go on."""

    def __init__(self, tools: Tools, command: list[str]) -> None:
        def prepare() -> None:
            if tools.ends_cpus:
                os.sched_setaffinity(0, tools.ends_cpus)

        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      preexec_fn=prepare)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()

    def wait_for(self, word: str) -> None:
        """The client gives up by itself when a reply stays out, so this cannot wait for ever."""
        if self.popen.stdout.readline().strip() != word:
            raise BenchError(f"the client failed: {self.popen.stderr.read().strip()}")

    def go_on(self) -> None:
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def result(self) -> dict:
        return json.loads(self.popen.stdout.readline())


def usage_of(pids: list[int]) -> usage.Usage:
    return sum((usage.usage_of_tasks(f"/proc/{pid}") for pid in pids), usage.Usage())


def measure(path: str, case: Case, tools: Tools, seconds: float, bare: bool = False) -> Measurement:
    with paths.running(path, tools) as running, Client(tools, load_command(tools, running.endpoint, case, seconds, None, bare)) as client:
        client.wait_for("start")
        before = usage_of(running.middle)
        client.go_on()
        client.wait_for("end")
        spent = usage_of(running.middle) - before
        rss_kb = max((usage.memory_of([pid]).rss for pid in running.middle), default=0)
        client.go_on()
        result = client.result()
    requests = result["requests"]
    return Measurement(
        p50_us=result["p50_us"], p99_us=result["p99_us"], p999_us=result["p999_us"], rps=requests / result["seconds"],
        cpu_s_per_100k=spent.cpu_s / requests * 100_000, switches_per_request=spent.switches / requests, rss_kb=rss_kb,
        requests=requests, libzmq=result["libzmq"], distribution=result["distribution"])


def count_syscalls(path: str, case: Case, tools: Tools, bare: bool = False) -> dict[str, float]:
    """System calls per request of all processes in the middle, by name. A run of its own: strace slows every call down."""
    with paths.running(path, tools) as running, ExitStack() as stack:
        if not running.middle:
            return {}
        client = stack.enter_context(Client(tools, load_command(tools, running.endpoint, case, 60, STRACE_REQUESTS, bare)))
        client.wait_for("start")
        traces = [Strace(pid) for pid in running.middle]
        client.go_on()
        client.wait_for("end")
        counts: dict[str, float] = {}
        for trace in traces:
            for name, count in trace.stop().items():
                counts[name] = counts.get(name, 0) + count
        client.go_on()
        requests = client.result()["requests"]
    return {name: count / requests for name, count in sorted(counts.items(), key=lambda item: -item[1])}


class Strace:
    """strace -c attached to all threads of a process."""

    def __init__(self, pid: int) -> None:
        self.popen = subprocess.Popen(["strace", "-c", "-f", "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        deadline = time.monotonic() + STRACE_ATTACH_SECONDS
        while any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"strace cannot attach: {self.popen.stderr.read() if self.popen.poll() is not None else 'no answer'}")
            time.sleep(0.01)

    def stop(self) -> dict[str, int]:
        self.popen.send_signal(signal.SIGINT)
        table = self.popen.communicate(timeout=STRACE_ATTACH_SECONDS)[1]
        counts = {}
        for line in table.splitlines():
            columns = line.split()
            # % time, seconds, usecs/call, calls, [errors,] name
            if len(columns) >= 5 and columns[3].isdigit() and columns[-1] != "total":
                counts[columns[-1]] = int(columns[3])
        return counts


def measure_memory(tools: Tools, load_seconds: float, idle_seconds: float = 2) -> SidecarMemory:
    with paths.running("mesh_pair", tools) as running:
        time.sleep(0.5)
        idle = [usage.memory_of([pid]) for pid in running.middle]
        before = usage_of(running.middle)
        time.sleep(idle_seconds)
        wakeups = (usage_of(running.middle) - before).switches
        with Client(tools, load_command(tools, running.endpoint, Case(65536, "64"), load_seconds)) as client:
            for word in ("start", "end"):
                client.wait_for(word)
                client.go_on()
            client.result()
        time.sleep(1)
        after = [usage.memory_of([pid]) for pid in running.middle]
    return SidecarMemory(
        idle_rss_kb=max(each.rss for each in idle), idle_anonymous_kb=max(each.anonymous for each in idle),
        after_rss_kb=max(each.rss for each in after), after_anonymous_kb=max(each.anonymous for each in after),
        idle_wakeups_per_s=wakeups / idle_seconds)
