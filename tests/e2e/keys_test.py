"""Calls that must not be executed twice, and calls that may be: real processes, real sockets, real kills."""

import json
import threading
import time
import unittest

import mesh
import zmq

CONTRACTS = {
    "shop": {"methods": {"pay": {"durable": True, "idempotency_field": "order"},
                         "note": {"idempotency_field": "order"}}},
    "look": {"idempotent": True, "methods": {"write": {"idempotent": False}}},
}
LARGE = "x" * 300_000


def body(action: str, **fields) -> bytes:
    return json.dumps({"action": action, **fields}).encode()


class Slow:
    """Serves when it is let, and counts."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, request: bytes) -> bytes:
        self.gate.wait(10)
        return b'{"status":"ok","answer":' + str(len(request)).encode() + b"}"


class Keys(unittest.TestCase):
    def setUp(self):
        self.serve = {"shop": Slow(), "look": Slow()}
        self.mesh = mesh.Mesh({"shop": {}, "look": {}}, contracts=CONTRACTS)
        self.agents = {name: mesh.Agent(self.mesh.agent_ports[name], serve) for name, serve in self.serve.items()}
        self.mesh.wait_for_agents()

    def tearDown(self):
        for serve in self.serve.values():
            serve.gate.set()
        codes = self.mesh.stop()
        for agent in self.agents.values():
            agent.stop()
        self.assertTrue(all(code in (0, -9) for code in codes.values()), codes)

    def ask(self, request: bytes, service: str = "shop") -> bytes:
        return mesh.ask(self.mesh.client(service), request)

    def restart(self, host: str) -> None:
        self.mesh.kill(host)
        self.mesh.start(host)
        self.mesh.wait_for_agents()

    def test_two_requests_with_one_key_are_executed_once_and_told_the_same(self):
        for action in ("pay", "note"):
            request = body(action, order="A-" + action, amount=5)
            first = self.ask(request)
            self.assertEqual(first, self.ask(request))
            self.assertEqual(self.agents["shop"].executed.count(request), 1)

    def test_the_same_key_with_another_request_is_INVALID(self):
        self.ask(body("pay", order=7, amount=5))
        self.assertEqual(mesh.code_of(self.ask(body("pay", order=7, amount=6))), "INVALID")
        self.assertEqual(mesh.code_of(self.ask(body("pay", order="", amount=6))), "INVALID")
        self.assertEqual(len(self.agents["shop"].executed), 1)

    def test_an_agent_that_asks_again_and_writes_its_usual_fields_anew_is_told_the_same(self):
        for action, data in (("pay", ""), ("note", LARGE)):
            attempts = [body(action, order="R" + action, data=data, request_id=str(n), timestamp=n + 0.5, source_agent="a")
                        for n in range(3)]
            self.assertEqual(len({self.ask(attempt) for attempt in attempts}), 1)
            self.assertEqual([r for r in self.agents["shop"].executed if r in attempts], attempts[:1])
        self.assertEqual(mesh.code_of(self.ask(body("pay", order="Rpay", data="other"))), "INVALID")

    def test_a_large_body_is_executed_once_wherever_in_it_its_method_and_key_stand(self):
        for number, request in enumerate((body("pay", order="L", data=LARGE),
                                          json.dumps({"data": LARGE, "order": "M", "action": "note"}).encode())):
            first = self.ask(request)
            self.assertIn(b"ok", first)
            self.assertEqual(first, self.ask(request))
            self.assertEqual(self.agents["shop"].executed.count(request), 1, number)

    def test_of_several_frames_the_one_that_is_JSON_is_read_and_of_two_such_none_is_executed(self):
        client = self.mesh.client("shop")
        replies = []
        for _ in range(2):
            client.send_multipart([b"\x01", body("pay", order="F")])
            replies.append(client.recv_multipart())
        self.assertEqual(replies[0], replies[1])
        self.assertEqual(self.agents["shop"].executed, [body("pay", order="F")])
        client.send_multipart([body("pay", order="F"), body("pay", order="G")])
        refused = json.loads(client.recv())
        self.assertEqual((refused["code"], refused["mesh"]["rule"]), ("INVALID", "method_unreadable"))
        self.assertEqual(len(self.agents["shop"].executed), 1)
        client = self.mesh.mesh_client()
        client.send_multipart([json.dumps({"service": "look", "idempotency_key": "K"}).encode(), b'{"action":'])
        self.assertEqual(json.loads(client.recv_multipart()[0])["code"], "INVALID")
        self.assertEqual(self.agents["look"].executed, [])

    def test_a_durable_result_outlives_kill_9_of_both_sidecars(self):
        request = body("pay", order="B", amount=5)
        first = self.ask(request)
        self.restart("b")
        self.assertEqual(first, self.ask(request))
        self.restart("a")
        self.restart("b")
        self.assertEqual(first, self.ask(request))
        self.assertEqual(self.agents["shop"].executed, [request])

    def test_a_call_whose_sidecar_was_killed_in_between_is_never_executed_again(self):
        request = body("pay", order="C", amount=5)
        self.serve["shop"].gate.clear()
        client = self.mesh.client("shop")
        client.send(request)
        mesh.wait_for(lambda: self.agents["shop"].executed == [request], "the agent to have it")
        self.mesh.kill("b")
        self.assertEqual(mesh.code_of(client.recv()), "OUTCOME_UNKNOWN")
        self.serve["shop"].gate.set()
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        for _ in range(3):
            reply = json.loads(self.ask(request))
            self.assertEqual((reply["code"], reply["mesh"]["rule"]), ("OUTCOME_UNKNOWN", "died_in_between"))
        self.assertEqual(self.agents["shop"].executed, [request])

    def test_whoever_asks_again_meanwhile_waits_for_the_same(self):
        request = body("note", order="D")
        self.serve["shop"].gate.clear()
        clients = [self.mesh.client("shop") for _ in range(5)]
        for client in clients:
            client.send(request)
        mesh.wait_for(lambda: self.agents["shop"].executed == [request], "the agent to have it")
        time.sleep(0.1)
        self.serve["shop"].gate.set()
        self.assertEqual(len({client.recv() for client in clients}), 1)
        self.assertEqual(self.agents["shop"].executed, [request])

    def test_a_key_in_the_header_of_the_mesh_socket_counts_likewise(self):
        client = self.mesh.mesh_client()
        header = json.dumps({"service": "shop", "method": "pay", "idempotency_key": "E"}).encode()
        replies = []
        for _ in range(2):
            client.send_multipart([header, body("pay", amount=1)])
            replies.append(client.recv_multipart())
        self.assertEqual(replies[0], replies[1])
        self.assertEqual(json.loads(replies[0][0])["code"], "OK")
        self.assertEqual(len(self.agents["shop"].executed), 1)

    def test_an_idempotent_call_whose_agent_dies_is_sent_again_and_explained(self):
        self.serve["look"].gate.clear()
        client = self.mesh.client("look")
        client.send(b"where is it")
        mesh.wait_for(lambda: self.agents["look"].executed, "the agent to have it")
        # Its sidecar is killed with the call, and comes back: the caller's sidecar asks once more.
        self.mesh.kill("b")
        self.mesh.start("b")
        self.serve["look"].gate.set()
        self.assertIn(b"ok", client.recv())
        record = self.mesh.admin("a", "explain newest 1")["records"][0]
        self.assertEqual(record["attempts"], 2)
        self.assertEqual([attempt["code"] for attempt in record["earlier"]], ["OUTCOME_UNKNOWN"])
        self.assertEqual(self.mesh.admin("a", "counters")["retries_of_idempotent"], 1)

    def test_what_is_not_declared_idempotent_is_not_sent_again(self):
        self.serve["shop"].gate.clear()
        client = self.mesh.client("shop")
        client.send(body("look"))
        mesh.wait_for(lambda: self.agents["shop"].executed, "the agent to have it")
        self.mesh.kill("b")
        self.assertEqual(mesh.code_of(client.recv()), "OUTCOME_UNKNOWN")
        self.serve["shop"].gate.set()
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        self.assertEqual(len(self.agents["shop"].executed), 1)

    def test_a_large_body_of_a_method_that_is_not_idempotent_is_not_sent_again_because_its_service_is(self):
        request = body("write", data=LARGE)
        self.serve["look"].gate.clear()
        client = self.mesh.client("look")
        client.send(request)
        mesh.wait_for(lambda: self.agents["look"].executed, "the agent to have it")
        self.mesh.kill("b")
        self.mesh.start("b")
        self.serve["look"].gate.set()
        self.assertEqual(mesh.code_of(client.recv()), "OUTCOME_UNKNOWN")
        self.mesh.wait_for_agents()
        self.assertEqual(self.agents["look"].executed, [request])


class Hedged(unittest.TestCase):
    def test_a_second_instance_answers_where_the_first_takes_its_time(self):
        meshed = mesh.Mesh({"look": {}}, contracts={"look": {"idempotent": True, "hedge_ms": 60}})
        self.addCleanup(meshed.stop)
        slow = Slow()
        slow.gate.clear()
        near_port = mesh.free_port()
        near = mesh.Agent(near_port, slow)
        self.addCleanup(near.stop)
        self.addCleanup(slow.gate.set)
        far = mesh.Agent(meshed.agent_ports["look"], lambda request: b"far " + request)
        self.addCleanup(far.stop)
        # An instance on the caller's own host, which is asked first.
        meshed.configs["a"]["agents"] = {"look": {"endpoint": f"tcp://127.0.0.1:{near_port}"}}
        meshed.kill("a")
        meshed.start("a")
        meshed.wait_for_agents()
        mesh.wait_for(lambda: meshed.admin("a", "health")["agents"][0]["connected"], "the near agent to be connected")
        client = meshed.client("look")
        self.assertEqual(mesh.ask(client, b"1"), b"far 1")
        self.assertEqual(near.executed, [b"1"])
        record = meshed.admin("a", "explain newest 1")["records"][0]
        self.assertEqual((record["attempts"], record["chosen"]), (2, "b/main"))
        self.assertEqual(meshed.admin("a", "counters")["hedges_won"], 1)


class NoStore(unittest.TestCase):
    def test_without_a_usable_directory_durable_calls_are_refused_and_others_served(self):
        meshed = mesh.Mesh({"shop": {}}, contracts={"shop": CONTRACTS["shop"]}, data_dir="/proc/nowhere")
        self.addCleanup(meshed.stop)
        agent = mesh.Agent(meshed.agent_ports["shop"], lambda request: request)
        self.addCleanup(agent.stop)
        meshed.wait_for_agents()
        client = meshed.client("shop")
        refused = json.loads(mesh.ask(client, body("pay", order="X")))
        self.assertEqual((refused["code"], refused["mesh"]["rule"]), ("STORAGE", "no_store"))
        self.assertEqual(mesh.ask(client, body("note", order="X")), body("note", order="X"))
        self.assertEqual(len(agent.executed), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
