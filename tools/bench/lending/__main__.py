"""Who should lend a GPU's memory? The same requests for models on a virtual clock, by each of several lenders."""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import plot as bench_plot
from bench.habits import progress
from bench.lending import plot, report, traces
from bench.paths import BenchError
from demo.report import Paint

REPOSITORY = Path(__file__).resolve().parents[3]
CARDS = "12;24;24,12"
QUICK = {"requests": 4_000, "seeds": 1}
NORMAL = {"requests": 20_000, "seeds": 3}

DESCRIPTION = """\
Replays requests for models on cards whose memory is lent by each of these:

""" + "\n".join(f"  {name:<18}{text}" for name, text in report.LENDERS.items()) + """

Made traces: steady, shifting (which models are liked changes ten times), large ones (some models are above 4 GiB); the more memory
there is, the more models are asked for, and the more often. Nothing is measured with a clock: what comes out is the same on every
machine. A model that is asked to go does so 50 ms after it is idle with the arbiter, and at once with all others. Of several cards
each is another host's: the others take a model where it is, or where most is free, the arbiter where it is predicted to be done
first; who is served at another host waits for the network, too.

""" + traces.FORMAT

EXAMPLES = """\
examples:
  tools/bench/gpu --quick                                    a first look
  tools/bench/gpu --json gpu.json --plot gpu.svg             the numbers to publish
  tools/bench/gpu --cards 24 --trace lab=requests.jsonl      what was asked for in your lab, on a card of 24 GiB
"""


def card_sets(text: str) -> list[list[int]]:
    try:
        found = [[int(card) for card in one.split(",")] for one in text.split(";")]
    except ValueError:
        raise argparse.ArgumentTypeError("say the GiB of each host's card, e.g. 24,12; more sets behind a semicolon")
    if not all(1 <= card <= 1024 for one in found for card in one):
        raise argparse.ArgumentTypeError("a card has 1 to 1024 GiB")
    return found


def named_file(text: str) -> tuple[str, Path]:
    name, is_named, file = text.partition("=")
    if not is_named or not name or not Path(file).is_file() or not set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-"):
        raise argparse.ArgumentTypeError(f"{text} is no NAME=FILE")
    return name, Path(file)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/gpu", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a first look: short traces of one seed")
    parser.add_argument("--cards", type=card_sets, default=CARDS, metavar="SETS", help=f"GiB of each host's card (default {CARDS!r})")
    parser.add_argument("--requests", type=int, metavar="N", help="in each made trace (default 20000; 4000 with --quick)")
    parser.add_argument("--seeds", type=int, metavar="N", help="of each made trace, 0 for none (default 3; 1 with --quick)")
    parser.add_argument("--trace", type=named_file, action="append", default=[], metavar="NAME=FILE", help="of JSON lines, see above")
    parser.add_argument("--network-us", type=int, default=500, metavar="US", help="to another host and back (default 500)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", "--svg", type=Path, metavar="FILE", help="draw it (.svg or .png; needs gnuplot)")
    parser.add_argument("--build", type=Path, default=REPOSITORY / ".build", metavar="DIR", help="take the programs of another build "
                        "folder, as they are")
    parser.add_argument("--no-build", action="store_true", help="take those in .build as they are")
    parser.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
    arguments = parser.parse_args()
    for name, default in (QUICK if arguments.quick else NORMAL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if arguments.requests < 100 or arguments.seeds < 0 or arguments.network_us < 0:
        parser.error("--requests must be at least 100, --seeds and --network-us not negative")
    if arguments.seeds == 0 and not arguments.trace:
        parser.error("there is nothing to replay: --seeds 0 needs a --trace")
    for file in (arguments.json, arguments.plot):
        if file and not file.absolute().parent.is_dir():  # better said now than at the end
            parser.error(f"there is no folder {file.parent} for {file.name}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if arguments.plot:
        bench_plot.require_gnuplot()
    program = arguments.build.resolve() / "tools" / "bench" / "mesh-bench-vram"
    rows: list[report.Row] = []
    outcomes: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        files = {}
        for number, (name, file) in enumerate(arguments.trace):
            files[name] = Path(folder, str(number))
            traces.compact(file, files[name])
        for cards in arguments.cards:
            name = "+".join(str(card) for card in cards) + " GiB"
            progress(name)
            outcomes[name] = traces.replay(program, arguments.requests, arguments.seeds, arguments.network_us, cards, files)
            rows += report.rows_of(name, outcomes[name])
    progress("")
    paint = Paint()
    print("\n".join([*report.table_lines(rows, paint), *report.goal_lines(report.goals(rows), paint)]))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(rows, outcomes), indent=1) + "\n")
    if arguments.plot:
        plot.write_plot(rows, arguments.plot)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as problem:
        print(f"\ntools/bench/gpu: {problem}", file=sys.stderr)
        sys.exit(1)
