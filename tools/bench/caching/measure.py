"""Lookups at one place: how long they take, how many there are in a second, and who worked how much for them."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.caching import places
from bench.caching.places import HIT_SHARE_MIN, Place
from bench.measure import WARMUP_SHARE, Client, usage_of
from bench.paths import BenchError, Tools


@dataclass
class Lookups:
    p50_us: float
    p99_us: float
    per_s: float
    lookups: int
    hit_share: float | None  # of the lookups; None where nobody claims any
    client_cpu: float  # CPU seconds per second; likewise the next two
    client_thread_cpu: float  # of its busiest thread: at 1 there is no more to be had from it
    answering_cpu: dict[str, float]  # by process
    idle_cpus: float  # of the machine
    distribution: list[tuple[float, float]]  # (share of lookups, µs)


@dataclass
class Reading:
    idle_s: float
    threads: dict[str, float]
    answering: dict[int, float]
    hits: int


def read(client: int, source: places.Source) -> Reading:
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return Reading(
        idle_s=(ticks[3] + ticks[4]) / os.sysconf("SC_CLK_TCK"),
        threads={task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in Path(f"/proc/{client}/task").iterdir()},
        answering={pid: usage_of([pid]).cpu_s for pid in source.answering},
        hits=source.hits() if source.hits else 0)


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def look_up(place: Place, tools: Tools, outstanding: int, seconds: float, is_cold: bool = False) -> Lookups:
    """With `is_cold` the first lookup of each key, which must be fetched, is within the timed part."""
    with places.running(place, tools) as source:
        command = source.client(outstanding, 0 if is_cold else max(0.1, seconds * WARMUP_SHARE), seconds)
        with Client(tools, command) as client:
            client.wait_for("start")
            before = read(client.popen.pid, source)
            client.go_on()
            client.wait_for("end")
            after = read(client.popen.pid, source)
            client.go_on()
            result = client.result()
        names = {pid: name_of(pid) for pid in source.answering}
    lookups, took_s = result["requests"], result["seconds"]
    hit_share = (after.hits - before.hits) / lookups if source.hits else None
    if hit_share is not None and hit_share < HIT_SHARE_MIN and not is_cold:
        raise BenchError(f"{place.name}: only {100 * hit_share:.1f} % of the lookups were hits; this measures something else")
    busy = {task: after.threads[task] - before.threads.get(task, 0) for task in after.threads}
    answering: dict[str, float] = {}
    for number, (pid, name) in enumerate(names.items()):
        # The sidecars come first, that of the caller first of all.
        label = name if name != "mesh-sidecar" else ("caller's sidecar", "agent's sidecar")[number]
        answering[label] = (after.answering[pid] - before.answering[pid]) / took_s
    return Lookups(
        p50_us=result["p50_us"], p99_us=result["p99_us"], per_s=lookups / took_s, lookups=lookups, hit_share=hit_share,
        client_cpu=sum(busy.values()) / took_s, client_thread_cpu=max(busy.values()) / took_s, answering_cpu=answering,
        idle_cpus=max(0.0, after.idle_s - before.idle_s) / took_s, distribution=result["distribution"])
