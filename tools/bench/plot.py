"""The latency distribution as a picture: HDR style, a line per path, a panel per mode."""
from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from statistics import median

from bench.measure import Case
from bench.paths import BenchError
from bench.report import Repetitions, mode_text, size_text

COLOURS = {"direct": "#888888", "relay_pair": "#2c7bb6", "zmq_proxy_pair": "#d7191c", "mesh_pair": "#1a9641"}
# The axis is log2 of 1 / (share of requests slower than this): each unit halves what is left.
TICKS = {"50 %": 0.5, "90 %": 0.9, "99 %": 0.99, "99.9 %": 0.999, "99.99 %": 0.9999}
PANEL_SIZE = (520, 420)


def require_gnuplot() -> None:
    if not shutil.which("gnuplot"):
        raise BenchError("--plot needs gnuplot: apt-get install --no-install-recommends gnuplot-nox")


def size_to_plot(results: dict[Case, Repetitions]) -> int:
    sizes = [case.size for case in results]
    return 1024 if 1024 in sizes else sizes[0]


def curve(path: str, repetitions: Repetitions) -> list[tuple[float, float]]:
    """(axis, µs): at each percentile the median over the repetitions, as far as all of them have samples."""
    runs = [repetition[path].distribution for repetition in repetitions]
    points = zip(*runs)
    return [(-math.log2(1 - point[0][0]), median(latency for _, latency in point)) for point in points]


def write_plot(results: dict[Case, Repetitions], file: Path) -> None:
    size = size_to_plot(results)
    panels = [(case, repetitions) for case, repetitions in results.items() if case.size == size]
    terminal = "pngcairo" if file.suffix == ".png" else "svg"
    ticks = ", ".join(f"{quoted(name.replace('%', '%%'))} {-math.log2(1 - share):.3f}" for name, share in TICKS.items())
    script = [
        f"set terminal {terminal} size {PANEL_SIZE[0] * len(panels)},{PANEL_SIZE[1]} font 'sans,12' background '#ffffff'",
        f"set output {quoted(str(file))}",
        f"set multiplot layout 1,{len(panels)} title {quoted(f'Latency of request and reply, {size_text(size)} bodies')}",
        f"set xtics ({ticks})", "set grid", "set logscale y", "set key top left", "set xlabel 'share of requests'", "set ylabel 'µs'",
    ]
    for case, repetitions in panels:
        paths = list(repetitions[0])
        for number, path in enumerate(paths):
            lines = "\n".join(f"{x:.4f} {y:.3f}" for x, y in curve(path, repetitions))
            script.append(f"$curve{number} << EOD\n{lines}\nEOD")
        plots = [f"$curve{number} with lines lw 2 lc rgb '{COLOURS[path]}' title '{path}' noenhanced" for number, path in enumerate(paths)]
        script.append(f"set title {quoted(mode_text(case.mode))}\nplot " + ", ".join(plots))
    script.append("unset multiplot")
    done = subprocess.run(["gnuplot"], input="\n".join(script), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"gnuplot failed: {done.stderr.strip()}")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
