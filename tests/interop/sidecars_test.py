"""libzmq through whole sidecars: every pair of client and agent sockets, over tcp and ipc; agents that come and go."""

import itertools
import json
import subprocess
import time
import unittest

import zmq

from fixture import BODIES, KINDS, TRANSPORTS, AgentProcess, InteropMesh
from mesh import ask, code_of, wait_for


# Service, which names the agent's socket and transport, and transport to its port.
PAIRS = list(itertools.product((f"{kind}_{transport}" for kind in KINDS for transport in TRANSPORTS), TRANSPORTS))


class Pairs(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.mesh = InteropMesh()
        cls.agents: list[AgentProcess] = [cls.mesh.agent(name) for name in cls.mesh.services]
        cls.mesh.wait_for_agents()

    @classmethod
    def tearDownClass(cls) -> None:
        codes = cls.mesh.stop()
        for agent in cls.agents:
            agent.kill()
        assert set(codes.values()) == {0}, codes

    def test_a_req_gets_back_the_bytes_it_sent(self) -> None:
        for service, transport in PAIRS:
            with self.subTest(service=service, port=transport):
                client = self.mesh.caller(service, transport)
                for body in BODIES:
                    self.assertEqual(ask(client, body), body, len(body))

    def test_a_dealer_gets_back_its_envelope_and_the_bytes_it_sent(self) -> None:
        for service, transport in PAIRS:
            with self.subTest(service=service, port=transport):
                client = self.mesh.caller(service, transport, zmq.DEALER)
                for envelope, body in itertools.product(([], [b""], [b"id", b"\xff", b""]), BODIES):
                    client.send_multipart([*envelope, body])
                    self.assertEqual(client.recv_multipart(), [*envelope, body], len(body))

    def test_a_dealer_may_ask_again_before_it_is_answered_and_is_told_by_its_own_ids_which_is_which(self) -> None:
        for service, transport in PAIRS:
            with self.subTest(service=service, port=transport):
                client = self.mesh.caller(service, transport, zmq.DEALER)
                asked = {number.to_bytes(4, "big"): f"body {number}".encode() for number in range(50)}
                for number, body in asked.items():
                    client.send_multipart([number, b"", body])
                answered = {}
                for _ in asked:
                    number, _, body = client.recv_multipart()
                    answered[number] = body
                self.assertEqual(answered, asked)

    def test_messages_of_several_frames_keep_them_in_order(self) -> None:
        for service, transport in PAIRS:
            with self.subTest(service=service, port=transport):
                client = self.mesh.caller(service, transport)
                client.send_multipart([b"one", b"", b"\x00", bytes(70_000)])
                self.assertEqual(client.recv_multipart(), [b"one", b"", b"\x00", bytes(70_000)])

    def test_a_socket_of_a_wrong_type_never_counts_as_a_client_and_harms_none(self) -> None:
        client = self.mesh.caller("rep_tcp", "tcp")
        for kind in (zmq.SUB, zmq.PUSH, zmq.PAIR, zmq.ROUTER, zmq.REP):
            with self.subTest(kind=kind), zmq.Context.instance().socket(kind) as stranger:
                monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                stranger.connect(f"tcp://127.0.0.1:{self.mesh.ports['rep_tcp']}")
                self.assertTrue(monitor.poll(3000))
                stranger.disable_monitor()
                monitor.close()
                self.assertEqual(ask(client, b"still served"), b"still served")


class ComingAndGoing(unittest.TestCase):
    def setUp(self) -> None:
        self.mesh = InteropMesh(budget_ms=2000)
        self.agents: dict[str, AgentProcess] = {}

    def tearDown(self) -> None:
        self.mesh.stop()
        for agent in self.agents.values():
            agent.kill()

    def start_agents(self) -> None:
        self.agents = {name: self.mesh.agent(name) for name in self.mesh.services}
        self.mesh.wait_for_agents()

    def test_agents_that_start_after_their_sidecar_are_found(self) -> None:
        clients = {name: self.mesh.caller(name, "tcp") for name in self.mesh.services}
        for client in clients.values():
            client.send(b"too early")
        for client in clients.values():
            self.assertEqual(code_of(client.recv()), "NOT_SENT")
        self.start_agents()
        for name, client in clients.items():
            self.assertEqual(ask(client, name.encode()), name.encode())

    def test_agents_and_callers_that_stood_before_their_sidecars_started_are_found(self) -> None:
        self.start_agents()
        callers = {name: self.mesh.caller(name, "ipc") for name in self.mesh.services}
        for client in callers.values():
            self.assertEqual(ask(client, b"before"), b"before")
        for host in ("a", "b"):
            self.mesh.kill(host)
        for host in ("a", "b"):
            self.mesh.start(host)
        self.mesh.wait_for_agents()
        for name in self.mesh.services:
            client = callers[name]
            wait_for(lambda c=client: ask(c, b"again") == b"again", f"{name} to be served through the new sidecars")

    def test_a_crash_in_the_middle_of_a_call_is_said_and_the_agents_that_return_are_served(self) -> None:
        self.start_agents()
        clients = {name: self.mesh.caller(name, "tcp") for name in self.mesh.services}
        for client in clients.values():
            client.send(b"sleep")
        time.sleep(0.3)  # all agents are at it: none has anything else to do
        crashed = time.monotonic()
        for agent in self.agents.values():
            agent.kill()
        for name, client in clients.items():
            self.assertEqual(code_of(client.recv()), "OUTCOME_UNKNOWN", name)
        self.assertLess(time.monotonic() - crashed, 0.7)
        for client in clients.values():
            client.send(b"nobody there")
        for name, client in clients.items():
            self.assertEqual(code_of(client.recv()), "NOT_SENT", name)
        self.start_agents()
        for name, client in clients.items():
            self.assertEqual(ask(client, b"back"), b"back", name)

    def test_an_agent_of_another_socket_type_than_its_entry_says_is_named_in_the_log_and_not_used(self) -> None:
        self.agents = {"rep_tcp": AgentProcess(self.mesh.endpoints["rep_tcp"], "router")}
        reply = json.loads(ask(self.mesh.caller("rep_tcp", "tcp"), b"x"))
        self.assertEqual(reply["code"], "NOT_SENT")
        log = subprocess.run(["grep", "-c", "not to ROUTER", f"{self.mesh.directory.name}/b.log"], check=False,
                             capture_output=True, text=True).stdout
        self.assertGreater(int(log), 0)


if __name__ == "__main__":
    unittest.main()
