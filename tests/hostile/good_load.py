"""Good requests at an even rate through one drop-in port, from DEALER sockets, with every reply compared.

usage: good_load.py TCP_PORT REQUESTS_PER_S

For each line on stdin a new interval begins, and once every request of the one before has ended, or 6 s have passed, one
line of JSON tells about it: sent, right, wrong, lost, errors by code, p50_us, p99_us. Ends with stdin.
"""

import json
import math
import os
import random
import sys
import time
from dataclasses import dataclass, field

import zmq

DEALERS = 4
GIVE_UP_S = 6.0  # a request has 4.5 s


@dataclass
class Interval:
    sent: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latencies_us: list[float] = field(default_factory=list)
    open: dict[bytes, tuple[float, bytes]] = field(default_factory=dict)  # id → sent at, body
    ended_at: float | None = None

    def report(self) -> dict:
        ordered = sorted(self.latencies_us) or [float("nan")]
        return {"sent": self.sent, "right": self.right, "wrong": self.wrong, "lost": self.lost, "errors": self.errors,
                "p50_us": ordered[len(ordered) // 2], "p99_us": ordered[int(len(ordered) * 0.99)]}


def take_reply(socket: zmq.Socket, intervals: list[Interval]) -> None:
    frames = socket.recv_multipart()
    now = time.perf_counter()
    number = frames[0]
    interval = next((one for one in intervals if number in one.open), intervals[-1])
    sent_at, body = interval.open.pop(number, (now, None))
    if frames == [number, b"", body]:
        interval.right += 1
        interval.latencies_us.append((now - sent_at) * 1e6)
    elif body is not None and frames[-1].startswith(b'{"status":"error"'):
        code = json.loads(frames[-1])["code"]
        interval.errors[code] = interval.errors.get(code, 0) + 1
    else:
        interval.wrong += 1


def main() -> None:
    port, rate = sys.argv[1], float(sys.argv[2])
    generator = random.Random(7)
    bodies = [generator.randbytes(generator.choice((60, 200, 500, 1000, 2000))) for _ in range(200)]
    sockets, poller = [], zmq.Poller()
    for _ in range(DEALERS):
        sockets.append(zmq.Context.instance().socket(zmq.DEALER))
        sockets[-1].setsockopt(zmq.LINGER, 0)
        sockets[-1].setsockopt(zmq.SNDHWM, 0)  # 6 s without a reply are no more than 3000 requests
        sockets[-1].connect(f"tcp://127.0.0.1:{port}")
        poller.register(sockets[-1], zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    intervals, count = [Interval()], 0
    due = time.perf_counter()
    while True:
        now = time.perf_counter()
        if now >= due:
            # Whoever slept too long sends what it owes one by one, not as a burst that no client asked for.
            due = max(due + 1 / rate, now - 0.01)
            number = b"%d" % count
            body = number + b"/" + bodies[count % len(bodies)]
            intervals[-1].sent += 1
            intervals[-1].open[number] = (time.perf_counter(), body)
            sockets[count % DEALERS].send_multipart([number, b"", body], zmq.DONTWAIT)
            count += 1
        for ready, _ in poller.poll(max(0, math.ceil((due - time.perf_counter()) * 1000))):
            if isinstance(ready, zmq.Socket):
                take_reply(ready, intervals)
            elif not os.read(ready, 1):
                return
            else:
                intervals[-1].ended_at = time.perf_counter()
                intervals.append(Interval())
        while len(intervals) > 1 and (not intervals[0].open or time.perf_counter() - intervals[0].ended_at > GIVE_UP_S):
            intervals[0].lost = len(intervals[0].open)
            print(json.dumps(intervals.pop(0).report()), flush=True)


if __name__ == "__main__":
    main()
