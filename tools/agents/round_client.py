#!/usr/bin/env python3
"""Round: asks many agents in turn, several at a time, and checks that each gives back what it was sent.

  round_client.py --ports 22001-22162 --at-once 8 --per-second 200 --seconds 10

Each of the ports is either a drop-in port of this computer or an agent itself (see echo_agents.py).
"""
import argparse
import itertools
import json
import sys
import threading
import time

import req_client


def is_echo_of(number: int, port: int) -> req_client.Check:
    def check(answer: dict) -> str | None:
        got = (answer.get("number"), answer.get("port"))
        return None if got == (number, port) else f"sent {number} by port {port}, got back {got[0]} of port {got[1]}"
    return check


def ask_in_turn(arguments: argparse.Namespace, first: int, end: float, counts: list[dict[str, int]]) -> None:
    """One of those at once: every so-manieth port, at its share of the pace."""
    low, high = (int(port) for port in arguments.ports.split("-"))
    records = open(arguments.records, "a", encoding="utf-8", buffering=1) if arguments.records else None
    clients = [req_client.ReqClient("round_client", f"port {port}", arguments.host, port, records)
               for port in range(low + first, high + 1, arguments.at_once)]
    due = time.monotonic() + first / arguments.per_second
    for number, client in zip(itertools.count(first, arguments.at_once), itertools.cycle(clients)):
        if due > end:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        port = int(client.address.rpartition(":")[2])
        client.ask({"action": "echo", "number": number, "port": port, "note": "Oh dear! I shall be late! " * 12},
                   is_echo_of(number, port))
        due = max(due + arguments.at_once / arguments.per_second, time.monotonic())
    counts += [client.counts for client in clients]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ports", required=True, metavar="FIRST-LAST")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="requests under way (default 8)")
    parser.add_argument("--per-second", type=float, default=200, metavar="N", help="requests (default 200)")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--records", metavar="FILE", help="append one JSON line per request")
    arguments = parser.parse_args()

    end = time.monotonic() + arguments.seconds
    counts: list[dict[str, int]] = []
    threads = [threading.Thread(target=ask_in_turn, args=(arguments, first, end, counts))
               for first in range(arguments.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = {outcome: sum(one[outcome] for one in counts) for outcome in ("right", "error", "wrong", "lost")}
    print(json.dumps(total))
    sys.exit(1 if total["wrong"] + total["lost"] else 0)


if __name__ == "__main__":
    main()
