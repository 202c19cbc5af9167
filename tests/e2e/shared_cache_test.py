"""Replies in memory that sidecars of a host share, and at their agents' host: real processes that are stopped and killed."""

import json
import os
import signal
import time
import unittest

import mesh
import zmq

CONTRACTS = {"voices": {"budget_ms": 20000, "cache": {"ttl_s": 60, "tags": "user:{user}"},
                        "methods": {"set": {"invalidates": "user:{user}"}}}}
CALLERS = 1000
KILLS = int(os.environ.get("MESH_SHARED_KILLS", "12"))


class Voices:
    def __init__(self):
        self.voices: dict[str, int] = {}

    def __call__(self, request: bytes) -> bytes:
        asked = json.loads(request)
        user = asked["user"]
        if user == "slow":
            time.sleep(1)
        if asked["action"] == "set":
            self.voices[user] = self.voices.get(user, 0) + 1
        return json.dumps({"status": "ok", "user": user, "voice": self.voices.get(user, 0), "pad": user * 50}).encode()


def body(action: str, user: str) -> bytes:
    return json.dumps({"action": action, "user": user}).encode()


class SharedCache(unittest.TestCase):
    """Host a has two sidecars, "a" and "second"; the agent is on host b."""

    def setUp(self):
        self.mesh = mesh.Mesh({"voices": {}}, contracts=CONTRACTS, limits={"cache_shared_bytes": 8 << 20})
        self.agent = mesh.Agent(self.mesh.agent_ports["voices"], Voices())
        second = json.loads(json.dumps(self.mesh.configs["a"]))
        second["runtime_dir"] = f"{self.mesh.directory.name}/second"
        second["shared_dir"] = f"{self.mesh.directory.name}/a"
        second["sidecars"] = {"second": {"mesh": "ipc://mesh.sock", "admin": "main.admin"}}
        second["ports"]["voices"]["listen"] = f"tcp://127.0.0.1:{mesh.free_port()}"
        self.mesh.configs["second"] = second
        self.mesh.start("second")
        self.mesh.wait_for_agents()

    def tearDown(self):
        codes = self.mesh.stop()
        self.agent.stop()
        self.assertTrue(all(code in (0, -9) for code in codes.values()), codes)

    def client(self, sidecar: str) -> zmq.Socket:
        return self.mesh._connect(f"ipc://{self.mesh.directory.name}/{sidecar}/mesh.sock", zmq.REQ)

    def ask(self, client: zmq.Socket, action: str, user: str) -> tuple[dict, dict]:
        client.send_multipart([json.dumps({"service": "voices", "method": action}).encode(), body(action, user)])
        header, reply = client.recv_multipart()
        return json.loads(header).get("cache", {}), json.loads(reply)

    def test_what_one_sidecar_has_fetched_another_of_its_host_gives_and_a_write_reaches_both(self):
        first, second = self.client("a"), self.client("second")
        self.assertEqual(self.ask(first, "get", "ann")[0]["verdict"], "fetched")
        self.ask(second, "get", "warm")  # it has a lease from now on
        cache, reply = self.ask(second, "get", "ann")
        self.assertEqual((cache["verdict"], cache["tier"], reply["voice"]), ("hit", "shared", 0))
        self.assertEqual(self.ask(second, "get", "ann")[0]["tier"], "local")
        self.assertEqual(len(self.agent.executed), 2)
        self.ask(second, "set", "ann")
        for client in (first, second):
            self.assertEqual(self.ask(client, "get", "ann")[1]["voice"], 1)

    def fetches(self) -> int:
        return sum(self.mesh.admin(name, "counters")["cache_fetches"] for name in ("a", "second"))

    def ask_all(self, clients: list[zmq.Socket], user: str) -> None:
        for client in clients:
            client.send_multipart([json.dumps({"service": "voices", "method": "get"}).encode(), body("get", user)])

    def test_callers_of_several_sidecars_that_ask_the_same_cold_thing_at_once_are_one_call_upstream(self):
        clients = [self.client(name) for name in ("a", "second") for _ in range(CALLERS // 2)]
        self.ask_all(clients, "slow")
        replies = [json.loads(client.recv_multipart()[1]) for client in clients]
        self.assertEqual([reply for reply in replies if reply.get("user") != "slow"], [])
        self.assertEqual(self.fetches(), 1)
        self.assertEqual(len(self.agent.executed), 1)

    def test_a_sidecar_that_dies_with_the_only_fetch_of_its_host_costs_the_others_a_moment(self):
        first, second = self.client("a"), self.client("second")
        self.ask(second, "get", "warm")
        self.ask_all([first], "slow")
        mesh.wait_for(lambda: len(self.agent.executed) == 2, "the first to be asked")
        self.ask_all([second], "slow")
        mesh.wait_for(lambda: self.mesh.admin("second", "counters")["cache_joined_host"] == 1, "the second to wait")
        self.mesh.kill("a")
        mesh.wait_for(lambda: self.mesh.admin("second", "counters")["cache_fetches"] == 2, "the second to ask", 0.3)
        self.assertEqual(json.loads(second.recv_multipart()[1])["user"], "slow")

    def test_a_restarted_sidecar_finds_what_it_had_kept_and_nothing_that_became_wrong_meanwhile(self):
        first, second = self.client("a"), self.client("second")
        self.ask(first, "get", "ann")
        self.ask(first, "get", "bob")
        self.mesh.kill("a")
        self.ask(second, "get", "warm")
        self.ask(second, "set", "ann")
        self.mesh.start("a")
        again = self.client("a")
        self.ask(again, "get", "warm")
        executed = len(self.agent.executed)
        self.assertEqual(self.ask(again, "get", "bob")[0]["tier"], "shared")
        self.assertEqual(len(self.agent.executed), executed)
        self.assertEqual(self.ask(again, "get", "ann")[1]["voice"], 1)

    def test_a_reply_is_kept_beside_its_agent_for_callers_that_keep_nothing(self):
        self.mesh.kill("a")
        self.mesh.configs["a"]["contracts"] = {"voices": {"cache": {"ttl_s": 60, "tiers": "home", "tags": "user:{user}"},
                                                          "methods": {"set": {"invalidates": "user:{user}"}}}}
        self.mesh.start("a")
        client, second = self.client("a"), self.client("second")
        self.ask(second, "get", "ann")
        cache, _ = self.ask(client, "get", "ann")
        self.assertEqual((cache["verdict"], cache["tier"]), ("fetched", "home"))
        self.assertEqual(len(self.agent.executed), 1)

    def test_no_sidecar_that_is_stopped_or_killed_at_any_moment_is_noticed_by_another(self):
        spared = self.client("second")
        spared.setsockopt(zmq.RCVTIMEO, 15000)
        worst_ms, hits, asked = 0.0, 0, 0
        for round_ in range(KILLS):
            victim = self.client("a")
            stopped = round_ % 2 == 0
            for user in range(40):  # it fetches and writes to the memory all the time
                victim.send_multipart([json.dumps({"service": "voices", "method": "get"}).encode(),
                                       body("get", f"{round_}-{user}")])
                if user == (round_ * 7) % 40:
                    break
                victim.recv_multipart()
            self.mesh.processes["a"].send_signal(signal.SIGSTOP if stopped else signal.SIGKILL)
            for user in range(40):
                began = time.monotonic()
                cache, reply = self.ask(spared, "get", f"{round_}-{user}")
                worst_ms = max(worst_ms, 1000 * (time.monotonic() - began))
                asked += 1
                hits += cache["verdict"] == "hit"
                self.assertEqual((reply["status"], reply["user"]), ("ok", f"{round_}-{user}"))
                self.assertEqual(reply["pad"], f"{round_}-{user}" * 50)
            if stopped:
                self.mesh.processes["a"].send_signal(signal.SIGCONT)
            else:
                self.mesh.processes["a"].wait()
                self.mesh.start("a")
        print(f"{KILLS} rounds: {asked} asked, {hits} hits, the slowest {worst_ms:.1f} ms")
        self.assertGreater(hits, 0)


if __name__ == "__main__":
    unittest.main()
