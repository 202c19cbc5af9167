"""Attacks on ZMTP itself: the drop-in port, the mesh socket and the link port have them in common."""

import asyncio
import json
import socket
import struct
import time

import wire_bytes as wire
from crowd import Crowd, Peer
from zmtp_bytes import COMMAND, GREETING, LONG, MORE, command, error, frame, message, metadata, ping, ready

READY_PEER = GREETING + ready("DEALER")
SILENT_PEERS, SILENT_ADMINS = 4000, 200
SHORT_LIVED_PEERS = 10_000
READY_PEERS, READY_EVERY_S = 2000, 0.001
LOCK_OUT_S = 2.5  # longer than any newcomer may wait


def cycle(crowd: Crowd, variants: list):
    """A script that lets one peer after the other send the next variant, beginning somewhere."""
    at = crowd.random.randrange(len(variants))

    async def script(peer: Peer) -> None:
        nonlocal at
        at += 1
        await peer.send(variants[at % len(variants)])

    return script


async def random_bytes(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        # Without the signature's first byte almost none would come further than that.
        await peer.send(peer.random.choice((b"", b"\xff", GREETING[:10])) + peer.random.randbytes(peer.random.randint(64, 4096)))

    await crowd.repeat(6, script)


async def random_after_greeting(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(GREETING + peer.random.choice((b"", frame(b"", COMMAND), b"\x04\x26\x05READY")) + peer.random.randbytes(4096))

    await crowd.repeat(6, script)


async def random_after_ready(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + peer.random.randbytes(4096))

    await crowd.repeat(6, script)


async def slow_greeting(crowd: Crowd) -> None:
    """One byte a second, from the first byte on or from the first of READY."""

    async def script(peer: Peer) -> None:
        slow = GREETING + ready()
        if peer.random.random() < 0.5:
            await peer.send(GREETING)
            slow = ready()
        for at in range(len(slow)):
            await peer.send(slow[at:at + 1])
            await asyncio.sleep(1)

    await crowd.once(60, script)


async def silent_crowd(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        pass

    await crowd.once(SILENT_ADMINS if crowd.port == "admin" else SILENT_PEERS, script)


async def connect_and_close(crowd: Crowd) -> None:
    for count in range(SHORT_LIVED_PEERS):
        peer = crowd.open_socket()
        try:
            peer.connect(crowd.where())
        except BlockingIOError:  # tcp: under way, AF_UNIX: the backlog is full; closed in the middle of it
            pass
        if count % 10:  # most leave like a crash, and none of those in TIME_WAIT
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        if count % 50 == 49:
            await asyncio.sleep(crowd.seconds / (SHORT_LIVED_PEERS / 50))
    crowd.verdict.peers = SHORT_LIVED_PEERS


async def claims_8_gib(crowd: Crowd) -> None:
    sizes = [8 << 30, (8 << 30) + 1, 1 << 63, (1 << 64) - 1]
    variants = [READY_PEER + frame(b"x" * 100, flags, size) for size in sizes for flags in (0, MORE, COMMAND)]
    variants += [GREETING + frame(b"x" * 100, flags, size) for size in sizes for flags in (0, COMMAND)]
    await crowd.repeat(6, cycle(crowd, variants))


async def endless_message(crowd: Crowd) -> None:
    """Frames with MORE and never the last: as fast as they go, and one at a time."""

    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER)
        tiny = frame(peer.random.choice((b"", b"x")), MORE)
        if peer.random.random() < 0.5:
            await peer.flood(tiny)
        while not peer.is_closed():
            await peer.send(tiny)
            await asyncio.sleep(0.05)

    await crowd.repeat(6, script)


async def wrong_socket_types(crowd: Crowd) -> None:
    kinds = ["REP", "ROUTER", "PUB", "SUB", "XPUB", "XSUB", "PUSH", "PULL", "PAIR", "NONSENSE", "", "dealer"]
    kinds += ["REQ"] * (crowd.port == "link")
    await crowd.repeat(6, cycle(crowd, [GREETING + ready(kind) for kind in kinds]))


async def wrong_state(crowd: Crowd) -> None:
    """Commands that are unknown, broken, or in the wrong place; greetings that are not this port's."""
    after_ready = [
        ready(), command(b"HELLO", b"x"), command(b"CANCEL", b""), command(b"SUBSCRIBE", b"x"), command(b"INITIATE"), error(b"no"),
        error(b"\x1b[31m\n" * 30), command(b"ERROR", b"\xff"), command(b"PING"), ping(context=bytes(200)),
        command(b"PONG", bytes(100)), frame(b"\xf0PING", COMMAND), frame(b"", COMMAND), frame(b"\0", COMMAND),
        frame(b"\x04PING\0\0", COMMAND | MORE), frame(b"x", 0x08), frame(b"x", 0xF0), frame(bytes(600), COMMAND),
    ]
    before_ready = [message(b"", b"x"), command(b"NOISE"), command(b"CANCEL"), ping(), error(b"no"), frame(b"", COMMAND)]
    greetings = [GREETING[:12] + mechanism.ljust(20, b"\0") + GREETING[32:] for mechanism in (b"CURVE", b"PLAIN", b"", b"null")]
    greetings += [GREETING[:10] + version + GREETING[12:] for version in (b"\0\0", b"\1\0", b"\2\1")]
    greetings += [GREETING[:12] + b"NULL\0x".ljust(20, b"\0") + GREETING[32:], GREETING[:32] + b"\2" + GREETING[33:]]
    variants = [READY_PEER + late for late in after_ready] + [GREETING + early for early in before_ready] + greetings
    await crowd.repeat(8, cycle(crowd, variants))


async def oversize_metadata(crowd: Crowd) -> None:
    kind = metadata((b"Socket-Type", b"DEALER"))
    ready_data = [
        kind + metadata((b"X-Big", bytes(1000))), kind + metadata((b"X-Big", bytes(1 << 20))), kind + metadata((b"Identity", bytes(256))),
        kind + kind, kind + b"\x05X-Big" + struct.pack(">I", 1 << 31) + b"x", kind + b"\xffX", kind + b"\0" + bytes(8),
        metadata((b"Identity", b"x")), b"", kind + metadata(*[(b"X%d" % n, b"v") for n in range(100)]),
    ]
    await crowd.repeat(6, cycle(crowd, [GREETING + command(b"READY", data) for data in ready_data]))


async def ping_flood(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + (wire.hello() if crowd.port == "link" else b""))
        await peer.flood(ping(context=b"c" * 16))

    await crowd.repeat(3, script)


async def ping_flood_unread(crowd: Crowd) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + (wire.hello() if crowd.port == "link" else b""))
        await peer.flood(ping(context=b"c" * 16))

    await crowd.repeat(3, script, reads=False)


def request_for(port: str, body: bytes, service: bytes = b"other", number: int = 1) -> bytes:
    """A well-formed request, as it is sent to this port; `number` tells it from others on a link."""
    if port == "link":
        return message(wire.batch(wire.request(number, service, body)))
    if port == "mesh":
        return message(b"", json.dumps({"service": service.decode()}).encode(), body)
    return message(b"", body)


async def never_reads(crowd: Crowd) -> None:
    """Pipelined requests of 16 KiB whose replies are never read."""
    await crowd.once(4, pipelined(crowd, b"r" * 16384, b"other", 4), reads=False)


def pipelined(crowd: Crowd, body: bytes, service: bytes, at_once: int, at_drop_in: bytes | None = None):
    """`at_drop_in`: what is sent there instead of a request, as such a port has its service already."""

    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + (wire.hello() if crowd.port == "link" else b""))
        if crowd.port != "link":
            one = at_drop_in if at_drop_in and crowd.port == "drop_in" else request_for(crowd.port, body, service)
            await peer.flood(one * at_once)
        number = 0
        while not peer.is_closed():
            await peer.send(b"".join(request_for(crowd.port, body, service, number + n) for n in range(at_once)))
            number += at_once

    return script


