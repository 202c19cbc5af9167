"""What each server says and obeys. None of this was run against the real programs: it follows what is cited.

Sources, as of late 2026:
  Ollama        docs.ollama.com/api/ps (size, size_vram, expires_at); ollama/ollama server/routes.go, "expire the runner": a
                generate request without a prompt and with keep_alive 0 is answered with done_reason "unload";
                server/sched.go, expireRunner: the model goes when its last request has ended, not before
  llama-server  ggml-org/llama.cpp tools/server/README.md, "GET /models", "POST /models/load", "POST /models/unload", "Routing
                requests" (?model=, autoload); its issue 21678: unloading does not heed requests that run; /slots says
                is_processing, or 501 where it is switched off
  vLLM          vllm/entrypoints/serve/sleep/api_router.py: /sleep, /wake_up, /is_sleeping, only with VLLM_SERVER_DEV_MODE=1;
                docs.vllm.ai/en/latest/features/sleep_mode; its issue 45520: sleeping while requests run may kill the
                engine; /metrics: vllm:num_requests_running and vllm:num_requests_waiting
"""

import json
import re
from urllib.parse import parse_qs, quote, urlsplit

from . import calls
from .calls import Address, Garbage, Refused

MODELS_MAX = 256
NAME_CHARACTERS_MAX = 256
SIZE_MAX = 1 << 46


def _name(value: object) -> str | None:
    """A name that can be shown and leased; None if it is none."""
    is_one = isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS_MAX and value.isprintable()
    return value if is_one else None


def _must(name: str | None) -> str:
    """What cannot be named cannot be told apart from what is gone."""
    if name is None:
        raise Garbage("a model has no name that can be shown")
    return name


def _size(value: object) -> int | None:
    is_one = isinstance(value, int) and not isinstance(value, bool) and 0 < value < SIZE_MAX
    return value if is_one else None


def _list(found: dict, key: str) -> list[dict]:
    listed = found.get(key)
    if not isinstance(listed, list) or len(listed) > MODELS_MAX or not all(isinstance(each, dict) for each in listed):
        raise Garbage(f'no list "{key}" of at most {MODELS_MAX} models')
    return listed


def _json_of(body: bytes) -> dict:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Server:
    """A server at an address. All calls raise ServerError, and take a few seconds at most."""

    revocable = "release"
    unload_waits = False  # for requests that run, instead of hurting them

    def __init__(self, address: Address) -> None:
        self.address = address

    def loaded(self) -> dict[str, int | None]:
        """Models with memory now → bytes, None where it does not say."""
        raise NotImplementedError

    def estimate(self, model: str) -> int | None:
        """What a model that is not loaded will take, as far as the server knows."""
        return None

    def is_busy(self, model: str) -> bool:
        """Whether requests run that unload() would hurt; False where that cannot be known."""
        return False

    def unload(self, model: str, within: float) -> None:
        """Orders it; loaded() tells when it is done."""
        raise NotImplementedError

    def load(self, model: str, within: float) -> None:
        """Orders it where the first request does not; is_ready() tells when it is done."""

    def is_ready(self, model: str) -> bool:
        """Whether it may be sent requests; Refused if it failed to load."""
        return True

    def forget(self) -> None:
        """It was away: another one may come."""

    def wish(self, method: str, target: str, body: bytes) -> str | None:
        """Which model a request computes with; None: none."""
        raise NotImplementedError


