"""ledger_agent.py rep|router ENDPOINT LEDGER: an agent that writes down each request before it answers.

One line a request, "id pid", in one write to the end of the file, so that neither another agent nor a kill tears it.
A request says by its work_ms how long it takes; a ROUTER works on many at once.
"""
from __future__ import annotations

import heapq
import json
import math
import os
import sys
import time

import zmq


def answer(request: dict) -> bytes:
    return json.dumps({"id": request["id"], "pid": os.getpid(), "pad": request["pad"]}).encode()


def write_down(ledger: int, request: dict) -> None:
    os.write(ledger, f"{request['id']} {os.getpid()}\n".encode())


def serve_rep(server: zmq.Socket, ledger: int) -> None:
    while True:
        request = json.loads(server.recv())
        write_down(ledger, request)
        time.sleep(request["work_ms"] / 1000)
        server.send(answer(request))


def serve_router(server: zmq.Socket, ledger: int) -> None:
    due: list[tuple[float, int, list[bytes]]] = []
    order = 0
    while True:
        wait_ms = None if not due else max(0, math.ceil(1000 * (due[0][0] - time.monotonic())))
        if server.poll(wait_ms):
            *route, body = server.recv_multipart()
            request = json.loads(body)
            write_down(ledger, request)
            order += 1
            heapq.heappush(due, (time.monotonic() + request["work_ms"] / 1000, order, [*route, answer(request)]))
        while due and due[0][0] <= time.monotonic():
            server.send_multipart(heapq.heappop(due)[2])


def main() -> None:
    kind, endpoint, path = sys.argv[1:4]
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    server = zmq.Context().socket(zmq.REP if kind == "rep" else zmq.ROUTER)
    server.bind(endpoint)
    print("ready", flush=True)
    (serve_rep if kind == "rep" else serve_router)(server, ledger)


if __name__ == "__main__":
    main()
