"""meshctl cache, and orders at mesh.cache: what is purged is given no more on either host, and nobody says so before."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import mesh
import zmq

CONTRACTS = {
    "voices": {
        "budget_ms": 20000,
        "cache": {"ttl_s": 600, "tags": "user:{user}"},
        "methods": {"now": {"cache": {"ttl_s": 0}}, "short": {"cache": {"ttl_s": 0.2, "tags": "user:{user}"}}},
    },
}

AS_NOBODY = """
import socket, sys
admin = socket.socket(socket.AF_UNIX)
admin.connect(sys.argv[1])
admin.sendall(sys.argv[2].encode() + b" json\\n")
sys.stdout.write(admin.makefile().read())
"""


def body(action: str, user: str) -> bytes:
    return json.dumps({"action": action, "user": user, "timestamp": time.time()}).encode()


class CacheCommands(unittest.TestCase):
    def setUp(self) -> None:
        self.voice = "bass"
        self.mesh = mesh.Mesh({"voices": {}}, contracts=CONTRACTS)
        self.agent = mesh.Agent(self.mesh.agent_ports["voices"], self.serve)
        # Host b has callers of its own, and a drop-in port for orders.
        self.order_port, own_port = mesh.free_port(), mesh.free_port()
        for host, ports in (("a", {"orders": self.order_port}), ("b", {"voices": own_port})):
            for name, port in ports.items():
                entry = {"listen": f"tcp://127.0.0.1:{port}", "service": "mesh.cache" if name == "orders" else name}
                self.mesh.configs[host].setdefault("ports", {})[name] = entry
            self.mesh.processes[host].terminate()
            self.mesh.processes[host].wait()
            self.mesh.start(host)
        self.mesh.wait_for_agents()
        self.at_a = self.mesh.client("voices")
        self.at_b = self.mesh._connect(f"tcp://127.0.0.1:{own_port}", zmq.REQ)

    def tearDown(self) -> None:
        codes = self.mesh.stop()
        self.agent.stop()
        self.assertTrue(all(code in (0, -9) for code in codes.values()), codes)

    def serve(self, request: bytes) -> bytes:
        status = "error" if json.loads(request)["user"] == "nobody" else "success"
        return json.dumps({"status": status, "voice": self.voice}).encode()

    def voices(self, user: str) -> list[str]:
        return [json.loads(mesh.ask(client, body("get", user)))["voice"] for client in (self.at_a, self.at_b)]

    def run_ctl(self, *arguments: str, configs=("a",), expect: int = 0) -> str:
        command = [os.environ["MESHCTL"]]
        for host in configs:
            command += ["--config", self.mesh.config_path(host)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout

    def log_of(self, host: str) -> str:
        return (Path(self.mesh.directory.name) / f"{host}.log").read_text()

    def test_a_purge_by_tag_reaches_the_other_host_and_leaves_the_rest(self) -> None:
        for user in ("ann", "bob"):
            self.voices(user)
        self.voice = "alto"
        self.assertEqual(self.voices("ann"), ["bass", "bass"])
        answer = json.loads(self.run_ctl("cache", "purge", "--service", "voices", "--tag", "user:ann", "--json"))
        self.assertTrue(answer["confirmed"])
        self.assertEqual(answer["sidecars"][0]["confirmed_by"], ["b/main"])
        self.assertEqual(self.voices("ann"), ["alto", "alto"])
        self.assertEqual(self.voices("bob"), ["bass", "bass"])
        self.assertIn("event=purge", self.log_of("a"))
        self.assertIn('text="tag user:ann of voices"', self.log_of("a"))
        # And from where the agent is, to where its replies are kept.
        self.run_ctl("cache", "purge", "--service", "voices", configs=("b",))
        self.assertEqual(self.voices("bob"), ["alto", "alto"])

    def test_a_purge_by_method_or_key_or_of_all_does_what_it_says(self) -> None:
        self.voices("ann")
        key = json.loads(self.run_ctl("cache", "keys", "--json"))["sidecars"][0]["keys"][0]["key"]
        for number, how in enumerate((["--key", key], ["--service", "voices", "--method", "get"], ["--all"])):
            self.voice = f"voice {number}"
            self.run_ctl("cache", "purge", *how)
            self.assertEqual(self.voices("ann"), [self.voice] * 2)
        self.voice = "another"
        self.run_ctl("cache", "purge", "--service", "voices", "--method", "now")
        self.assertEqual(self.voices("ann"), ["voice 2"] * 2)
        self.run_ctl("cache", "purge", expect=64)
        self.run_ctl("cache", "purge", "--key", "12", expect=64)
        self.run_ctl("cache", "purge", "--all", "--service", "voices", expect=64)
        self.run_ctl("cache", "purge", "--service", "nowhere", expect=1)

    def test_agents_order_a_purge_at_a_drop_in_port_and_over_the_mesh_socket(self) -> None:
        orders = self.mesh._connect(f"tcp://127.0.0.1:{self.order_port}", zmq.REQ)
        self.voices("ann")
        self.voice = "alto"
        order = {"action": "purge", "service": "voices", "tag": "user:ann", "request_id": "7"}
        self.assertEqual(json.loads(mesh.ask(orders, json.dumps(order).encode())),
                         {"status": "success", "purged": ["tag user:ann of voices"], "confirmed_by": ["b/main"]})
        self.assertEqual(self.voices("ann"), ["alto", "alto"])
        self.voice = "tenor"
        client = self.mesh.mesh_client()
        client.send_multipart([b'{"service":"mesh.cache"}', b'{"action":"purge","all":true}'])
        header, reply = client.recv_multipart()
        self.assertEqual((json.loads(header)["code"], json.loads(reply)["status"]), ("OK", "success"))
        self.assertEqual(self.voices("ann"), ["tenor", "tenor"])
        for wrong in (b"flush", b'{"action":"purge"}', b'{"action":"purge","service":"voices","user":"ann"}'):
            refused = json.loads(mesh.ask(orders, wrong))
            self.assertEqual((refused["status"], refused["code"]), ("error", "INVALID"))
            self.assertIn('"tag"', refused["mesh"]["hint"])
        self.assertIn("drop_in:orders", self.log_of("a"))

    def test_whoever_is_dead_or_stopped_has_not_confirmed_and_is_named(self) -> None:
        self.voices("ann")
        self.mesh.processes["b"].send_signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            answer = json.loads(self.run_ctl("cache", "purge", "--all", "--json", expect=1))
            self.assertLess(time.monotonic() - begun, 6)
        finally:
            self.mesh.processes["b"].send_signal(signal.SIGCONT)
        self.assertEqual(answer["not_confirmed"], ["b/main"])
        self.run_ctl("cache", "purge", "--all")
        self.mesh.kill("b")
        begun = time.monotonic()
        text = self.run_ctl("cache", "purge", "--service", "voices", expect=1)
        self.assertLess(time.monotonic() - begun, 3)
        self.assertIn("not confirmed by b/main (cannot be reached)", text)
        client = self.mesh.mesh_client()
        client.send_multipart([b'{"service":"mesh.cache"}', b'{"action":"purge","service":"voices"}'])
        header, reply = client.recv_multipart()
        self.assertEqual(json.loads(header)["code"], "OUTCOME_UNKNOWN")
        self.assertEqual(json.loads(reply)["mesh"]["not_confirmed"], ["b/main"])
        self.assertEqual(self.mesh.admin("a", "counters")["cache_purges_unconfirmed"], 3)
        self.mesh.start("b")
        self.run_ctl("cache", "purge", "--service", "voices")

    def test_stats_keys_and_get_show_what_is_kept_and_no_body_unless_asked(self) -> None:
        for _ in range(4):
            self.voices("ann")
        stats = json.loads(self.run_ctl("cache", "stats", "--json"))["sidecars"][0]
        local = stats["tiers"][0]
        self.assertEqual((local["tier"], local["hits"], local["misses"], local["entries"]), ("local", 3, 1, 1))
        self.assertEqual([point["times"] for point in stats["curve"]], [0.25, 0.5, 1, 2, 4])
        self.assertAlmostEqual(stats["curve"][2]["hit_ratio"], 0.75)
        self.assertIn("75.0 %", self.run_ctl("cache", "stats"))
        keys = self.run_ctl("cache", "keys", "--service", "voices")
        self.assertIn("kept: 1", keys)
        self.assertIn("kept: 0", self.run_ctl("cache", "keys", "--service", "others"))
        client = self.mesh.mesh_client()
        client.send_multipart([b'{"service":"voices","method":"get"}', body("get", "ann")])
        key = json.loads(client.recv_multipart()[0])["cache"]["key"]
        self.assertEqual(len(key), 32)
        self.assertIn(key, keys)
        shown = self.run_ctl("cache", "get", key)
        self.assertIn("voices at a/main", shown)
        self.assertNotIn("bass", shown + self.run_ctl("cache", "get", key, "--json"))
        self.assertIn("bass", self.run_ctl("cache", "get", key, "--body"))
        self.assertEqual(json.loads(self.run_ctl("cache", "get", key, "--json"))["sidecars"][0]["found"]["tier"], "local")
        self.mesh.kill("a")
        self.mesh.start("a")  # which has nothing yet in its own memory
        self.assertEqual(json.loads(self.run_ctl("cache", "get", key, "--json"))["sidecars"][0]["found"]["tier"], "shared")
        self.run_ctl("cache", "get", "0" * 32, expect=1)
        self.run_ctl("cache", "get", "ann", expect=64)
        self.assertNotIn("bass", self.log_of("a"))

    def test_why_says_why_a_call_was_not_answered_with_what_is_kept(self) -> None:
        def why(action: str, user: str) -> str:
            mesh.ask(self.at_a, body(action, user))
            return self.run_ctl("cache", "why", "--newest")

        self.assertIn("nothing was kept of it here", why("get", "ann"))
        self.assertIn("yes: what was kept (local)", why("get", "ann"))
        self.assertIn("the contract does not say", why("now", "ann"))
        self.assertIn("is no success by the contract", why("get", "nobody"))
        mesh.ask(self.at_a, json.dumps({"action": "short", "user": "ann"}).encode())
        time.sleep(0.3)
        self.assertIn("had run out", why("short", "ann"))
        self.run_ctl("cache", "purge", "--all")
        self.assertIn("had become wrong", why("get", "ann"))
        record = json.loads(self.run_ctl("cache", "why", "--json"))["records"][0]
        self.assertIn("had become wrong", self.run_ctl("cache", "why", record["call"]))
        self.run_ctl("cache", "why", "999999999", expect=1)

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_whoever_may_open_the_socket_but_is_not_its_owner_may_ask_and_not_purge(self) -> None:
        root = Path(self.mesh.directory.name)
        for path, mode in ((root, 0o711), (root / "a", 0o711), (root / "a" / "main.admin", 0o666)):
            path.chmod(mode)

        def ask(line: str) -> dict:
            command = [sys.executable, "-c", AS_NOBODY, str(root / "a" / "main.admin"), line]
            return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, user=65534).stdout)

        self.assertIn("tiers", ask("cache stats"))
        self.assertEqual(ask('cache purge {"action":"purge","all":true}')["code"], "DENIED")
        self.assertEqual(self.mesh.admin("a", "counters")["cache_purge_orders"], 0)
        self.assertIn("event=purge_denied", self.log_of("a"))

    def test_completion_and_help_teach_the_commands(self) -> None:
        for word in ("stats", "keys", "get", "purge", "why", "--tag", "--newest"):
            self.assertIn(word, self.run_ctl("completion", "bash"))
        self.assertIn("examples:", self.run_ctl("cache", "purge", "--help"))
        self.run_ctl("cache", expect=64)


if __name__ == "__main__":
    unittest.main()
