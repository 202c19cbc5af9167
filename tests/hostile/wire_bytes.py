"""Batches and envelopes of proto/README.md as bytes, for peers that mean to break them; zstd frames written by hand,
so that they can declare what they do not hold."""

import struct

from zmtp_bytes import message

HELLO, REQUEST, REPLY, CANCEL, PING, PONG, DRAINING = range(1, 8)
ZSTD_BLOCK_BYTES = 128 * 1024


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def record(envelope: bytes, body: bytes = b"") -> bytes:
    return varint(len(envelope)) + envelope + body


def batch(records: bytes, count: int = 1, body_frames: int = 0, codec: int = 0, flags: int = 0, version: int = 1,
          magic: bytes = b"M") -> bytes:
    """Frame 0 of a batch."""
    return magic + struct.pack(">BBBHH", version, codec, flags, count, body_frames) + records


def hello(host: bytes = b"stranger", sidecar: bytes = b"main", epoch: int = 1, version: int = 1, lane: int = 0) -> bytes:
    content = (number(1, version) + number(2, epoch) + number(4, 256 << 10) + number(5, 64 << 20) + text(6, host)
               + text(7, sidecar) + number(8, lane))
    return message(batch(record(number(1, HELLO) + text(13, content))))


def request(call_id: int, service: bytes, body: bytes = b"", budget_us: int = 4_000_000, **lies: int) -> bytes:
    """One record. `lies`: body_size other than the body's."""
    envelope = (number(1, REQUEST) + number(2, call_id) + text(3, service) + number(5, budget_us)
                + number(9, lies.get("body_size", len(body))))
    return record(envelope, body)


def zstd(content_bytes: int, declared_bytes: int | None = -1, window_log: int | None = None) -> bytes:
    """A zstd frame (RFC 8878) of `content_bytes` zeros in RLE blocks: four bytes for each 128 KiB.

    declared_bytes: what its header says; None declares nothing; -1 the truth. window_log: None is a single segment.
    """
    declared = content_bytes if declared_bytes == -1 else declared_bytes
    descriptor = (0 if declared is None else 0xC0) | (0x20 if window_log is None and declared is not None else 0)
    out = struct.pack("<IB", 0xFD2FB528, descriptor)
    if not descriptor & 0x20:
        out += bytes([((window_log or 17) - 10) << 3])
    if declared is not None:
        out += struct.pack("<Q", declared)
    left = content_bytes
    while True:
        size = min(left, ZSTD_BLOCK_BYTES)
        left -= size
        out += struct.pack("<I", size << 3 | 1 << 1 | (left == 0))[:3] + b"\0"
        if left == 0:
            return out
