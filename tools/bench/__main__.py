"""How fast is the mesh? Request and reply through two sidecars, against the same through two libzmq proxies."""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from bench import measure, plot, report
from bench.habits import list_of, machine, progress
from bench.measure import MODES, Case
from bench.paths import PATHS, BenchError, Tools

REPOSITORY = Path(__file__).resolve().parents[2]
ALL_SIZES = [128, 1024, 65536, 1048576]
QUICK = {"sizes": [128, 1024, 65536], "reps": 3, "seconds": 0.3}
NORMAL = {"sizes": ALL_SIZES, "reps": 5, "seconds": 1.5}
START_SECONDS = 0.25  # to bring a path up and down, and to warm it up; only for the estimate

DESCRIPTION = """\
Sends requests from a libzmq client to a libzmq server on this machine, through each of these paths:

""" + "\n".join(f"  {name:<16}{text}" for name, text in PATHS.items()) + """

Modes (what the client keeps in flight):
  1               one REQ socket: latency, and the cost of being woken for every message
  64              one DEALER socket with 64 requests outstanding: throughput, and what batching saves
  16x1            16 REQ sockets with one each, polled by one thread: many agents behind one sidecar

Every repetition takes every path in turn, each in fresh processes and in an order that rotates. A ratio compares two paths within
one repetition; its median over the repetitions is what the goals are held against, so a machine that is slow for a while does not
decide. Every reply is checked: length, and the request's stamp at both ends of the body. The exit code says whether all runs were
completed with right replies, not whether the goals were hit.
"""

EXAMPLES = """\
examples:
  tools/bench/run --quick                                    about a minute: is it broken, is it roughly as fast as it was?
  tools/bench/run --reps 9 --json bench.json --plot bench.svg   the numbers to publish
  tools/bench/run --sizes 1024 --modes 64 --paths zmq_proxy_pair,mesh_pair   one question
  tools/bench/run --sizes 1024 --modes 1 --reps 1 --syscalls    what the sidecars ask of the kernel per request
"""


