"""One model, two hosts with an arbiter each: calls go where the answer comes soonest, and the leases follow them."""

import json
import os
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import mesh
import zmq

sys.path.insert(0, str(Path(__file__).parents[1] / "arbiter"))
from arbiters import Arbiter  # noqa: E402

MODEL_MB = 3072
LOAD_S = 1.0
SERVE_S = 0.1


class Loader:
    """An agent that loads its model with the first request, and says with each reply where it was."""

    def __init__(self, host: str):
        self.host = host.encode()
        self.is_loaded = False

    def serve(self, _body: bytes) -> bytes:
        if not self.is_loaded:
            time.sleep(LOAD_S)
            self.is_loaded = True
        time.sleep(SERVE_S)
        return self.host


class Placement(unittest.TestCase):
    """Service "llm" has an agent on host a, where the callers are, and one on host b."""

    def start(self, cards: dict[str, str]) -> None:
        self.arbiters = {host: Arbiter(cards[host]) for host in ("a", "b")}
        for arbiter in self.arbiters.values():
            self.addCleanup(arbiter.stop)
        model = {"name": "llm", "vram_mb": MODEL_MB, "hold_s": 120, "load_s": LOAD_S}
        self.mesh = mesh.Mesh({"llm": {}}, contracts={"llm": {"budget_ms": 30000, "model": model}})
        self.addCleanup(self.mesh.stop)
        self.ports = {"a": mesh.free_port(), "b": self.mesh.agent_ports["llm"]}
        self.mesh.configs["a"]["agents"] = {"llm": {"endpoint": f"tcp://127.0.0.1:{self.ports['a']}"}}
        for host in ("b", "a"):
            self.mesh.configs[host]["arbiter"] = self.arbiters[host].socket
            self.mesh.processes[host].terminate()
            self.mesh.processes[host].wait()
            self.mesh.start(host)
        self.loaders = {host: Loader(host) for host in ("a", "b")}
        for host, loader in self.loaders.items():
            agent = mesh.Agent(self.ports[host], loader.serve)
            self.addCleanup(agent.stop)
        for host in ("a", "b"):
            mesh.wait_for(lambda: all(a["connected"] for a in self.mesh.admin(host, "health")["agents"]),
                          "the agents to be connected")
        # a knows b once it has talked to it.
        probe = [os.environ["MESHCTL"], "--config", self.mesh.config_path("a"), "probe", "b", "--count", "1"]
        subprocess.run(probe, capture_output=True, timeout=30)
        mesh.wait_for(lambda: all(self.standing(host)["place"] != "unknown" for host in ("a", "b")),
                      "both hosts to say how they stand")

    def standing(self, host: str) -> dict:
        """What a knows of that host."""
        standings = {each["host"]: each for each in self.mesh.admin("a", "health")["standings"]}
        return standings.get(host, {"place": "unknown"})

    def ask(self) -> str:
        client = self.mesh.client("llm")
        client.setsockopt(zmq.RCVTIMEO, 30000)
        reply = mesh.ask(client, b"hello").decode()
        client.close()
        self.mesh.clients.remove(client)
        return reply

    def newest(self) -> dict:
        command = [os.environ["MESHCTL"], "--config", self.mesh.config_path("a"), "--json", "explain", "--newest", "1"]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["records"][0]

    def told(self) -> str:
        command = [os.environ["MESHCTL"], "--config", self.mesh.config_path("a"), "explain", "--newest", "1"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def drain(self, host: str, order: str = "drain") -> None:
        uuid = self.arbiters[host].ask("gpus")["gpus"][0]["gpu"]
        self.assertNotIn("error", self.arbiters[host].ask(f"{order} {uuid}"))

    def leases(self, host: str) -> int:
        return len(self.arbiters[host].leases())

    def test_a_model_moves_with_the_room_for_it_and_is_never_loaded_twice_for_nothing(self) -> None:
        self.start({"a": "4096M", "b": "4096M"})
        self.assertEqual([self.ask() for _ in range(4)], ["a"] * 4)  # the own host, and then where it is
        self.assertEqual((self.leases("a"), self.leases("b")), (1, 0))
        self.drain("a")
        mesh.wait_for(lambda: self.leases("a") == 0, "the model to leave a")
        mesh.wait_for(lambda: self.ask() == "b", "the calls to follow")
        record = self.newest()
        forecasts = {c["instance"]: c["forecast"] for c in record["candidates"]}
        self.assertEqual(record["chosen"], "b/main")
        self.assertGreater(forecasts["a/main"]["total_us"], forecasts["b/main"]["total_us"])
        self.assertEqual(self.leases("b"), 1)
        self.drain("a", "undrain")
        time.sleep(1.5)  # a's arbiter has been asked again
        self.assertEqual([self.ask() for _ in range(4)], ["b"] * 4)  # where it is now
        self.assertEqual((self.leases("a"), self.leases("b")), (0, 1))
        self.assertIn("model resident", self.told())
        self.assertEqual(self.mesh.admin("a", "counters")["results"]["OK"],
                         sum(self.mesh.admin("a", "counters")["results"].values()))

    def test_a_model_that_never_fits_beside_the_caller_is_asked_for_elsewhere_at_once(self) -> None:
        self.start({"a": "2048M", "b": "4096M"})
        mesh.wait_for(lambda: self.ask() == "b", "the first answer")
        self.assertEqual([self.ask() for _ in range(3)], ["b"] * 3)
        self.assertIn("fits on no card there", self.told())
        self.assertEqual(self.leases("a"), 0)

    def test_a_queue_that_takes_longer_than_loading_makes_a_second_copy_worth_it(self) -> None:
        self.start({"a": "4096M", "b": "4096M"})
        self.assertEqual([self.ask(), self.ask()], ["a", "a"])  # of the first one most was loading
        replies: list[str] = []
        callers = [threading.Thread(target=lambda: replies.append(self.ask())) for _ in range(60)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        self.assertEqual(len(replies), 60)
        self.assertGreater(replies.count("b"), 10)
        self.assertGreater(replies.count("a"), 10)
        self.assertEqual((self.leases("a"), self.leases("b")), (1, 1))

    def test_calls_go_on_where_the_model_is_when_arbiters_die(self) -> None:
        self.start({"a": "4096M", "b": "4096M"})
        self.drain("a")
        mesh.wait_for(lambda: self.standing("a")["usable_in_ms"] > 1e6, "a to hear of it")
        self.assertEqual(self.ask(), "b")
        for host in ("b", "a", "b"):
            self.arbiters[host].kill()
            self.assertEqual([self.ask() for _ in range(4)], ["b"] * 4)
        mesh.wait_for(lambda: self.arbiters["b"].ask("gpus"), "the next arbiter")
        mesh.wait_for(lambda: self.leases("b") == 1, "the lease to be claimed")


if __name__ == "__main__":
    unittest.main()
