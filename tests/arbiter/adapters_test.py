"""The adapters of foreign model servers: what is loaded is leased, and unloaded when others need the memory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path
from urllib.parse import urlsplit

import stand_in_servers
from adapter_case import LLAMA, MIB, MISTRAL, SDK, SIZES, AdapterCase, vram, wait_for
from mesh_vram.adapters import calls, listener, servers
from mesh_vram.adapters.holdings import Holdings


class WatchTest(AdapterCase):
    """Without a front: what is loaded is leased, and unloaded when asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(stand_in_servers.Ollama, SIZES)

    def watch(self, *more: str) -> None:
        self.adapt("ollama", self.server.url, *more, listen=False)

    def test_what_is_loaded_is_leased_and_what_is_unloaded_is_not(self) -> None:
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        [lease] = self.models().values()
        self.assertEqual((lease["revocability"], lease["in_use"], lease["client"]), ("release", False, f"ollama {self.server.url[7:]}"))
        self.server.unload(LLAMA)
        wait_for(lambda: self.held() == [])

    def test_who_needs_the_memory_gets_it_after_the_model_is_gone_and_not_before(self) -> None:
        self.server.unload_s = 0.4
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        began = time.monotonic()
        with self.other.lease(want="900MiB", wait=15):
            self.assertEqual(self.server.states[LLAMA], "unloaded")
            self.assertEqual(self.server.unloads, [LLAMA])
        # An idle model is not kept for the 10 s that one in use is.
        self.assertLess(time.monotonic() - began, 8)
        wait_for(lambda: self.held() == [])

    def test_an_unload_slower_than_the_arbiter_waits_still_gives_the_memory(self) -> None:
        self.server.unload_s = 6.0
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        with self.other.lease(want="900MiB", wait=30):
            self.assertEqual(self.server.states[LLAMA], "unloaded")

    def test_what_its_server_does_not_unload_is_kept_and_said_so_and_tried_again(self) -> None:
        self.server.faults.add("refuse")
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        self.evict()
        wait_for(lambda: any(each["reason"] == "did_not_yield" for each in self.arbiter.ask("decisions")["decisions"]))
        self.assertIn("HTTP 500", self.log())
        self.assertEqual((self.held(), self.server.states[LLAMA]), ([600], "loaded"))
        self.server.faults.clear()
        wait_for(lambda: self.held() == [] and self.server.states[LLAMA] == "unloaded")

    def test_a_model_that_computes_is_unloaded_when_its_request_has_ended(self) -> None:
        self.watch()
        thread, got = self.in_background(self.generate, LLAMA, tokens=60, at=urlsplit(self.server.url).netloc)
        wait_for(lambda: self.held() == [600] and self.server.running[LLAMA])
        with self.other.lease(want="900MiB", wait=20):
            self.assertEqual(self.server.running[LLAMA], 0)
        thread.join()
        self.assertEqual(len(got[0][2].splitlines()), 60)

    def test_an_answer_that_is_none_changes_nothing(self) -> None:
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        for fault, told in (("garbage", "no JSON"), ("strange", "no name"), ("endless", "more than 4 MiB"), ("drip", "within 5 s")):
            with self.subTest(fault):
                self.server.faults = {fault}
                wait_for(lambda: told in self.log())
                self.assertEqual(self.held(), [600])
                self.server.faults = set()
        self.assertLess(int(Path(f"/proc/{self.adapter.pid}/statm").read_text().split()[1]) * 4096, 100 * MIB)
        self.server.unload(LLAMA)
        wait_for(lambda: self.held() == [])

    def test_a_lease_outlives_the_arbiter_and_is_asked_for_by_the_next_one(self) -> None:
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        [before] = self.models().values()
        self.arbiter.kill()
        wait_for(lambda: self.held() == [600])
        self.assertEqual(self.models()[600]["lease"], before["lease"])
        with self.other.lease(want="900MiB", wait=20):
            self.assertEqual(self.server.states[LLAMA], "unloaded")

    def test_an_arbiter_that_dies_while_a_model_is_unloaded_learns_that_it_is_gone(self) -> None:
        self.server.unload_s = 1.0
        self.watch()
        self.server.load(LLAMA)
        wait_for(lambda: self.held() == [600])
        self.evict()
        wait_for(lambda: self.server.states[LLAMA] == "unloading")
        self.arbiter.kill()
        with self.other.lease(want="900MiB", wait=25):
            self.assertEqual((self.server.states[LLAMA], self.held()), ("unloaded", []))


