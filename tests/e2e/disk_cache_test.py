"""Replies on the disk of their agents' host: they outlive kill -9 and an empty memory, and what became wrong does not."""

import json
import time
import unittest
from pathlib import Path

import mesh
import zmq

CONTRACTS = {"voices": {"cache": {"ttl_s": 600, "tags": "user:{user}", "tiers": ["home", "disk"], "echo_fields": "request_id"},
                        "methods": {"set": {"invalidates": "user:{user}"}}}}


class DiskCache(unittest.TestCase):
    def setUp(self):
        self.mesh = mesh.Mesh({"voices": {}}, contracts=CONTRACTS,
                              limits={"cache_shared_bytes": 4 << 20, "cache_disk_bytes": 64 << 20})
        self.voices: dict[str, int] = {}
        self.agent = mesh.Agent(self.mesh.agent_ports["voices"], self.serve)
        self.mesh.wait_for_agents()

    def tearDown(self):
        codes = self.mesh.stop()
        self.agent.stop()
        self.assertTrue(all(code in (0, -9) for code in codes.values()), codes)

    def serve(self, request: bytes) -> bytes:
        asked = json.loads(request)
        if asked["action"] == "set":
            self.voices[asked["user"]] = self.voices.get(asked["user"], 0) + 1
        return json.dumps({"status": "ok", "voice": self.voices.get(asked["user"], 0), "request_id": asked["request_id"],
                           "pad": "x" * asked.get("pad", 0)}).encode()

    def ask(self, action: str, user: str, pad: int = 0) -> tuple[dict, dict]:
        client = self.mesh._connect(f"ipc://{self.mesh.directory.name}/a/mesh.sock", zmq.REQ)
        request = {"action": action, "user": user, "request_id": time.monotonic_ns(), "pad": pad}
        client.send_multipart([json.dumps({"service": "voices", "method": action}).encode(), json.dumps(request).encode()])
        header, reply = client.recv_multipart()
        answer = json.loads(reply)
        self.assertEqual(answer["request_id"], request["request_id"])
        self.assertEqual(len(answer["pad"]), pad)
        return json.loads(header).get("cache", {}), answer

    def disk(self) -> dict:
        return next(tier for tier in self.mesh.admin("b", "cache stats")["tiers"] if tier["tier"] == "disk")

    def restart_with_empty_memory(self) -> None:
        self.mesh.kill("b")
        for file in (Path(self.mesh.directory.name) / "b").glob("cache-*"):
            file.unlink()
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        mesh.wait_for(lambda: self.disk()["serving"], "the store to be open")

    def test_what_lies_on_disk_is_given_after_a_kill_whatever_its_size_and_the_agent_is_not_asked(self):
        sizes = {"small": 100, "large": 200_000, "larger": 3_000_000}  # the last is too large for shared memory
        for user, pad in sizes.items():
            self.ask("get", user, pad)
        mesh.wait_for(lambda: self.disk()["entries"] == len(sizes), "all to lie on disk")
        self.mesh.kill("b")
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        mesh.wait_for(lambda: self.disk()["serving"], "the store to be open")
        for user, pad in sizes.items():
            self.assertEqual(self.ask("get", user, pad)[1]["voice"], 0)
        self.assertEqual(len(self.agent.executed), len(sizes))
        cache, _ = self.ask("get", "larger", sizes["larger"])
        self.assertEqual(cache["tier"], "home")  # it is in memory now

    def test_what_was_written_since_is_not_read_from_disk_after_a_kill(self):
        for user in ("ann", "bob"):
            self.ask("get", user)
        mesh.wait_for(lambda: self.disk()["entries"] == 2, "both to lie on disk")
        self.ask("set", "ann")
        self.mesh.kill("b")
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        mesh.wait_for(lambda: self.disk()["serving"], "the store to be open")
        self.assertEqual(self.ask("get", "ann")[1]["voice"], 1)
        executed = len(self.agent.executed)
        self.assertEqual(self.ask("get", "bob")[1]["voice"], 0)
        self.assertEqual(len(self.agent.executed), executed)

    def test_where_it_cannot_be_known_whether_a_write_was_under_way_nothing_on_disk_is_trusted(self):
        self.ask("get", "ann")
        mesh.wait_for(lambda: self.disk()["entries"] == 1, "it to lie on disk")
        self.restart_with_empty_memory()
        self.voices["ann"] = 5  # as by a write that nobody lived to tell of
        mesh.wait_for(lambda: self.disk()["entries"] == 0, "it to be erased")
        self.assertEqual(self.ask("get", "ann")[1]["voice"], 5)

    def test_a_disk_that_is_not_there_is_a_miss_and_nobody_notices(self):
        directory = next(Path(self.mesh.directory.name).glob("data/*.replies"))
        self.mesh.kill("b")
        for file in sorted(directory.rglob("*"), reverse=True):
            file.unlink() if not file.is_dir() else file.rmdir()
        directory.rmdir()
        directory.write_text("no directory")
        self.mesh.start("b")
        self.mesh.wait_for_agents()
        self.assertEqual(self.ask("get", "ann")[1]["voice"], 0)
        began = time.monotonic()
        self.ask("set", "ann")
        self.assertLess(time.monotonic() - began, 2)  # a disk that works is waited for longer than that
        self.assertEqual(self.ask("get", "ann")[1]["voice"], 1)
        self.assertFalse(self.disk()["serving"])


if __name__ == "__main__":
    unittest.main()
