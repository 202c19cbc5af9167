"""Hostile connections of one process: how they connect, send within a budget, and find out that they were closed."""

import asyncio
import random
import select
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

# A hostile peer has to be gone 5 s after it came; beyond this it counts as left open.
PATIENCE_S = 5.6
# What all attackers send together: enough for any flood, little enough for a machine of two cores.
BYTES_PER_S = 20_000_000
PIECE_BYTES = 64 * 1024


@dataclass
class Verdict:
    """What the peers saw."""

    peers: int = 0
    closed: int = 0
    left_open: int = 0
    slowest_close_s: float = 0.0
    sent_bytes: int = 0
    right_answers: int = 0
    wrong_answers: list[str] = field(default_factory=list)


class Crowd:
    """The peers of one attack on one port. `address` is a tcp port of loopback or the path of an AF_UNIX socket."""

    def __init__(self, address: int | str, port: str, seconds: float, bytes_per_s: float, seed: int):
        self.address, self.port, self.seconds, self.bytes_per_s = address, port, seconds, bytes_per_s
        self.random = random.Random(seed)
        self.verdict = Verdict()
        self._ends = time.monotonic() + seconds
        self._budget_bytes, self._budget_at = 0.0, time.monotonic()

    def goes_on(self) -> bool:
        return time.monotonic() < self._ends

    def open_socket(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        made.setblocking(False)
        return made

    def where(self):
        return self.address if isinstance(self.address, str) else ("127.0.0.1", self.address)

    def _burst_bytes(self) -> float:
        return max(PIECE_BYTES, self.bytes_per_s / 20)

    async def spend(self, count: int) -> None:
        """Returns when `count` more bytes may be sent."""
        while True:
            now = time.monotonic()
            self._budget_bytes = min(self._burst_bytes(), self._budget_bytes + (now - self._budget_at) * self.bytes_per_s)
            self._budget_at = now
            if self._budget_bytes >= min(count, PIECE_BYTES):
                self._budget_bytes -= count
                return
            await asyncio.sleep(0.005)

    async def connect(self, reads: bool = True) -> "Peer":
        """A peer; one that does not read leaves all that is sent to it where it is."""
        while True:
            made = self.open_socket()
            try:
                await asyncio.get_running_loop().sock_connect(made, self.where())
                return Peer(self, made, reads)
            except OSError:  # the backlog is full, or the sidecar is no more, which others find out
                made.close()
                await asyncio.sleep(0.01)

    async def repeat(self, workers: int, script: Callable[["Peer"], Awaitable[None]], reads: bool = True,
                     pause_s: float = 0.02) -> None:
        """As long as the attack lasts, each worker runs the script with one new peer after the other and waits until
        the sidecar has closed it."""

        async def work() -> None:
            while self.goes_on():
                peer = await self.connect(reads)
                await peer.run(script)
                await asyncio.sleep(pause_s)

        await asyncio.gather(*(work() for _ in range(workers)))

    async def once(self, peers: int, script: Callable[["Peer"], Awaitable[None]], reads: bool = True) -> None:
        """So many peers at a time, each one once."""

        async def work() -> None:
            await (await self.connect(reads)).run(script)

        await asyncio.gather(*(work() for _ in range(peers)))


class Peer:
    """One hostile connection."""

    def __init__(self, crowd: Crowd, stream: socket.socket, reads: bool):
        self.crowd, self.stream, self.reads = crowd, stream, reads
        self.random = crowd.random
        self.received = bytearray()  # of the first 1 MiB
        self._began = time.monotonic()
        self._closed = asyncio.Event()
        self._left = False

    def leave(self) -> None:
        """Ends this peer from its own side, which is neither a success nor a failure of the sidecar."""
        self._left = True
        self._closed.set()

    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def send(self, data: bytes) -> None:
        """Returns when all is with the kernel, or the other side has closed."""
        loop = asyncio.get_running_loop()
        for at in range(0, len(data), PIECE_BYTES):
            if self.is_closed():
                return
            piece = data[at:at + PIECE_BYTES]
            await self.crowd.spend(len(piece))
            try:
                await loop.sock_sendall(self.stream, piece)
            except OSError:
                self._closed.set()
                return
            self.crowd.verdict.sent_bytes += len(piece)

    async def flood(self, data: bytes) -> None:
        """The same again and again, until the other side has closed."""
        repeated = data * max(1, PIECE_BYTES // 2 // len(data))
        while not self.is_closed():
            await self.send(repeated)

    async def until_received(self, enough: Callable[[bytes], bool]) -> bool:
        """Whether `enough` became true of what was received, before the end of it."""
        while not enough(bytes(self.received)):
            if self.is_closed():
                return False
            await asyncio.sleep(0.002)
        return True

    async def until_closed(self) -> None:
        await self._closed.wait()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        poll = select.poll()
        poll.register(self.stream, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self.is_closed():
            if self.reads:
                try:
                    data = await loop.sock_recv(self.stream, 1 << 18)
                except OSError:
                    data = b""
                if not data:
                    break
                if len(self.received) < 1 << 20:
                    self.received += data
            elif poll.poll(0):
                break
            else:
                await asyncio.sleep(0.02)
        self._closed.set()

    async def run(self, script: Callable[["Peer"], Awaitable[None]]) -> None:
        """The script, and then nothing but waiting for the end."""
        verdict = self.crowd.verdict
        verdict.peers += 1
        tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(script(self))]
        try:
            await asyncio.wait_for(self._closed.wait(), PATIENCE_S)
            if not self._left:
                verdict.closed += 1
                verdict.slowest_close_s = max(verdict.slowest_close_s, time.monotonic() - self._began)
        except TimeoutError:
            verdict.left_open += 1
        finally:
            for task in tasks:
                task.cancel()
            for failed in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(failed, Exception):
                    raise failed
            self.stream.close()
