"""A plain REQ socket's body says what it wants done, and the contract of just that applies; the body stays as it is."""

import json
import time
import unittest

from mesh import Agent, Mesh, ask, code_of

CONTRACT = {"budget_ms": 3000, "max_bytes": 10_000,
            "methods": {"quick": {"budget_ms": 150}, "upload": {"max_bytes": 300_000}, "ping": {"budget_ms": 150}}}


def serve(body: bytes) -> bytes:
    if b"slow" in body or body == b"ping":
        time.sleep(0.4)
    return body


class Methods(unittest.TestCase):
    def setUp(self) -> None:
        self.mesh = Mesh({"work": {}}, contracts={"work": CONTRACT})
        self.agent = Agent(self.mesh.agent_ports["work"], serve)
        self.addCleanup(self.agent.stop)
        self.addCleanup(self.mesh.stop)
        self.mesh.wait_for_agents()

    def test_a_methods_own_budget_applies_to_what_the_body_asks_for(self) -> None:
        client = self.mesh.client("work")
        body = b'{"action":"thorough", "how": "slow", "odd": "\\u00e9 \xc3\xa9"}'
        self.assertEqual(ask(client, body), body)
        self.assertEqual(code_of(ask(client, b'{"action":"quick","how":"slow"}')), "DEADLINE")
        time.sleep(0.4)
        self.assertEqual(code_of(ask(client, b"ping")), "DEADLINE")
        self.assertEqual(self.agent.executed, [body, b'{"action":"quick","how":"slow"}', b"ping"])

    def test_a_methods_own_size_applies_to_what_the_body_asks_for(self) -> None:
        client = self.mesh.client("work")
        data = "x" * 200_000
        upload = json.dumps({"data": data, "command": "upload"}).encode()
        self.assertEqual(ask(client, upload), upload)
        self.assertEqual(code_of(ask(client, json.dumps({"action": "other", "data": data}).encode())), "TOO_LARGE")
        self.assertEqual(len(self.agent.executed), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
