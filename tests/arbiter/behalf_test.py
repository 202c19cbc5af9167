"""Leases that one process holds for another, against a real arbiter and real processes."""

import multiprocessing
import os
import subprocess
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "sdk" / "python"))

import mesh_vram as vram  # noqa: E402
from arbiters import Arbiter, wait_for  # noqa: E402

NOBODY = 65534
SPAWN = multiprocessing.get_context("spawn")


def name_others(path: str, pipe) -> None:
    """As another user: which processes it may lease for."""
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    connection = vram.Connection(path)
    while pid := pipe.recv():
        try:
            connection.lease(want="10MiB", pid=pid).release()
            pipe.send("granted")
        except vram.VramError as error:
            pipe.send(error.rule)


class BehalfTest(unittest.TestCase):
    def setUp(self) -> None:
        self.arbiter = Arbiter("1G")
        self.vram = vram.Connection(self.arbiter.socket, client="test")

    def tearDown(self) -> None:
        self.vram.close()
        self.assertEqual(self.arbiter.stop(), 0)

    def test_a_lease_for_another_process_ends_with_it(self) -> None:
        client = subprocess.Popen(["sleep", "60"])
        leases = [self.vram.lease(want="100MiB", pid=client.pid), self.vram.lease(want="28MiB", pid=client.pid)]
        for seen in self.arbiter.leases():
            self.assertEqual((seen["pid"], seen["used_by_pid"]), (os.getpid(), client.pid))
        self.arbiter.kill()
        leases[0].renew()
        self.assertEqual({seen["used_by_pid"] for seen in self.arbiter.leases()}, {client.pid})
        client.kill()
        client.wait()
        wait_for(lambda: self.arbiter.leases() == [])
        with self.assertRaises(vram.Lost):
            leases[0].renew()
        self.assertTrue(leases[0].is_lost)
        for lease in leases:
            lease.release()

    def test_who_waits_for_a_process_that_ends_hears_of_it(self) -> None:
        client = subprocess.Popen(["sleep", "60"])
        full = self.vram.lease(want="1000MiB")
        threading.Timer(0.3, client.kill).start()
        with self.assertRaises(vram.Lost) as caught:
            self.vram.lease(want="100MiB", pid=client.pid)
        self.assertEqual(caught.exception.rule, "process_ended")
        client.wait()
        full.release()

    def test_no_process_is_named_that_is_not_there_or_cannot_use_the_memory(self) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        for pid in (gone.pid, 2**31 - 1):
            with self.assertRaises(vram.Invalid) as caught:
                self.vram.lease(want="10MiB", pid=pid)
            self.assertEqual(caught.exception.rule, "pid_not_yours")
        with self.assertRaises(vram.Invalid) as caught:
            self.vram.lease(want="10MiB", pid=os.getpid(), kind="backed")
        self.assertEqual(caught.exception.rule, "pid_kind")
        for pid in (-1, 2**31, True, "1"):
            with self.assertRaises(vram.Invalid):
                self.vram.lease(want="10MiB", pid=pid)
        self.assertEqual(self.arbiter.ask("counters")["broken_rules"], {"pid_not_yours": 2, "pid_kind": 1})

    @unittest.skipIf(os.getuid() != 0, "it takes two users")
    def test_only_root_names_processes_of_others(self) -> None:
        self.arbiter.path.chmod(0o755)
        os.chmod(self.arbiter.socket, 0o666)
        pipe, there = SPAWN.Pipe()
        process = SPAWN.Process(target=name_others, args=(self.arbiter.socket, there), daemon=True)
        process.start()
        self.addCleanup(process.kill)
        for pid, expected in ((process.pid, "granted"), (os.getpid(), "pid_not_yours"), (1, "pid_not_yours")):
            pipe.send(pid)
            self.assertEqual(pipe.recv(), expected)
        self.vram.lease(want="10MiB", pid=process.pid).release()
        pipe.send(0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
