"""Every dead end gives its documented error in time, and the socket that got it goes on working.

By the deadline + 50 ms is the promise; tests/sim holds it on a virtual clock. Here the clock is that of a machine which may be
busy with something else.
"""

import json
import random
import threading
import time
import unittest

import zmq

from mesh import Agent, Mesh, ask, code_of, wait_for

BUDGET_MS = 400
MACHINE_MS = 300  # for the promised 50, and for being late because others have the processor


def echo(body: bytes) -> bytes:
    if body.startswith(b"wait "):
        time.sleep(float(body.split()[1]))
    return bytes(200_000) if body == b"large" else body


class DeadEnds(unittest.TestCase):
    def setUp(self) -> None:
        services = {"echo": {}, "down": {}}
        self.mesh = Mesh(services, contracts={name: {"budget_ms": BUDGET_MS, "max_bytes": 100_000} for name in services})
        self.agent = Agent(self.mesh.agent_ports["echo"], echo)
        wait_for(lambda: self.mesh.admin("b", "health")["agents"][0]["connected"]
                 or self.mesh.admin("b", "health")["agents"][1]["connected"], "the agent to be connected")

    def tearDown(self) -> None:
        codes = self.mesh.stop()
        self.agent.stop()
        self.assertLessEqual(set(codes.values()), {0, -9})

    def expect(self, client: zmq.Socket, body: bytes, code: str, stage: str, rule: str, hop: str) -> None:
        began = time.monotonic()
        error = json.loads(ask(client, body))
        took_ms = (time.monotonic() - began) * 1000
        self.assertLessEqual(took_ms, BUDGET_MS + MACHINE_MS)
        self.assertEqual(set(error), {"status", "error", "message", "code", "mesh"})
        self.assertEqual((error["status"], error["message"]), ("error", error["error"]))
        self.assertEqual((error["code"], error["mesh"]["stage"], error["mesh"]["rule"], error["mesh"]["hop"]),
                         (code, stage, rule, hop))
        self.assertTrue(error["mesh"]["hint"] and error["error"] and error["mesh"]["service"])

    def test_each_dead_end_names_hop_stage_and_rule_and_the_socket_lives_on(self) -> None:
        client, down = self.mesh.client("echo"), self.mesh.client("down")
        self.expect(down, b"x", "DEADLINE", "queue", "deadline_passed", "b/main")
        self.expect(client, bytes(100_001), "TOO_LARGE", "admission", "request_bytes", "a/main")
        self.expect(client, b"large", "TOO_LARGE", "agent", "reply_bytes", "b/main")
        self.expect(client, b"wait 0.6", "DEADLINE", "agent", "deadline_passed", "b/main")
        time.sleep(0.3)
        self.assertEqual(ask(client, b"still there"), b"still there")
        self.mesh.kill("b")
        self.expect(client, b"y", "NOT_SENT", "link", "peer_unreachable", "a/main")
        self.mesh.start("b")
        wait_for(lambda: ask(client, b"back") == b"back", "the peer to serve again")

    def test_a_late_reply_never_reaches_the_next_caller(self) -> None:
        client = self.mesh.client("echo")
        for number in range(3):
            self.assertEqual(code_of(ask(client, b"wait 0.45 %d" % number)), "DEADLINE")
            time.sleep(0.1)
            body = b"next %d" % number
            self.assertEqual(ask(client, body), body)

    def test_a_caller_that_goes_away_takes_its_queued_request_with_it(self) -> None:
        busy, gone = self.mesh.client("echo"), self.mesh.client("echo")
        busy.send(b"wait 0.2")
        wait_for(lambda: self.agent.executed, "the agent to be busy")
        gone.send(b"nobody waits for this")
        wait_for(lambda: self.mesh.admin("b", "health")["agents"][1]["queued"]
                 + self.mesh.admin("b", "health")["agents"][0]["queued"] == 1, "the second to be queued")
        gone.close()
        busy.recv()
        self.assertEqual(ask(busy, b"after"), b"after")
        self.assertNotIn(b"nobody waits for this", self.agent.executed)

    def test_fresh_sockets_are_served_while_stuck_ones_are_freed(self) -> None:
        stuck = self.mesh.client("echo")
        stuck.send(b"wait 0.3")
        wait_for(lambda: self.agent.executed, "the request to arrive")
        self.mesh.kill("a")
        self.mesh.start("a")
        restarted, wrong, generator = time.monotonic(), [], random.Random(5)

        def fresh(number: int, connect_after: float, ask_after: float) -> None:
            time.sleep(connect_after)
            client = self.mesh.client("echo")
            time.sleep(ask_after)
            reply = ask(client, b"fresh %d" % number)
            if reply != b"fresh %d" % number:
                wrong.append(reply)

        threads = [threading.Thread(target=fresh, args=(n, generator.uniform(0, 2.5), generator.choice((0, 0, 1.99, 2.01, 3))))
                   for n in range(60)]
        for thread in threads:
            thread.start()
        self.assertEqual(code_of(stuck.recv()), "OUTCOME_UNKNOWN")
        self.assertLess(time.monotonic() - restarted, 3)
        for thread in threads:
            thread.join()
        # One that asks in the very microseconds in which it is taken for stuck is told that nobody knows, and not served.
        self.assertTrue(all(code_of(reply) == "OUTCOME_UNKNOWN" for reply in wrong), wrong)
        self.assertLessEqual(len(wrong), 3)
        self.assertEqual(len(set(self.agent.executed)), len(self.agent.executed))
        self.assertEqual(len(self.agent.executed), 61 - len(wrong))

    def test_sigterm_under_traffic_leaves_no_request_without_an_answer(self) -> None:
        stop, lost, answers = threading.Event(), [], []

        def run() -> None:
            client = self.mesh.client("echo")
            while not stop.is_set():
                try:
                    answers.append(ask(client, b"ping"))
                except zmq.Again:
                    lost.append(1)
                    return

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        self.mesh.processes["b"].terminate()
        self.assertEqual(self.mesh.processes["b"].wait(timeout=10), 0)
        self.mesh.start("b")
        wait_for(lambda: answers[-1] == b"ping", "service to come back")
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(lost, [])
        codes = {code_of(answer) for answer in answers if answer != b"ping"}
        self.assertLessEqual(codes, {"DRAINING", "NOT_SENT"})


class SeveralInstances(unittest.TestCase):
    """The service on the own host first, then the other host's, after NOT_SENT."""

    def test_the_own_host_is_first_and_the_other_takes_over_when_its_agent_is_down(self) -> None:
        mesh = Mesh({"echo": {}})
        far = Agent(mesh.agent_ports["echo"], lambda body: b"far")
        mesh.kill("a")
        near_port = mesh.ports["echo"] + 1 if mesh.ports["echo"] < 65000 else mesh.ports["echo"] - 1
        mesh.configs["a"]["agents"] = {"near": {"service": "echo", "endpoint": f"tcp://127.0.0.1:{near_port}"}}
        mesh.start("a")
        near = Agent(near_port, lambda body: b"near")
        try:
            wait_for(lambda: mesh.admin("a", "health")["agents"][0]["connected"], "the near agent")
            client = mesh.client("echo")
            self.assertEqual(ask(client, b"?"), b"near")
            near.stop()
            wait_for(lambda: not mesh.admin("a", "health")["agents"][0]["connected"], "the near agent to be gone")
            self.assertEqual(ask(client, b"?"), b"far")
            self.assertEqual(mesh.admin("a", "counters")["retries_after_not_sent"], 1)
        finally:
            mesh.stop()
            far.stop()


if __name__ == "__main__":
    unittest.main()
