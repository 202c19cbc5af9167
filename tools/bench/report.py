"""Medians, paired ratios, and the verdict against the goals."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.measure import Case, Measurement, SidecarMemory
from bench.paths import PATHS

# One entry per repetition; each holds that repetition's measurement of every path.
Repetitions = list[dict[str, Measurement]]

METRICS = {
    "added_p50": "p50 added to direct",
    "rps": "requests/s",
    "cpu": "CPU per 100k requests",
}


@dataclass(frozen=True)
class Goal:
    """For the median of mesh_pair / zmq_proxy_pair, taken per repetition."""
    metric: str
    case: Case
    limit: float

    @property
    def at_least(self) -> bool:
        return self.metric == "rps"

    def hit(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:.2f}"


GOALS = [
    Goal("added_p50", Case(1024, "1"), 0.60),
    Goal("added_p50", Case(1024, "16x1"), 0.40),
    Goal("rps", Case(1024, "64"), 1.8),
    Goal("cpu", Case(1024, "1"), 0.55),
    Goal("cpu", Case(1024, "64"), 0.35),
    Goal("rps", Case(128, "64"), 1.5),
    Goal("rps", Case(65536, "64"), 1.0),
]
SYSCALLS_GOAL = 12  # with one outstanding: wait, read, write, in two directions, in two sidecars
MEMORY_GOALS_KB = {"idle_anonymous_kb": 4 * 1024, "idle_rss_kb": 10 * 1024}


@dataclass(frozen=True)
class Ratio:
    metric: str
    case: Case
    path: str  # over zmq_proxy_pair
    median: float
    low: float
    high: float
    repetitions: int


def value(metric: str, path: str, repetition: dict[str, Measurement]) -> float | None:
    """None where it cannot be told: a path that was not measured, or noise that puts a path with more hops below direct."""
    if path not in repetition or (metric == "added_p50" and "direct" not in repetition):
        return None
    measured = repetition[path]
    if metric == "added_p50":
        added = measured.p50_us - repetition["direct"].p50_us
        return added if added > 0 else None
    return measured.rps if metric == "rps" else measured.cpu_s_per_100k


def paired_ratio(metric: str, case: Case, path: str, repetitions: Repetitions) -> Ratio | None:
    ratios = []
    for repetition in repetitions:
        above, below = value(metric, path, repetition), value(metric, "zmq_proxy_pair", repetition)
        if above is not None and below:
            ratios.append(above / below)
    return Ratio(metric, case, path, median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None


def all_ratios(results: dict[Case, Repetitions]) -> list[Ratio]:
    found = (paired_ratio(metric, case, path, repetitions)
             for case, repetitions in results.items() for metric in METRICS for path in ("mesh_pair", "relay_pair"))
    return [ratio for ratio in found if ratio]


def size_text(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def mode_text(mode: str) -> str:
    return {"1": "1 outstanding", "64": "64 outstanding", "16x1": "16 clients"}[mode]


def row(case: Case, path: str, repetitions: Repetitions) -> dict:
    """What goes to the JSON file for one path; every number is the median over the repetitions."""
    measured = [repetition[path] for repetition in repetitions]

    def middle(of: Callable[[Measurement], float], digits: int) -> float:
        return round(median(of(each) for each in measured), digits)

    line = {
        "path": path, "size": case.size, "mode": case.mode,
        "p50_us": middle(lambda m: m.p50_us, 2), "p99_us": middle(lambda m: m.p99_us, 2), "p999_us": middle(lambda m: m.p999_us, 2),
        "rps": middle(lambda m: m.rps, 1), "cpu_s_per_100k": middle(lambda m: m.cpu_s_per_100k, 4),
        "rss_kb": int(middle(lambda m: m.rss_kb, 0)), "switches_per_request": middle(lambda m: m.switches_per_request, 3),
        "requests": sum(m.requests for m in measured), "repetitions": len(measured),
        "rps_low": round(min(m.rps for m in measured), 1), "rps_high": round(max(m.rps for m in measured), 1),
        "p50_us_low": round(min(m.p50_us for m in measured), 2), "p50_us_high": round(max(m.p50_us for m in measured), 2),
    }
    if any(m.syscalls_per_request for m in measured):
        counts = next(m.syscalls_per_request for m in measured if m.syscalls_per_request)
        line["syscalls_per_request"] = round(sum(counts.values()), 2)
        line["syscalls"] = {name: round(count, 3) for name, count in counts.items()}
    return line


def as_json(results: dict[Case, Repetitions], memory: SidecarMemory | None, machine: dict) -> dict:
    goals = {(goal.metric, goal.case): goal for goal in GOALS}
    ratios = []
    for ratio in all_ratios(results):
        entry = {"metric": ratio.metric, "size": ratio.case.size, "mode": ratio.case.mode, "path": ratio.path, "over": "zmq_proxy_pair",
                 "median": round(ratio.median, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4),
                 "repetitions": ratio.repetitions}
        goal = goals.get((ratio.metric, ratio.case))
        if goal and ratio.path == "mesh_pair":
            entry |= {"goal": goal.limit, "at_least": goal.at_least, "hit": goal.hit(ratio.median)}
        ratios.append(entry)
    document = {"rows": [row(case, path, repetitions) for case, repetitions in results.items() for path in repetitions[0]],
                "ratios": ratios, "machine": machine}
    if memory:
        document["sidecar_memory"] = vars(memory)
    return document


def print_table(results: dict[Case, Repetitions]) -> None:
    rows = [row(case, path, repetitions) for case, repetitions in results.items() for path in repetitions[0]]
    with_syscalls = any("syscalls_per_request" in line for line in rows)
    heading = (f"{'':<16}{'p50 µs':>10}{'p99 µs':>10}{'p99.9 µs':>11}{'requests/s':>12}{'CPU s/100k':>12}{'switches/req':>14}{'RSS KiB':>9}")
    heading += f"{'syscalls/req':>14}" if with_syscalls else ""
    case = None
    for line in rows:
        if case != (case := (line["size"], line["mode"])):
            print(f"\n{size_text(line['size'])}, {mode_text(line['mode'])}\n{heading}")
        text = (f"{line['path']:<16}{line['p50_us']:>10.1f}{line['p99_us']:>10.1f}{line['p999_us']:>11.1f}{line['rps']:>12,.0f}")
        if line["path"] != "direct":
            text += f"{line['cpu_s_per_100k']:>12.2f}{line['switches_per_request']:>14.2f}{line['rss_kb']:>9,}"
            text += f"{line['syscalls_per_request']:>14.1f}" if "syscalls_per_request" in line else ""
        print(text)


def print_ratios(ratios: list[Ratio]) -> None:
    """Everything over zmq_proxy_pair, measured in the same repetition."""
    print("\nOver zmq_proxy_pair, median of the ratios within each repetition (lowest – highest)")
    print(f"{'':<46}{'mesh_pair':>22}{'relay_pair':>22}")
    cells: dict[tuple[Case, str], dict[str, str]] = {}
    for ratio in ratios:
        cell = f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
        cells.setdefault((ratio.case, ratio.metric), {})[ratio.path] = cell
    for (case, metric), by_path in cells.items():
        name = f"{size_text(case.size)}, {mode_text(case.mode)}: {METRICS[metric]}"
        print(f"{name:<46}{by_path.get('mesh_pair', '–'):>22}{by_path.get('relay_pair', '–'):>22}")


def print_verdict(results: dict[Case, Repetitions], memory: SidecarMemory | None) -> None:
    """One line per goal. Goals whose case was not measured are left out."""
    found = {(ratio.metric, ratio.case): ratio for ratio in all_ratios(results) if ratio.path == "mesh_pair"}
    lines = []
    for goal in GOALS:
        if ratio := found.get((goal.metric, goal.case)):
            name = f"{size_text(goal.case.size)}, {mode_text(goal.case.mode)}: {METRICS[goal.metric]}, mesh / zmq_proxy"
            lines.append((goal.hit(ratio.median), name, f"{ratio.median:.2f}", goal.text()))
    for case, repetitions in results.items():
        counts = repetitions[0]["mesh_pair"].syscalls_per_request if "mesh_pair" in repetitions[0] else {}
        if counts and case.mode == "1":
            total = sum(counts.values())
            # A little is left for heartbeats and timers, which belong to no request.
            lines.append((total < SYSCALLS_GOAL + 0.5, f"{size_text(case.size)}, 1 outstanding: system calls per request, both sidecars",
                          f"{total:.1f}", f"≤ {SYSCALLS_GOAL}"))
    if memory:
        for name, limit in MEMORY_GOALS_KB.items():
            text = {"idle_anonymous_kb": "anonymous memory of an idle sidecar, KiB", "idle_rss_kb": "RSS of an idle sidecar, KiB"}[name]
            lines.append((vars(memory)[name] <= limit, text, f"{vars(memory)[name]}", f"≤ {limit}"))
    if lines:
        print("\nGoals")
    for hit, name, measured, limit in lines:
        print(f"  {'hit ' if hit else 'MISS'}  {name:<70}{measured:>8}  goal {limit}")
    if memory:
        print(f"  A sidecar after a 64 KiB load: {memory.after_rss_kb} KiB RSS, {memory.after_anonymous_kb} KiB anonymous; "
              f"idle: {memory.idle_wakeups_per_s:g} context switches a second in both together")


def print_legend(paths: list[str]) -> None:
    for path in paths:
        print(f"  {path:<16}{PATHS[path]}")
    print("Latency and requests/s are the client's; CPU, context switches and system calls are those of both processes in the middle;\n"
          "RSS is that of the larger one. Each number is the median over the repetitions.")
