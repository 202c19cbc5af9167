"""Traces as they are written by hand or by a program, and what came of their replay."""
from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.paths import BenchError

UNIT_BYTES = 2 << 20
FORMAT = """\
A trace is a file of JSON lines, a request each, in the order of their times:

  {"at_ms": 1500, "model": "llama-8b-q4", "bytes": 4920000000, "load_ms": 2300, "hold_ms": 800, "host": 0}

  at_ms     when it is asked for, since the beginning of the trace
  model     its name; requests of one name are for the same memory
  bytes     what the model takes of a GPU
  load_ms   how long it takes to load it into one
  hold_ms   how long this request computes with it
  host      optional: at which host it is asked for, from 0 (default: 0)
"""


def compact(file: Path, into: Path) -> None:
    """As mesh-bench-vram reads it: AT_MS MODEL UNITS LOAD_MS HOLD_MS HOST."""
    numbers: dict[str, int] = {}
    lines = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            asked = json.loads(line)
            model = numbers.setdefault(str(asked["model"]), len(numbers))
            units = -(-int(asked["bytes"]) // UNIT_BYTES)
            lines.append(f"{int(asked['at_ms'])} {model} {units} {int(asked['load_ms'])} {int(asked['hold_ms'])} {int(asked.get('host', 0))}\n")
        except (ValueError, TypeError) as error:
            raise BenchError(f"{file.name}, line {number}: {error}") from error
        except KeyError as error:
            raise BenchError(f"{file.name}, line {number}: {error.args[0]} is missing") from error
    into.write_text("".join(lines))


def replay(program: Path, requests: int, seeds: int, network_us: int, cards: list[int], files: dict[str, Path]) -> list[dict]:
    command = [program, str(requests), str(seeds), str(network_us), ",".join(str(card) for card in cards),
               *(f"{name}={file}" for name, file in files.items())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"{program} is not built") from error
    if done.returncode != 0:
        raise BenchError(f"mesh-bench-vram failed ({done.returncode}): {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]
