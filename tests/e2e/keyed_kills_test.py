"""Durable calls with keys while everybody is killed: each order is paid at most once, and each caller hears the truth.

MESH_KEYED_KILLS says how many kills there are (10).
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
import unittest
from collections import Counter
from pathlib import Path

import mesh
import zmq

KILLS = int(os.environ.get("MESH_KEYED_KILLS", "10"))
CALLERS = 6
ATTEMPTS_MAX = 40
CONTRACTS = {"shop": {"budget_ms": 1500, "methods": {"pay": {"durable": True, "idempotency_field": "order"}}}}
# It writes down what it does before it says so, as whoever moves money would.
AGENT = """
import json, os, random, sys, time, zmq
port, path = sys.argv[1:]
ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
server = zmq.Context.instance().socket(zmq.REP)
server.bind("tcp://127.0.0.1:" + port)
while True:
    order = json.loads(server.recv())["order"]
    os.write(ledger, (order + "\\n").encode())
    if random.random() < 0.3:
        time.sleep(random.uniform(0, 0.03))
    server.send(json.dumps({"status": "ok", "order": order}).encode())
"""
OK, UNKNOWN, NEVER = "OK", "UNKNOWN", "NEVER"


def breaches(heard: dict[str, str], paid: list[str]) -> list[str]:
    """What must not be, of how each order ended for its caller and of the lines of the ledger."""
    times = Counter(paid)
    found = [f"{order} was paid {count} times" for order, count in times.items() if count > 1]
    found += [f"{order} was paid and never asked for" for order in times if order not in heard]
    found += [f"{order} is said to be paid and is not" for order, end in heard.items() if end == OK and times[order] == 0]
    return found + [f"{order} never came to an end" for order, end in heard.items() if end == NEVER]


class Breaches(unittest.TestCase):
    def test_each_kind_is_found(self):
        self.assertEqual(breaches({"a": OK, "b": UNKNOWN, "c": UNKNOWN}, ["a", "b"]), [])
        self.assertEqual(len(breaches({"a": OK}, ["a", "a"])), 1)
        self.assertEqual(len(breaches({"a": UNKNOWN}, ["a", "a"])), 1)
        self.assertEqual(len(breaches({"a": OK}, [])), 1)
        self.assertEqual(len(breaches({}, ["a"])), 1)
        self.assertEqual(len(breaches({"a": NEVER}, ["a"])), 1)


class KeyedKills(unittest.TestCase):
    def setUp(self):
        self.mesh = mesh.Mesh({"shop": {}}, contracts=CONTRACTS)
        self.addCleanup(self.mesh.stop)
        self.ledger = Path(self.mesh.directory.name) / "ledger"
        self.agent = None
        self.start("agent")
        self.addCleanup(lambda: self.kill("agent"))
        self.mesh.wait_for_agents()
        self.heard: dict[str, str] = {}
        self.attempts = 0
        self.is_over = threading.Event()

    def start(self, who: str) -> None:
        if who == "agent":
            self.agent = subprocess.Popen(
                [sys.executable, "-c", AGENT, str(self.mesh.agent_ports["shop"]), str(self.ledger)])
        else:
            self.mesh.start(who)

    def kill(self, who: str) -> None:
        if who == "agent":
            self.agent.kill()
            self.agent.wait()
        else:
            self.mesh.kill(who)

    def ask(self, request: bytes) -> dict | None:
        client = zmq.Context.instance().socket(zmq.REQ)
        try:
            client.setsockopt(zmq.LINGER, 0)
            client.setsockopt(zmq.RCVTIMEO, 6000)
            client.connect(f"tcp://127.0.0.1:{self.mesh.ports['shop']}")
            client.send(request)
            return json.loads(client.recv())
        except zmq.Again:
            return None
        finally:
            client.close()

    def pay(self, order: str) -> str:
        """Asks with the same key until it is known how it ended, or that nobody knows."""
        request = json.dumps({"action": "pay", "order": order}).encode()
        for _ in range(ATTEMPTS_MAX):
            self.attempts += 1
            reply = self.ask(request)
            if reply is None:
                continue
            if reply["status"] == "ok":
                return OK if reply["order"] == order else NEVER
            if reply["mesh"]["rule"] == "died_in_between":
                return UNKNOWN
            time.sleep(0.05)
        return NEVER

    def call(self, number: int) -> None:
        made = 0
        while not self.is_over.is_set():
            made += 1
            order = f"{number}-{made}"
            # Stays so if this thread falls over what it is told.
            self.heard[order] = NEVER
            self.heard[order] = self.pay(order)

    def kill_at_random(self) -> Counter:
        draw, kills = random.Random(11), Counter()
        for _ in range(KILLS):
            time.sleep(draw.uniform(0.2, 1.0))
            victims = draw.choice((["agent"], ["a"], ["b"], ["a", "b"], ["agent", "b"]))
            kills[" and ".join(victims)] += 1
            for who in victims:
                self.kill(who)
            time.sleep(draw.uniform(0, 0.3))
            for who in victims:
                self.start(who)
        self.mesh.wait_for_agents()
        time.sleep(1)
        return kills

    def test_an_order_is_paid_at_most_once_whoever_is_killed(self):
        callers = [threading.Thread(target=self.call, args=(n,)) for n in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            kills = self.kill_at_random()
        finally:
            self.is_over.set()
            for caller in callers:
                caller.join()
        ends = Counter(self.heard.values())
        print(f"{len(self.heard)} orders in {self.attempts} attempts: {dict(ends)}; killed: {dict(kills)}")
        self.assertEqual(breaches(self.heard, self.ledger.read_text().split()), [])
        self.assertGreater(ends[OK], 5 * KILLS)
        self.ask_again()

    def ask_again(self) -> None:
        """Whoever asks again hears the same end again, and nothing is paid for it."""
        for act in (self.kill, self.start):
            for host in ("a", "b"):
                act(host)
        self.mesh.wait_for_agents()
        paid = self.ledger.read_text()
        # Keys are remembered for 10 minutes, so a long run cannot ask for its first orders.
        newest = dict(list(self.heard.items())[-1000:])
        self.assertEqual({order: self.pay(order) for order in newest}, newest)
        self.assertEqual(self.ledger.read_text(), paid)


if __name__ == "__main__":
    unittest.main(verbosity=2)
