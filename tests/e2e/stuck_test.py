"""REQ sockets whose sidecar was killed under them: each is freed within 3 s of its return, and then served."""

import signal
import time
import unittest

import zmq

from mesh import Agent, Mesh, ask, code_of, wait_for

FREED_SECONDS = 3.0
MACHINE_SECONDS = 1.0


def serve(body: bytes) -> bytes:
    if body == b"slow":
        time.sleep(0.3)
    return body


class Stuck(unittest.TestCase):
    def setUp(self) -> None:
        self.mesh = Mesh({"echo": {}}, contracts={"echo": {"budget_ms": 1000}})
        self.addCleanup(self.mesh.stop)
        self.agent = Agent(self.mesh.agent_ports["echo"], serve)
        self.addCleanup(self.agent.stop)
        self.mesh.wait_for_agents()

    def waiting_client(self) -> zmq.Socket:
        """Its request is with the agent."""
        client = self.mesh.client("echo")
        client.send(b"slow")
        wait_for(lambda: b"slow" in self.agent.executed, "the agent to have the request")
        return client

    def assert_is_freed(self, client: zmq.Socket, since: float) -> None:
        client.setsockopt(zmq.RCVTIMEO, int(1000 * (FREED_SECONDS + MACHINE_SECONDS)))
        try:
            self.assertEqual(code_of(client.recv()), "OUTCOME_UNKNOWN")
        except zmq.Again:
            self.fail(f"still waiting {time.monotonic() - since:.1f} s after the sidecar came back")

    def test_who_asks_again_at_once_after_it_was_freed_is_served(self) -> None:
        client = self.waiting_client()
        self.mesh.kill("a")
        self.mesh.start("a")
        self.assert_is_freed(client, time.monotonic())
        began = time.monotonic()
        self.assertEqual(ask(client, b"next"), b"next")
        self.assertLess(time.monotonic() - began, MACHINE_SECONDS)

    def test_a_request_that_the_dead_sidecar_never_read_holds_nobody(self) -> None:
        unread = self.mesh.client("echo")
        ask(unread, b"connected")
        read = self.waiting_client()
        self.mesh.processes["a"].send_signal(signal.SIGSTOP)
        unread.send(b"never read")
        time.sleep(0.1)
        self.mesh.kill("a")
        self.mesh.start("a")
        began = time.monotonic()
        self.assert_is_freed(read, began)
        self.assert_is_freed(unread, began)

    def test_a_socket_that_waits_behind_a_sidecar_that_ended_in_peace_is_freed_as_well(self) -> None:
        client = self.mesh.client("echo")
        ask(client, b"first")
        self.mesh.processes["a"].terminate()
        self.assertEqual(self.mesh.processes["a"].wait(timeout=10), 0)
        # Somebody takes the request, and is gone.
        with zmq.Context.instance().socket(zmq.ROUTER) as taker:
            taker.setsockopt(zmq.LINGER, 0)
            taker.setsockopt(zmq.RCVTIMEO, 6000)
            taker.bind(f"tcp://127.0.0.1:{self.mesh.ports['echo']}")
            client.send(b"lost")
            self.assertEqual(taker.recv_multipart()[-1], b"lost")
        self.mesh.start("a")
        self.assert_is_freed(client, time.monotonic())


if __name__ == "__main__":
    unittest.main()
