"""ZMTP as bytes (RFC 37), for peers that mean to break it: nothing here refuses to build nonsense."""

import struct

MORE, LONG, COMMAND = 1, 2, 4

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0, claimed_bytes: int | None = None) -> bytes:
    """One frame; `claimed_bytes` is what its header says when that is not the truth."""
    size = len(body) if claimed_bytes is None else claimed_bytes
    if size > 255:
        return struct.pack(">BQ", flags | LONG, size) + body
    return struct.pack(">BB", flags, size) + body


def message(*frames: bytes) -> bytes:
    return b"".join(frame(body, MORE) for body in frames[:-1]) + frame(frames[-1])


def command(name: bytes, data: bytes = b"") -> bytes:
    return frame(bytes([len(name)]) + name + data, COMMAND)


def metadata(*properties: tuple[bytes, bytes]) -> bytes:
    return b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in properties)


def ready(kind: str = "DEALER") -> bytes:
    return command(b"READY", metadata((b"Socket-Type", kind.encode()), (b"Identity", b"")))


def ping(ttl_deciseconds: int = 0, context: bytes = b"") -> bytes:
    return command(b"PING", struct.pack(">H", ttl_deciseconds) + context)


def error(reason: bytes) -> bytes:
    return command(b"ERROR", bytes([len(reason)]) + reason)


def frames_in(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames at the front of `data` as (flags, body), and what is left."""
    frames, at = [], 0
    while len(data) - at >= 2:
        flags = data[at]
        if flags & LONG:
            if len(data) - at < 9:
                break
            header, (size,) = 9, struct.unpack(">Q", data[at + 1:at + 9])
        else:
            header, size = 2, data[at + 1]
        if len(data) - at < header + size:
            break
        frames.append((flags, data[at + header:at + header + size]))
        at += header + size
    return frames, data[at:]
