"""Replies that are kept: real processes, real sockets, an agent that is as slow as those of our users."""

import json
import threading
import time
import unittest
import uuid

import mesh
import zmq

CONTRACTS = {
    "voices": {
        "budget_ms": 20000,
        "cache": {"ttl_s": 30, "echo_fields": "request_id", "ignore_fields": ["timestamp", "source_agent"],
                  "tags": "user:{user}", "tiers": "local"},
        "methods": {"mine": {"cache": {"ttl_s": 30, "scope": "caller", "echo_fields": "request_id"}}, "set": {"invalidates": "user:{user}"}, "now": {"cache": {"ttl_s": 0}},
                    "short": {"cache": {"ttl_s": 0.3, "sie_s": 60, "tiers": "local", "echo_fields": "request_id"}}},
    },
}


class SlowAgent:
    """Serves as its users' base class does: one request, then a rest."""

    def __init__(self, rest_s: float):
        self.rest_s = rest_s
        self.voices: dict[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, request: bytes) -> bytes:
        self.gate.wait(10)
        asked = json.loads(request)
        if asked["action"] == "set":
            self.voices[asked["user"]] = asked["voice"]
        time.sleep(self.rest_s)
        return json.dumps({"status": "success", "voice": self.voices.get(asked.get("user")),
                           "request_id": asked.get("request_id")}).encode()


def body(action: str, user: str = "u", **fields) -> bytes:
    """With what clients write anew into every attempt."""
    fresh = {"request_id": str(uuid.uuid4()), "timestamp": time.time(), "source_agent": "test"}
    return json.dumps({"action": action, "user": user, **fields, **fresh}).encode()


class Cache(unittest.TestCase):
    def setUp(self):
        self.serve = SlowAgent(0.1)
        self.mesh = mesh.Mesh({"voices": {}}, contracts=CONTRACTS)
        self.agent = mesh.Agent(self.mesh.agent_ports["voices"], self.serve)
        self.mesh.wait_for_agents()
        self.client = self.mesh.client("voices")

    def tearDown(self):
        self.serve.gate.set()
        codes = self.mesh.stop()
        self.agent.stop()
        self.assertTrue(all(code in (0, -9) for code in codes.values()), codes)

    def ask(self, request: bytes) -> dict:
        reply = json.loads(mesh.ask(self.client, request))
        self.assertEqual(reply.get("request_id", json.loads(request)["request_id"]), json.loads(request)["request_id"])
        return reply

    def executed(self) -> int:
        return len(self.agent.executed)

    def test_a_slow_agent_is_asked_once_and_each_caller_gets_its_own_request_id(self):
        replies = [self.ask(body("get")) for _ in range(200)]
        self.assertEqual(self.executed(), 1)
        self.assertEqual({reply["status"] for reply in replies}, {"success"})
        self.ask(body("get", user="another"))
        self.ask(body("now"))
        self.ask(body("now"))
        self.assertEqual(self.executed(), 4)
        self.assertEqual(self.mesh.admin("a", "counters")["cache_hits"], 199)

    def test_hundreds_who_ask_at_once_are_one_request_and_the_first_may_die(self):
        self.serve.gate.clear()
        first = self.mesh.client("voices")
        first.send(body("get"))
        mesh.wait_for(lambda: self.executed() == 1, "the agent to have it")
        clients = [self.mesh.client("voices") for _ in range(300)]
        for client in clients:
            client.send(body("get"))
        mesh.wait_for(lambda: self.mesh.admin("a", "counters")["cache_joined"] == 300, "all to have asked", 15)
        first.close(linger=0)
        self.serve.gate.set()
        ids = {json.loads(client.recv())["request_id"] for client in clients}
        self.assertEqual(len(ids), 300)
        self.assertEqual(self.executed(), 1)

    def test_who_writes_reads_what_it_wrote(self):
        for voice in ("bass", "alto"):
            self.ask(body("set", voice=voice))
            for _ in range(3):
                self.assertEqual(self.ask(body("get"))["voice"], voice)
        self.assertEqual(self.executed(), 4)

    def test_the_old_reply_is_given_when_its_agent_is_dead_as_long_as_its_sidecar_lives(self):
        self.ask(body("short"))
        time.sleep(0.4)
        self.agent.stop()
        time.sleep(2)  # far beyond any lease
        self.assertEqual(self.ask(body("short"))["status"], "success")
        self.assertEqual(self.ask(body("short", user="new"))["code"], "NOT_SENT")
        record = self.mesh.admin("a", "explain newest 10")["records"][1:]
        self.assertIn("stale_error", [one["cache"]["verdict"] for one in record if one["cache"]])

    def test_the_mesh_socket_says_what_the_cache_did_and_explain_says_it_again(self):
        client = self.mesh.mesh_client()
        header = json.dumps({"service": "voices", "method": "get"}).encode()
        seen = []
        for _ in range(2):
            client.send_multipart([header, body("get")])
            seen.append(json.loads(client.recv_multipart()[0])["cache"])
        self.assertEqual([one["verdict"] for one in seen], ["fetched", "hit"])
        self.assertEqual(seen[1]["tier"], "local")
        self.assertEqual(seen[0]["key"], seen[1]["key"])
        hit, waiter, fetch = self.mesh.admin("a", "explain newest 3")["records"]
        self.assertEqual((hit["cache"]["verdict"], hit["cache"]["tier"]), ("hit", "local"))
        self.assertEqual(waiter["cache"], {"verdict": "fetched", "key": seen[0]["key"], "fetched_by": fetch["call"]})
        self.assertEqual(waiter["stages"][0]["stage"], "cache")
        self.assertGreater(next(stage["us"] for stage in fetch["stages"] if stage["stage"] == "agent"), 100_000)

    def test_a_body_that_names_no_user_is_asked_each_time(self):
        request = json.dumps({"action": "get"}).encode()
        for _ in range(2):
            mesh.ask(self.client, request)
        self.assertEqual(self.executed(), 2)
        self.assertEqual(self.mesh.admin("a", "explain newest 1")["records"][0]["cache"]["verdict"], "untagged")
        client = self.mesh.mesh_client()
        client.send_multipart([json.dumps({"service": "voices", "method": "get"}).encode(), request])
        self.assertEqual(json.loads(client.recv_multipart()[0])["cache"]["verdict"], "untagged")

    def test_what_is_kept_per_caller_is_given_to_no_other(self):
        header = json.dumps({"service": "voices", "method": "mine"}).encode()
        other = self.mesh.mesh_client()
        for _ in range(2):
            self.ask(body("mine"))
            other.send_multipart([header, body("mine")])
            self.assertEqual(json.loads(other.recv_multipart()[0])["code"], "OK")
        self.assertEqual(self.executed(), 2)


if __name__ == "__main__":
    unittest.main()
