"""Attacks behind a door that was opened rightly: batches after a valid hello, headers at the mesh socket, admin lines."""

import asyncio
import json
import struct

import wire_bytes as wire
from crowd import Crowd, Peer
from wire_bytes import batch, number, record, request, text, varint
from zmtp_attacks import READY_PEER, cycle
from zmtp_bytes import MORE, frame, frames_in, message


def after_hello(*messages: bytes) -> bytes:
    return READY_PEER + wire.hello() + b"".join(messages)


async def lying_batches(crowd: Crowd) -> None:
    one = request(1, b"other", b"body")
    plain = [
        b"", b"M", batch(one)[:7], batch(one, magic=b"N"), batch(one, version=9), batch(one, codec=7), batch(one, flags=2),
        batch(one, count=0), batch(one, count=2), batch(one, count=257), batch(one, count=0xFFFF), batch(one * 3, count=2),
        batch(one, body_frames=1), batch(one, body_frames=0xFFFF), batch(varint(1 << 40) + one), batch(varint(len(one) + 99) + one),
        batch(b"\xff" * 11), batch(request(1, b"other", b"body", body_size=5)), batch(request(1, b"other", b"body", body_size=3)),
        batch(request(1, b"other", b"", body_size=1 << 62)), batch(request(1, b"other", b"x" * (300 << 10))),
        batch(record(number(1, wire.REQUEST) + number(9, 4) + number(10, 1))),
        batch(record(number(1, wire.PING) + number(9, 4), b"body")),
    ]
    several = [
        (batch(one), b"a frame nobody claims"),
        (batch(record(number(1, wire.REQUEST) + number(9, 10) + number(10, 1)), body_frames=1), b"short"),
        tuple([batch(one, body_frames=7), *[b"x"] * 7]),
    ]
    variants = [after_hello(message(one_frame)) for one_frame in plain] + [after_hello(message(*frames)) for frames in several]
    await crowd.repeat(6, cycle(crowd, variants))


async def zstd_bombs(crowd: Crowd) -> None:
    """Bombs declared and undeclared, sizes that are lies, windows of 128 MiB."""
    def own_frame(content: bytes, body_size: int) -> bytes:
        envelope = number(1, wire.REQUEST) + text(3, b"other") + number(9, body_size) + number(10, 1) + number(11, 1)
        return message(batch(record(envelope), body_frames=1), content)

    frames = [
        wire.zstd(64 << 20), wire.zstd(1 << 40 >> 12), wire.zstd(64 << 20, declared_bytes=1000), wire.zstd(100, declared_bytes=60_000),
        wire.zstd(60_000, declared_bytes=None), wire.zstd(60_000, window_log=27), wire.zstd(60_000, declared_bytes=1 << 63), wire.zstd(60_000)[:-2],
        wire.zstd(60_000) + b"more", b"not zstd at all", b"", wire.zstd(0),
    ]
    variants = [after_hello(message(batch(content, codec=1))) for content in frames]
    variants += [after_hello(own_frame(content, size)) for content in frames for size in (60_000, 64 << 20)
                 if not (content == wire.zstd(60_000) and size == 60_000)]
    await crowd.repeat(6, cycle(crowd, variants))


async def broken_protobuf(crowd: Crowd) -> None:
    start = number(1, wire.REQUEST) + number(2, 1) + text(3, b"other")
    nested = b""
    for _ in range(2000):
        nested = text(8, nested) if len(nested) < 7000 else nested
    envelopes = [
        b"\x7b" * 4000, start + b"\x7b" * 4000 + b"\x7c" * 4000, start + b"\x0b", start + text(15, bytes(8200)), b"\xff" * 10, start + b"\x1a\xff\xff\xff\xff\x0f",
        start + b"\x00", start + varint(1 << 63) + b"x", number(1, 0) + number(2, 1), number(1, 99), number(1, 4) + number(2, 1) + number(14, 1 << 20), start + number(6, 77),
        start + number(5, 1 << 63), start + text(4, bytes(129)), start + text(4, bytes(8000)), start + text(12, varint(9) * 9), start + number(12, 5),
        number(1, wire.REPLY) + number(7, 200), number(1, wire.HELLO), start + text(13, number(1, 1)), number(1, wire.REPLY) + text(8, nested) + b"\x0f",
    ]
    await crowd.repeat(6, cycle(crowd, [after_hello(message(batch(record(envelope)))) for envelope in envelopes]))


