"""The adapters as a front: requests wait for memory before they reach the server, and nobody is cut off."""

import http.client
import json
import socket
import threading
import time
import unittest
from urllib.parse import urlsplit

import stand_in_servers
from adapter_case import LLAMA, MIB, MISTRAL, SIZES, AdapterCase, wait_for


class FrontTest(AdapterCase):
    """Requests wait for memory before they reach the server."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(stand_in_servers.Ollama, SIZES)

    def test_a_request_is_passed_on_when_its_memory_is_leased_and_in_use_while_it_runs(self) -> None:
        self.adapt("ollama", self.server.url)
        thread, got = self.in_background(self.generate, "llama", tokens=30)
        wait_for(lambda: self.held() == [600] and self.models()[600]["in_use"])
        thread.join()
        status, headers, body = got[0]
        self.assertEqual((status, headers["Content-Type"], len(body.splitlines())), (200, "application/x-ndjson", 30))
        wait_for(lambda: not self.models()[600]["in_use"] and self.models()[600]["state"] == "active")

    def test_tokens_come_as_they_are_made(self) -> None:
        self.server.token_s = 0.1
        self.adapt("ollama", self.server.url)
        self.generate(LLAMA)
        connection = http.client.HTTPConnection(self.front, timeout=10)
        self.addCleanup(connection.close)
        began = time.monotonic()
        connection.request("POST", "/api/generate", json.dumps({"model": LLAMA, "prompt": "x", "tokens": 10}))
        answer = connection.getresponse()
        first = answer.readline()
        self.assertEqual(json.loads(first)["response"], "t0")
        self.assertLess(time.monotonic() - began, 0.6)
        self.assertEqual(len(answer.read().splitlines()), 9)

    def test_two_models_that_do_not_fit_together_are_never_loaded_together_and_nobody_fails(self) -> None:
        self.adapt("ollama", self.server.url, "--wait", "40")
        work = [self.in_background(lambda name=name: [self.generate(name, within=60)[0] for _ in range(3)])
                for name in (LLAMA, MISTRAL) for _ in range(2)]
        for thread, _ in work:
            thread.join(90)
        self.assertEqual([got for _, got in work], [[[200] * 3]] * 4)
        self.assertLessEqual(self.server.most, 1024 * MIB)

    def test_a_model_that_never_rests_is_made_to_when_another_waits_too_long(self) -> None:
        self.adapt("ollama", self.server.url)
        end = threading.Event()

        def ask_again_and_again() -> int:
            count = 0
            while not end.is_set():
                self.assertEqual(self.generate(LLAMA, tokens=10)[0], 200)
                count += 1
            return count

        work = [self.in_background(ask_again_and_again) for _ in range(2)]
        wait_for(lambda: self.held() == [600])
        self.assertEqual(self.generate(MISTRAL)[0], 200)
        end.set()
        for thread, _ in work:
            thread.join(30)
        self.assertLessEqual(self.server.most, 1024 * MIB)

    def test_without_memory_in_time_it_is_503_with_the_reason_and_when_to_try_again(self) -> None:
        self.adapt("ollama", self.server.url, "--wait", "0.5")
        with self.other.lease(want="900MiB", revocable="never"):
            status, headers, body = self.generate(LLAMA)
            told = json.loads(body)
            self.assertEqual((status, told["mesh"]["rule"], "Retry-After" in headers), (503, "no_memory", True), told)
            self.assertIsInstance(told["error"], str, "as Ollama's own errors look")
            status, _, body = self.ask("/v1/chat/completions", {"model": LLAMA, "messages": [1]})
            self.assertEqual((status, json.loads(body)["error"]["type"]), (503, "no_memory"))
            self.assertEqual(self.server.loads, [])
        self.assertEqual(self.generate(LLAMA)[0], 200)

    def test_what_never_fits_and_what_there_is_not_is_refused_at_once(self) -> None:
        self.server.sizes["huge:latest"] = 5000 * MIB
        self.adapt("ollama", self.server.url)
        status, headers, body = self.generate("huge")
        self.assertEqual((status, json.loads(body)["mesh"]["rule"], "Retry-After" in headers), (507, "never_fits", False))
        status, _, body = self.generate("none")
        self.assertEqual((status, json.loads(body)["mesh"]["rule"]), (500, "size_unknown"))

    def test_what_computes_with_no_model_needs_no_memory(self) -> None:
        self.adapt("ollama", self.server.url)
        with self.other.lease(want="1000MiB", revocable="never"):
            connection = http.client.HTTPConnection(self.front, timeout=5)
            self.addCleanup(connection.close)
            for _ in range(2):
                connection.request("GET", "/api/version")
                answer = connection.getresponse()
                self.assertEqual((answer.status, answer.read()), (200, b'{"version": "0"}'))
            self.assertEqual(self.ask("/api/generate", {"model": LLAMA, "keep_alive": 0})[0], 200)

    def test_a_lease_that_is_wanted_back_waits_for_the_request_and_holds_up_the_next(self) -> None:
        self.adapt("ollama", self.server.url)
        thread, got = self.in_background(self.generate, LLAMA, tokens=80)
        wait_for(lambda: self.held() == [600] and self.server.running[LLAMA])
        other = self.other.lease(want="900MiB", wait=20, priority="critical")
        later, answers = self.in_background(self.generate, LLAMA)
        thread.join()
        self.assertEqual((got[0][0], len(got[0][2].splitlines())), (200, 80))
        time.sleep(0.3)
        self.assertEqual((answers, self.server.states[LLAMA]), ([], "unloaded"))
        other.release()
        later.join(20)
        self.assertEqual(answers[0][0], 200)

    def test_memory_of_a_model_that_a_request_is_about_to_load_is_not_given_away(self) -> None:
        self.server.faults.add("shows_late")
        self.server.load_s = 2.0
        self.adapt("ollama", self.server.url)
        thread, got = self.in_background(self.generate, LLAMA)
        wait_for(lambda: self.server.states[LLAMA] == "loading")
        self.evict()
        with self.other.lease(want="900MiB", wait=20):
            self.assertEqual((self.server.states[LLAMA], got[0][0]), ("unloaded", 200))
        thread.join()

    def test_while_the_arbiter_is_started_again_requests_take_longer_and_none_fails(self) -> None:
        self.adapt("ollama", self.server.url)
        for i in range(4):
            self.assertEqual(self.generate((LLAMA, MISTRAL)[i % 2])[0], 200)
            self.arbiter.kill()
        self.assertLessEqual(self.server.most, 1024 * MIB)

    def test_noise_is_answered_or_hung_up_on_and_harms_nobody(self) -> None:
        self.adapt("ollama", self.server.url)
        host, port = self.front.split(":")
        for noise in (b"\x00\xff\n\n", b"GET\r\n\r\n", b"POST /api/chat HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
                      b"POST /api/chat HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                      b"POST /api/chat HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                      b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
                      b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
                      b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
                      b"POST /api/generate HTTP/1.1\r\nContent-Length: 200\r\n\r\n" + b"[" * 200,
                      b'POST /api/generate HTTP/1.1\r\nContent-Length: 16\r\n\r\n{"model": "\\u00"}'):
            with self.subTest(noise[:60]), socket.create_connection((host, int(port)), timeout=5) as client:
                client.sendall(noise)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        self.assertEqual(self.generate(LLAMA)[0], 200)
        self.assertNotIn("Traceback", self.log())

    def test_requests_that_are_too_much_to_hold_together_are_refused_and_the_others_served(self) -> None:
        self.adapt("ollama", self.server.url)
        host, port = self.front.split(":")
        head = b"POST /api/chat HTTP/1.1\r\nContent-Length: 62000000\r\n\r\n"
        clients = [socket.create_connection((host, int(port)), timeout=5) for _ in range(5)]
        for client in clients:
            self.addCleanup(client.close)
            client.sendall(head)
        time.sleep(0.3)
        self.assertEqual(self.generate(LLAMA)[0], 200)
        refused = [client for client in clients if b" 503 " in self.answer_so_far(client)]
        self.assertEqual(len(refused), 1)

    @staticmethod
    def answer_so_far(client: socket.socket) -> bytes:
        client.settimeout(0.2)
        try:
            return client.recv(4096)
        except TimeoutError:
            return b""

    def test_a_request_in_chunks_is_read_too(self) -> None:
        self.adapt("ollama", self.server.url)
        connection = http.client.HTTPConnection(self.front, timeout=10)
        self.addCleanup(connection.close)
        body = json.dumps({"model": LLAMA, "prompt": "x" * 100_000}).encode()
        connection.request("POST", "/api/generate", iter([body[:7], body[7:]]), encode_chunked=True)
        answer = connection.getresponse()
        self.assertEqual((answer.status, len(answer.read().splitlines())), (200, 3))


class LlamaServerTest(AdapterCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(stand_in_servers.LlamaServer, {"qwen": 0, "gemma": 0})
        self.server.sizes = {"qwen": 600 * MIB, "gemma": 500 * MIB}
        self.adapt("llama-server", self.server.url, "--size", "qwen=600MiB", "--size", "500MiB")

    def chat(self, model: str, tokens: int = 3, **more) -> tuple[int, dict, bytes]:
        return self.ask("/v1/chat/completions", {"model": model, "messages": [], "max_tokens": tokens}, **more)

    def test_models_take_turns_and_no_request_is_cut_off(self) -> None:
        work = [self.in_background(lambda name=name: [self.chat(name, 20, within=60)[0] for _ in range(2)])
                for name in ("qwen", "gemma") for _ in range(2)]
        for thread, _ in work:
            thread.join(60)
        self.assertEqual([got for _, got in work], [[[200] * 2]] * 4)
        self.assertEqual(self.server.hurt, 0)
        self.assertLessEqual(self.server.most, 1024 * MIB)

    def test_a_request_that_went_past_the_front_is_not_cut_off_either(self) -> None:
        thread, got = self.in_background(self.chat, "qwen", 60, at=urlsplit(self.server.url).netloc)
        wait_for(lambda: self.held() == [600])
        with self.other.lease(want="900MiB", wait=25):
            self.assertEqual(self.server.states["qwen"], "unloaded")
        thread.join()
        self.assertEqual((self.server.hurt, got[0][2].count(b"data:")), (0, 60))

    def test_a_model_it_does_not_know_is_refused_by_the_server(self) -> None:
        status, _, body = self.chat("none")
        self.assertEqual((status, json.loads(body)["error"]["type"]), (502, "server_failed"))
        self.assertEqual(self.held(), [])


class VllmTest(AdapterCase):
    """Offloads: it comes back to its place in the queue."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(stand_in_servers.Vllm, {"qwen": 600 * MIB})
        self.adapt("vllm", self.server.url, "--size", "600MiB")
        wait_for(lambda: self.held() == [600])

    def test_it_sleeps_when_others_need_the_memory_and_wakes_with_a_request(self) -> None:
        self.assertEqual(self.models()[600]["revocability"], "offload")
        with self.other.lease(want="900MiB", wait=15):
            self.assertEqual(self.server.states["qwen"], "unloaded")
            wait_for(lambda: self.held() == [])
            thread, got = self.in_background(self.ask, "/v1/completions", {"model": "lora-of-qwen", "prompt": "x"})
            time.sleep(0.5)
            self.assertEqual((got, self.server.loads), ([], []))
        thread.join(15)
        self.assertEqual((got[0][0], got[0][2].count(b"data:"), self.held()), (200, 3, [600]))

    def test_it_is_not_put_to_sleep_while_it_computes_whoever_asked(self) -> None:
        thread, got = self.in_background(self.ask, "/v1/completions", {"max_tokens": 100}, at=urlsplit(self.server.url).netloc)
        wait_for(lambda: self.server.running["qwen"])
        with self.other.lease(want="900MiB", wait=25):
            self.assertEqual(self.server.states["qwen"], "unloaded")
        thread.join()
        self.assertEqual((self.server.hurt, got[0][2].count(b"data:")), (0, 100))


if __name__ == "__main__":
    unittest.main(verbosity=2)
