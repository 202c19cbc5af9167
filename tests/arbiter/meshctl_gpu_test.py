"""meshctl gpu against a real arbiter: what it shows, and what its orders do to those who hold memory."""

import json
import os
import subprocess
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "sdk" / "python"))

import mesh_vram as vram  # noqa: E402
from arbiters import Arbiter, wait_for  # noqa: E402

MIB = 1 << 20


def give_all(lease: vram.Lease, wanted: vram.Wanted) -> int:
    return wanted.bytes


class MeshctlGpuTest(unittest.TestCase):
    def setUp(self) -> None:
        self.arbiter = Arbiter("1G", "512M")
        self.vram = vram.Connection(self.arbiter.socket, client="painter")
        self.large, self.small = sorted(self.vram.gpus, key=self.vram.gpus.get, reverse=True)

    def tearDown(self) -> None:
        self.vram.close()
        self.assertEqual(self.arbiter.stop(), 0)

    def ctl(self, *arguments: str, expect: int = 0, admin: str | None = None) -> str:
        command = [os.environ["MESHCTL"], "gpu", *arguments, "--admin", admin or str(self.arbiter.path / "gpu.admin")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, "NO_COLOR": "1"})
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        self.assertNotIn("\x1b", done.stdout)
        return done.stderr if expect == 69 else done.stdout

    def json(self, *arguments: str, expect: int = 0) -> dict:
        return json.loads(self.ctl(*arguments, "--json", expect=expect))

    def test_cards_leases_and_the_queue_are_shown_with_why_each_waits(self) -> None:
        with self.vram.lease("sd", want="900MiB", gpu=self.large) as lease:
            waiting = threading.Thread(target=lambda: self.vram.lease(want="600MiB", wait=20).release())
            waiting.start()
            wait_for(lambda: self.arbiter.ask("queue")["queue"])
            text = self.ctl()
            for word in (self.large, "leased 900 MiB", lease.id[:8], "painter", "never", "nobody who may be asked has enough"):
                self.assertIn(word, text)
            self.assertEqual([len(self.json()[key]) for key in ("gpus", "leases", "queue")], [2, 1, 1])
            self.assertEqual(self.json("leases")["leases"][0]["lease"], lease.id)
        waiting.join()
        wait_for(lambda: self.arbiter.leases() == [])
        self.assertIn("no leases", self.ctl("leases"))
        self.assertIn("nobody waits", self.ctl("queue"))
        self.assertIn("granted", self.ctl("explain", lease.id[:8]))
        self.ctl("explain", "ffffffffff", expect=1)

    def test_a_plan_tells_what_a_request_would_then_do(self) -> None:
        self.assertIn("fits now", self.ctl("plan", "900MiB"))
        self.ctl("plan", "2GiB", expect=1)
        self.ctl("plan", "no-such-model", expect=1)
        with self.vram.lease("sd", want="900MiB", priority="batch", on_yield=give_all) as lease:
            lease.commit(lease.bytes)
            for what in ("900MiB", "sd"):
                plan = self.json("plan", what, "--priority", "critical")
                [card] = [each for each in plan["cards"] if each["gpu"] == self.large]
                self.assertFalse(card["fits_now"])
                self.assertEqual([each["lease"] for each in card["asked"]], [lease.id])
                self.assertEqual((card["why"], card["within_ms"]), ("yielding", 2500))
            self.assertIn("painter", self.ctl("plan", "900MiB", "--priority", "critical"))
            self.assertEqual(lease.bytes, 900 * MIB)

    def test_evict_asks_the_holder_and_says_when_it_may_not(self) -> None:
        asked = []
        lease = self.vram.lease(want="64MiB", on_yield=lambda lease, wanted: (asked.append(wanted), wanted.bytes)[1])
        lease.commit(lease.bytes)
        firm = self.vram.lease(want="64MiB")
        self.assertIn("is asked to yield", self.ctl("evict", lease.id[:10]))
        wait_for(lambda: lease.bytes == 0)
        self.assertEqual(asked[0].bytes, 64 * MIB)
        self.assertIn("not revocable", self.ctl("evict", firm.id, expect=1))
        self.ctl("evict", "zz", expect=1)
        firm.release()
        self.assertIn("evict_ordered", (self.arbiter.path / "log").read_text())

    def test_evict_drops_weights_that_nobody_uses(self) -> None:
        self.vram.shared("weights", "64MiB", fill=lambda memory: None).release()
        [segment] = wait_for(lambda: [each for each in self.json("segments")["segments"] if each["state"] == "idle"])
        self.assertIn("weights are there", self.ctl("plan", "weights"))
        self.assertIn("memory is free", self.ctl("evict", segment["segment"]))
        self.assertEqual(self.json("segments")["segments"], [])
        self.assertEqual(self.arbiter.leased(), 0)

    def test_a_drained_card_is_emptied_and_what_comes_goes_elsewhere(self) -> None:
        lease = self.vram.lease(want="64MiB", gpu=self.large, on_yield=give_all)
        lease.commit(lease.bytes)
        self.assertIn("grants nothing any more", self.ctl("drain", self.large))
        wait_for(lambda: lease.bytes == 0)
        lease.release()
        with self.vram.lease(want="64MiB") as other:
            self.assertEqual(other.gpus, [self.small])
        with self.assertRaises(vram.TimedOut):
            self.vram.lease(want="64MiB", gpu=self.large, wait=0.3)
        self.assertIn("drained", self.ctl())
        self.assertIn("grants again", self.ctl("drain", self.large, "--undo"))
        self.vram.lease(want="64MiB", gpu=self.large, wait=5).release()
        self.ctl("drain", "GPU-none", expect=1)

    def test_without_an_arbiter_it_says_what_to_look_for(self) -> None:
        for words in ((), ("leases",), ("plan", "1G"), ("evict", "aa")):
            said = self.ctl(*words, expect=69, admin=str(self.arbiter.path / "none"))
            self.assertIn("does mesh-arbiter run here?", said)
        self.ctl("plan", "1G", "--priority", "urgent", expect=64)


if __name__ == "__main__":
    unittest.main(verbosity=2)
