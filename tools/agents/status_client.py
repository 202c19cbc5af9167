#!/usr/bin/env python3
"""Status: asks a slow agent how it is, again and again, as a monitor would.

  status_client.py --host 10.77.0.1 --port 5703      straight to the agent on the other computer
  status_client.py --port 6813                       by the mesh: a drop-in port on this computer
"""
import itertools
import os

import req_client


def is_status(number: int) -> req_client.Check:
    def check(answer: dict) -> str | None:
        got = answer.get("number")
        return None if got == number else f"asked as number {number}, answered to {got}"
    return check


def requests() -> req_client.Requests:
    # Two monitors that count alike could not tell each other's replies from their own.
    for number in itertools.count(os.getpid() * 1_000_000):
        yield {"action": "get_status", "number": number}, is_status(number)


if __name__ == "__main__":
    req_client.main(__doc__, os.environ.get("AGENT_SERVICE", "slow"), requests(), default_per_second=4)
