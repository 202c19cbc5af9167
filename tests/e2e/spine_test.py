"""One request path across two sidecars, with real libzmq sockets at both ends."""

import json
import os
import random
import threading
import time
import unittest

import zmq

from mesh import Agent, Mesh, ask, code_of, wait_for


def echo(body: bytes) -> bytes:
    return body


def slow(body: bytes) -> bytes:
    time.sleep(0.3)
    return body


class Spine(unittest.TestCase):
    def setUp(self) -> None:
        self.mesh = Mesh(
            {"echo": {}, "router": {"socket": "router"}, "bare": {"socket": "router", "correlate": False},
             "slow": {}, "down": {}},
            contracts={"slow": {"budget_ms": 200}, "echo": {"max_bytes": 2_000_000}},
            limits={"calls_per_target_max": 40})
        self.agents = {
            "echo": Agent(self.mesh.agent_ports["echo"], echo),
            "router": Agent(self.mesh.agent_ports["router"], echo, zmq.ROUTER),
            "bare": Agent(self.mesh.agent_ports["bare"], echo, zmq.ROUTER),
            "slow": Agent(self.mesh.agent_ports["slow"], slow),
        }
        wait_for(lambda: sum(a["connected"] for a in self.mesh.admin("b", "health")["agents"]) == 4, "four agents")

    def tearDown(self) -> None:
        self.mesh.stop()
        for agent in self.agents.values():
            agent.stop()

    def test_bodies_arrive_byte_for_byte_at_rep_and_router_agents(self) -> None:
        for service in ("echo", "router", "bare"):
            client = self.mesh.client(service)
            for size in (0, 1, 255, 256, 8192, 8193, 65536, 200_000, 1 << 20):
                body = os.urandom(size)
                self.assertEqual(ask(client, body), body, f"{service} {size}")

    def test_a_dealer_without_delimiter_is_answered_without_one_and_with_one_with_it(self) -> None:
        client = self.mesh.client("echo", zmq.DEALER)
        client.send(b"bare")
        self.assertEqual(client.recv_multipart(), [b"bare"])
        client.send_multipart([b"id", b"", b"enveloped"])
        self.assertEqual(client.recv_multipart(), [b"id", b"", b"enveloped"])

    def test_a_message_of_several_frames_keeps_them(self) -> None:
        client = self.mesh.client("echo")
        client.send_multipart([b"one", b"", b"three"])
        self.assertEqual(client.recv_multipart(), [b"one", b"", b"three"])

    def test_the_mesh_socket_calls_by_service_name(self) -> None:
        client = self.mesh.mesh_client()
        client.send_multipart([json.dumps({"service": "echo", "id": "42"}).encode(), b"hello"])
        header, body = client.recv_multipart()
        self.assertEqual((json.loads(header)["id"], json.loads(header)["code"], body), ("42", "OK", b"hello"))
        client.send_multipart([json.dumps({"service": "nobody"}).encode(), b"hello"])
        self.assertEqual(json.loads(client.recv_multipart()[0])["code"], "NO_ROUTE")
        client.send_multipart([b'{"service": 5}', b"hello"])
        error = json.loads(client.recv_multipart()[1])
        self.assertEqual((error["code"], error["mesh"]["hop"], error["mesh"]["stage"]), ("INVALID", "a/main", "mesh_header"))

    def test_a_late_reply_is_dropped_and_the_socket_goes_on_working(self) -> None:
        client = self.mesh.client("slow")
        began = time.monotonic()
        error = json.loads(ask(client, b"first"))
        took_ms = (time.monotonic() - began) * 1000
        self.assertEqual(error["code"], "DEADLINE")
        self.assertLess(took_ms, 250 + 50)
        self.assertEqual(set(error["mesh"]), {"service", "hop", "stage", "rule", "hint", "call"})
        wait_for(lambda: self.mesh.admin("b", "counters")["late_replies"] == 1, "the late reply")
        reply = ask(client, b"second")
        self.assertNotEqual(reply, b"first")

    def test_an_agent_that_is_down_gives_not_sent_in_time_and_is_served_once_it_starts(self) -> None:
        client = self.mesh.client("down")
        began = time.monotonic()
        self.assertEqual(code_of(ask(client, b"x")), "NOT_SENT")
        self.assertLess(time.monotonic() - began, 1.0)
        self.agents["down"] = Agent(self.mesh.agent_ports["down"], echo)
        wait_for(lambda: ask(client, b"now") == b"now", "the agent to be served")

    def test_a_body_over_the_limit_is_refused_and_the_socket_goes_on_working(self) -> None:
        client = self.mesh.client("echo")
        self.assertEqual(code_of(ask(client, bytes(3_000_000))), "TOO_LARGE")
        self.assertEqual(ask(client, b"small"), b"small")
        self.assertEqual(self.agents["echo"].executed, [b"small"])

    def test_a_peer_that_is_killed_in_flight_gives_outcome_unknown_and_serves_again_after_its_restart(self) -> None:
        client = self.mesh.client("slow")
        client.send(b"x")
        wait_for(lambda: self.agents["slow"].executed == [b"x"], "the agent to have the request")
        self.mesh.kill("b")
        self.assertEqual(code_of(client.recv()), "OUTCOME_UNKNOWN")
        self.assertEqual(code_of(ask(self.mesh.client("echo"), b"z")), "NOT_SENT")
        self.assertEqual(self.agents["echo"].executed, [])
        self.mesh.start("b")
        other = self.mesh.client("echo")
        wait_for(lambda: ask(other, b"back") == b"back", "the peer to serve again")

    def test_a_full_queue_answers_overloaded_to_the_surplus_only(self) -> None:
        clients = [self.mesh.client("slow") for _ in range(60)]
        for client in clients:
            client.send(b"x")
        replies = [client.recv() for client in clients]
        codes = ["OK" if reply == b"x" else code_of(reply) for reply in replies]
        self.assertGreaterEqual(codes.count("OVERLOADED"), 15)
        self.assertEqual(set(codes) - {"OVERLOADED", "DEADLINE", "OK"}, set())

    def test_a_req_socket_left_waiting_by_the_death_of_its_sidecar_is_freed_and_fresh_ones_are_served(self) -> None:
        stuck = self.mesh.client("slow")
        stuck.send(b"x")
        wait_for(lambda: self.agents["slow"].executed, "the request to arrive")
        self.mesh.kill("a")
        self.mesh.start("a")
        began = time.monotonic()
        fresh = [self.mesh.client("echo") for _ in range(5)]
        self.assertEqual(code_of(stuck.recv()), "OUTCOME_UNKNOWN")
        self.assertLess(time.monotonic() - began, 3.0)
        for index, client in enumerate(fresh):
            body = f"fresh {index}".encode()
            self.assertEqual(ask(client, body), body)
        self.assertGreaterEqual(self.mesh.admin("a", "counters")["stuck_peers_freed"], 1)

    def test_sigterm_answers_what_was_accepted(self) -> None:
        client = self.mesh.client("slow")
        client.send(b"accepted")
        wait_for(lambda: self.agents["slow"].executed, "the request to arrive")
        self.mesh.processes["a"].terminate()
        self.assertEqual(code_of(client.recv()), "DEADLINE")  # the agent takes longer than its contract allows
        self.assertEqual(self.mesh.processes["a"].wait(timeout=10), 0)

    def test_under_load_nothing_is_lost_crossed_or_executed_twice(self) -> None:
        requests, clients, wrong = 150, 16, []

        def run(number: int) -> None:
            client = self.mesh.client("echo")
            generator = random.Random(number)
            for request in range(requests):
                body = f"{number}/{request}/".encode() + bytes(generator.choice((0, 100, 5000, 20_000)))
                if ask(client, body) != body:
                    wrong.append((number, request))
            client.close()

        threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        executed = [body.split(b"\0")[0] for body in self.agents["echo"].executed]
        self.assertEqual((len(executed), len(set(executed))), (requests * clients, requests * clients))


if __name__ == "__main__":
    unittest.main()
