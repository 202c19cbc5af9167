"""--scale: what 77 agents cost when each has its sidecar, and when each host has one."""
from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from demo import cast, duplicates, scale_plan
from demo.hosts import Hosts
from demo.processes import Process, Processes, RunError, wait_for_answers, wait_for_log
from demo.report import Paint, number
from demo.traffic import GRACE_SECONDS, Series
from demo.usage import Usage, memory_of, usage_of_sessions

PER_SECOND = {"mainpc": 140, "pc2": 60}
AT_ONCE = 8
SETTLE_SECONDS = 1.0


@dataclass
class Layout:
    """What was measured of one layout. Memory, CPU and context switches are those of all sidecars, and only theirs."""
    layout: str
    sidecars: int
    start_s: float
    fresh_pss_kb: int
    fresh_anonymous_kb: int
    pss_kb: int
    anonymous_kb: int
    rss_kb: int
    connections_opened: int | None
    connections_established: int
    requests: int
    errors: int
    wrong: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    wire_bytes_per_request: float | None
    cpu_s_per_100k: float
    context_switches_per_request: float
    envelopes_per_batch: float | None
    idle_seconds: float
    idle_bytes_per_s: float | None
    idle_context_switches_per_s: float
    idle_cpu_ms_per_s: float


def run(chosen: Namespace, folder: Path, paint: Paint) -> int:
    """Measures both layouts, one after the other, on hosts of their own; returns the exit code."""
    measured = []
    for layout in (scale_plan.EACH, scale_plan.SHARED):
        place = folder / layout.replace(" ", "-")
        place.mkdir()
        print(paint.dim(f"{chosen.scale} agents, {layout} …"), flush=True)
        measured.append(measure(chosen, layout, place, paint))
    print("\n".join(["", *table(measured, paint), ""]))
    lost, wrong = sum(one.lost for one in measured), sum(one.wrong for one in measured)
    result = {"ok": not lost and not wrong and all(one.requests > one.errors for one in measured),
              "requests": sum(one.requests for one in measured), "lost": lost, "wrong": wrong,
              "errors": sum(one.errors for one in measured), "agents": chosen.scale,
              "scale": [asdict(one) for one in measured]}
    verdict = f"{result['requests']} requests: {lost} lost, {wrong} wrong, {result['errors']} typed errors"
    print(paint.bold(verdict) if result["ok"] else paint.bad(verdict), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["ok"] else 1


def measure(chosen: Namespace, layout: str, folder: Path, paint: Paint) -> Layout:
    """Traffic, then silence, in one layout; everything is taken down before it returns."""
    configs = scale_plan.configs(chosen.scale, layout)
    hosts = cast.open_hosts(configs, chosen.lan, chosen.loopback)
    processes = Processes(hosts, folder)
    try:
        files = {config["host"]: cast.place(config, configs, hosts, folder) for config in configs}
        for config in configs:
            first, count = scale_plan.AGENT_PORTS[config["host"]], len(config["agents"])
            processes.start("agents", config["host"], [sys.executable, str(cast.AGENTS_FOLDER / "echo_agents.py"),
                                                       "--ports", f"{first}-{first + count - 1}"])
        link_before, started = hosts.count(), time.monotonic()
        sidecars = [processes.start_sidecar(chosen.sidecar, config["host"], name, files[config["host"]])
                    for config in configs for name in config["sidecars"]]
        for sidecar in sidecars:
            wait_for_log(sidecar, "event=ready", seconds=60)
        start_s = time.monotonic() - started
        fresh = memory_of([sidecar.pid for sidecar in sidecars])
        for config in configs:
            ports = [f"{hosts.local_address(config['host'])}:{cast.split_endpoint(port['listen'])[1]}"
                     for port in config["ports"].values()]
            wait_for_answers(processes, config["host"], ports, seconds=60)

        print(paint.dim(f"  {len(sidecars)} sidecars answer; {chosen.seconds / 3:.0f} s of traffic …"), flush=True)
        busy_link, busy = hosts.count(), usage_in_all(sidecars)
        series = traffic(configs, hosts, processes, folder, chosen.seconds / 3)
        busy_link_after, busy = hosts.count(), usage_in_all(sidecars) - busy
        batches = duplicates.counted(folder, configs, ["batches_sent", "envelopes_sent"])
        memory = memory_of([sidecar.pid for sidecar in sidecars])

        print(paint.dim(f"  {series.requests} requests; {chosen.seconds / 2:.0f} s of silence …"), flush=True)
        time.sleep(SETTLE_SECONDS)
        idle_link, idle, idle_from = hosts.count(), usage_in_all(sidecars), time.monotonic()
        time.sleep(chosen.seconds / 2)
        idle_link_after, idle = hosts.count(), usage_in_all(sidecars) - idle
        idle_s = time.monotonic() - idle_from
        processes.must_live()
        return Layout(
            layout, len(sidecars), round(start_s, 2),
            fresh.pss, fresh.anonymous, memory.pss, memory.anonymous, memory.rss,
            difference(idle_link_after.connections, link_before.connections),
            hosts.established(cast.sidecar_ports(configs)),
            series.requests, series.errors, series.wrong, series.lost,
            series.percentile_ms(50), series.percentile_ms(99),
            per(difference(busy_link_after.wire_bytes, busy_link.wire_bytes), series.requests),
            per(busy.cpu_s * 100_000, series.requests), per(busy.switches, series.requests),
            per(batches["envelopes_sent"], batches["batches_sent"]), round(idle_s, 2),
            per(difference(idle_link_after.wire_bytes, idle_link.wire_bytes), idle_s),
            per(idle.switches, idle_s), per(idle.cpu_s * 1000, idle_s))
    finally:
        processes.stop()
        hosts.close()


def traffic(configs: list[cast.Config], hosts: Hosts, processes: Processes, folder: Path, seconds: float) -> Series:
    """Some light traffic from every agent's drop-in ports on both hosts."""
    series = Series()
    servers = list(processes.all)
    running: list[tuple[Process, Path]] = []
    for config in configs:
        host, records = config["host"], folder / f"{config['host']}-round.jsonl"
        first = scale_plan.DROPIN_PORTS[host]
        running.append((processes.start("round-client", host, [
            sys.executable, str(cast.AGENTS_FOLDER / "round_client.py"), "--host", hosts.local_address(host),
            "--ports", f"{first}-{first + len(config['ports']) - 1}", "--at-once", str(AT_ONCE),
            "--per-second", str(PER_SECOND[host]), "--seconds", str(seconds), "--records", str(records)]), records))
    deadline = time.monotonic() + seconds + GRACE_SECONDS
    for process, records in running:
        while process.popen.poll() is None:
            for server in servers:
                server.must_live()
            if time.monotonic() > deadline:
                raise RunError(f"{process.name} on {process.host} did not finish:\n{process.log_tail()}")
            time.sleep(0.25)
        if process.popen.returncode not in (0, 1):  # 1: lost or wrong replies, which the records tell in detail
            process.must_live()
        for line in records.read_text(encoding="utf-8").splitlines():
            series.add(json.loads(line))
        processes.all.remove(process)
    return series


def usage_in_all(sidecars: list[Process]) -> Usage:
    return sum(usage_of_sessions({sidecar.pid for sidecar in sidecars}).values(), Usage())


def difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def per(amount: float | None, of: float) -> float | None:
    return None if amount is None or not of else round(amount / of, 3)


def table(measured: list[Layout], paint: Paint) -> list[str]:
    each, shared = measured

    def row(title: str, value, digits: int = 0) -> str:
        first, second = value(each), value(shared)
        ratio = first / second if first is not None and second else None
        return f"{title:<46}{number(first, digits):>16}{number(second, digits):>16}{number(ratio, 1):>10}"

    return [
        paint.dim(f"{'':<46}{each.layout:>16}{shared.layout:>16}{'ratio':>10}"),
        row("sidecars", lambda one: one.sidecars),
        row("s from the first start to the last ready", lambda one: one.start_s, 2),
        paint.dim("memory of all sidecars, after the traffic"),
        row("  MiB, shared pages divided (PSS)", lambda one: one.pss_kb / 1024, 1),
        row("  MiB, nobody else's (anonymous)", lambda one: one.anonymous_kb / 1024, 1),
        row("  MiB anonymous for one sidecar", lambda one: one.anonymous_kb / 1024 / one.sidecars, 2),
        row("  MiB anonymous for one, before the traffic", lambda one: one.fresh_anonymous_kb / 1024 / one.sidecars, 2),
        paint.dim("between the hosts"),
        row("  connections opened", lambda one: one.connections_opened),
        row("  connections now", lambda one: one.connections_established),
        row("  bytes per request, both ways", lambda one: one.wire_bytes_per_request),
        paint.dim(f"under traffic ({each.requests} and {shared.requests} requests)"),
        row("  p50 ms", lambda one: one.p50_ms, 2),
        row("  p99 ms", lambda one: one.p99_ms, 2),
        row("  CPU s of the sidecars per 100k requests", lambda one: one.cpu_s_per_100k, 1),
        row("  their context switches per request", lambda one: one.context_switches_per_request, 1),
        row("  requests and replies per batch", lambda one: one.envelopes_per_batch, 2),
        paint.dim(f"idle, over {each.idle_seconds:.0f} s"),
        row("  bytes/s on the wire", lambda one: one.idle_bytes_per_s, 1),
        row("  context switches/s of the sidecars", lambda one: one.idle_context_switches_per_s, 1),
        row("  CPU ms/s of the sidecars", lambda one: one.idle_cpu_ms_per_s, 2),
    ]
