"""No bytes that a peer can send hurt anybody else: every attack on every port of two real sidecars, with good requests
running, newcomers coming, and the processes watched.

Each attack is laid on all its ports at once. MESH_HOSTILE_LONG=N lays it on one port after the other, N times and longer, beside
the same on a decoy, and holds the p99 of the good requests to twice what it was while the decoy was attacked.
"""

import os
import statistics
import unittest

from attacks import ATTACKS
from besieged import Besieged
from siege import MIB, P99_RATIO_MAX, Siege, lay_siege

LONG = int(os.environ.get("MESH_HOSTILE_LONG") or 0)
SECONDS, CONTROL_S, ROUNDS = (2.0, 2.0, LONG) if LONG else (1.0, 0.4, 1)

besieged: Besieged | None = None
decoy: Besieged | None = None  # takes the same attacks, for comparison
rows: list[str] = []


def row_of(sieges: list[Siege]) -> str:
    def middle(name: str) -> float:
        return statistics.median(getattr(siege, name) for siege in sieges)

    first = sieges[0]
    most = {name: max(getattr(siege, name) for siege in sieges) for name in ("grown_bytes", "closed_within_s", "newcomer_s")}
    closed = f"{most['closed_within_s']:6.2f}" if ATTACKS[first.attack].ends == "closed" else "     –"
    verdict = "" if not any(siege.broken for siege in sieges) else "  BROKEN"
    return (f"{first.attack:25} {first.port:8} {middle('control_p99_us'):8.0f} {middle('attacked_p99_us'):8.0f} {middle('ratio'):6.2f} "
            f"{most['grown_bytes'] / MIB:7.1f} {closed} {most['newcomer_s']:6.3f} {middle('peers'):7.0f} {middle('sent_bytes') / 1e6:7.1f}{verdict}")


def tearDownModule() -> None:
    abandon()
    print(f"\n{'attack':25} {'port':8} {'p99 µs':>8} {'attacked':>8} {'ratio':>6} {'+MiB':>7} {'closed':>6} {'newcom':>6} {'peers':>7} {'MB sent':>7}")
    print("\n".join(rows))


def abandon() -> None:
    """The next attack finds two fresh sidecars."""
    global besieged, decoy
    for each in (besieged, decoy):
        if each is not None:
            each.stop()
    besieged = decoy = None


class HostileBytes(unittest.TestCase):
    def withstand(self, name: str) -> None:
        """Lays the siege on the ports of the attack; each broken promise is a failure."""
        global besieged, decoy
        ports = ATTACKS[name].ports
        for together in [(port,) for port in ports] if LONG or ATTACKS[name].alone else [ports]:
            with self.subTest(ports=together):
                if besieged is None:
                    besieged, decoy = Besieged(), Besieged(good_per_s=0) if LONG else None
                try:
                    rounds = [lay_siege(besieged, name, together, SECONDS, CONTROL_S, decoy) for _ in range(ROUNDS)]
                except BaseException:
                    abandon()
                    raise
                rows.extend(row_of(list(sieges)) for sieges in zip(*rounds))
                broken = sorted({f"{siege.port}: {promise}" for sieges in rounds for siege in sieges for promise in siege.broken})
                if broken:
                    abandon()
                self.assertEqual(broken, [])
                if LONG:
                    self.assertLessEqual(statistics.median(sieges[0].ratio for sieges in rounds), P99_RATIO_MAX)

    def test_every_attack_is_laid(self) -> None:
        laid = {name.removeprefix("test_").split("__")[0] for name in dir(self) if "__" in name and name.startswith("test_")}
        self.assertEqual(laid, set(ATTACKS))

    def test_random_bytes__are_refused_at_the_first_that_is_no_greeting(self) -> None:
        self.withstand("random_bytes")

    def test_random_after_greeting__end_the_handshake(self) -> None:
        self.withstand("random_after_greeting")

    def test_random_after_ready__end_the_connection_with_its_reason(self) -> None:
        self.withstand("random_after_ready")

    def test_slow_greeting__of_a_byte_a_second_is_given_two_seconds(self) -> None:
        self.withstand("slow_greeting")

    def test_silent_crowd__of_thousands_keeps_no_newcomer_out(self) -> None:
        self.withstand("silent_crowd")

    def test_connect_and_close__ten_thousand_times_leaves_nothing_open(self) -> None:
        self.withstand("connect_and_close")

    def test_claims_8_gib__are_refused_before_a_byte_is_allocated(self) -> None:
        self.withstand("claims_8_gib")

    def test_endless_message__stops_at_its_frames(self) -> None:
        self.withstand("endless_message")

    def test_wrong_socket_types__are_told_which_are_right(self) -> None:
        self.withstand("wrong_socket_types")

    def test_wrong_state__of_a_command_ends_the_connection(self) -> None:
        self.withstand("wrong_state")

    def test_oversize_metadata__is_refused_by_its_size(self) -> None:
        self.withstand("oversize_metadata")

    def test_ping_flood__is_cut_off(self) -> None:
        self.withstand("ping_flood")

    def test_ping_flood_unread__takes_no_memory(self) -> None:
        self.withstand("ping_flood_unread")

    def test_never_reads__is_closed_in_time(self) -> None:
        self.withstand("never_reads")

    def test_tiny_requests_never_read__take_no_memory(self) -> None:
        self.withstand("tiny_requests_never_read")

    def test_half_messages__are_given_up(self) -> None:
        self.withstand("half_messages")

    def test_trickled_messages__hold_up_no_large_message_of_another(self) -> None:
        self.withstand("trickled_messages")

    def test_ready_crowd__leaves_room_for_who_has_something_to_say(self) -> None:
        self.withstand("ready_crowd")

    def test_deep_json_bodies__pass_untouched(self) -> None:
        self.withstand("deep_json_bodies")

    def test_lying_batches__are_refused_each_by_its_rule(self) -> None:
        self.withstand("lying_batches")

    def test_zstd_bombs__never_go_off(self) -> None:
        self.withstand("zstd_bombs")

    def test_broken_protobuf__is_refused_each_by_its_rule(self) -> None:
        self.withstand("broken_protobuf")

    def test_false_hellos__open_no_link(self) -> None:
        self.withstand("false_hellos")

    def test_duplicate_calls__hurt_nobody_else(self) -> None:
        self.withstand("duplicate_calls")

    def test_cancel_flood__is_cut_off(self) -> None:
        self.withstand("cancel_flood")

    def test_wire_ping_flood__is_cut_off(self) -> None:
        self.withstand("wire_ping_flood")

    def test_wire_ping_flood_unread__takes_no_memory(self) -> None:
        self.withstand("wire_ping_flood_unread")

    def test_wire_pong_flood__is_cut_off(self) -> None:
        self.withstand("wire_pong_flood")

    def test_draining_flood__is_cut_off(self) -> None:
        self.withstand("draining_flood")

    def test_replies_unasked__end_the_link(self) -> None:
        self.withstand("replies_unasked")

    def test_inflating_requests__stay_within_the_budget(self) -> None:
        self.withstand("inflating_requests")

    def test_false_headers__are_answered_with_what_is_wrong(self) -> None:
        self.withstand("false_headers")

    def test_admin_binary__is_answered_or_closed(self) -> None:
        self.withstand("admin_binary")

    def test_admin_endless_line__is_cut(self) -> None:
        self.withstand("admin_endless_line")

    def test_admin_never_reads__is_closed_in_time(self) -> None:
        self.withstand("admin_never_reads")


if __name__ == "__main__":
    unittest.main()
