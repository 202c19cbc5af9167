"""What the experiments gave: a table, and the same as JSON. Times are worst and, where there were some, nearly all's."""
from __future__ import annotations

import json
from pathlib import Path

from verdict import FREED, LATE, RESUMED, TOLD, Verdict

TIMES = {"late": LATE, "told_far": TOLD[False], "told_near": TOLD[True], "resumed": RESUMED, "freed": FREED}
COLUMNS = ("scenario", "calls", "OK", "errors", "exempt", "twice", "lost", "late ms", "told far", "told near",
           "resumed ms", "freed ms", "findings")


def in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds)


def line_of(scenario: str, verdict: Verdict) -> dict:
    """`late_ms` is the worst answer against its deadline, so below 0 where all came before; None: there was nothing."""
    return {"scenario": scenario, "calls": verdict.calls, "ok": verdict.ok, "errors": dict(verdict.errors),
            "exempt": verdict.exempt, "executed_twice": verdict.executed_twice, "lost": verdict.lost,
            **{f"{key}_ms": in_ms(verdict.worst_s(name)) for key, name in TIMES.items()},
            **{f"{key}_nearly_all_ms": in_ms(verdict.nearly_all_s(name)) for key, name in TIMES.items()},
            "findings": verdict.findings}


def time_cell(line: dict, key: str) -> str | None:
    worst, nearly_all = line[f"{key}_ms"], line[f"{key}_nearly_all_ms"]
    return None if worst is None else f"{worst:.0f}" if nearly_all is None else f"{worst:.0f} ({nearly_all:.0f})"


def cells(line: dict) -> list[str]:
    errors = " ".join(f"{code}:{count}" for code, count in sorted(line["errors"].items())) or "-"
    values = [line["scenario"], line["calls"], line["ok"], errors, line["exempt"], line["executed_twice"], line["lost"],
              *(time_cell(line, key) for key in TIMES), len(line["findings"])]
    return ["-" if value is None else str(value) for value in values]


def table(lines: list[dict]) -> str:
    rows = [list(COLUMNS), *map(cells, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    texts = {0, COLUMNS.index("errors")}
    return "\n".join("  ".join(cell.ljust(width) if column in texts else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows)


def write(lines: list[dict], path: Path) -> None:
    """The table, with everything that was found below it, and the same as JSON beside it."""
    found = [f"{line['scenario']}: {finding}" for line in lines for finding in line["findings"]]
    path.write_text("\n".join([table(lines), *found]) + "\n")
    path.with_suffix(".json").write_text(json.dumps(lines, indent=1) + "\n")
