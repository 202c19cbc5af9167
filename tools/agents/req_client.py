"""The base class of the client agents: a new REQ socket for each attempt, JSON in one frame, five seconds of patience.

This is how the clients that exist do it, habits included, so it is not an example of how to do it well. Whether a
request goes straight to an agent on the other computer or to a drop-in port on this one is a matter of --host and
--port alone.
"""
from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TextIO

import zmq

RECEIVE_TIMEOUT_MS = 5000
TEXT_FOLDER = Path(__file__).parent / "text"
# Of what is read: so much is asked for a second time or oftener, as by agents that do not know of one another.
DUPLICATE_SHARE = 0.6

# Says what is wrong with a reply, or nothing if it is the one that this request must get.
Check = Callable[[dict[str, Any]], str | None]
# Yields a request and its check, and is sent how that went: "right", "error", "wrong" or "lost".
Requests = Generator[tuple[dict[str, Any], Check], str, None]


class ReqClient:
    """Asks one service and keeps a record of every attempt."""

    def __init__(self, name: str, service: str, host: str, port: int, records: TextIO | None) -> None:
        self.name = name
        self.service = service
        self.address = f"tcp://{host}:{port}"
        self.records = records
        self.context = zmq.Context.instance()
        self.counts = {"right": 0, "error": 0, "wrong": 0, "lost": 0}

    def ask(self, payload: dict[str, Any], check: Check) -> str:
        """One attempt. right: its reply came; error: the mesh said why not; lost: nothing came; wrong: all else."""
        request_id = str(uuid.uuid4())
        body = json.dumps({**payload, "request_id": request_id, "timestamp": datetime.datetime.now().isoformat(),
                           "source_agent": self.name}).encode()
        started = time.perf_counter()
        socket = self.context.socket(zmq.REQ)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, RECEIVE_TIMEOUT_MS)
            socket.connect(self.address)
            socket.send(body)
            reply = socket.recv()
        except zmq.Again:
            reply = None
        finally:
            socket.close()
        took_ms = (time.perf_counter() - started) * 1000
        outcome, code, detail = judge(reply, request_id, check)
        self.counts[outcome] += 1
        if self.records:
            # The key is what tells one request from another, without what is written anew into each attempt.
            key = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]
            record = {"service": self.service, "action": payload.get("action"), "key": key, "at": started, "outcome": outcome,
                      "ms": round(took_ms, 3), "request_bytes": len(body), "reply_bytes": len(reply or b"")}
            if outcome != "right":
                record |= {"request_id": request_id, "code": code, "detail": detail}
            self.records.write(json.dumps(record) + "\n")
        return outcome


def judge(reply: bytes | None, request_id: str, check: Check) -> tuple[str, str, str]:
    if reply is None:
        return "lost", "", f"no reply within {RECEIVE_TIMEOUT_MS} ms"
    try:
        answer = json.loads(reply)
    except ValueError as error:
        return "wrong", "", f"the reply is no JSON: {error}"
    if not isinstance(answer, dict):
        return "wrong", "", "the reply is no JSON object"
    if answer.get("status") == "error" and "mesh" in answer:
        return "error", str(answer.get("code")), json.dumps({"message": answer.get("message"), "mesh": answer["mesh"]})
    if answer.get("request_id", request_id) != request_id:
        return "wrong", "", "the reply carries the request_id of another request"
    if answer.get("status") == "error":
        return "wrong", "", f"the agent refused: {answer.get('error')}"
    complaint = check(answer)
    return ("wrong", "", complaint) if complaint else ("right", "", "")


def paragraphs(name: str) -> list[str]:
    return (TEXT_FOLDER / name).read_text(encoding="utf-8").strip().split("\n\n")


def with_repeats(fresh: Requests) -> Requests:
    """Among the fresh requests some that were made before; the same ones each time, for runs that are compared."""
    draw = random.Random(1)
    asked: list[tuple[dict[str, Any], Check]] = []
    pending = next(fresh)
    while True:
        if asked and draw.random() < DUPLICATE_SHARE:
            yield draw.choice(asked)
            continue
        outcome = yield pending
        if outcome == "right":
            asked.append(pending)
        pending = fresh.send(outcome)


def work(client: ReqClient, requests: Requests, seconds: float, per_second: float, pending: list) -> None:
    """Asks at a steady pace for so many seconds; `pending` keeps the next request from one call to the other."""
    end = time.monotonic() + seconds
    due = time.monotonic()
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        pending[0] = requests.send(client.ask(*pending[0]))
        due = max(due + 1 / per_second, time.monotonic())
    if client.records:
        client.records.flush()


def main(description: str | None, service: str, requests: Requests, default_per_second: float) -> None:
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=os.environ.get("AGENT_HOST", "127.0.0.1"),
                        help="default: AGENT_HOST from the environment or 127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("AGENT_PORT", "0")),
                        help="default: AGENT_PORT from the environment")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--per-second", type=float, default=default_per_second, metavar="N",
                        help="requests (default %(default)s)")
    parser.add_argument("--records", metavar="FILE", help="append one JSON line per request")
    parser.add_argument("--driven", action="store_true",
                        help="read lines of SECONDS from standard input, work as long, answer each with counts")
    arguments = parser.parse_args()
    if not arguments.port:
        parser.error("which port? (--port or AGENT_PORT)")

    records = open(arguments.records, "a", encoding="utf-8") if arguments.records else None
    client = ReqClient(name, service, arguments.host, arguments.port, records)
    pending = [next(requests)]
    if arguments.driven:
        print("ready", flush=True)
        for line in sys.stdin:
            work(client, requests, float(line), arguments.per_second, pending)
            print(json.dumps(client.counts), flush=True)
    else:
        work(client, requests, arguments.seconds, arguments.per_second, pending)
        print(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in client.counts.items()))
        sys.exit(1 if client.counts["lost"] + client.counts["wrong"] else 0)
