"""Every attack, the ports where it makes sense, and how it must end. As a program: one attack on one port.

usage: attacks.py NAME PORT ADDRESS [--seconds S] [--bytes-per-s N] [--seed N]

PORT is drop_in, mesh, link or admin; ADDRESS a tcp port of loopback or the path of an AF_UNIX socket. Says on stdout, as
one line of JSON, what the attackers saw.
"""

import argparse
import asyncio
import dataclasses
import json
import resource
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import wire_attacks as behind
import wire_bytes as wire
import zmtp_attacks as zmtp
from crowd import BYTES_PER_S, Crowd

ZMTP_PORTS = ("drop_in", "mesh", "link")
CONNECTIONS = 16_384


@dataclass(frozen=True)
class Attack:
    run: Callable[[Crowd], Awaitable[None]]
    ports: tuple[str, ...]
    # closed: the sidecar ends every peer. answered: every peer gets the right answer. leaves: peers end themselves.
    ends: str = "closed"
    # Requests that are well-formed, and too many: they go to a service that the good requests do not need.
    floods_agent: bool = False
    # Has to send so much, to fill the kernel's buffers first, that it cannot share what attackers may send with the same
    # attack on another port.
    alone: bool = False
    # The good newcomers' bodies, where it is those of a size that are in danger.
    newcomer_bytes: int = 100
    # Peers that break no rule: they get what they asked for, and are closed because that was it.
    harmless: bool = False
    # Rules that must all have been named as the reason; empty: any.
    rules: frozenset[str] = frozenset()


def rules(names: str) -> frozenset[str]:
    return frozenset(names.split())


ATTACKS = {
    "random_bytes": Attack(zmtp.random_bytes, ZMTP_PORTS, rules=rules("not_zmtp")),
    "random_after_greeting": Attack(zmtp.random_after_greeting, ZMTP_PORTS),
    "random_after_ready": Attack(zmtp.random_after_ready, ZMTP_PORTS, rules=rules("frame_flags")),
    "slow_greeting": Attack(zmtp.slow_greeting, ZMTP_PORTS, rules=rules("handshake_timeout")),
    "silent_crowd": Attack(zmtp.silent_crowd, (*ZMTP_PORTS, "admin")),
    "connect_and_close": Attack(zmtp.connect_and_close, (*ZMTP_PORTS, "admin"), ends="leaves"),
    "claims_8_gib": Attack(zmtp.claims_8_gib, ZMTP_PORTS, rules=rules("message_bytes command_bytes")),
    "endless_message": Attack(zmtp.endless_message, ZMTP_PORTS, rules=rules("message_frames")),
    "wrong_socket_types": Attack(zmtp.wrong_socket_types, ZMTP_PORTS, rules=rules("socket_type")),
    "wrong_state": Attack(zmtp.wrong_state, ZMTP_PORTS, rules=rules(
        "command frame_flags peer_error ping pong command_name message_before_ready handshake_command mechanism mechanism_name as_server zmtp_version")),
    "oversize_metadata": Attack(zmtp.oversize_metadata, ZMTP_PORTS, rules=rules("command_bytes metadata socket_type")),
    "ping_flood": Attack(zmtp.ping_flood, ZMTP_PORTS),
    "ping_flood_unread": Attack(zmtp.ping_flood_unread, ZMTP_PORTS),
    "never_reads": Attack(zmtp.never_reads, ZMTP_PORTS, floods_agent=True, alone=True),
    "tiny_requests_never_read": Attack(zmtp.tiny_requests_never_read, ZMTP_PORTS, floods_agent=True),
    "half_messages": Attack(zmtp.half_messages, ZMTP_PORTS, alone=True),
    "trickled_messages": Attack(zmtp.trickled_messages, ZMTP_PORTS, ends="leaves", newcomer_bytes=200_000),
    "ready_crowd": Attack(zmtp.ready_crowd, ZMTP_PORTS, ends="leaves"),
    "deep_json_bodies": Attack(zmtp.deep_json_bodies, ("drop_in",), ends="answered"),
    "lying_batches": Attack(behind.lying_batches, ("link",), rules=rules(
        "batch_header batch_version batch_codec batch_flags batch_count batch_frames batch_trailing batch_too_large envelope_truncated "
        "body_missing body_size body_unexpected")),
    "zstd_bombs": Attack(behind.zstd_bombs, ("link",), rules=rules("zstd_broken zstd_size_undeclared zstd_window zstd_too_large")),
    "broken_protobuf": Attack(behind.broken_protobuf, ("link",), rules=rules(
        "envelope_broken envelope_too_large kind unknown_critical priority budget name_too_long parts code hello")),
    "false_hellos": Attack(behind.false_hellos, ("link",), rules=rules("hello_missing hello_twice wire_version name_too_long hello")),
    "duplicate_calls": Attack(behind.duplicate_calls, ("link",), floods_agent=True),
    "cancel_flood": Attack(behind.cancel_flood, ("link",), floods_agent=True),
    "wire_ping_flood": Attack(behind.idle_talk(wire.PING, reads=True), ("link",)),
    "wire_ping_flood_unread": Attack(behind.idle_talk(wire.PING, reads=False), ("link",)),
    "wire_pong_flood": Attack(behind.idle_talk(wire.PONG, reads=True), ("link",)),
    "draining_flood": Attack(behind.idle_talk(wire.DRAINING, reads=True), ("link",)),
    "replies_unasked": Attack(behind.replies_unasked, ("link",)),
    "inflating_requests": Attack(behind.inflating_requests, ("link",)),
    "false_headers": Attack(behind.false_headers, ("mesh",), ends="answered"),
    "admin_binary": Attack(behind.admin_binary, ("admin",)),
    "admin_endless_line": Attack(behind.admin_endless_line, ("admin",)),
    "admin_never_reads": Attack(behind.admin_never_reads, ("admin",), harmless=True),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("port", choices=(*ZMTP_PORTS, "admin"))
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--bytes-per-s", type=float, default=BYTES_PER_S)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(CONNECTIONS, files_max), files_max))
    address = int(chosen.address) if chosen.address.isdigit() else chosen.address
    crowd = Crowd(address, chosen.port, chosen.seconds, chosen.bytes_per_s, chosen.seed)
    asyncio.run(ATTACKS[chosen.name].run(crowd))
    print(json.dumps(dataclasses.asdict(crowd.verdict)))


if __name__ == "__main__":
    main()
