"""Many callers, random sizes, random agent delays: nothing lost, nothing crossed, nothing executed twice.

Each body carries its id; agents log what they executed; the two are joined at the end. MESH_LOAD_REQUESTS is how many
requests each of the 64 callers makes.
"""

import hashlib
import heapq
import json
import multiprocessing
import os
import random
import time
import unittest
from pathlib import Path

import zmq

from mesh import Mesh

CALLERS = 64
PROCESSES = 2
REQUESTS = int(os.environ.get("MESH_LOAD_REQUESTS", "150"))
LIMIT_SECONDS = 60 + CALLERS * REQUESTS / 500


def body_of(caller: int, number: int) -> bytes:
    """Starts with the id; mostly small, now and then far above what a batch takes in one piece."""
    generator = random.Random(caller * 1_000_003 + number)
    size = generator.choice((0, 20, 200, 200, 1000, 1000, 1000, 9000)) if number % 97 else generator.choice((70_000, 300_000))
    return b"%d/%d/" % (caller, number) + generator.randbytes(size)


def answer_of(body: bytes) -> bytes:
    """Something only that request's execution gives, and as long as the request."""
    return hashlib.blake2b(body, digest_size=16).digest() + body


def serve(port: int, log: Path, delays: bool, stop) -> None:
    """A ROUTER agent that answers out of order after random delays, or one request after the other without."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.SNDHWM, 0)
    router.bind(f"tcp://127.0.0.1:{port}")
    generator, due, order = random.Random(port), [], 0
    with log.open("wb") as executed:
        while not stop.is_set():
            now = time.monotonic()
            while due and due[0][0] <= now:
                router.send_multipart(heapq.heappop(due)[2])
            wait_ms = 50 if not due else max(0, int((due[0][0] - now) * 1000))
            if not router.poll(wait_ms):
                continue
            frames = router.recv_multipart()
            executed.write(b"/".join(frames[-1].split(b"/", 2)[:2]) + b"\n")
            reply = [*frames[:-1], answer_of(frames[-1])]
            if not delays:
                router.send_multipart(reply)
                continue
            order += 1
            heapq.heappush(due, (now + generator.choice((0, 0, 0.001, 0.005)), order, reply))


def call(callers: range, ports: list[int], verdicts) -> None:
    """One REQ socket per caller, all polled by this process; puts (right, wrong, errors, lost)."""
    context, poller = zmq.Context(), zmq.Poller()
    state = {}
    for caller in callers:
        request = context.socket(zmq.REQ)
        request.setsockopt(zmq.LINGER, 0)
        request.connect(f"tcp://127.0.0.1:{ports[caller % len(ports)]}")
        poller.register(request, zmq.POLLIN)
        state[request] = [caller, 0, body_of(caller, 0)]
        request.send(state[request][2])
    right, wrong, errors = 0, 0, []
    end = time.monotonic() + LIMIT_SECONDS
    while state and time.monotonic() < end:
        for request, _ in poller.poll(100):
            caller, number, body = state[request]
            reply = request.recv()
            if reply == answer_of(body):
                right += 1
            elif reply.startswith(b'{"status":"error"'):
                errors.append(json.loads(reply)["code"])
            else:
                wrong += 1
            number += 1
            if number == REQUESTS:
                poller.unregister(request)
                del state[request]
                continue
            state[request] = [caller, number, body_of(caller, number)]
            request.send(state[request][2])
    verdicts.put((right, wrong, errors, len(state)))


class Load(unittest.TestCase):
    def test_nothing_is_lost_crossed_or_executed_twice(self) -> None:
        mesh = Mesh({"delayed": {"socket": "router", "in_flight": 64}, "prompt": {"socket": "router", "in_flight": 1}},
                    contracts={name: {"budget_ms": 30_000} for name in ("delayed", "prompt")})
        fork = multiprocessing.get_context("spawn")
        stop, verdicts = fork.Event(), fork.Queue()
        logs = {name: Path(mesh.directory.name) / f"{name}.executed" for name in mesh.ports}
        agents = [fork.Process(target=serve, args=(mesh.agent_ports[name], logs[name], name == "delayed", stop))
                  for name in mesh.ports]
        shares = [range(first, CALLERS, PROCESSES) for first in range(PROCESSES)]
        callers = [fork.Process(target=call, args=(share, list(mesh.ports.values()), verdicts)) for share in shares]
        try:
            for agent in agents:
                agent.start()
            mesh.wait_for_agents()
            began = time.monotonic()
            for caller in callers:
                caller.start()
            results = [verdicts.get(timeout=LIMIT_SECONDS + 30) for _ in callers]
            took = time.monotonic() - began
            stop.set()
            for process in [*callers, *agents]:
                process.join()
            right, wrong, lost = (sum(result[i] for result in results) for i in (0, 1, 3))
            errors = [code for result in results for code in result[2]]
            executed = [line for log in logs.values() for line in log.read_bytes().split(b"\n")[:-1]]
            print(f"{right} requests in {took:.1f} s, {right / took:.0f}/s")
            self.assertEqual((lost, wrong, errors), (0, 0, []))
            self.assertEqual(right, CALLERS * REQUESTS)
            self.assertEqual(len(executed), CALLERS * REQUESTS)
            self.assertEqual(len(set(executed)), CALLERS * REQUESTS)
        finally:
            stop.set()
            for process in [*callers, *agents]:
                if process.is_alive():
                    process.terminate()
            mesh.stop()


if __name__ == "__main__":
    unittest.main()
