"""The command line of the adapters."""

import argparse
import json
import logging
import signal
import sys
import threading

from .. import errors
from ..connection import PRIORITIES, Connection
from ..sizes import parse_size
from .calls import Address, ServerError
from .front import Front
from .holdings import Holdings
from .listener import is_loopback
from .servers import KINDS

EXIT_USAGE, EXIT_UNAVAILABLE = 64, 69
URLS = {"ollama": "http://127.0.0.1:11434", "llama-server": "http://127.0.0.1:8080", "vllm": "http://127.0.0.1:8000"}
NEEDS = {
    "ollama": "Any Ollama with /api/ps; it says by itself how large its models are.",
    "llama-server": "A router: llama-server started without a model. Sizes are yours to say: it tells none. It cuts off requests\n"
                    "that run when it unloads, so that the adapter waits for those; of those it does not pass on itself it\n"
                    "knows by /slots.",
    "vllm": "vllm serve … --enable-sleep-mode, with VLLM_SERVER_DEV_MODE=1. The size is yours to say; what stays on the card\n"
            "while it sleeps (some GiB) is not leased. It does not survive being put to sleep while it computes, so that the\n"
            "adapter waits until /metrics shows no request.",
}

DESCRIPTION = """\
Makes the models of a server that knows nothing of leases reclaimable: a lease for each that is loaded, and unloaded when
others need the memory (vLLM: put to sleep). Only what the server shows to be gone is given back.

Unverified: not run against the real program of any of the three, only against stand-ins that speak the endpoints as
they are documented. `--look` shows what the adapter makes of yours, and changes nothing."""

EPILOG = """\
examples:
  python3 -m mesh_vram.adapters ollama --look
  python3 -m mesh_vram.adapters ollama --listen 127.0.0.1:11435         and OLLAMA_HOST=127.0.0.1:11435 for its clients
  python3 -m mesh_vram.adapters llama-server --size qwen3-8b=7GiB --size 4GiB --listen 127.0.0.1:8081
  python3 -m mesh_vram.adapters vllm --size 20GiB --priority batch

`python3 -m mesh_vram.adapters KIND --help` tells what that server needs.
exit codes: 0 stopped as told   64 bad usage   69 no arbiter, no such server (--look), or the port is taken"""

FRONT = """\
with --listen
  A request that computes with a model waits until its memory is leased, at most --wait seconds; then the answer streams
  through. 503 with Retry-After: no memory in time. 507: it never fits. 500: nobody said its size. 502, 504: the server.
  While requests run the model is in use, and asked for last. Two models of one server that do not fit together take
  turns. Requests that go past the front are not held up; what they load is leased afterwards."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\nSee {self.prog} --help.\n")


def seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 3600:
        raise argparse.ArgumentTypeError("0.05 to 3600 seconds")
    return value


def size(text: str) -> tuple[str | None, int]:
    name, _, amount = text.rpartition("=")
    try:
        return name or None, parse_size(amount)
    except errors.Invalid as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def address(text: str) -> Address:
    try:
        return Address(text)
    except errors.Invalid as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def listen(text: str) -> tuple[str, int]:
    if (found := is_loopback(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: HOST:PORT of the loopback only, since whoever reaches it may ask; put a "
                                         "proxy that asks for a password before it for others")
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="python3 -m mesh_vram.adapters", description=DESCRIPTION, epilog=EPILOG,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, parser_class=Parser)
    for kind in KINDS:
        one = kinds.add_parser(kind, help=f"unverified: not run against the real program; {URLS[kind]} if nothing else is said",
                               description=f"{NEEDS[kind]}\n\nUnverified: not run against the real program.", epilog=FRONT,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        one.add_argument("--url", type=address, default=URLS[kind], metavar="URL", help=f"of the server ({URLS[kind]})")
        one.add_argument("--listen", type=listen, metavar="HOST:PORT", help="be a front there; port 0: any, said on stdout")
        one.add_argument("--size", type=size, action="append", default=[], metavar="[NAME=]SIZE",
                         help='what a model takes of the card, like llama3=6GiB; without a name: all others')
        one.add_argument("--priority", choices=list(PRIORITIES), default="normal", help="of its leases (normal)")
        one.add_argument("--wait", type=seconds, default=30.0, metavar="SECONDS", help="for memory (30)")
        one.add_argument("--load", type=seconds, metavar="SECONDS", help="a model takes to load: what is costly stays longer")
        one.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two looks at the server (1)")
        one.add_argument("--away", type=seconds, default=10.0, metavar="SECONDS",
                         help="a lease is kept if nobody answers and the server's process is not known (10); if it is known, "
                              "until it ended")
        one.add_argument("--arbiter", metavar="PATH", help="its socket; MESH_VRAM_SOCKET or /run/mesh/gpu.leases if not given")
        one.add_argument("--look", action="store_true", help="print what the server has loaded as JSON, and end")
    return parser.parse_args(arguments)


def look(chosen: argparse.Namespace) -> int:
    server = KINDS[chosen.kind](chosen.url)
    try:
        loaded = server.loaded()
        found = {name: {"bytes": taken, "is_busy": server.is_busy(name)} for name, taken in loaded.items()}
    except ServerError as error:
        print(f"adapters: {chosen.url}: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    print(json.dumps({"server": str(chosen.url), "kind": chosen.kind, "loaded": found}, indent=2))
    return 0


def run(chosen: argparse.Namespace, stop: threading.Event) -> int:
    try:
        connection = Connection(chosen.arbiter, client=f"{chosen.kind} {chosen.url}", wait=10)
    except errors.VramError as error:
        print(f"adapters: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    sizes = dict(chosen.size)
    holdings = Holdings(KINDS[chosen.kind](chosen.url), connection, default_size=sizes.pop(None, None), sizes=sizes,
                        priority=chosen.priority, wait=chosen.wait, away=chosen.away, load_s=chosen.load)
    front = None
    if chosen.listen:
        try:
            front = Front(chosen.listen, holdings, chosen.wait)
        except OSError as error:
            print(f"adapters: --listen {chosen.listen[0]}:{chosen.listen[1]}: {error.strerror}", file=sys.stderr)
            return EXIT_UNAVAILABLE
        threading.Thread(target=front.serve_forever, args=(0.1,), name="front", daemon=True).start()
    where = f"listening on http://{chosen.listen[0]}:{front.server_address[1]}, " if front else ""
    print(f"{where}watching {chosen.kind} at {chosen.url}", flush=True)
    while not stop.is_set():
        holdings.tick()
        stop.wait(chosen.interval)
    if front:
        front.shutdown()
    connection.close()
    return 0


def main() -> int:
    chosen = parse(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if chosen.look:
        return look(chosen)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    return run(chosen, stop)


if __name__ == "__main__":
    sys.exit(main())
