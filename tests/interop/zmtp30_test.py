"""A peer that was written from RFC 23 and shares no code with libzmq or with us, through whole sidecars."""

import itertools
import os
import socket
import threading
import time
import unittest

import zmq

import zmtp30
from fixture import BODIES, AgentProcess, InteropMesh
from mesh import ask, wait_for
from zmtp30 import Habits, Peer, Refused

HABITS = {
    "plain 3.0": Habits(),
    "one byte per write": Habits(piece=1),
    "waits for the other side's signature": Habits(waits=True),
    "arbitrary padding in the signature": Habits(padding=b"\x00\x7f\xff\x01\x02\x03\x04\x05"),
    "long frames for short bodies": Habits(always_long=True),
    "a later minor version": Habits(version=(3, 7)),
    "a later major version": Habits(version=(4, 0)),
}


def metadata_of(kind: str) -> list[Habits]:
    """READYs that mean the same: names in any case, any order, properties nobody knows, no identity."""
    name = kind.encode()
    return [Habits(ready=[(b"sOCKET-tYPE", name)]),
            Habits(ready=[(b"X-Flavour", b"\xff" * 100), (b"Socket-Type", name), (b"Resource", b"")])]


class Agent30:
    """A REP server as RFC 23 and 28 describe it: what stands before the empty frame goes back as it came."""

    def __init__(self, port: int, habits: Habits):
        self.seen: list[list[bytes]] = []
        self.peers: list[Peer] = []
        self.errors: list[Exception] = []
        self._habits = habits
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                stream, _ = self._listener.accept()
                with stream:
                    peer = Peer(stream, "REP", self._habits)
                    peer.stream.settimeout(None)
                    self.peers.append(peer)
                    for frames in peer.requests():
                        self.seen.append(frames)
                        peer.send(frames)
        except OSError:
            pass  # closed
        except Exception as error:  # a violation is the test's to judge
            self.errors.append(error)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            peer.stream.shutdown(socket.SHUT_RDWR)  # its thread reads: a mere close would wait for that


class Callers(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.mesh = InteropMesh({"echo_tcp": {"socket": "rep"}})
        cls.agent: AgentProcess = cls.mesh.agent("echo_tcp")
        cls.mesh.wait_for_agents()
        cls.port = cls.mesh.ports["echo_tcp"]

    @classmethod
    def tearDownClass(cls) -> None:
        codes = cls.mesh.stop()
        cls.agent.kill()
        assert set(codes.values()) == {0}, codes

    def test_a_req_is_answered_byte_for_byte_whatever_its_habits(self) -> None:
        for name, habits in HABITS.items():
            with self.subTest(habits=name):
                peer = zmtp30.connect(self.port, "REQ", habits)
                for body in BODIES if habits.piece > 1 else BODIES[:-2]:
                    peer.send([b"", body])
                    self.assertEqual(peer.receive(), [b"", body])
                self.assertEqual(peer.properties["Socket-Type"], b"ROUTER")
                peer.stream.close()

    def test_a_dealer_gets_its_own_envelope_back_and_none_where_it_sent_none(self) -> None:
        for name, habits in HABITS.items():
            with self.subTest(habits=name):
                peer = zmtp30.connect(self.port, "DEALER", habits)
                for envelope in ([], [b""], [b"id", b"more", b""]):
                    peer.send([*envelope, b"body"])
                    self.assertEqual(peer.receive(), [*envelope, b"body"])
                peer.stream.close()

    def test_metadata_may_be_written_in_any_case_and_order_and_say_more(self) -> None:
        for kind, index in itertools.product(("REQ", "DEALER"), (0, 1)):
            with self.subTest(kind=kind, index=index):
                peer = zmtp30.connect(self.port, kind, metadata_of(kind)[index])
                peer.send([b"", b"body"])
                self.assertEqual(peer.receive(), [b"", b"body"])
                peer.stream.close()

    def test_a_socket_of_a_wrong_type_reads_why_before_it_is_hung_up_on(self) -> None:
        for kind in ("SUB", "XSUB", "PUB", "XPUB", "PUSH", "PULL", "PAIR", "ROUTER", "REP"):
            with self.subTest(kind=kind):
                stream = socket.create_connection(("127.0.0.1", self.port))
                with self.assertRaises(Refused) as refused:
                    Peer(stream, kind).receive()
                self.assertEqual(str(refused.exception), f"this port talks to REQ or DEALER sockets, not to {kind}")
                self.assertEqual(stream.recv(1), b"")
                stream.close()

    def test_a_peer_older_than_zmtp_3_is_hung_up_on_at_once_not_left_waiting(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as old:
            old.sendall(b"\xff" + bytes(7) + b"\x01\x7f" + b"\x01")  # ZMTP 2.0: revision 1 behind the signature
            began = time.monotonic()
            with self.assertRaises((EOFError, ConnectionError)):
                while True:
                    if not old.recv(100):
                        raise EOFError
            self.assertLess(time.monotonic() - began, 0.5)

    def test_a_caller_that_hangs_up_in_the_middle_of_a_frame_harms_no_other(self) -> None:
        other = zmtp30.connect(self.port, "REQ")
        torn = zmtp30.connect(self.port, "REQ")
        torn.stream.sendall(b"\x01\x00\x02" + (100_000).to_bytes(8, "big") + b"only this")
        torn.stream.close()
        other.send([b"", b"served"])
        self.assertEqual(other.receive(), [b"", b"served"])
        other.stream.close()


class Agents(unittest.TestCase):
    def setUp(self) -> None:
        self.mesh = InteropMesh({"echo_tcp": {"socket": "rep"}})

    def tearDown(self) -> None:
        self.mesh.stop()

    def test_a_rep_agent_serves_libzmq_callers_whatever_its_habits(self) -> None:
        client = self.mesh.caller("echo_tcp", "tcp", zmq.REQ)
        for name, habits in HABITS.items():
            with self.subTest(habits=name):
                agent = Agent30(self.mesh.agent_ports["echo_tcp"], habits)
                self.mesh.wait_for_agents()
                for body in BODIES if habits.piece > 1 else BODIES[:-2]:
                    self.assertEqual(ask(client, body), body)
                self.assertEqual([frames[-1] for frames in agent.seen], BODIES[:len(agent.seen)])
                self.assertEqual({(len(frames), frames[-2]) for frames in agent.seen}, {(3, b"")})
                self.assertEqual((agent.peers[0].properties["Socket-Type"], agent.errors), (b"DEALER", []))
                agent.close()
                wait_for(lambda: not self.mesh.admin("b", "health")["agents"][0]["connected"], "the agent to be missed")

    def test_a_3_0_caller_and_a_3_0_agent_meet(self) -> None:
        agent = Agent30(self.mesh.agent_ports["echo_tcp"], Habits())
        self.mesh.wait_for_agents()
        caller = zmtp30.connect(self.mesh.ports["echo_tcp"], "REQ")
        for size in (0, 255, 256, 100_000):
            body = os.urandom(size)
            caller.send([b"", body])
            self.assertEqual(caller.receive(), [b"", body])
        self.assertEqual(agent.errors, [])
        caller.stream.close()
        agent.close()


if __name__ == "__main__":
    unittest.main()
