"""Stand-ins for Ollama, llama-server and vLLM, as far as the adapters know these: the same paths, states and bad habits.

Their memory is a number. `faults` makes them misbehave; `most` is the most that was ever loaded at once.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class StandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sizes: dict[str, int], port: int = 0, load_s: float = 0.05, unload_s: float = 0.02, token_s: float = 0.02) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.sizes, self.load_s, self.unload_s, self.token_s = sizes, load_s, unload_s, token_s
        self.lock = threading.Condition()
        self.states = dict.fromkeys(sizes, "unloaded")
        self.running = dict.fromkeys(sizes, 0)
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.hurt = 0  # requests that a careless unload cut off
        self.most = 0
        self.faults: set[str] = set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is none of its troubles."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def load(self, name: str) -> None:
        with self.lock:
            while self.states[name] in ("loading", "unloading"):
                self.lock.wait()
            if self.states[name] == "loaded":
                return
            self.states[name] = "loading"
            self.loads.append(name)
            self.most = max(self.most, sum(self.sizes[each] for each, state in self.states.items() if state != "unloaded"))
        time.sleep(self.load_s)
        self.change(name, "loaded")

    def unload(self, name: str) -> None:
        with self.lock:
            if self.states[name] != "loaded":
                return
            self.states[name] = "unloading"
        time.sleep(self.unload_s)
        self.unloads.append(name)
        self.change(name, "unloaded")

    def change(self, name: str, state: str) -> None:
        with self.lock:
            self.states[name] = state
            self.lock.notify_all()

    def run(self, name: str, tokens: int):
        """The tokens of an answer, as time goes by."""
        with self.lock:
            self.running[name] += 1
        try:
            for i in range(tokens):
                time.sleep(self.token_s)
                if self.states[name] != "loaded":
                    self.hurt += 1
                    return
                yield f"t{i}"
        finally:
            with self.lock:
                self.running[name] -= 1
                self.lock.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_) -> None:
        pass

    def say(self, told: object, status: int = 200) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def misbehave(self) -> bool:
        faults = self.server.faults
        if "garbage" in faults:
            self.say(b'{"models": [{"name": 7}, "x", {')
        elif "strange" in faults:
            self.say({"models": [{"name": "a" * 10_000, "size_vram": -5}, {"name": "b\x00", "size_vram": 1e400}], "data": 3})
        elif "endless" in faults or "drip" in faults:
            self.send_response(200)
            self.end_headers()
            piece = b"[" * 65536 if "endless" in faults else b"["
            while faults & {"endless", "drip"}:
                self.wfile.write(piece)
                time.sleep(0 if "endless" in faults else 0.1)
            self.close_connection = True
        else:
            return False
        return True

    def do_GET(self) -> None:
        if not self.misbehave():
            parts = urlsplit(self.path)
            self.server.get(self, parts.path, parse_qs(parts.query))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        self.server.post(self, parts.path, json.loads(body) if body else {})


class Ollama(StandIn):
    def get(self, to: Handler, path: str, _) -> None:
        if path == "/api/ps":
            hidden = {"unloaded", "loading"} if "shows_late" in self.faults else {"unloaded"}
            there = [name for name, state in self.states.items() if state not in hidden]
            return to.say({"models": [{"name": name, "model": name, "size": self.sizes[name], "size_vram": self.sizes[name],
                                       "expires_at": "2030-01-01T00:00:00Z"} for name in there]})
        if path == "/api/tags":
            return to.say({"models": [{"name": name, "size": int(size / 1.2)} for name, size in self.sizes.items()]})
        to.say({"version": "0"})

    def post(self, to: Handler, path: str, asked: dict) -> None:
        name = asked.get("model", "")
        name = name if ":" in name else name + ":latest"
        if name not in self.sizes:
            return to.say({"error": f"model '{name}' not found"}, 404)
        if not asked.get("prompt") and asked.get("keep_alive") == 0:
            if "refuse" in self.faults:
                return to.say({"error": "not now"}, 500)
            threading.Thread(target=self.expire, args=(name,), daemon=True).start()
            return to.say({"model": name, "response": "", "done": True, "done_reason": "unload"})
        self.load(name)
        to.stream((json.dumps({"response": token, "done": False}).encode() + b"\n"
                   for token in self.run(name, asked.get("tokens", 3))), "application/x-ndjson")

    def expire(self, name: str) -> None:
        """Not before its last request has ended."""
        with self.lock:
            while self.running[name]:
                self.lock.wait()
        self.unload(name)


class LlamaServer(StandIn):
    def get(self, to: Handler, path: str, query: dict) -> None:
        if path == "/models":
            shown = {"unloading": "loaded"}
            return to.say({"data": [{"id": name, "status": {"value": shown.get(state, state)}} for name, state in self.states.items()]})
        if path == "/slots":
            return to.say([{"id": i, "is_processing": i < self.running[query["model"][0]]} for i in range(4)])
        to.say({"error": {"code": 404}}, 404)

    def post(self, to: Handler, path: str, asked: dict) -> None:
        name = asked.get("model")
        if name not in self.sizes:
            return to.say({"error": {"code": 400, "message": "model is not found", "type": "invalid_request_error"}}, 400)
        if path == "/models/unload":
            if self.states[name] == "unloaded":
                return to.say({"error": {"code": 400, "message": "model is not running"}}, 400)
            threading.Thread(target=self.unload, args=(name,), daemon=True).start()
            return to.say({"success": True})
        if path == "/models/load":
            threading.Thread(target=self.load, args=(name,), daemon=True).start()
            return to.say({"success": True})
        self.load(name)
        to.stream((b"data: %b\n\n" % token.encode() for token in self.run(name, asked.get("max_tokens", 3))), "text/event-stream")


class Vllm(StandIn):
    def __init__(self, sizes: dict[str, int], **more) -> None:
        super().__init__(sizes, **more)
        [self.name] = sizes
        self.states[self.name] = "loaded"

    def get(self, to: Handler, path: str, _) -> None:
        if path == "/is_sleeping":
            return to.say({"is_sleeping": self.states[self.name] == "unloaded"})
        if path == "/metrics":
            return to.say(f'# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{engine="0",model_name="{self.name}"}} '
                          f'{self.running[self.name]:.1f}\nvllm:num_requests_waiting{{model_name="{self.name}"}} 0.0\n'.encode())
        to.say({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    def post(self, to: Handler, path: str, asked: dict) -> None:
        if path == "/sleep":
            self.unload(self.name)
            return to.say(b"")
        if path == "/wake_up":
            self.load(self.name)
            return to.say(b"")
        to.stream((b"data: %b\n\n" % token.encode() for token in self.run(self.name, asked.get("max_tokens", 3))), "text/event-stream")


if __name__ == "__main__":
    server = {"ollama": Ollama, "llama-server": LlamaServer, "vllm": Vllm}[sys.argv[1]](json.loads(sys.argv[2]))
    print(server.url, flush=True)
    threading.Event().wait()