def sizes(text: str) -> list[int]:
    try:
        found = [int(size) for size in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("sizes are bytes, e.g. 128,65536")
    if min(found) < 32 or max(found) > 4 << 20:
        raise argparse.ArgumentTypeError("sizes go from 32 B (two stamps) to 4 MiB (what a drop-in port takes)")
    return found


def cpu_sets(text: str) -> tuple[set[int], set[int]]:
    try:
        ends, middle = ({int(cpu) for cpu in part.split(",")} for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError("say CPUS:CPUS, e.g. 0:1 or 0,1:2,3")
    if not ends | middle <= os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(f"this machine has CPUs {sorted(os.sched_getaffinity(0))}")
    return ends, middle


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/run", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a first look: 3 short repetitions, no 1 MiB bodies")
    parser.add_argument("--reps", type=int, metavar="N", help="repetitions (default 5; 3 with --quick)")
    parser.add_argument("--seconds", type=float, metavar="S", help="timed part of each run (default 1.5; 0.3 with --quick)")
    parser.add_argument("--paths", type=list_of(list(PATHS)), default=list(PATHS), metavar="LIST", help="default: all four")
    parser.add_argument("--sizes", type=sizes, metavar="LIST", help="body bytes (default 128,1024,65536,1048576)")
    parser.add_argument("--modes", type=list_of(list(MODES)), default=list(MODES), metavar="LIST", help="default: 1,64,16x1")
    parser.add_argument("--bare", action="store_true", help="mode 64 without the empty delimiter frame that REP agents need")
    parser.add_argument("--syscalls", action="store_true", help="also count system calls, with strace, in one more run per path")
    parser.add_argument("--pin", type=cpu_sets, metavar="ENDS:MIDDLE", help="CPUs for client and server, and for the middle, e.g. 0:1 "
                        "(default: the kernel decides, as it does for users)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the latency distribution (.svg or .png; needs gnuplot)")
    parser.add_argument("--build", type=Path, default=REPOSITORY / ".build", metavar="DIR", help="take the programs of another build "
                        "folder, as they are")
    parser.add_argument("--no-build", action="store_true", help="take those in .build as they are")
    parser.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="another mesh-sidecar, e.g. an older one to compare with")
    arguments = parser.parse_args()
    for name, default in (QUICK if arguments.quick else NORMAL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if arguments.reps < 1 or arguments.seconds <= 0:
        parser.error("--reps and --seconds must be positive")
    for file in (arguments.json, arguments.plot):
        if file and not file.absolute().parent.is_dir():  # better said now than after the last repetition
            parser.error(f"there is no folder {file.parent} for {file.name}")
    return arguments


def run_all(arguments: argparse.Namespace, tools: Tools, cases: list[Case], results: dict[Case, report.Repetitions]) -> None:
    """Fills results. A repetition that is cut short leaves no trace in it, so that every ratio stays a paired one."""
    for number in range(arguments.reps):
        shift = number % len(arguments.paths)
        order = arguments.paths[shift:] + arguments.paths[:shift]
        for case in cases:
            progress(f"repetition {number + 1}/{arguments.reps}: {report.size_text(case.size)}, {report.mode_text(case.mode)}")
            try:
                measured = {path: measure.measure(path, case, tools, arguments.seconds, arguments.bare) for path in order}
            except BenchError as error:
                raise BenchError(f"{report.size_text(case.size)}, {report.mode_text(case.mode)}, {error}") from error
            results.setdefault(case, []).append({path: measured[path] for path in arguments.paths})
    if arguments.syscalls:
        for case, repetitions in results.items():
            for path in arguments.paths:
                progress(f"system calls: {report.size_text(case.size)}, {report.mode_text(case.mode)}, {path}")
                repetitions[0][path].syscalls_per_request = measure.count_syscalls(path, case, tools, arguments.bare)


def main() -> int:
    arguments = parse_arguments()
    if arguments.plot:
        plot.require_gnuplot()
    if arguments.syscalls and not shutil.which("strace"):
        raise BenchError("--syscalls needs strace: apt-get install strace")
    with_mesh = "mesh_pair" in arguments.paths
    ends, middle = arguments.pin or (None, None)
    tools = Tools(bench=arguments.build.resolve() / "tools" / "bench", ends_cpus=ends, middle_cpus=middle,
                  sidecar=(arguments.sidecar or arguments.build / "sidecar" / "proxy" / "mesh-sidecar").resolve())
    about = machine()
    cases = [Case(size, mode) for size in arguments.sizes for mode in arguments.modes]
    runs = len(cases) * len(arguments.paths) * arguments.reps
    minutes = runs * (arguments.seconds * (1 + measure.WARMUP_SHARE) + START_SECONDS) / 60
    print(f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, load {about['load_before']:.1f}; "
          f"{runs} runs, about {max(1, round(minutes))} min", flush=True)
    if about["load_before"] > 0.5:
        print("Something else is busy on this machine: medians will wander, ratios less so.", flush=True)

    results: dict[Case, report.Repetitions] = {}
    memory = None
    started = time.monotonic()
    try:
        run_all(arguments, tools, cases, results)
        if with_mesh:
            progress("memory of a sidecar")
            memory = measure.measure_memory(tools, min(1.0, arguments.seconds))
    except KeyboardInterrupt:
        print("\nstopped; what follows is from the repetitions that were complete")
    progress("")
    if not results:
        return 130
    about |= {"libzmq": next(iter(results.values()))[0][arguments.paths[0]].libzmq, "took_s": round(time.monotonic() - started, 1)}
    report.print_table(results)
    print()
    report.print_legend(arguments.paths)
    if "zmq_proxy_pair" in arguments.paths and len(arguments.paths) > 1:
        report.print_ratios(report.all_ratios(results))
    report.print_verdict(results, memory)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(results, memory, about), indent=1) + "\n")
    if arguments.plot:
        plot.write_plot(results, arguments.plot)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as problem:
        print(f"\ntools/bench/run: {problem}", file=sys.stderr)
        sys.exit(1)
