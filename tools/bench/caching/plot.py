"""Hits by size of memory, a panel per trace, and the latency of each place."""
from __future__ import annotations

import math
import subprocess
from pathlib import Path
from statistics import median

from bench.caching.report import Repetitions, Results
from bench.paths import BenchError
from bench.plot import TICKS, quoted

POLICIES = {"bound": ("#bbbbbb", "at most"), "belady": ("#666666", "Belady, knows the future"), "memory_tier": ("#1a9641", "memory tier"),
            "s3fifo": ("#2c7bb6", "S3-FIFO"), "lru": ("#d7191c", "LRU")}
PANEL_SIZE = (380, 320)
COLUMNS = 3


def curve(name: str, repetitions: Repetitions) -> list[tuple[float, float]]:
    """(halvings of what is left, µs): at each percentile the median, as far as all repetitions have samples."""
    points = zip(*(repetition[name].distribution for repetition in repetitions))
    return [(-math.log2(1 - point[0][0]), median(latency for _, latency in point)) for point in points]


def trace_panel(number: int, trace: dict) -> list[str]:
    rows = "\n".join(" ".join(str(value) for value in (size["factor"], *(100 * size[policy][0] for policy in POLICIES), 100 * size["curve"]))
                     for size in trace["sizes"])
    lines = [f"$trace{number} using 1:{column} with linespoints lw 2 pt 7 ps 0.4 lc rgb '{colour}' title {quoted(text)}"
             for column, (colour, text) in enumerate(POLICIES.values(), 2)]
    lines.append(f"$trace{number} using 1:{len(POLICIES) + 2} with points pt 6 ps 1.2 lc rgb '#d7191c' title 'LRU by the sampled curve'")
    title = f"{trace['trace']} ({100 * trace['duplicate_share']:.0f} % duplicates)"
    return [f"$trace{number} << EOD\n{rows}\nEOD", f"set title {quoted(title)}", "set logscale x 2", "unset logscale y",
            "set xtics ('×¼' 0.25, '×½' 0.5, '×1' 1, '×2' 2, '×4' 4)", "set yrange [0:100]", "set xlabel 'memory'", "set ylabel '% hits'",
            "set key bottom right font ',9'" if number == 0 else "unset key", "plot " + ", ".join(lines)]


def latency_panel(repetitions: Repetitions) -> list[str]:
    blocks, lines = [], []
    for number, name in enumerate(repetitions[0]):
        points = "\n".join(f"{x:.4f} {y:.3f}" for x, y in curve(name, repetitions))
        blocks.append(f"$latency{number} << EOD\n{points}\nEOD")
        lines.append(f"$latency{number} with lines lw 2 title {quoted(name)}")
    ticks = ", ".join(f"{quoted(name.replace('%', '%%'))} {-math.log2(1 - share):.3f}" for name, share in TICKS.items())
    return [*blocks, "set title 'latency, one at a time'", "unset logscale x", "set logscale y", "set autoscale y", f"set xtics ({ticks})",
            "set xlabel 'share of lookups'", "set ylabel 'µs'", "set key top left font ',9'", "plot " + ", ".join(lines)]


def write_plot(results: Results, file: Path) -> None:
    panels = [trace_panel(number, trace) for number, trace in enumerate(results.traces)]
    if results.latency:
        panels.append(latency_panel(results.latency))
    if not panels:
        raise BenchError("there is nothing to draw: --plot needs the part latency or traces")
    rows = math.ceil(len(panels) / COLUMNS)
    columns = min(COLUMNS, len(panels))
    terminal = "pngcairo" if file.suffix == ".png" else "svg"
    script = [f"set terminal {terminal} size {PANEL_SIZE[0] * columns},{PANEL_SIZE[1] * rows} font 'sans,11' background '#ffffff'",
              f"set output {quoted(str(file))}", f"set multiplot layout {rows},{columns}", "set grid"]
    for panel in panels:
        script += panel
    script.append("unset multiplot")
    done = subprocess.run(["gnuplot"], input="\n".join(script), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"gnuplot failed: {done.stderr.strip()}")
