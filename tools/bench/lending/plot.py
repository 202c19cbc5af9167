"""Residency, waits, loads and seconds of loading by lender: a panel each, a group of bars for each trace and set of cards."""
from __future__ import annotations

import subprocess
from pathlib import Path

from bench.lending.report import LENDERS, Row
from bench.paths import BenchError
from bench.plot import quoted

COLOURS = ("#d7191c", "#fdae61", "#bbbbbb", "#2c7bb6", "#1a9641")
# Each its value, whether its axis is logarithmic, and its title.
PANELS = [(lambda row: 100 * row.resident, False, "% of the cards resident"), (lambda row: row.wait_p50_s, False, "p50 of waits, s"),
          (lambda row: row.wait_p99_s, True, "p99 of waits, s"), (lambda row: row.loads, False, "loads"),
          (lambda row: row.load_s, False, "seconds of loading"), (lambda row: 100 * row.refused, False, "% refused")]
PANEL_SIZE = (560, 360)
COLUMNS = 2


def panel(number: int, rows: list[Row]) -> list[str]:
    value, is_log, title = PANELS[number]
    groups = list(dict.fromkeys((row.cards, row.trace) for row in rows))
    by_key = {(row.cards, row.trace, row.lender): row for row in rows}
    lines = [" ".join([f'"{cards}\\n{trace}"', *(f"{max(value(by_key[cards, trace, lender]), 1e-3):.4f}" for lender in LENDERS)])
             for cards, trace in groups]
    bars = [f"$panel{number} using {column}:xtic(1) lc rgb '{colour}' title {quoted(lender)}"
            for column, (lender, colour) in enumerate(zip(LENDERS, COLOURS), 2)]
    return [f"$panel{number} << EOD\n" + "\n".join(lines) + "\nEOD", f"set title {quoted(title)}",
            "set logscale y" if is_log else "unset logscale y", "set autoscale y" if is_log else "set yrange [0:*]",
            "set key outside top right font ',8'" if number == 0 else "unset key", "plot " + ", ".join(bars)]


def write_plot(rows: list[Row], file: Path) -> None:
    height = PANEL_SIZE[1] * -(-len(PANELS) // COLUMNS)
    terminal = "pngcairo" if file.suffix == ".png" else "svg"
    script = [f"set terminal {terminal} size {PANEL_SIZE[0] * COLUMNS},{height} font 'sans,10' background '#ffffff'",
              f"set output {quoted(str(file))}", f"set multiplot layout {-(-len(PANELS) // COLUMNS)},{COLUMNS}", "set grid ytics",
              "set style data histograms", "set style histogram clustered gap 1", "set style fill solid", "set xtics font ',7'"]
    for number in range(len(PANELS)):
        script += panel(number, rows)
    script.append("unset multiplot")
    done = subprocess.run(["gnuplot"], input="\n".join(script), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"gnuplot failed: {done.stderr.strip()}")
