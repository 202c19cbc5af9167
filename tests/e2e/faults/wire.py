"""wire.py END END: what lies between two hosts, packet by packet, and can be made worse while it is in use.

An END is tun:NAMESPACE:DEVICE:ADDRESS/BITS (made here, gone with this process) or veth:NAMESPACE:DEVICE (the near side
of a pair that exists). Each line on stdin is JSON, direction → what is wrong with it, e.g.
{"forth": {"loss": 1}, "back": {"delay_ms": 50, "jitter_ms": 20, "rate_kbit": 2000}}; what is not named is well. The
answer is one line too: what was carried and dropped so far. Packets never overtake each other.
"""
from __future__ import annotations

import collections
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from demo.hosts import ETH_P_ALL, inside, ip

PACKET_BYTES_MAX = 65536
PACKET_OUTGOING = 4
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# A router that holds back more than this drops what comes on top.
QUEUE_SECONDS_MAX = 0.4
BURST = 64


class TunEnd:
    def __init__(self, namespace: str, device: str, address: str) -> None:
        with inside(namespace):
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
        ip("-n", namespace, "address", "add", address, "dev", device)
        ip("-n", namespace, "link", "set", device, "up")

    def fileno(self) -> int:
        return self.fd

    def read(self) -> bytes | None:
        return os.read(self.fd, PACKET_BYTES_MAX)

    def write(self, packet: bytes) -> None:
        os.write(self.fd, packet)


class VethEnd:
    def __init__(self, namespace: str, device: str) -> None:
        with inside(namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
            self.socket.bind((device, ETH_P_ALL))
            self.socket.setblocking(False)

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self) -> bytes | None:
        frame, address = self.socket.recvfrom(PACKET_BYTES_MAX)
        return None if address[2] == PACKET_OUTGOING else frame  # None: what we wrote ourselves

    def write(self, packet: bytes) -> None:
        self.socket.send(packet)


class Direction:
    """From one end to the other."""

    def __init__(self, source, sink) -> None:
        self.source, self.sink = source, sink
        self.queue: collections.deque[tuple[float, bytes]] = collections.deque()
        self.carried = self.dropped = 0
        self.free_at = self.last_due = 0.0
        self.suffer({})

    def suffer(self, ills: dict) -> None:
        self.loss = float(ills.get("loss", 0))
        self.delay_s = float(ills.get("delay_ms", 0)) / 1000
        self.jitter_s = float(ills.get("jitter_ms", 0)) / 1000
        self.bytes_per_s = float(ills.get("rate_kbit", 0)) * 125

    def take(self) -> None:
        for _ in range(BURST):
            try:
                packet = self.source.read()
            except BlockingIOError:
                return
            if packet is not None:
                self.judge(packet, time.monotonic())

    def judge(self, packet: bytes, now: float) -> None:
        leaves_at = now
        if self.bytes_per_s:
            leaves_at = max(self.free_at, now) + len(packet) / self.bytes_per_s
        if random.random() < self.loss or leaves_at - now > QUEUE_SECONDS_MAX:
            self.dropped += 1
            return
        self.free_at = leaves_at
        due = leaves_at + self.delay_s + random.uniform(-self.jitter_s, self.jitter_s)
        self.last_due = max(self.last_due, due)
        self.queue.append((self.last_due, packet))

    def release(self) -> None:
        while self.queue and self.queue[0][0] <= time.monotonic():
            try:
                self.sink.write(self.queue.popleft()[1])
                self.carried += 1
            except OSError:  # the device has no room, as a real one may
                self.dropped += 1


def obey(line: str, directions: dict[str, Direction]) -> None:
    ills = json.loads(line)
    for name, direction in directions.items():
        direction.suffer(ills.get(name, {}))
    print(json.dumps({name: [one.carried, one.dropped] for name, one in directions.items()}), flush=True)


def open_end(text: str) -> TunEnd | VethEnd:
    kind, _, rest = text.partition(":")
    return (TunEnd if kind == "tun" else VethEnd)(*rest.split(":"))


def carry(directions: dict[str, Direction]) -> None:
    commands = sys.stdin
    sources = {one.source: one for one in directions.values()}
    while True:
        due = min((one.queue[0][0] for one in directions.values() if one.queue), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select([*sources, commands], [], [], wait)
        for ready in readable:
            if ready in sources:
                sources[ready].take()
                continue
            line = commands.readline()
            if not line:
                return
            obey(line, directions)
        for one in directions.values():
            one.release()


def main() -> None:
    near, far = (open_end(text) for text in sys.argv[1:3])
    directions = {"forth": Direction(near, far), "back": Direction(far, near)}
    obey("{}", directions)
    carry(directions)


if __name__ == "__main__":
    main()
