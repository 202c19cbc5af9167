"""What a person and what a program reads at the end: the tables and the JSON."""
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from agents.req_client import DUPLICATE_SHARE
from demo.cast import Call
from demo.duplicates import Duplicates
from demo.traffic import HABIT, MESH, Cost, Series, Traffic
from demo.usage import Usage

ROLES = ("agents", "sidecars", "clients")


class Paint:
    """ANSI colours, unless NO_COLOR is set or nobody is looking."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.on = self.is_terminal and not os.environ.get("NO_COLOR")

    def __call__(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text

    def bold(self, text: str) -> str:
        return self("1", text)

    def dim(self, text: str) -> str:
        return self("2", text)

    def bad(self, text: str) -> str:
        return self("31", text)


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def service_lines(calls: list[Call], traffic: Traffic, paint: Paint) -> list[str]:
    """A line per service: both paths side by side."""
    columns = "{:<13}{:<18}{:>8}{:>6}{:>9}{:>9}   {:>8}{:>6}{:>9}{:>9}"
    units = ("requests", "bad", "ms", "ms")
    lines = [paint.dim(columns.format("", "", "by the", "mesh", "p50", "p99", "the old", "way", "p50", "p99")),
             paint.dim(columns.format("service", "from → to", *units, *units))]
    for call in calls:
        cells: list[str] = []
        bad = 0
        for path in (MESH, HABIT):
            series = traffic.series(path, call.service)
            bad += series.requests - series.right
            cells += [str(series.requests), str(series.requests - series.right),
                      number(series.percentile_ms(50)), number(series.percentile_ms(99))]
        line = columns.format(call.service, f"{call.caller} → {call.callee}", *cells)
        lines.append(paint.bad(line) if bad else line)
    return lines


def cost_lines(traffic: Traffic, paint: Paint) -> list[str]:
    """What each path took, per 1000 requests, and the ratio."""
    mesh, habit = traffic.costs[MESH], traffic.costs[HABIT]
    per_thousand = {path: 1000 / max(1, traffic.series(path).requests) for path in (MESH, HABIT)}

    def row(title: str, mesh_value: float | None, habit_value: float | None, digits: int = 1) -> str:
        ratio = mesh_value / habit_value if mesh_value is not None and habit_value else None
        return f"{title:<34}{number(mesh_value, digits):>12}{number(habit_value, digits):>12}{number(ratio, 3):>12}"

    def scaled(title: str, mesh_value: float | None, habit_value: float | None, digits: int = 1) -> str:
        return row(title, None if mesh_value is None else mesh_value * per_thousand[MESH],
                   None if habit_value is None else habit_value * per_thousand[HABIT], digits)

    def kib(cost: Cost) -> float | None:
        return None if cost.wire_bytes is None else cost.wire_bytes / 1024

    def cpu(cost: Cost, *roles: str) -> float:
        return sum(cost.usage.get(role, Usage()).cpu_s for role in roles)

    def switches(cost: Cost) -> int:
        return sum(usage.switches for usage in cost.usage.values())

    lines = [paint.dim(f"{'':<34}{'mesh':>12}{'old way':>12}{'ratio':>12}"),
             row("requests", traffic.series(MESH).requests, traffic.series(HABIT).requests, 0),
             row("p50 ms", traffic.series(MESH).percentile_ms(50), traffic.series(HABIT).percentile_ms(50), 2),
             row("p99 ms", traffic.series(MESH).percentile_ms(99), traffic.series(HABIT).percentile_ms(99), 2),
             row("connections between the hosts", mesh.connections, habit.connections, 0),
             paint.dim("per 1000 requests"),
             scaled("  KiB on the wire, both ways", kib(mesh), kib(habit)),
             scaled("  CPU s, agents", cpu(mesh, "agents"), cpu(habit, "agents"), 2),
             scaled("  CPU s, sidecars", cpu(mesh, "sidecars"), None, 2),
             scaled("  CPU s, clients", cpu(mesh, "clients"), cpu(habit, "clients"), 2),
             scaled("  CPU s, all of them", cpu(mesh, *ROLES), cpu(habit, *ROLES), 2),
             scaled("  context switches", switches(mesh), switches(habit), 0)]
    return lines


def duplicate_lines(mesh: Duplicates, habit: Duplicates, paint: Paint) -> list[str]:
    """What was asked for before, and what of it the agents were asked for."""
    def row(title: str, value: Callable[[Duplicates], float | None], digits: int = 0) -> str:
        return f"{title:<34}{number(value(mesh), digits):>12}{number(value(habit), digits):>12}"

    def percent(share: float | None) -> float | None:
        return None if share is None else 100 * share

    return [paint.dim(f"replies that the contracts keep (declared: {100 * DUPLICATE_SHARE:.0f} % of what is read was read before)"),
            row("  requests", lambda one: one.requests),
            row("  % duplicates", lambda one: percent(one.share), 1),
            row("  asked of agents by the optimum", lambda one: one.distinct),
            row("  asked of agents", lambda one: one.reached),
            row("  duplicates asked of agents", lambda one: one.reached_again),
            row("  % saved of what the optimum saves", lambda one: percent(one.saved_of_optimum), 1)]


def complaint_lines(traffic: Traffic, paint: Paint, most: int = 10) -> list[str]:
    # The first of each client before the second of any: one service's flood must not hide the others.
    lines = [f"{client.call.service} by {client.path}: {complaint}"
             for turn in range(most) for client in traffic.clients
             for complaint in client.series.complaints[turn:turn + 1]]
    total = sum(len(client.series.complaints) for client in traffic.clients)
    more = [f"… and {total - most} more"] if total > most else []
    return [paint.bad(line) for line in lines[:most] + more]


def unanswered(calls: list[Call], traffic: Traffic) -> list[str]:
    """Services that gave no right answer at all by one of the paths: a run like that proves nothing."""
    return [f"{call.service} by {path}" for call in calls for path in (MESH, HABIT)
            if traffic.series(path, call.service).right == 0]


def summary(calls: list[Call], traffic: Traffic, duplicates: dict[str, Duplicates]) -> dict[str, Any]:
    """The content of --json. Counts are of both paths together; `services` is the mesh's side."""
    paths = {path: traffic.series(path) for path in (MESH, HABIT)}
    wrong = sum(series.wrong for series in paths.values())
    lost = sum(series.lost for series in paths.values())
    return {
        "ok": wrong == 0 and lost == 0 and not unanswered(calls, traffic),
        "requests": sum(series.requests for series in paths.values()),
        "lost": lost,
        "wrong": wrong,
        "errors": sum(series.errors for series in paths.values()),
        "hosts": traffic.hosts.description,
        **{path: path_summary(series, traffic.costs[path]) for path, series in paths.items()},
        "duplicates": {"declared_share": DUPLICATE_SHARE, **{path: one.as_json() for path, one in duplicates.items()}},
        "services": [service_summary(call, traffic.series(MESH, call.service)) for call in calls],
        "habit_services": [service_summary(call, traffic.series(HABIT, call.service)) for call in calls],
    }


def path_summary(series: Series, cost: Cost) -> dict[str, Any]:
    usage = {role: cost.usage.get(role, Usage()) for role in ROLES}
    return {
        "p50_ms": series.percentile_ms(50),
        "p99_ms": series.percentile_ms(99),
        "connections": cost.connections,
        "wire_bytes": cost.wire_bytes,
        # What the path needs beside the callers themselves.
        "cpu_s": round(usage["agents"].cpu_s + usage["sidecars"].cpu_s, 4),
        "requests": series.requests,
        "lost": series.lost,
        "wrong": series.wrong,
        "errors": series.errors,
        "seconds": round(cost.seconds, 2),
        **{f"cpu_{role}_s": round(usage[role].cpu_s, 4) for role in ROLES},
        **{f"context_switches_{role}": usage[role].switches for role in ROLES},
    }


def service_summary(call: Call, series: Series) -> dict[str, Any]:
    return {"service": call.service, "from": call.caller, "to": call.callee, "requests": series.requests,
            "errors": series.errors, "lost": series.lost, "wrong": series.wrong,
            "p50_ms": series.percentile_ms(50), "p99_ms": series.percentile_ms(99)}
