"""Methods that compute with models, and a real arbiter of a card that is too small for two of them at once."""

import json
import os
import sys
import threading
import time
import unittest
from pathlib import Path

import mesh
import zmq

sys.path.insert(0, str(Path(__file__).parents[1] / "arbiter"))
from arbiters import Arbiter  # noqa: E402

CARD_MB = 4096
MODEL_MB = 3072
HOLD_S = 0.3


class AtWork:
    """How many agents compute at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now: list[str] = []
        self.together = 0

    def agent(self, name: str):
        def serve(body: bytes) -> bytes:
            with self.lock:
                self.now.append(name)
                self.together = max(self.together, len(set(self.now)))
            time.sleep(0.02)
            with self.lock:
                self.now.remove(name)
            return body
        return serve


class Models(unittest.TestCase):
    """Agents "llm" and "ocr" of host b have a model each; only one of them fits at a time."""

    def setUp(self) -> None:
        self.arbiter = Arbiter(f"{CARD_MB}M")
        self.addCleanup(self.arbiter.stop)
        self.work = AtWork()

    def start(self, arbiter: bool = True, vram_mb: int = MODEL_MB, budget_ms: int = 5000, hold_s: float = HOLD_S) -> None:
        models = {name: {"budget_ms": budget_ms, "model": {"name": name, "vram_mb": vram_mb, "hold_s": hold_s}}
                  for name in ("llm", "ocr")}
        self.mesh = mesh.Mesh({"llm": {}, "ocr": {}}, contracts=models)
        self.addCleanup(self.mesh.stop)
        if arbiter:
            self.mesh.configs["b"]["arbiter"] = self.arbiter.socket
            self.mesh.processes["b"].terminate()
            self.mesh.processes["b"].wait()
            self.mesh.start("b")
        self.agents = {name: mesh.Agent(self.mesh.agent_ports[name], self.work.agent(name)) for name in ("llm", "ocr")}
        for agent in self.agents.values():
            self.addCleanup(agent.stop)
        self.mesh.wait_for_agents()

    def model(self, name: str) -> dict:
        models = {model["model"]: model for model in self.mesh.admin("b", "health")["models"]}
        return models.get(name, {"lease": "none"})

    def ask_all(self, rounds: int) -> list[bytes]:
        """Callers of both, again and again and at once."""
        replies: list[bytes] = []

        def ask(service: str) -> None:
            client = self.mesh.client(service)
            client.setsockopt(zmq.RCVTIMEO, 20000)
            for i in range(rounds):
                replies.append(mesh.ask(client, f"{service} {i}".encode()))

        callers = [threading.Thread(target=ask, args=(service,)) for service in ("llm", "ocr") for _ in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return replies

    def test_models_that_do_not_fit_together_are_never_at_work_together_and_nobody_fails(self) -> None:
        self.start(budget_ms=30000)
        replies = self.ask_all(rounds=5)
        self.assertEqual(len(replies), 20)
        self.assertEqual([reply for reply in replies if reply.startswith(b"{")], [])
        self.assertEqual(self.work.together, 1)

    def test_what_is_kept_for_nobody_makes_room_for_another_model_of_its_sidecar(self) -> None:
        self.start(budget_ms=30000, hold_s=120)
        self.assertEqual(mesh.ask(self.mesh.client("llm"), b"x"), b"x")
        client = self.mesh.client("ocr")
        client.setsockopt(zmq.RCVTIMEO, 30000)
        began = time.monotonic()
        self.assertEqual(mesh.ask(client, b"y"), b"y")
        self.assertGreater(time.monotonic() - began, 5)  # what was loaded a moment ago is not taken away at once
        self.assertEqual((self.model("llm")["lease"], self.model("ocr")["lease"]), ("none", "held"))

    def test_without_an_arbiter_they_are(self) -> None:
        self.start(arbiter=False)
        self.ask_all(rounds=5)
        self.assertEqual(self.work.together, 2)

    def test_the_lease_of_a_burst_goes_back_behind_it(self) -> None:
        self.start()
        client = self.mesh.client("llm")
        self.assertEqual(mesh.ask(client, b"x"), b"x")
        self.assertEqual(self.model("llm")["lease"], "held")
        # Memory is the agent's, which is in this process, though its sidecar asked for it.
        lease = self.arbiter.leases()[0]
        self.assertEqual((lease["pid"], lease["used_by_pid"]), (self.mesh.processes["b"].pid, os.getpid()))
        self.assertEqual(mesh.ask(client, b"y"), b"y")
        mesh.wait_for(lambda: self.model("llm")["lease"] == "none", "the lease to go back")
        self.assertEqual(self.mesh.admin("b", "counters")["model_waits"], 1)

    def test_what_never_fits_is_refused_with_the_reason(self) -> None:
        self.start(vram_mb=2 * CARD_MB)
        reply = json.loads(mesh.ask(self.mesh.client("llm"), b"x"))
        self.assertEqual((reply["mesh"]["stage"], reply["mesh"]["rule"]), ("model", "never_fits"))
        self.assertEqual(self.agents["llm"].executed, [])

    def test_a_lease_outlives_the_arbiter_and_calls_go_on(self) -> None:
        self.start(budget_ms=20000)
        client = self.mesh.client("llm")
        client.setsockopt(zmq.RCVTIMEO, 20000)
        end = time.monotonic() + 3
        kills = 0
        while time.monotonic() < end:
            self.assertEqual(mesh.ask(client, b"x"), b"x")
            if kills < 2 and time.monotonic() > end - 3 + 1.5 * kills:
                self.arbiter.kill()
                kills += 1
        self.assertEqual(kills, 2)
        self.assertEqual(self.mesh.admin("b", "counters")["results"]["DEADLINE"], 0)

    def test_memory_goes_back_when_the_arbiter_asks_for_it(self) -> None:
        """By hand, since it lets nobody be asked so soon after a load."""
        self.start(hold_s=120)
        client = self.mesh.client("llm")
        self.assertEqual(mesh.ask(client, b"x"), b"x")
        self.assertEqual(len(self.arbiter.leases()), 1)
        self.arbiter.ask("evict " + self.arbiter.leases()[0]["lease"])
        mesh.wait_for(lambda: not self.arbiter.leases(), "the lease to be given back")
        self.assertEqual(self.mesh.admin("b", "counters")["model_recalls"], 1)
        self.assertEqual(mesh.ask(client, b"y"), b"y")

    def test_while_no_arbiter_is_there_nobody_computes(self) -> None:
        self.start(budget_ms=1500)
        self.mesh.configs["b"]["arbiter"] = self.arbiter.socket + ".other"
        self.mesh.processes["b"].terminate()
        self.mesh.processes["b"].wait()
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        client = self.mesh.client("llm")
        reply = json.loads(mesh.ask(client, b"x"))
        self.assertEqual((reply["code"], reply["mesh"]["stage"]), ("DEADLINE", "model"))
        self.assertEqual(self.agents["llm"].executed, [])
        # It comes.
        Path(self.arbiter.socket + ".other").symlink_to(self.arbiter.socket)
        mesh.wait_for(lambda: mesh.ask(client, b"y") == b"y", "the agent to be asked")


if __name__ == "__main__":
    unittest.main()
