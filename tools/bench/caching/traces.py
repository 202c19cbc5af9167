"""Hit ratios of traces, and the demo's traffic with and without replies that are kept."""
from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.paths import BenchError, Tools

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Demo:
    """One run of tools/run with the contracts' cache and one without; counts are those of the mesh's side."""
    kept: dict
    asked: dict
    declared_share: float

    @property
    def fewer_reached(self) -> float | None:
        """By how much fewer duplicates reached the agents, 0 to 1."""
        # The two runs are paced alike, but not to the request: so shares are compared.
        with_cache = self.kept["reached_again"] / max(1, self.kept["requests"])
        without = self.asked["reached_again"] / max(1, self.asked["requests"])
        return 1 - with_cache / without if without else None


def run_demo(tools: Tools, seconds: float, folder: Path, kept_first: bool) -> tuple[Demo, Path]:
    """Also the trace of what was asked, with what the agents took for it."""
    trace = folder / "demo.trace"
    results = {}
    for with_cache in (kept_first, not kept_first):
        file = folder / "demo.json"
        command = [REPOSITORY / "tools" / "run", "--sidecar", tools.sidecar, "--loopback", "--seconds", str(seconds), "--json", file]
        done = subprocess.run(command if with_cache else [*command, "--no-cache", "--trace", trace], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise BenchError(f"tools/run failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        results[with_cache] = json.loads(file.read_text())["duplicates"]
    return Demo(results[True]["mesh"], results[False]["mesh"], results[True]["declared_share"]), trace


def compare_policies(tools: Tools, requests: int, demo_trace: Path | None) -> list[dict]:
    command = [tools.bench / "mesh-bench-eviction", str(requests)] + ([f"demo={demo_trace}"] if demo_trace else [])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"mesh-bench-eviction failed ({done.returncode}): {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def at_budget(trace: dict) -> dict:
    return next(size for size in trace["sizes"] if size["factor"] == 1)