async def tiny_requests_never_read(crowd: Crowd) -> None:
    """The smallest requests there are: each costs an error of some hundred bytes, and no answer is read."""
    too_many_parts = message(*[b""] * 10)
    await crowd.once(2, pipelined(crowd, b"", b"nobody", 400, too_many_parts), reads=False)


async def half_messages(crowd: Crowd) -> None:
    """Large messages of which the last byte never comes, by peers who then wait."""
    size = 3 << 20

    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + (wire.hello() if crowd.port == "link" else b""))
        await peer.send(frame(b"", MORE) + frame(bytes(size - 1), LONG, size))

    await crowd.once(10, script)


async def trickled_messages(crowd: Crowd) -> None:
    """Large messages that go on at 50 KiB/s each, too fast to be taken for dead, for as long as the attack lasts."""
    ends = time.monotonic() + max(crowd.seconds, LOCK_OUT_S)
    size = 60 << 20 if crowd.port != "drop_in" else 3 << 20

    async def script(peer: Peer) -> None:
        await peer.send(READY_PEER + (wire.hello() if crowd.port == "link" else b""))
        await peer.send(frame(b"", MORE) + frame(bytes(100_000), LONG, size))
        while time.monotonic() < ends and not peer.is_closed():
            await peer.send(bytes(10_000))
            await asyncio.sleep(0.2)
        peer.leave()

    await crowd.once(5, script)


async def ready_crowd(crowd: Crowd) -> None:
    """More peers than a port takes, each of which does all that is asked of a good one and then says nothing."""
    ends = time.monotonic() + LOCK_OUT_S + READY_PEERS * READY_EVERY_S
    come = 0

    async def script(peer: Peer) -> None:
        name = b"%x" % peer.random.getrandbits(64)
        await peer.send(READY_PEER + (wire.hello(host=name, epoch=peer.random.getrandbits(63)) if crowd.port == "link" else b""))
        while time.monotonic() < ends and not peer.is_closed():
            await asyncio.sleep(0.1)
        peer.leave()

    async def come_in_turn() -> None:
        # All at once they would be strangers too many, of whom the oldest go.
        nonlocal come
        come += 1
        await asyncio.sleep(come * READY_EVERY_S)
        await (await crowd.connect()).run(script)

    await asyncio.gather(*(come_in_turn() for _ in range(READY_PEERS)))


async def deep_json_bodies(crowd: Crowd) -> None:
    """Bodies that would hurt whoever parsed them: they are no business of the sidecar and come back as they went."""
    deep = 10_000
    bodies = [b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * 60_000, b'{"a":"' + b"\xff" * 60_000, b"{" + b'"k":1,' * 9000]
    at = 0

    async def script(peer: Peer) -> None:
        nonlocal at
        at += 1
        body = bodies[at % len(bodies)]
        await peer.send(READY_PEER + request_for(crowd.port, body))
        reply = message(b"", body)
        if await peer.until_received(lambda received: len(received) >= 64 + len(ready()) + len(reply)):
            if bytes(peer.received).endswith(reply):
                crowd.verdict.right_answers += 1
            else:
                crowd.verdict.wrong_answers.append("another body than was sent")
        peer.leave()

    await crowd.repeat(3, script)