async def false_hellos(crowd: Crowd) -> None:
    """No hello, hello twice, names of 10 KB, another version; good ones with names that change all the time."""
    content = number(1, 1) + number(2, 1)
    long_name = message(batch(record(number(1, wire.HELLO) + text(13, content + text(6, b"n" * 10_000)))))
    within_8_kib = message(batch(record(number(1, wire.HELLO) + text(13, content + text(7, b"n" * 8000)))))
    variants = [
        READY_PEER + message(batch(request(1, b"other", b"x"))), READY_PEER + wire.hello() * 2, READY_PEER + long_name, READY_PEER + within_8_kib,
        READY_PEER + wire.hello(version=2), READY_PEER + wire.hello(lane=9), READY_PEER + message(batch(record(number(1, wire.HELLO)))),
    ]
    script = cycle(crowd, variants)

    async def named(peer: Peer) -> None:
        if peer.random.random() < 0.5:
            return await script(peer)
        name = peer.random.choice((b"%x" % peer.random.getrandbits(256), peer.random.randbytes(100), b"a\nb=c \x1b[2J"))
        hello = wire.hello(host=name, sidecar=name, epoch=peer.random.getrandbits(63))
        return await peer.send(READY_PEER + hello * 2)

    await crowd.repeat(6, named)


async def duplicate_calls(crowd: Crowd) -> None:
    """Requests without end that all have the same id, which is only unique among open calls if there is one."""
    records = request(7, b"other", b"d" * 64) * 64

    async def script(peer: Peer) -> None:
        await peer.send(after_hello())
        while not peer.is_closed():
            await peer.send(message(batch(records, count=64)))
            await asyncio.sleep(0.01)

    await crowd.repeat(2, script)


async def cancel_flood(crowd: Crowd) -> None:
    """Cancels without end, for calls that do not exist, while as many calls as may be are open."""
    open_calls = b"".join(request(1000 + n, b"other", b"sleep") for n in range(200))
    cancels = b"".join(record(number(1, wire.CANCEL) + number(2, n)) for n in range(256))

    async def script(peer: Peer) -> None:
        await peer.send(after_hello(message(batch(open_calls, count=200))))
        await peer.flood(message(batch(cancels, count=256)))

    await crowd.repeat(2, script)


def idle_talk(kind: int, reads: bool):
    async def attack(crowd: Crowd) -> None:
        records = b"".join(record(number(1, kind) + number(2, n)) for n in range(256))

        async def script(peer: Peer) -> None:
            await peer.send(after_hello())
            await peer.flood(message(batch(records, count=256)))

        await crowd.repeat(2, script, reads=reads)

    return attack


async def replies_unasked(crowd: Crowd) -> None:
    """Replies of one who was asked nothing."""
    records = b"".join(record(number(1, wire.REPLY) + number(2, n) + number(9, 4), b"body") for n in range(256))

    async def script(peer: Peer) -> None:
        await peer.send(after_hello())
        await peer.flood(message(batch(records, count=256)))

    await crowd.repeat(2, script)


