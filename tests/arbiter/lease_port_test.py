"""The lease dialect of the agents there are, asked with libzmq's own REQ sockets."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import zmq
from arbiters import Arbiter, wait_for

SDK = Path(__file__).parents[2] / "tools" / "sdk" / "python"


class LeasePortTest(unittest.TestCase):
    def setUp(self) -> None:
        self.arbiter = Arbiter("1G")
        command = [sys.executable, "-m", "mesh_vram.lease_port", "--listen", "tcp://127.0.0.1:*", "--wait", "1.5",
                   "--arbiter", self.arbiter.socket]
        self.port = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SDK)})
        self.endpoint = self.port.stdout.readline().split()[-1]
        self.context = zmq.Context()

    def tearDown(self) -> None:
        self.context.destroy(linger=0)
        if self.port.poll() is None:
            self.port.terminate()
            self.assertEqual(self.port.wait(10), 0)
        self.port.stdout.close()
        self.assertEqual(self.arbiter.stop(), 0)

    def client(self) -> zmq.Socket:
        socket = self.context.socket(zmq.REQ)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.connect(self.endpoint)
        return socket

    def ask(self, fields: object, socket: zmq.Socket | None = None) -> dict:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        if socket is None:
            with self.client() as own:
                return self.ask(body, own)
        socket.send(body)
        return json.loads(socket.recv())

    def acquire(self, mb: float = 100, ttl: float = 60, **more) -> dict:
        return self.ask({"action": "AcquireGpuLease", "client": "tts", "model_name": "xtts", "vram_estimate_mb": mb,
                         "ttl_seconds": ttl, **more})

    def test_a_lease_is_granted_and_released_by_its_id(self) -> None:
        got = self.acquire(101, priority=1)
        self.assertEqual((got["status"], got["granted"], got["vram_reserved_mb"], got["reason"]), ("success", True, 102, ""))
        [lease] = self.arbiter.leases()
        self.assertEqual((lease["lease"], lease["priority"]), (got["lease_id"], "critical"))
        self.assertTrue(self.ask({"action": "ReleaseGpuLease", "lease_id": got["lease_id"]})["success"])
        wait_for(lambda: self.arbiter.leases() == [])
        again = self.ask({"action": "ReleaseGpuLease", "lease_id": got["lease_id"]})
        self.assertEqual((again["status"], again["success"]), ("error", False))

    def test_both_dialects_are_answered_and_so_are_fields_alone(self) -> None:
        fields = {"vram_estimate_mb": 10, "ttl_seconds": 60}
        got = self.ask({"command": "ACQUIRE_GPU_LEASE", "payload": fields})
        self.assertEqual((got["status"], got["payload"]["granted"]), ("SUCCESS", True))
        self.assertTrue(self.ask(fields)["granted"])
        wrong = self.ask({"command": "ReleaseGpuLease", "payload": {"lease_id": "none"}})
        self.assertEqual(wrong["status"], "ERROR")
        self.assertIn("no such lease", wrong["message"])

    def test_1_is_the_highest_priority(self) -> None:
        for number, name in ((1, "critical"), (2, "interactive"), (3, "normal"), (9, "batch"), (0, "normal"), ("x", "normal")):
            got = self.acquire(2, priority=number)
            seen = {lease["lease"]: lease["priority"] for lease in self.arbiter.leases()}
            self.assertEqual(seen[got["lease_id"]], name)

    def test_what_is_refused_says_why_and_when_to_try_again(self) -> None:
        never = self.acquire(5000)
        self.assertEqual((never["granted"], never["lease_id"], never["retry_after_ms"]), (False, "", 0))
        self.assertIn("the most is 1.00 GiB", never["reason"])
        self.assertTrue(self.acquire(900)["granted"])
        later = self.acquire(900)
        self.assertFalse(later["granted"])
        self.assertGreater(later["retry_after_ms"], 0)

    def test_who_does_not_come_back_is_freed_at_his_ttl_and_who_renews_is_not(self) -> None:
        gone, kept = self.acquire(ttl=0.6), self.acquire(ttl=0.6)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            self.assertTrue(self.ask({"action": "RenewGpuLease", "lease_id": kept["lease_id"]})["success"])
            time.sleep(0.1)
        wait_for(lambda: [each["lease"] for each in self.arbiter.leases()] == [kept["lease_id"]])
        self.assertFalse(self.ask({"action": "RenewGpuLease", "lease_id": gone["lease_id"]})["success"])
        wait_for(lambda: self.arbiter.leases() == [])

    def test_one_that_waits_for_memory_holds_nobody_up(self) -> None:
        self.assertTrue(self.acquire(900)["granted"])
        waiter = self.client()
        waiter.send(json.dumps({"vram_estimate_mb": 900}).encode())
        wait_for(lambda: self.arbiter.ask("queue")["queue"])
        self.assertTrue(self.acquire(2)["granted"])
        self.assertEqual(waiter.poll(0), 0)
        self.assertFalse(json.loads(waiter.recv())["granted"])
        waiter.close()

    def test_a_lease_for_a_process_ends_with_it(self) -> None:
        client = subprocess.Popen(["sleep", "60"])
        named = [self.acquire(pid=client.pid), self.acquire(process_id=client.pid), self.acquire(pid=None)]
        self.assertTrue(all(each["granted"] for each in named))
        users = {each["lease"]: each["used_by_pid"] for each in self.arbiter.leases()}
        self.assertEqual([users[each["lease_id"]] for each in named], [client.pid, client.pid, self.port.pid])
        client.kill()
        client.wait()
        wait_for(lambda: [each["lease"] for each in self.arbiter.leases()] == [named[2]["lease_id"]])
        renewed = self.ask({"action": "RenewGpuLease", "lease_id": named[0]["lease_id"]})
        self.assertEqual((renewed["success"], "has ended" in renewed["reason"]), (False, True))
        self.assertTrue(self.ask({"action": "ReleaseGpuLease", "lease_id": named[1]["lease_id"]})["success"])

    def test_a_pid_that_is_none_is_refused_and_does_no_harm(self) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        for wrong in (gone.pid, 2**31 - 1, 2**31, 2**70, -1, 1.5, True, "1", [], {}):
            with self.subTest(wrong):
                got = self.acquire(2, pid=wrong)
                self.assertEqual((got["granted"], got["retry_after_ms"], "pid" in got["reason"]), (False, 0, True))
        self.assertFalse(self.acquire(2, pid=os.getpid(), process_id=self.port.pid)["granted"])
        for _ in range(300):  # more than an agent may break rules
            self.assertFalse(self.acquire(2, pid=gone.pid)["granted"])
        self.assertTrue(self.acquire(2)["granted"])
        self.assertEqual(self.arbiter.ask("counters")["hung_up_on"], 0)

    def test_noise_is_answered_as_every_request_is(self) -> None:
        client = self.client()
        self.addCleanup(client.close)
        for noise in (b"", b"ping", b"[1]", b"\xff\xfe", b"[" * 50_000, b'{"action": 7}', b'{"command":"ReleaseGpuLease","payload":3}',
                      b'{"vram_estimate_mb": "many"}', b'{"vram_estimate_mb": NaN}', b'{"vram_estimate_mb": -1}'):
            with self.subTest(noise[:20]):
                self.assertIn(self.ask(noise, client)["status"], ("error", "ERROR"))
        self.assertEqual(self.arbiter.leases(), [])

    def test_leases_outlive_the_arbiter_and_not_the_port(self) -> None:
        got = self.acquire()
        self.arbiter.kill()
        self.assertTrue(self.ask({"action": "RenewGpuLease", "lease_id": got["lease_id"]})["success"])
        wait_for(lambda: [each["lease"] for each in self.arbiter.ask("leases").get("leases", [])] == [got["lease_id"]])
        os.kill(self.port.pid, signal.SIGKILL)
        self.port.wait()
        wait_for(lambda: self.arbiter.leases() == [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
