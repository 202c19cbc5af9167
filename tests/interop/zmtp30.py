"""A ZMTP 3.0 peer on a plain socket, written from RFC 23/ZMTP alone: a second opinion that is not libzmq's.

It is strict in what it takes: whatever the RFC does not allow raises Violation. What the RFC leaves to the speaker
is in `Habits`.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MORE, LONG, COMMAND = 1, 2, 4
WITH_IDENTITY = ("REQ", "DEALER", "ROUTER")


class Violation(Exception):
    """The other side broke the RFC."""


class Refused(Exception):
    """The other side sent ERROR with this reason."""


@dataclass
class Habits:
    """Choices that the RFC leaves to the one who speaks."""

    version: tuple[int, int] = (3, 0)
    padding: bytes = bytes(8)
    ready: list[tuple[bytes, bytes]] | None = None  # properties other than the plain ones
    always_long: bool = False  # long frames also for short bodies
    piece: int = 1 << 20  # bytes per write
    waits: bool = False  # shows each part of the greeting only after the other side has


@dataclass
class Peer:
    """One connection, past its handshake."""

    stream: socket.socket
    kind: str
    habits: Habits = field(default_factory=Habits)

    def __post_init__(self) -> None:
        self.stream.settimeout(6)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shake_hands()

    def _write(self, data: bytes) -> None:
        for at in range(0, len(data), self.habits.piece):
            self.stream.sendall(data[at:at + self.habits.piece])

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                raise EOFError(f"the other side hung up after {bytes(data)!r}")
            data += piece
        return bytes(data)

    def _shake_hands(self) -> None:
        greeting = b"\xff" + self.habits.padding + b"\x7f" + bytes(self.habits.version)
        rest = b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
        if self.habits.waits:
            theirs = self._read(10)
            self._write(greeting)
            theirs += self._read(54)
            self._write(rest)
        else:
            self._write(greeting + rest)
            theirs = self._read(64)
        if theirs[0] != 0xFF or theirs[9] != 0x7F or theirs[10] < 3:
            raise Violation(f"signature or version: {theirs[:12].hex()}")
        if theirs[12:] != rest:
            raise Violation(f"mechanism, as-server or filler: {theirs[12:].hex()}")
        plain = [(b"Socket-Type", self.kind.encode())] + [(b"Identity", b"")] * (self.kind in WITH_IDENTITY)
        properties = plain if self.habits.ready is None else self.habits.ready
        data = b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in properties)
        self._write_frame(COMMAND, b"\x05READY" + data)
        flags, body = self._read_frame()
        self._raise_error(flags, body)
        self.properties = self._properties_of(flags, body)

    @staticmethod
    def _raise_error(flags: int, body: bytes) -> None:
        if flags & COMMAND and body.startswith(b"\x05ERROR"):
            raise Refused(body[7:7 + body[6]].decode())

    def _properties_of(self, flags: int, body: bytes) -> dict[str, bytes]:
        if flags & ~LONG != COMMAND or not body.startswith(b"\x05READY"):
            raise Violation(f"no READY: {flags} {body!r}")
        properties, at = {}, 6
        while at < len(body):
            name = body[at + 1:at + 1 + body[at]].decode()
            at += 1 + body[at]
            (size,) = struct.unpack(">I", body[at:at + 4])
            value = body[at + 4:at + 4 + size]
            at += 4 + size
            if len(value) != size or name.lower() in (known.lower() for known in properties):
                raise Violation(f"metadata: {body!r}")
            properties[name] = value
        if "Identity" in properties and properties.get("Socket-Type", b"").decode() not in WITH_IDENTITY:
            raise Violation(f"an identity where none belongs: {properties}")
        return properties

    def _write_frame(self, flags: int, body: bytes) -> None:
        if len(body) > 255 or (self.habits.always_long and not flags & COMMAND):
            self._write(struct.pack(">BQ", flags | LONG, len(body)) + body)
        else:
            self._write(struct.pack(">BB", flags, len(body)) + body)

    def _read_frame(self) -> tuple[int, bytes]:
        flags = self._read(1)[0]
        if flags & ~(MORE | LONG | COMMAND) or flags & (MORE | COMMAND) == MORE | COMMAND:
            raise Violation(f"flags {flags:#x}")
        (size,) = struct.unpack(">Q", self._read(8)) if flags & LONG else self._read(1)
        return flags, self._read(size)

    def send(self, frames: list[bytes]) -> None:
        for frame in frames[:-1]:
            self._write_frame(MORE, frame)
        self._write_frame(0, frames[-1])

    def receive(self) -> list[bytes]:
        """The next message. RFC 23 knows no PING: any command but ERROR is a violation here."""
        frames = []
        while True:
            flags, body = self._read_frame()
            self._raise_error(flags, body)
            if flags & COMMAND:
                raise Violation(f"a command to a 3.0 peer: {body!r}")
            frames.append(body)
            if not flags & MORE:
                return frames

    def requests(self) -> Iterator[list[bytes]]:
        """Messages until the other side hangs up."""
        while True:
            try:
                yield self.receive()
            except (EOFError, ConnectionError):
                return


def connect(port: int, kind: str, habits: Habits | None = None) -> Peer:
    return Peer(socket.create_connection(("127.0.0.1", port)), kind, habits or Habits())
