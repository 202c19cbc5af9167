"""What the experiments gave: a table, and the same as JSON."""
from __future__ import annotations

import json
from pathlib import Path

from verdict import Verdict

COLUMNS = ("scenario", "calls", "OK", "errors", "exempt", "twice", "lost", "late ms", "told far", "told near",
           "resumed ms", "freed ms", "findings")


def in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds)


def line_of(scenario: str, verdict: Verdict) -> dict:
    """`late_ms` is the worst answer against its deadline, so below 0 where all came before; None: there was nothing."""
    return {"scenario": scenario, "calls": verdict.calls, "ok": verdict.ok, "errors": dict(verdict.errors),
            "exempt": verdict.exempt, "executed_twice": verdict.executed_twice, "lost": verdict.lost,
            "late_ms": in_ms(verdict.worst_late_s), "told_far_ms": in_ms(verdict.worst_told_s.get(False)),
            "told_near_ms": in_ms(verdict.worst_told_s.get(True)), "resumed_ms": in_ms(verdict.worst_resumed_s),
            "freed_ms": in_ms(verdict.worst_freed_s),
            "findings": verdict.findings}


def cells(line: dict) -> list[str]:
    errors = " ".join(f"{code}:{count}" for code, count in sorted(line["errors"].items())) or "-"
    values = [line["scenario"], line["calls"], line["ok"], errors, line["exempt"], line["executed_twice"], line["lost"],
              line["late_ms"], line["told_far_ms"], line["told_near_ms"], line["resumed_ms"], line["freed_ms"],
              len(line["findings"])]
    return ["-" if value is None else str(value) for value in values]


def table(lines: list[dict]) -> str:
    rows = [list(COLUMNS), *map(cells, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    texts = {0, COLUMNS.index("errors")}
    return "\n".join("  ".join(cell.ljust(width) if column in texts else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows)


def write_json(lines: list[dict], path: Path) -> None:
    path.write_text(json.dumps(lines, indent=1) + "\n")
