"""What are kept replies good for? Latency, throughput, hit ratios, and duplicates that do not reach the agents."""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench import plot as bench_plot
from bench.caching import measure, plot, report, traces
from bench.caching.places import PLACES, SLOW, Place, without_missing
from bench.caching.report import Repetitions, Results
from bench.habits import list_of, machine, progress
from bench.paths import BenchError, Tools
from demo.report import Paint

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK = {"reps": 3, "seconds": 0.3, "requests": 40_000, "demo_seconds": 6.0, "demo_reps": 1}
NORMAL = {"reps": 7, "seconds": 1.0, "requests": 200_000, "demo_seconds": 30.0, "demo_reps": 3}
SLOW_OUTSTANDING = 4
SLOW_SECONDS_MIN = 1.5  # the agent answers ten times a second
START_SECONDS = 0.3  # to bring a place up and down, and to warm it up; only for the estimate
PARTS = {
    "latency": "one at a time: p50 and p99 at each place",
    "throughput": "64 outstanding: lookups per second, and the CPU of client, sidecars and server",
    "slow": "lookups per second against an agent that answers ten times a second, kept and not",
    "traces": "hits of the real memory tier on made traces and the demo's, beside LRU, S3-FIFO and Belady's choice",
    "demo": "tools/run with the contracts' cache and without: duplicates that reach the agents",
}

DESCRIPTION = """\
Looks replies up at each of these places, on this machine:

""" + "\n".join(f"  {name:<12}{place.text}" for name, place in PLACES.items()) + """

Parts:
""" + "\n".join(f"  {name:<12}{text}" for name, text in PARTS.items()) + """

Every repetition takes every place in turn, each in fresh processes and in an order that rotates. A ratio compares two places
within one repetition; the goals are held against its median. Every reply is checked byte by byte, and a place that claims hits
must have given them: the sidecars' counters are read before and after. Belady's choice is the best there is where all replies are
of one size; where they are not, "at most" is what no choice can exceed. The exit code says whether all was measured with right replies, not whether the goals were hit.
"""

