"""Tables, and the verdict against the goals."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median

from bench.caching.measure import Lookups
from bench.caching.places import BODY_BYTES, KEYS, PLACES, SLOW_KEYS
from bench.caching.traces import Demo, at_budget
from demo.report import Paint, number

# One entry per repetition; each holds that repetition's measurement of every place.
Repetitions = list[dict[str, Lookups]]

HIT_OVER_DIRECT_MAX = 1.25
HITS_PER_S_MIN = 100_000
BUSY = 0.9  # of a CPU: a thread that has so much of one is a limit
SLOW_RATIO_MIN = 100
OPTIMUM_SHARE_MIN = 0.95
FEWER_DUPLICATES_MIN = 0.70


@dataclass
class Results:
    latency: Repetitions = field(default_factory=list)
    throughput: Repetitions = field(default_factory=list)
    slow: Repetitions = field(default_factory=list)
    demos: list[Demo] = field(default_factory=list)
    traces: list[dict] = field(default_factory=list)


@dataclass
class Goal:
    text: str
    measured: str
    wanted: str
    hit: bool


def middle(repetitions: Repetitions, name: str, of) -> float:
    return median(of(repetition[name]) for repetition in repetitions)


def paired(repetitions: Repetitions, above: str, below: str, of) -> list[float]:
    return [of(one[above]) / of(one[below]) for one in repetitions if above in one and below in one]


def spread(ratios: list[float], digits: int = 2) -> str:
    return f"{median(ratios):.{digits}f} ({min(ratios):.{digits}f}–{max(ratios):.{digits}f})"


def latency_lines(repetitions: Repetitions, paint: Paint) -> list[str]:
    lines = [paint.bold(f"One at a time, {BODY_BYTES} B of JSON, {KEYS} keys"),
             paint.dim(f"{'':<10}{'p50 µs':>10}{'p99 µs':>10}{'p50 over direct':>24}")]
    for name in repetitions[0]:
        over = spread(paired(repetitions, name, "direct", lambda one: one.p50_us)) if "direct" in repetitions[0] else "–"
        lines.append(f"{name:<10}{number(middle(repetitions, name, lambda one: one.p50_us)):>10}"
                     f"{number(middle(repetitions, name, lambda one: one.p99_us)):>10}{over:>24}  {paint.dim(PLACES[name].text)}")
    return lines


def throughput_lines(repetitions: Repetitions, paint: Paint) -> list[str]:
    """CPU is in CPUs: 1.00 is one that is never idle."""
    lines = [paint.bold("64 outstanding"),
             paint.dim(f"{'':<10}{'per s':>10}{'lowest–highest':>20}{'client CPU':>12}{'its busiest':>12}{'idle':>7}   who answered, in CPUs")]
    for name in repetitions[0]:
        rates = [one[name].per_s for one in repetitions]
        answering = {who: median(one[name].answering_cpu[who] for one in repetitions) for who in repetitions[0][name].answering_cpu}
        lines.append(f"{name:<10}{number(median(rates), 0):>10}{number(min(rates), 0) + '–' + number(max(rates), 0):>20}"
                     f"{middle(repetitions, name, lambda one: one.client_cpu):>12.2f}"
                     f"{middle(repetitions, name, lambda one: one.client_thread_cpu):>12.2f}"
                     f"{middle(repetitions, name, lambda one: one.idle_cpus):>7.2f}   "
                     + ", ".join(f"{who} {cpus:.2f}" for who, cpus in answering.items()))
    return lines


def slow_lines(repetitions: Repetitions, paint: Paint) -> list[str]:
    lines = [paint.bold(f"An agent that sleeps 0.1 s after each reply, asked for {SLOW_KEYS} things, cold"), paint.dim(f"{'':<20}{'lookups/s':>12}")]
    return lines + [f"{name:<20}{number(middle(repetitions, name, lambda one: one.per_s)):>12}" for name in repetitions[0]]


def trace_lines(traces: list[dict], paint: Paint) -> list[str]:
    """The real memory tier beside what others would have hit, at the budget."""
    columns = "{:<22}{:>10}{:>13}{:>9}{:>9}{:>9}{:>9}{:>9}{:>12}"
    lines = [paint.bold("Hits of traces, %, in memory for a tenth of all replies (two thirds of the loop)"),
             paint.dim(columns.format("", "requests", "duplicates", "memory", "LRU", "S3-FIFO", "Belady", "at most", "LRU, curve"))]
    for trace in traces:
        one = at_budget(trace)
        shares = [trace["duplicate_share"], *(one[policy][0] for policy in ("memory_tier", "lru", "s3fifo", "belady", "bound")), one["curve"]]
        lines.append(columns.format(trace["trace"], trace["requests"], *(f"{100 * share:.1f}" for share in shares)))
    return lines


def demo_lines(demos: list[Demo], paint: Paint) -> list[str]:
    def row(title: str, of, digits: int = 0) -> str:
        return f"{title:<40}" + "".join(f"{number(None if value is None else value, digits):>12}"
                                        for value in (median(of(demo.kept) for demo in demos), median(of(demo.asked) for demo in demos)))

    declared = demos[0].declared_share
    return [paint.bold(f"The demo's traffic (declared: {100 * declared:.0f} % of what is read was read before)"),
            paint.dim(f"{'':<40}{'kept':>12}{'not kept':>12}"),
            row("requests that may be kept", lambda one: one["requests"]),
            row("% duplicates", lambda one: 100 * one["share"], 1),
            row("asked of agents by the offline optimum", lambda one: one["distinct"]),
            row("asked of agents", lambda one: one["reached"]),
            row("duplicates that reached agents", lambda one: one["reached_again"]),
            row("% saved of what the optimum saves", lambda one: 100 * one["saved_of_optimum"], 1)]


def limit_text(repetitions: Repetitions, name: str) -> tuple[bool, str]:
    """Whether the client is the limit, and why."""
    client = middle(repetitions, name, lambda one: one.client_thread_cpu)
    all_of_client = middle(repetitions, name, lambda one: one.client_cpu)
    sidecar = middle(repetitions, name, lambda one: one.answering_cpu["caller's sidecar"])
    idle = middle(repetitions, name, lambda one: one.idle_cpus)
    rate = middle(repetitions, name, lambda one: one.per_s)
    is_limit = client >= BUSY > sidecar
    return is_limit, (f"client {all_of_client:.2f} CPUs, its busiest thread {client:.2f}; sidecar {sidecar:.2f}, so "
                      f"{number(rate / sidecar, 0)}/s with a CPU of its own; idle {idle:.2f}")


def goals(results: Results) -> list[Goal]:
    """Those whose part was measured."""
    found = []
    if results.latency and {"direct", "local"} <= results.latency[0].keys():
        ratios = paired(results.latency, "local", "direct", lambda one: one.p50_us)
        found.append(Goal("p50 of a tier-1 hit over direct libzmq", spread(ratios), f"≤ {HIT_OVER_DIRECT_MAX}",
                          median(ratios) <= HIT_OVER_DIRECT_MAX))
    if results.throughput and "local" in results.throughput[0]:
        rate = middle(results.throughput, "local", lambda one: one.per_s)
        is_limit, why = limit_text(results.throughput, "local")
        is_enough = rate >= HITS_PER_S_MIN
        found.append(Goal(f"tier-1 hits/s, 64 outstanding ({why})",
                          number(rate, 0) + ("" if is_enough else f", the client is {'' if is_limit else 'not '}the limit"),
                          f"≥ {number(HITS_PER_S_MIN, 0)} or the client's limit", is_enough or is_limit))
    if results.slow:
        ratios = paired(results.slow, "slow agent, kept", "slow agent", lambda one: one.per_s)
        found.append(Goal("lookups/s against the slow agent, kept over not", spread(ratios, 0), f"≥ {SLOW_RATIO_MIN}",
                          median(ratios) >= SLOW_RATIO_MIN))
    if results.demos:
        saved = median(demo.kept["saved_of_optimum"] for demo in results.demos)
        fewer = median(demo.fewer_reached for demo in results.demos)
        found.append(Goal("demo: saved of what the optimum saves", f"{100 * saved:.1f} %", f"≥ {100 * OPTIMUM_SHARE_MIN:.0f} %",
                          saved >= OPTIMUM_SHARE_MIN))
        found.append(Goal("demo: fewer duplicates reach agents", f"{100 * fewer:.1f} %", f"≥ {100 * FEWER_DUPLICATES_MIN:.0f} %",
                          fewer >= FEWER_DUPLICATES_MIN))
    return found


def goal_lines(found: list[Goal], paint: Paint) -> list[str]:
    lines = [paint.bold("Goals")] if found else []
    for goal in found:
        line = f"  {'hit ' if goal.hit else 'MISS'}  {goal.text}: {goal.measured}, goal {goal.wanted}"
        lines.append(line if goal.hit else paint.bad(line))
    return lines


def all_lines(results: Results, paint: Paint) -> list[str]:
    parts = [latency_lines(results.latency, paint) if results.latency else [],
             throughput_lines(results.throughput, paint) if results.throughput else [],
             slow_lines(results.slow, paint) if results.slow else [],
             trace_lines(results.traces, paint) if results.traces else [],
             demo_lines(results.demos, paint) if results.demos else [],
             goal_lines(goals(results), paint)]
    return [line for part in parts if part for line in ["", *part]]


def as_json(results: Results, machine: dict) -> dict:
    def rows(repetitions: Repetitions) -> list[dict]:
        return [{name: asdict(one) for name, one in repetition.items()} for repetition in repetitions]

    return {"machine": machine, "latency": rows(results.latency), "throughput": rows(results.throughput), "slow": rows(results.slow),
            "traces": results.traces, "demo": [asdict(demo) | {"fewer_reached": demo.fewer_reached} for demo in results.demos],
            "goals": [asdict(goal) for goal in goals(results)]}
