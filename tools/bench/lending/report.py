"""The tables, and the verdict against the goals."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import mean

from demo.report import Paint, number

OWN = "arbiter"
LENDERS = {
    "hard pools": "256 MiB, 1 GiB and 4 GiB as given; what is larger than 4 GiB is refused",
    "stretched pools": "likewise, as large as the card allows",
    "count LRU": "as many models as fit on average; the least recently used goes",
    "byte LRU": "as many bytes as there are; the least recently used goes",
    OWN: "the engine of mesh-arbiter, with placement among hosts",
}
RESIDENT_OVER_POOLS_MIN = 1.25
WAIT_OVER_POOLS_MAX = 1 / 3
LOADS_OVER_LRU_MAX = 0.9


@dataclass
class Row:
    """A lender on a trace and a set of cards: means over the seeds, of refused and remote requests the share."""
    cards: str
    trace: str
    lender: str
    resident: float
    wait_mean_s: float
    wait_p50_s: float
    wait_p90_s: float
    wait_p99_s: float
    wait_max_s: float
    loads: float
    load_s: float
    refused: float
    remote: float
    held_max: float  # of the fullest card, of its size


@dataclass
class Goal:
    text: str
    measured: str
    wanted: str
    hit: bool


def rows_of(cards: str, outcomes: list[dict]) -> list[Row]:
    rows = []
    for trace in dict.fromkeys(one["trace"] for one in outcomes):
        for lender in LENDERS:
            own = [one for one in outcomes if (one["trace"], one["lender"]) == (trace, lender)]
            means = {key: mean(one[key] for one in own) for key in Row.__annotations__ if key in own[0] and key not in ("trace", "lender", "cards")}
            for key in ("refused", "remote"):
                means[key] = mean(one[key] / one["requests"] for one in own)
            held = max(card["held_max_bytes"] / card["bytes"] for one in own for card in one["cards"])
            rows.append(Row(cards=cards, trace=trace, lender=lender, held_max=held, **means))
    return rows


def table_lines(rows: list[Row], paint: Paint) -> list[str]:
    lines: list[str] = []
    columns = "{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>11}{:>10}{:>10}"
    for key in dict.fromkeys((row.cards, row.trace) for row in rows):
        lines += ["", paint.bold(f"{key[0]}, {key[1]}"),
                  paint.dim(columns.format("", "resident", "mean s", "p50 s", "p99 s", "max s", "loads", "load s", "refused", "elsewhere"))]
        for row in (row for row in rows if (row.cards, row.trace) == key):
            lines.append(columns.format(row.lender, f"{100 * row.resident:.1f} %", number(row.wait_mean_s, 2), number(row.wait_p50_s, 2),
                                        number(row.wait_p99_s, 2), number(row.wait_max_s, 1), number(row.loads, 0), number(row.load_s, 0),
                                        f"{100 * row.refused:.1f} %", f"{100 * row.remote:.1f} %"))
    return lines


def goals(rows: list[Row]) -> list[Goal]:
    """For each set of cards, over its made traces; of hard pools only where they serve what is asked for."""
    found = []
    for cards in dict.fromkeys(row.cards for row in rows):
        def of(lender: str, value) -> float:
            own = [row for row in rows if (row.cards, row.lender) == (cards, lender)]
            return mean(value(row) for row in own)

        resident = of(OWN, lambda row: row.resident) / max(of("hard pools", lambda row: row.resident), 1e-9)
        wait = of(OWN, lambda row: row.wait_p99_s) / max(of("hard pools", lambda row: row.wait_p99_s), 1e-9)
        loads = of(OWN, lambda row: row.loads) / max(of("byte LRU", lambda row: row.loads), 1e-9)
        load_s = of(OWN, lambda row: row.load_s) / max(of("byte LRU", lambda row: row.load_s), 1e-9)
        found += [Goal(f"{cards}: resident over hard pools", f"{resident:.2f}", f"≥ {RESIDENT_OVER_POOLS_MIN}", resident >= RESIDENT_OVER_POOLS_MIN),
                  Goal(f"{cards}: p99 of waits over hard pools", f"{wait:.2f}", "≤ 1/3", wait <= WAIT_OVER_POOLS_MAX),
                  Goal(f"{cards}: loads over byte LRU", f"{loads:.2f}", f"≤ {LOADS_OVER_LRU_MAX}", loads <= LOADS_OVER_LRU_MAX),
                  Goal(f"{cards}: load seconds over byte LRU", f"{load_s:.2f}", "≤ 1", load_s <= 1)]
    return found


def goal_lines(found: list[Goal], paint: Paint) -> list[str]:
    lines = ["", paint.bold("Goals, means over the traces")]
    for goal in found:
        line = f"  {'hit ' if goal.hit else 'MISS'}  {goal.text}: {goal.measured}, goal {goal.wanted}"
        lines.append(line if goal.hit else paint.bad(line))
    return lines


def as_json(rows: list[Row], outcomes: dict[str, list[dict]]) -> dict:
    return {"rows": [asdict(row) for row in rows], "outcomes": outcomes, "goals": [asdict(goal) for goal in goals(rows)]}