EXAMPLES = """\
examples:
  tools/bench/cache --quick                                     about two minutes: is it broken, is it roughly as it was?
  tools/bench/cache --json cache.json --plot cache.svg          the numbers to publish
  tools/bench/cache --parts latency --places direct,local       one question
  tools/bench/cache --parts traces,demo                         without the clock: what is hit
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/cache", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a first look: few and short repetitions")
    parser.add_argument("--parts", type=list_of(list(PARTS)), default=list(PARTS), metavar="LIST", help="default: all")
    parser.add_argument("--places", type=list_of(list(PLACES)), default=list(PLACES), metavar="LIST", help="default: all")
    parser.add_argument("--reps", type=int, metavar="N", help="repetitions (default 7; 3 with --quick)")
    parser.add_argument("--seconds", type=float, metavar="S", help="timed part of each run (default 1; 0.3 with --quick)")
    parser.add_argument("--requests", type=int, metavar="N", help="in each made trace (default 200000; 40000 with --quick)")
    parser.add_argument("--demo-seconds", type=float, metavar="S", help="of each run of the demo (default 30; 6 with --quick)")
    parser.add_argument("--demo-reps", type=int, metavar="N", help="pairs of runs of the demo (default 3; 1 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", "--svg", type=Path, metavar="FILE", help="draw hits by size and the latencies (.svg or .png; needs gnuplot)")
    parser.add_argument("--build", type=Path, default=REPOSITORY / ".build", metavar="DIR", help="take the programs of another build "
                        "folder, as they are")
    parser.add_argument("--no-build", action="store_true", help="take those in .build as they are")
    parser.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="another mesh-sidecar, e.g. an older one to compare with")
    arguments = parser.parse_args()
    for name, default in (QUICK if arguments.quick else NORMAL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if min(arguments.reps, arguments.seconds, arguments.demo_reps) <= 0 or arguments.demo_seconds < 1 or arguments.requests < 1000:
        parser.error("--reps, --seconds and --demo-reps must be positive, --demo-seconds at least 1, --requests at least 1000")
    for file in (arguments.json, arguments.plot):
        if file and not file.absolute().parent.is_dir():  # better said now than after the last repetition
            parser.error(f"there is no folder {file.parent} for {file.name}")
    return arguments


def repetition(places: list[Place], number: int, what: str, look_up) -> dict[str, measure.Lookups]:
    """Every place once, in an order that rotates."""
    shift = number % len(places)
    measured = {}
    for place in places[shift:] + places[:shift]:
        progress(f"{what}: {place.name}")
        measured[place.name] = look_up(place)
    return {place.name: measured[place.name] for place in places}


def run_lookups(arguments: argparse.Namespace, tools: Tools, places: list[Place], results: Results) -> None:
    slow_seconds = max(SLOW_SECONDS_MIN, 2 * arguments.seconds)
    loads: dict[str, tuple[Repetitions, list[Place], object]] = {
        "latency": (results.latency, places, lambda place: measure.look_up(place, tools, 1, arguments.seconds)),
        "throughput": (results.throughput, [place for place in places if place.name != "table"],
                       lambda place: measure.look_up(place, tools, 64, arguments.seconds)),
        "slow": (results.slow, SLOW, lambda place: measure.look_up(place, tools, SLOW_OUTSTANDING, slow_seconds, is_cold=True)),
    }
    for number in range(arguments.reps):
        for part, (repetitions, of, look_up) in loads.items():
            if part in arguments.parts and of:
                repetitions.append(repetition(of, number, f"{part}, repetition {number + 1}/{arguments.reps}", look_up))


def run_traces(arguments: argparse.Namespace, tools: Tools, results: Results) -> None:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        trace = None
        if "demo" in arguments.parts:
            for number in range(arguments.demo_reps):
                progress(f"the demo, kept and not kept, {number + 1}/{arguments.demo_reps}")
                demo, trace = traces.run_demo(tools, arguments.demo_seconds, Path(folder), kept_first=number % 2 == 0)
                results.demos.append(demo)
        if "traces" in arguments.parts:
            progress("traces")
            results.traces += traces.compare_policies(tools, arguments.requests, trace)


def main() -> int:
    arguments = parse_arguments()
    paint = Paint()
    if arguments.plot:
        bench_plot.require_gnuplot()
    tools = Tools(bench=arguments.build.resolve() / "tools" / "bench",
                  sidecar=(arguments.sidecar or arguments.build / "sidecar" / "proxy" / "mesh-sidecar").resolve())
    places, missing = without_missing({name: PLACES[name] for name in arguments.places})
    about = machine()
    lookups = arguments.reps * (len(places) * 2 * (1.2 * arguments.seconds + START_SECONDS) + 2 * max(1.5, 2 * arguments.seconds))
    demo = arguments.demo_reps * 2 * (arguments.demo_seconds + 5) if "demo" in arguments.parts else 0
    print(f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, load {about['load_before']:.1f}; "
          f"about {max(1, round((lookups + demo) / 60))} min", flush=True)
    if about["load_before"] > 0.5:
        print("Something else is busy on this machine: medians will wander, ratios less so.", flush=True)
    for line in missing:
        print(line, flush=True)

    results = Results()
    started = time.monotonic()
    stopped = False
    try:
        run_lookups(arguments, tools, list(places.values()), results)
        run_traces(arguments, tools, results)
    except KeyboardInterrupt:
        stopped = True
        print("\nstopped; what follows is from the repetitions that were complete")
    progress("")
    print("\n".join(report.all_lines(results, paint)))
    if arguments.json:
        about["took_s"] = round(time.monotonic() - started, 1)
        arguments.json.write_text(json.dumps(report.as_json(results, about), indent=1) + "\n")
    if arguments.plot and not stopped:
        plot.write_plot(results, arguments.plot)
    return 130 if stopped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as problem:
        print(f"\ntools/bench/cache: {problem}", file=sys.stderr)
        sys.exit(1)