async def inflating_requests(crowd: Crowd) -> None:
    """Batches of fifty bytes, each of them one request of 60 000 once it is decompressed: within every rule about one batch."""
    body = 60_000
    head = number(1, wire.REQUEST) + number(2, 1) + text(3, b"nobody") + number(5, 4_000_000) + number(9, body)
    plain_bytes = len(record(head)) + body
    rle = wire.zstd(body)
    # One raw block with the envelope in front of the zeros of the bomb.
    compressed = struct.pack("<IBQ", 0xFD2FB528, 0xE0, plain_bytes) + struct.pack("<I", len(record(head)) << 3)[:3] + record(head) + rle[13:]

    async def script(peer: Peer) -> None:
        await peer.send(after_hello())
        await peer.flood(message(batch(compressed, codec=1)))

    await crowd.once(2, script, reads=False)


# --- the mesh socket ---

def mesh_headers() -> list[tuple[bytes, str]]:
    """Headers and the rule that each must be refused with."""
    deep = 10_000
    return [
        (b'{"service":"echo","x":' + b"[" * deep + b"]" * deep + b"}", "header_size"), (b'{"x":' + b"[" * 4000, "header_depth"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "header_depth"), (b'{"service":"' + b"s" * 9000 + b'"}', "header_size"),
        (b'{"service":"\xff\xfe"}', "header_json"), (b'{"service":"echo"', "header_json"), (b"{" + bytes(100), "header_json"),
        (b'{"service":"' + b"s" * 200 + b'"}', "header_service"), (b'{"service":["echo"]}', "header_service"), (b'{"service":null}', "header_service"),
        (b'{"service":"echo","budget_ms":1e300}', "header_budget_ms"), (b'{"service":"echo","budget_ms":-1}', "header_budget_ms"),
        (b'{"service":"echo","priority":"' + b"x" * 500 + b'"}', "header_priority"), (b"\xff" * 100, "header_protobuf"), (b"\x7b" * 9000, "header_size"),
        (b"\x0a\xff\xff\xff\xff\x0f", "header_protobuf"), (bytes(9000), "header_size"),
    ]


async def false_headers(crowd: Crowd) -> None:
    """The peer is answered with the rule it broke, and is served when it does better."""
    cases = mesh_headers()
    at = 0

    async def one(peer: Peer, header: bytes) -> dict:
        before = len(peer.received)
        await peer.send(message(b"", header, b"body"))
        whole = await peer.until_received(lambda received: len([f for f in frames_in(received[before:])[0] if not f[0] & MORE]) == 1)
        frames = frames_in(bytes(peer.received[before:]))[0] if whole else []
        if len(frames) != 3:
            return {"code": "none"}
        try:
            return json.loads(frames[1][1])
        except ValueError:  # asked in protobuf, answered in protobuf
            rules = [case[1] for case in cases if case[1].encode() in frames[1][1] + frames[2][1]]
            return {"code": "INVALID", "mesh": {"rule": rules[0] if rules else "?"}}

    async def script(peer: Peer) -> None:
        nonlocal at
        await peer.send(READY_PEER)
        await peer.until_received(lambda received: len(received) > 64 and frames_in(received[64:])[0])
        header, rule = cases[at % len(cases)]
        at += 1
        answer = await one(peer, header)
        if (answer["code"], answer.get("mesh", {}).get("rule")) != ("INVALID", rule):
            crowd.verdict.wrong_answers.append(f"{header[:40]!r}: {answer} instead of {rule}")
        elif (better := await one(peer, b'{"service":"other"}'))["code"] != "OK":
            crowd.verdict.wrong_answers.append(f"good after {header[:40]!r}: {better}")
        else:
            crowd.verdict.right_answers += 1
        peer.leave()

    await crowd.repeat(3, script)


# --- the admin socket ---

async def admin_binary(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.random.randbytes(peer.random.randint(1, 8192)) + b"\n")

    await crowd.repeat(4, script)


async def admin_endless_line(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        if peer.random.random() < 0.5:
            await peer.flood(b"a" * 1000)
        while not peer.is_closed():
            await peer.send(b"a")
            await asyncio.sleep(0.05)

    await crowd.repeat(4, script)


async def admin_never_reads(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"counters json\n")
        await peer.flood(b"counters json\n")

    await crowd.repeat(4, script, reads=False)