class Ollama(Server):
    unload_waits = True
    PATHS = {"/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions",
             "/v1/embeddings", "/v1/responses", "/v1/messages"}
    # Beside the file: context and buffers.
    SHARE_OF_FILE = 1.2

    @staticmethod
    def full(model: str) -> str:
        return model if ":" in model.rpartition("/")[2] else model + ":latest"

    def loaded(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for each in _list(calls.call_json(self.address, "GET", "/api/ps"), "models"):
            name, vram = _must(_name(each.get("name") or each.get("model"))), each.get("size_vram")
            if vram != 0:  # 0: all on the CPU
                found[self.full(name)] = _size(vram)
        return found

    def estimate(self, model: str) -> int | None:
        for each in _list(calls.call_json(self.address, "GET", "/api/tags"), "models"):
            name, size = _name(each.get("name")), _size(each.get("size"))
            if name is not None and size is not None and self.full(name) == self.full(model):
                return int(size * self.SHARE_OF_FILE)
        return None

    def unload(self, model: str, within: float) -> None:
        told = calls.call_json(self.address, "POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}, within)
        if told.get("done") is not True:
            raise Garbage("POST /api/generate: not done")

    def wish(self, method: str, target: str, body: bytes) -> str | None:
        path = urlsplit(target).path
        if method != "POST" or path not in self.PATHS:
            return None
        asked = _json_of(body)
        if path in ("/api/generate", "/api/chat") and not asked.get("prompt") and not asked.get("messages") and \
                asked.get("keep_alive") in (0, "0", "0s"):
            return None  # somebody unloads by hand
        name = _name(asked.get("model"))
        return self.full(name) if name else None


class LlamaServer(Server):
    """Of a router: a llama-server that was started without a model."""

    def _states(self) -> dict[str, str]:
        found = {}
        for each in _list(calls.call_json(self.address, "GET", "/models"), "data"):
            name, status = _must(_name(each.get("id"))), each.get("status")
            if isinstance(status, dict):
                found[name] = "failed" if status.get("failed") is True else str(status.get("value"))
        return found

    def loaded(self) -> dict[str, int | None]:
        return {name: None for name, state in self._states().items() if state in ("loaded", "loading")}

    def is_ready(self, model: str) -> bool:
        state = self._states().get(model)
        if state in (None, "failed"):
            raise Refused(f"{model} did not load" if state else f"there is no model {model}", 200)
        return state in ("loaded", "sleeping")  # one that sleeps wakes with the request

    def is_busy(self, model: str) -> bool:
        if self._states().get(model) == "loading":
            return True  # for a request
        path = f"/slots?model={quote(model, safe='')}&autoload=false"
        status, content = calls.call(self.address, "GET", path)
        if status != 200:
            return False
        try:
            slots = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Garbage("GET /slots: no JSON") from error
        return isinstance(slots, list) and any(isinstance(each, dict) and each.get("is_processing") for each in slots)

    def unload(self, model: str, within: float) -> None:
        try:
            told = calls.call_json(self.address, "POST", "/models/unload", {"model": model}, within)
        except Refused as refused:
            if refused.status == 400 and model not in self.loaded():
                return  # gone by itself
            raise
        if told.get("success") is not True:
            raise Garbage("POST /models/unload: no success")

    def load(self, model: str, within: float) -> None:
        if self._states().get(model) in ("loaded", "loading", "sleeping"):
            return
        told = calls.call_json(self.address, "POST", "/models/load", {"model": model}, within)
        if told.get("success") is not True:
            raise Garbage("POST /models/load: no success")

    def wish(self, method: str, target: str, body: bytes) -> str | None:
        parts = urlsplit(target)
        if parts.path.startswith(("/models", "/v1/models")):
            return None
        asked = parse_qs(parts.query).get("model", [None])[0] if method == "GET" else _json_of(body).get("model")
        name = _name(asked)
        return name


class Vllm(Server):
    """One model, awake or asleep. Needs --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1."""

    revocable = "offload"
    COUNTED = re.compile(rb"^vllm:num_requests_(?:running|waiting)(?:\{[^}\n]*\})?\s+([0-9.eE+]+)\s*$", re.MULTILINE)

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._model: str | None = None

    def forget(self) -> None:
        self._model = None

    def model(self) -> str:
        """Under the first of its names."""
        if self._model is None:
            listed = _list(calls.call_json(self.address, "GET", "/v1/models"), "data")
            self._model = _must(_name(listed[0].get("id")) if listed else None)
        return self._model

    def loaded(self) -> dict[str, int | None]:
        told = calls.call_json(self.address, "GET", "/is_sleeping").get("is_sleeping")
        if not isinstance(told, bool):
            raise Garbage("GET /is_sleeping: neither true nor false")
        return {} if told else {self.model(): None}

    def is_busy(self, model: str) -> bool:
        status, content = calls.call(self.address, "GET", "/metrics")
        if status != 200:
            raise Refused(f"GET /metrics: HTTP {status}; without it nobody knows whether it may be put to sleep", status)
        try:
            return any(float(count) > 0 for count in self.COUNTED.findall(content))
        except ValueError as error:
            raise Garbage("GET /metrics: no number") from error

    def unload(self, model: str, within: float) -> None:
        calls.call_json(self.address, "POST", "/sleep?level=1", None, within)

    def load(self, model: str, within: float) -> None:
        calls.call_json(self.address, "POST", "/wake_up", None, within)

    def is_ready(self, model: str) -> bool:
        return bool(self.loaded())

    def wish(self, method: str, target: str, body: bytes) -> str | None:
        # Whatever name it has, a LoRA's for instance: it is this engine that computes.
        path = urlsplit(target).path
        computes = method == "POST" and path not in ("/sleep", "/wake_up", "/tokenize", "/detokenize")
        return self.model() if computes else None


KINDS = {"ollama": Ollama, "llama-server": LlamaServer, "vllm": Vllm}
