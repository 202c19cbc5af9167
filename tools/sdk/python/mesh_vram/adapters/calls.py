"""One HTTP request with JSON in its answer, to a server that is not trusted to answer, to stop, or to make sense."""

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

from ..errors import Invalid

ANSWER_BYTES_MAX = 4 << 20  # lists of models are kilobytes, metrics some hundred
PIECE_BYTES = 64 * 1024


class ServerError(Exception):
    """A call that did not do what it should. str() says what happened."""


class Away(ServerError):
    """Nobody listens there, or the connection broke."""


class TooSlow(ServerError):
    """No whole answer in time."""


class Refused(ServerError):
    """It answered with an error; `status` is HTTP's."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Garbage(ServerError):
    """An answer that is none: too long, no HTTP, no JSON, or JSON of another shape."""


class Address:
    """Of a server: http://HOST[:PORT]. Anything else is Invalid."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme != "http" or not parts.hostname or port == -1 or parts.path not in ("", "/") or parts.query:
            raise Invalid(f"{url!r} is no address of a server", "like http://127.0.0.1:11434", "argument")
        self.host, self.port = parts.hostname, port or 80

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def call(address: Address, method: str, path: str, body: object = None, within: float = 5.0) -> tuple[int, bytes]:
    """Status and body of any answer that is HTTP. All of it has `within` seconds, however slowly bytes drip."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=within)
    is_over = threading.Event()
    used: list[socket.socket] = []  # the connection forgets it when there is no length

    def end() -> None:
        is_over.set()
        for each in used:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    clock = threading.Timer(within, end)
    clock.daemon = True
    clock.start()
    try:
        connection.connect()
        used.append(connection.sock)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        kept = bytearray()
        while piece := answer.read1(PIECE_BYTES):
            kept += piece
            if len(kept) > ANSWER_BYTES_MAX:
                raise Garbage(f"{method} {path}: more than {ANSWER_BYTES_MAX >> 20} MiB of answer")
        if is_over.is_set():
            raise TooSlow(f"{method} {path}: no whole answer within {within:g} s")
        return answer.status, bytes(kept)
    except TimeoutError as error:
        raise TooSlow(f"{method} {path}: no answer within {within:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if is_over.is_set():
            raise TooSlow(f"{method} {path}: no whole answer within {within:g} s") from error
        kind = Away if isinstance(error, (OSError, http.client.RemoteDisconnected, http.client.IncompleteRead)) else Garbage
        raise kind(f"{method} {path}: {error or type(error).__name__}") from error
    finally:
        clock.cancel()
        connection.close()


def call_json(address: Address, method: str, path: str, body: object = None, within: float = 5.0) -> dict:
    """The JSON object of an answer with status 2xx; nothing in the answer: an empty one."""
    status, content = call(address, method, path, body, within)
    if not 200 <= status < 300:
        told = content[:200].decode(errors="replace").strip()
        raise Refused(f"{method} {path}: HTTP {status} {told if told.isprintable() else ''}".rstrip(), status)
    if not content.strip():
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"{method} {path}: no JSON") from error
    if not isinstance(found, dict):
        raise Garbage(f"{method} {path}: no JSON object")
    return found