class DeathTest(AdapterCase):
    def test_the_lease_ends_with_the_process_of_the_server(self) -> None:
        server = subprocess.Popen([sys.executable, stand_in_servers.__file__, "ollama", json.dumps(SIZES)], stdout=subprocess.PIPE,
                                  text=True)
        self.addCleanup(server.stdout.close)
        url = server.stdout.readline().strip()
        self.assertEqual(listener.pid_at("127.0.0.1", urlsplit(url).port), server.pid)
        self.adapt("ollama", url)
        self.assertEqual(self.generate(LLAMA)[0], 200)
        self.assertEqual(self.held(), [600])
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(6)  # looks take 5 s to fail
        self.assertEqual(self.held(), [600], "its process has the memory, though it does not answer")
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        wait_for(lambda: self.held() == [])
        status, headers, body = self.generate(MISTRAL)
        self.assertEqual((status, json.loads(body)["mesh"]["rule"]), (502, "server_failed"))

    def test_without_a_process_that_is_known_the_lease_ends_when_nobody_answered_for_long_enough(self) -> None:
        server = self.serve(stand_in_servers.Ollama, SIZES)
        server.load(LLAMA)
        connection = vram.Connection(self.arbiter.socket)
        self.addCleanup(connection.close)
        holdings = Holdings(servers.Ollama(calls.Address(server.url)), connection, sizes={}, away=1.0)
        holdings.listener.find = lambda: None
        wait_for(lambda: holdings.tick() or [lease["state"] for lease in self.arbiter.leases()] == ["active"])
        server.faults.add("garbage")
        began = time.monotonic()
        wait_for(lambda: holdings.tick() or self.arbiter.leased() == 0)
        self.assertGreaterEqual(time.monotonic() - began, 0.9)

    def test_an_arbiter_that_takes_one_is_told_for_which_process_memory_is_leased_unless_it_is_anothers(self) -> None:
        told = []

        class Newer:
            def lease(self, *arguments, pid=0, **more):
                told.append(pid)
                if pid and len(told) > 1:
                    raise vram.Invalid("This user has no process of that pid here", rule="pid_not_yours")
                return old.lease(*arguments, **more)

        old = vram.Connection(self.arbiter.socket)
        self.addCleanup(old.close)
        server = self.serve(stand_in_servers.Ollama, {LLAMA: 300 * MIB, MISTRAL: 300 * MIB})
        holdings = Holdings(servers.Ollama(calls.Address(server.url)), Newer(), sizes={})
        for model, leases in ((LLAMA, 1), (MISTRAL, 2)):
            server.load(model)
            wait_for(lambda leases=leases: holdings.tick() or [one["state"] for one in self.arbiter.leases()] == ["active"] * leases)
        self.assertEqual(told, [os.getpid(), os.getpid(), 0])

    def test_no_server_and_no_arbiter_are_told(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            for arguments, code, word in ((["ollama", "--url", url, "--look"], 69, "refused"),
                                          (["ollama", "--url", "ftp://x"], 64, "--help"), (["nonsense"], 64, "--help"),
                                          (["vllm", "--size", "a=b"], 64, "no size"),
                                          (["vllm", "--listen", "0.0.0.0:80"], 64, "loopback")):
                with self.subTest(arguments):
                    done = subprocess.run([sys.executable, "-m", "mesh_vram.adapters", *arguments], capture_output=True, text=True,
                                          env={**os.environ, "PYTHONPATH": str(SDK)}, timeout=20, check=False)
                    self.assertEqual((done.returncode, word in done.stderr), (code, True), done.stderr)

    def test_look_shows_what_is_loaded_and_changes_nothing(self) -> None:
        server = self.serve(stand_in_servers.Ollama, SIZES)
        server.load(LLAMA)
        done = subprocess.run([sys.executable, "-m", "mesh_vram.adapters", "ollama", "--url", server.url, "--look"],
                              capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SDK)}, timeout=20, check=True)
        self.assertEqual(json.loads(done.stdout)["loaded"], {LLAMA: {"bytes": 600 * MIB, "is_busy": False}})
        self.assertEqual(server.unloads, [])


class CallTest(unittest.TestCase):
    """One call, bounded in bytes and in time."""

    def setUp(self) -> None:
        self.server = stand_in_servers.Ollama(SIZES)
        self.addCleanup(self.server.stop)
        self.address = calls.Address(self.server.url)

    def test_each_way_to_fail_has_its_type(self) -> None:
        for fault, kind in (("garbage", calls.Garbage), ("endless", calls.Garbage), ("drip", calls.TooSlow)):
            with self.subTest(fault):
                self.server.faults = {fault}
                began = time.monotonic()
                with self.assertRaises(kind):
                    calls.call_json(self.address, "GET", "/api/ps", within=1.5)
                self.assertLess(time.monotonic() - began, 2.5)
        self.server.faults = set()
        with self.assertRaises(calls.Refused) as caught:
            calls.call_json(self.address, "POST", "/api/generate", {"model": "none"})
        self.assertEqual(caught.exception.status, 404)
        self.assertIn("not found", str(caught.exception))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            with self.assertRaises(calls.Away):
                calls.call_json(calls.Address(f"http://127.0.0.1:{free.getsockname()[1]}"), "GET", "/")

    def test_only_addresses_of_servers_are_taken(self) -> None:
        for wrong in ("https://x", "x", "http://", "http://x:y", "http://x/path", "http://x:99999999", "file:///x"):
            with self.subTest(wrong), self.assertRaises(vram.Invalid):
                calls.Address(wrong)
        self.assertEqual(str(calls.Address("http://[::1]:7/")), "[::1]:7")


if __name__ == "__main__":
    unittest.main(verbosity=2)
