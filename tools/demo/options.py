"""The command line of tools/run."""
from __future__ import annotations

import argparse
import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

DESCRIPTION = """\
Shows the mesh at work: two hosts on this one computer, unmodified pyzmq agents on both (memory, speech, vision,
translation and a slow one), a sidecar on each host, and traffic both ways from deploy/mainpc.json and deploy/pc2.json.
The same clients also do their requests the old way, a new connection straight to the other host's agent each time; the
two ways take turns every 1.5 s, and the report sets them side by side: latency, connections, bytes on the wire, CPU,
context switches. Some is asked for again and again; the contracts say which replies are kept, and the report tells how
many duplicates the agents were still asked for, beside what the optimum would have asked them.

Then a chapter on one GPU's memory, on a card made of files: agents that share one copy of their weights, two that race for
memory with and without leases, one that gives way, one that is killed, and the arbiter killed. Each line is a claim.

As root the hosts are two network namespaces joined by a veth pair, otherwise two loopback addresses. Nothing stays
behind."""

EPILOG = """\
examples:
  tools/run                      30 s of traffic, then the report
  tools/run --seconds 6          a quick look
  tools/run --gpu                only the chapter on a GPU's memory
  tools/run --lan                as if the hosts were 0.3 ms apart, like two PCs on a switch
  tools/run --keep               stays up: prints how to call an agent of either host from your own Python
  tools/run --scale 77           54 + 23 agents, a sidecar each against one per host: memory, connections, idle cost
  tools/run --json out.json      the numbers for a program

how a request is judged:
  right   the reply that belongs to it came          wrong   a reply came that does not belong to it
  error   the mesh said why it could not             lost    nothing came within the client's 5 s

exit codes:
  0  every request was answered, rightly or with a typed error, and each service rightly at least once; every claim held
  1  a reply was lost or wrong, a process of the mesh or an agent died, or a claim failed
  64 bad usage   69 Debian packages are missing   70 this machine or this program failed   130 Ctrl-C   143 SIGTERM"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(64, f"tools/run: {message}\nSee tools/run --help.\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="tools/run", description=DESCRIPTION, epilog=EPILOG,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yes", action="store_true",
                        help="install missing Debian packages without asking (also when CI is set)")
    parser.add_argument("--seconds", type=seconds, metavar="N",
                        help="of traffic (default 30; with --keep 6; 0 with --keep: none)")
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    parser.add_argument("--lan", action="store_true", help="0.3 ms from host to host, each way")
    parser.add_argument("--scale", type=int, metavar="N", help="N trivial agents (77: 54 + 23) instead of the demo's")
    parser.add_argument("--gpu", action="store_true", help="only the chapter on a GPU's memory")
    parser.add_argument("--no-gpu", action="store_true", help="without it; nor is it played with --keep")
    parser.add_argument("--no-cache", action="store_true", help="no replies are kept, whatever the contracts say")
    parser.add_argument("--trace", type=Path, metavar="FILE",
                        help="write what was asked by the mesh and may be kept, a line each: KEY BYTES MICROSECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--loopback", action="store_true", help="two loopback addresses, although root")
    parser.add_argument("--keep-logs", action="store_true",
                        help="leave logs, configs and records in their temporary folder")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="use this mesh-sidecar and build nothing")
    chosen = parser.parse_args(arguments)
    if chosen.scale is not None and not 4 <= chosen.scale <= 200:
        parser.error("--scale takes 4 to 200 agents")
    if chosen.scale and chosen.keep:
        parser.error("--keep is for the demo, not for --scale")
    if chosen.scale and chosen.lan and (chosen.loopback or os.geteuid() != 0):
        parser.error("--scale with --lan needs root: the relay that others get has too few descriptors for it")
    if chosen.gpu and (chosen.no_gpu or chosen.keep or chosen.scale):
        parser.error("--gpu is nothing but that chapter")
    if chosen.seconds is None:
        chosen.seconds = 6 if chosen.keep else 30
    if chosen.seconds == 0 and not chosen.keep:
        parser.error("--seconds 0 makes sense only with --keep")
    chosen.sidecar = (chosen.sidecar or REPOSITORY / ".build/sidecar/proxy/mesh-sidecar").resolve()
    chosen.arbiter = Path(os.environ.get("MESH_ARBITER", REPOSITORY / ".build/sidecar/arbiter/mesh-arbiter"))
    chosen.vram_library = Path(os.environ.get("MESH_VRAM_LIBRARY", REPOSITORY / ".build/tools/sdk/vram/libmesh_vram.so"))
    if chosen.gpu and (missing := missing_for_gpu(chosen)):
        parser.error(f"there is no {missing}; without --sidecar, tools/run builds it")
    if not os.access(chosen.sidecar, os.X_OK) and not chosen.gpu:
        parser.error(f"there is no program {chosen.sidecar}; without --sidecar, tools/run builds one")
    for name, file in (("--json", chosen.json), ("--trace", chosen.trace)):
        if file and not file.resolve().parent.is_dir():
            parser.error(f"{name}: there is no folder {file.resolve().parent}")
    return chosen


def missing_for_gpu(chosen: argparse.Namespace) -> Path | None:
    return next((file for file in (chosen.arbiter, chosen.vram_library) if not file.exists()), None)


def seconds(text: str) -> float:
    value = float(text)
    if value != 0 and not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError("1 to 3600, please")
    return value
