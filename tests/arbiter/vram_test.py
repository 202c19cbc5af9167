"""The Python module mesh_vram, and the C library below it, against a real arbiter."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "sdk" / "python"))

import mesh_vram as vram  # noqa: E402
from arbiters import Arbiter, wait_for  # noqa: E402

MIB = 1 << 20
SPAWN = multiprocessing.get_context("spawn")


def hold(path: str, pipe) -> None:
    """A process that holds what it is told until it is killed."""
    connection = vram.Connection(path)
    leases = []
    while order := pipe.recv():
        leases.append(connection.lease(**order))
        pipe.send(leases[-1].id)


def read_shared(path: str, pipe) -> None:
    connection = vram.Connection(path)
    with connection.shared("weights", "64MiB", fill=lambda memory: pipe.send("I had to write")) as weights:
        memory = weights.memory()
        pipe.send((memory.readonly, bytes(memory[:5]), bytes(memory[-5:])))
        pipe.recv()


def read_until_asked(path: str, pipe) -> None:
    connection = vram.Connection(path)
    weights = connection.shared("weights", "900MiB", on_yield=lambda lease, wanted: wanted.bytes if pipe.recv() else 0)
    pipe.send(weights.is_writer)
    threading.Event().wait()


class VramTest(unittest.TestCase):
    cards: tuple[str, ...] = ("1G",)

    def setUp(self) -> None:
        self.arbiter = Arbiter(*self.cards)
        self.vram = vram.Connection(self.arbiter.socket, client="test")

    def tearDown(self) -> None:
        self.vram.close()
        self.assertEqual(self.arbiter.stop(), 0)

    def start(self, role) -> tuple:
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=role, args=(self.arbiter.socket, there), daemon=True)
        process.start()
        self.addCleanup(process.kill)
        return process, here

    # --- leases ---

    def test_a_lease_is_held_in_its_block_and_gone_behind_it(self) -> None:
        with self.vram.lease("llama3-8b", want="64MiB", peak="128 MiB", priority="interactive") as lease:
            self.assertEqual(lease.bytes, 128 * MIB)
            self.assertEqual(lease.commit("64 MiB"), 64 * MIB)
            wait_for(lambda: self.arbiter.leased() == 64 * MIB)
            [seen] = self.arbiter.leases()
            self.assertEqual((seen["lease"], seen["client"], seen["priority"]), (lease.id, "test", "interactive"))
            self.assertEqual(seen["pid"], os.getpid())
            with lease.use():
                wait_for(lambda: self.arbiter.leases()[0]["in_use"])
            wait_for(lambda: not self.arbiter.leases()[0]["in_use"])
            lease.renew()
        wait_for(lambda: self.arbiter.leases() == [])
        self.assertEqual(lease.bytes, 0)
        with self.assertRaises(vram.Closed):
            lease.renew()

    def test_the_environment_names_the_arbiter(self) -> None:
        os.environ["MESH_VRAM_SOCKET"] = self.arbiter.socket
        self.addCleanup(os.environ.pop, "MESH_VRAM_SOCKET")
        self.addCleanup(vram.close)
        with vram.lease(want="2MiB") as lease:
            self.assertEqual([each["lease"] for each in self.arbiter.leases()], [lease.id])
        vram.close()

    def test_what_is_refused_says_what_to_do(self) -> None:
        with self.assertRaises(vram.TooLarge) as caught:
            self.vram.lease("huge", want="2GiB")
        self.assertEqual((caught.exception.rule, caught.exception.largest_bytes), ("never_fits", 1024 * MIB))
        self.assertIn("1.00 GiB", str(caught.exception))
        self.assertIn("ask for less", str(caught.exception))
        self.assertIsInstance(caught.exception, MemoryError)
        with self.vram.lease(want="900MiB"):
            began = time.monotonic()
            with self.assertRaises(vram.TimedOut) as caught:
                self.vram.lease(want="900MiB", wait=0.2)
            self.assertLess(time.monotonic() - began, 1.0)
            self.assertIn("meshctl gpu", caught.exception.hint)
            wait_for(lambda: self.arbiter.ask("queue")["queue"] == [])
        for wrong in ({"want": "6 GiX"}, {"want": "1GiB", "priority": "urgent"}, {"want": 0},
                      {"want": "2MiB", "min": "4MiB", "kind": "backed", "gpu": "GPU-none"}):
            with self.subTest(wrong), self.assertRaises(vram.Invalid):
                self.vram.lease(**wrong)

    def test_without_an_arbiter_it_says_so(self) -> None:
        with self.assertRaises(vram.Unreachable) as caught:
            vram.Connection(str(self.arbiter.path / "none"), wait=0.05)
        self.assertIn("start mesh-arbiter", str(caught.exception))
        self.assertIsInstance(caught.exception, ConnectionError)

    def test_sizes_are_read_as_people_write_them(self) -> None:
        for text, size in (("6GiB", 6 << 30), ("512 mb", 512 * MIB), ("1.5G", 3 << 29), ("7", 7), (4096, 4096)):
            self.assertEqual(vram.parse_size(text), size)

    def test_many_threads_lease_at_once_and_nothing_is_left(self) -> None:
        troubles = []

        def work() -> None:
            try:
                for _ in range(25):
                    with self.vram.lease(want="100MiB", revocable="never") as lease, lease.use():
                        self.assertEqual(lease.bytes, 100 * MIB)
            except Exception as error:
                troubles.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(troubles, [])
        wait_for(lambda: self.arbiter.leases() == [])

    def test_a_lease_and_its_connection_may_be_forgotten_in_any_order(self) -> None:
        for _ in range(20):
            connection = vram.Connection(self.arbiter.socket)
            held = [connection]
            for _ in range(3):  # a ring: which of them is collected first, nobody says
                held.append(connection.lease(want="2MiB", on_yield=lambda *_, ring=held: len(ring)))
            connection.ring = held
            del connection, held
            gc.collect()
        wait_for(lambda: self.arbiter.leases() == [])

    # --- memory ---

    def test_backed_memory_is_written_and_given_back_in_part_from_its_end(self) -> None:
        lease = self.vram.lease(want="290MiB", kind="backed")
        memory = lease.memory()
        self.assertEqual(len(memory), 290 * MIB)
        memory[:5], memory[-5:] = b"begin", b"the e"
        self.assertEqual(lease.commit("256MiB"), 256 * MIB)
        wait_for(lambda: self.arbiter.leased() == 256 * MIB)
        self.assertEqual([chunk.bytes for chunk in lease.chunks()], [256 * MIB])
        self.assertEqual((bytes(memory[:5]), bytes(memory[-5:])), (b"begin", bytes(5)))
        lease.release()
        self.assertEqual(bytes(memory[:5]), bytes(5))
        wait_for(lambda: self.arbiter.leases() == [])
        with self.vram.lease(want="2MiB") as accounted, self.assertRaises(vram.Invalid):
            accounted.memory()

    def test_two_processes_have_one_copy_of_shared_weights(self) -> None:
        def fill(memory: memoryview) -> None:
            memory[:5], memory[-5:] = b"hello", b"world"

        ours = self.vram.shared("weights", "64MiB", fill=fill)
        _, pipe = self.start(read_shared)
        self.assertEqual(pipe.recv(), (True, b"hello", b"world"))
        self.assertEqual(len(self.arbiter.leases()), 2)
        [segment] = self.arbiter.ask("segments")["segments"]
        self.assertEqual((segment["bytes"], segment["users"], segment["state"]), (64 * MIB, 2, "sealed"))
        self.assertEqual(self.arbiter.leased(), 64 * MIB)
        with self.assertRaises(TypeError):
            ours.memory()[0] = 1
        ours.release()
        pipe.send("done")
        wait_for(lambda: self.arbiter.ask("segments")["segments"][0]["state"] == "idle")

    def test_who_cannot_fill_shared_weights_lets_the_next_one_write(self) -> None:
        def fail(memory: memoryview) -> None:
            raise OSError("no such file")

        with self.assertRaises(OSError):
            self.vram.shared("weights", "64MiB", fill=fail)
        with self.vram.shared("weights", "64MiB", fill=lambda memory: None) as weights:
            self.assertTrue(weights.is_writer)

    def test_who_takes_breaks_computes_at_once_on_a_card_that_is_not_hot(self) -> None:
        with self.vram.lease(want="10MiB", priority="batch") as lease:
            began = time.monotonic()
            with lease.use(breaks=True), lease.use(breaks=True):
                self.assertLess(time.monotonic() - began, 1)
                self.assertTrue(self.arbiter.leases()[0]["in_use"])
            wait_for(lambda: not self.arbiter.leases()[0]["in_use"])
        with self.assertRaises(vram.Closed):
            lease.use(breaks=True).__enter__()

    # --- others need it ---

    def test_a_yield_callback_gives_back_to_who_is_more_urgent(self) -> None:
        asked = []

        def on_yield(lease: vram.Lease, wanted: vram.Wanted) -> int:
            asked.append((lease, wanted, threading.current_thread().name))
            return wanted.bytes

        lease = self.vram.lease("idle", want="900MiB", priority="batch", on_yield=on_yield)
        lease.commit()
        process, pipe = self.start(hold)
        pipe.send({"want": "800MiB", "priority": "critical"})
        self.assertTrue(pipe.poll(20))
        self.assertIs(asked[0][0], lease)
        self.assertEqual((asked[0][1].how, asked[0][1].bytes), ("release", 900 * MIB))
        self.assertEqual(asked[0][2], "mesh_vram yields")
        self.assertEqual(lease.bytes, 0)
        self.assertFalse(lease.is_lost)
        lease.release()
        process.kill()

    def test_shared_weights_are_given_back_by_all_their_readers_for_who_is_more_urgent(self) -> None:
        asked = []

        def on_yield(lease: vram.Lease, wanted: vram.Wanted) -> int:
            asked.append((wanted.how, wanted.bytes))
            return wanted.bytes

        ours = self.vram.shared("weights", "900MiB", fill=lambda memory: None, on_yield=on_yield)
        _, reader = self.start(read_until_asked)
        self.assertFalse(reader.recv())
        process, pipe = self.start(hold)
        pipe.send({"want": "800MiB", "priority": "critical"})
        wait_for(lambda: ours.bytes == 0)
        self.assertEqual(asked, [("release", 900 * MIB)])
        self.assertEqual(self.arbiter.leased(), 900 * MIB)  # as long as the other one reads them
        reader.send(True)
        self.assertTrue(pipe.poll(20))
        self.assertEqual(self.arbiter.leased(), 800 * MIB)
        process.kill()

    def test_who_will_not_give_shared_weights_back_keeps_them(self) -> None:
        weights = self.vram.shared("weights", "900MiB", fill=lambda memory: None, on_yield=lambda lease, wanted: 0)
        with self.assertRaises(vram.Invalid):
            weights.give_back("100MiB")
        _, pipe = self.start(hold)
        pipe.send({"want": "800MiB", "priority": "critical", "wait": 2})
        wait_for(lambda: any(each["reason"] == "did_not_yield" for each in self.arbiter.ask("decisions")["decisions"]))
        self.assertEqual((weights.bytes, weights.is_lost), (900 * MIB, False))
        weights.release()

    def test_who_raises_in_his_callback_keeps_his_memory(self) -> None:
        def on_yield(lease: vram.Lease, wanted: vram.Wanted) -> int:
            raise RuntimeError("busy")

        with self.vram.lease(want="900MiB", priority="batch", on_yield=on_yield) as lease, \
                self.assertLogs("mesh_vram", "ERROR"):
            lease.commit()
            _, pipe = self.start(hold)
            pipe.send({"want": "800MiB", "priority": "critical", "wait": 2})
            wait_for(lambda: any(each["reason"] == "did_not_yield" for each in self.arbiter.ask("decisions")["decisions"]))
            self.assertEqual(lease.bytes, 900 * MIB)

    # --- deaths ---

    def test_leases_are_held_across_kills_of_the_arbiter(self) -> None:
        accounted = self.vram.lease(want="100MiB")
        backed = self.vram.lease(want="34MiB", kind="backed")
        backed.memory()[:5] = b"stays"
        weights = self.vram.shared("weights", "2MiB", fill=lambda memory: None)
        times = []
        for round in range(3):
            epoch = self.vram.epoch
            self.arbiter.kill()
            began = time.monotonic()
            accounted.renew()  # waits for the next arbiter
            times.append(time.monotonic() - began)
            self.assertEqual(self.vram.epoch, epoch + 1)
            self.assertEqual(sorted(each["lease"] for each in self.arbiter.leases()),
                             sorted(each.id for each in (accounted, backed, weights)))
            self.assertEqual(self.arbiter.leased(), 136 * MIB)
            self.assertEqual(bytes(backed.memory()[:5]), b"stays")
        print(f"held again {', '.join(f'{each * 1000:.0f}' for each in times)} ms after the kill", file=sys.stderr)
        accounted.commit("50MiB")
        for lease in (accounted, backed, weights):
            self.assertFalse(lease.is_lost)
            lease.release()
        wait_for(lambda: self.arbiter.leases() == [])

    def test_who_waits_while_the_arbiter_is_killed_is_granted_by_the_next_one(self) -> None:
        first = self.vram.lease(want="900MiB")
        granted = []
        waiter = threading.Thread(target=lambda: granted.append(self.vram.lease(want="900MiB", wait=20)))
        waiter.start()
        wait_for(lambda: self.arbiter.ask("queue")["queue"])
        self.arbiter.kill()
        wait_for(lambda: self.arbiter.ask("queue").get("queue"))
        first.release()
        waiter.join(20)
        self.assertEqual(granted[0].bytes, 900 * MIB)
        granted[0].release()
        wait_for(lambda: self.arbiter.leases() == [])

    def test_what_is_released_while_the_arbiter_is_away_is_free_when_it_is_back(self) -> None:
        leases = [self.vram.lease(want="300MiB", kind=kind) for kind in ("accounted", "backed")]
        self.arbiter.kill()
        for lease in leases:
            lease.release()
        wait_for(lambda: self.arbiter.ask("leases").get("leases") == [])
        self.assertEqual(self.arbiter.leased(), 0)

    def test_an_agent_that_is_killed_holds_nothing_any_more(self) -> None:
        process, pipe = self.start(hold)
        for kind in ("accounted", "backed"):
            pipe.send({"want": "300MiB", "kind": kind})
            self.assertTrue(pipe.poll(20))
            pipe.recv()
        self.assertEqual(self.arbiter.leased(), 600 * MIB)
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: self.arbiter.leases() == [])
        self.assertEqual(self.arbiter.leased(), 0)

    def test_closing_releases_and_wakes_who_waits(self) -> None:
        self.vram.lease("dropped", want="10MiB")  # nobody keeps it
        wait_for(lambda: self.arbiter.leases() == [])
        kept = self.vram.lease(want="900MiB")
        troubles = []

        def wait() -> None:
            try:
                self.vram.lease(want="900MiB", wait=None)
            except vram.VramError as error:
                troubles.append(type(error))

        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_for(lambda: self.arbiter.ask("queue")["queue"])
        self.vram.close()
        waiter.join(10)
        self.assertEqual(troubles, [vram.Closed])
        wait_for(lambda: self.arbiter.leases() == [])
        with self.assertRaises(vram.VramError):
            kept.renew()


class TwoCardsTest(VramTest):
    cards = ("512M", "512M")

    def test_what_needs_two_cards_gets_both(self) -> None:
        with self.vram.lease(want="300MiB", gpus=2, kind="backed") as lease:
            self.assertEqual(sorted(lease.gpus), sorted(self.vram.gpus))
            for gpu in range(2):
                lease.memory(gpu)[:1] = bytes([gpu])
            self.assertEqual([bytes(lease.memory(gpu)[:1]) for gpu in range(2)], [b"\0", b"\1"])
            self.assertEqual(self.arbiter.leased(), 600 * MIB)


class HeaderTest(unittest.TestCase):
    def test_the_header_is_c(self) -> None:
        header = Path(__file__).parents[2] / "tools" / "sdk" / "vram" / "mesh_vram.h"
        program = f'#include "{header}"\nint main(void) {{ mesh_vram_request r = MESH_VRAM_REQUEST_INIT; return (int)r.kind; }}'
        command = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-xc", "-"]
        done = subprocess.run(command, input=program, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)


def load_tests(loader, tests, pattern):
    """Of two cards only what is about two cards."""
    names = ["test_what_needs_two_cards_gets_both"]
    return unittest.TestSuite([loader.loadTestsFromTestCase(VramTest), loader.loadTestsFromTestCase(HeaderTest),
                               *(TwoCardsTest(name) for name in names)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
