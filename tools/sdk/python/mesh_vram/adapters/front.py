"""A reverse proxy before the server: a request for a model goes on when there is memory for the model.

Bodies of requests are read first, since they name the model; bodies of answers stream. Whoever cannot be served gets JSON that
says why, as the server's own errors look, and when to try again.
"""

import http.client
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from .calls import ServerError
from .holdings import Holdings
from .model import NotAdmitted

LOG = logging.getLogger("mesh_vram.adapters")

BODY_BYTES_MAX = 64 << 20  # images come as base64 in JSON
BODIES_BYTES_MAX = 256 << 20  # of all clients together
PIECE_BYTES = 64 * 1024
CONNECTIONS_MAX = 256
REQUEST_S = 30.0  # for a client to send its request
SILENCE_S = 300.0  # of a server that loads and computes
RETRY_AFTER_S = 2
STATUS_OF_RULE = {"never_fits": 507, "server_failed": 502, "internal": 500}
# They belong to one connection, not to the message (RFC 9110, 7.6.1).
HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
              "transfer-encoding", "upgrade"}


class BadRequest(Exception):
    def __init__(self, status: int, rule: str, text: str) -> None:
        super().__init__(text)
        self.status, self.rule = status, rule


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mesh-vram-adapter"
    timeout = REQUEST_S
    server: "Front"

    def log_message(self, *_) -> None:
        """Paths may hold what is nobody's business."""

    def handle_any(self) -> None:
        self.reserved = 0
        try:
            self._serve(self._read_body())
        except BadRequest as error:
            self.close_connection = True
            self._tell(error.status, error.rule, str(error), "", RETRY_AFTER_S if error.status == 503 else None)
        finally:
            self.server.reserve(-self.reserved)

    def _serve(self, body: bytes) -> None:
        holdings, deadline = self.server.holdings, time.monotonic() + self.server.wait
        try:
            model = holdings.server.wish(self.command, self.path, body)
            if model is None:
                return self._pass_on(body)
            with holdings.use(model, deadline):
                self._pass_on(body)
        except NotAdmitted as error:
            status = STATUS_OF_RULE.get(error.rule, 503 if error.again else 500)
            self._tell(status, error.rule, str(error), error.hint, RETRY_AFTER_S if error.again else None)
        except ServerError as error:
            self._tell(502, "server_failed", str(error), "see whether it runs", RETRY_AFTER_S)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = handle_any

    # --- from the client ---

    def _read_body(self) -> bytes:
        lengths, codings = self.headers.get_all("Content-Length", []), self.headers.get_all("Transfer-Encoding", [])
        if codings:
            if lengths or [coding.strip().lower() for coding in codings] != ["chunked"]:
                raise BadRequest(400, "bad_request", "Transfer-Encoding is chunked, alone, or not there")
            return self._read_chunks()
        if not lengths:
            return b""
        if len(lengths) > 1 or not lengths[0].isascii() or not lengths[0].isdigit():
            raise BadRequest(400, "bad_request", "Content-Length is one number")
        if int(lengths[0][:20]) > BODY_BYTES_MAX:
            raise BadRequest(413, "too_large", f"a request has at most {BODY_BYTES_MAX >> 20} MiB")
        return self._read(int(lengths[0]))

    def _read(self, count: int) -> bytes:
        if not self.server.reserve(count):
            raise BadRequest(503, "busy", "the requests of all clients are too much to hold")
        self.reserved += count
        try:
            got = self.rfile.read(count)
        except OSError as error:
            raise BadRequest(408, "too_slow", "the request did not come") from error
        if len(got) < count:
            raise BadRequest(400, "bad_request", "the request ended early")
        return got

    def _read_chunks(self) -> bytes:
        kept = bytearray()
        while True:
            line = self._line().partition(b";")[0].strip()
            if not line or len(line) > 8 or any(digit not in b"0123456789abcdefABCDEF" for digit in line):
                raise BadRequest(400, "bad_request", "a chunk has no size")
            size = int(line, 16)
            if len(kept) + size > BODY_BYTES_MAX:
                raise BadRequest(413, "too_large", f"a request has at most {BODY_BYTES_MAX >> 20} MiB")
            if size == 0:
                break
            kept += self._read(size)
            if self._line().strip():
                raise BadRequest(400, "bad_request", "a chunk has another size")
        for _ in range(64):  # trailers say nothing to us
            if not self._line().strip():
                return bytes(kept)
        raise BadRequest(400, "bad_request", "too many trailers")

    def _line(self) -> bytes:
        try:
            line = self.rfile.readline(1024)
        except OSError as error:
            raise BadRequest(408, "too_slow", "the request did not come") from error
        if not line.endswith(b"\n"):
            raise BadRequest(400, "bad_request", "the request ended early")
        return line

    # --- to the server, and back ---

    def _pass_on(self, body: bytes) -> None:
        address = self.server.holdings.server.address
        upstream = http.client.HTTPConnection(address.host, address.port, timeout=SILENCE_S)
        try:
            try:
                answer = self._ask(upstream, body)
            except TimeoutError:
                return self._tell(504, "server_silent", f"the server said nothing for {SILENCE_S:.0f} s", "", None)
            except (OSError, http.client.HTTPException, ValueError) as error:
                return self._tell(502, "server_failed", f"the server failed: {error or type(error).__name__}",
                                  "see whether it runs", RETRY_AFTER_S)
            self._stream(answer)
        finally:
            upstream.close()

    def _ask(self, upstream: http.client.HTTPConnection, body: bytes) -> http.client.HTTPResponse:
        named = {name.strip().lower() for name in self.headers.get("Connection", "").split(",")}
        # Host goes on as it came: servers know by it that a page in a browser was tricked into asking them.
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP | named and name.lower() not in ("content-length", "expect"):
                upstream.putheader(name, value)
        if body or self.command in ("POST", "PUT", "PATCH"):
            upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body or None)
        return upstream.getresponse()

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        """Once the head is sent nothing else can be said: what breaks then breaks the connection."""
        length = answer.getheader("Content-Length")
        has_body = self.command != "HEAD" and answer.status not in (204, 304) and answer.status >= 200
        is_chunked = has_body and length is None
        try:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if is_chunked and self.request_version == "HTTP/1.1":
                self.send_header("Transfer-Encoding", "chunked")
            elif is_chunked:
                is_chunked, self.close_connection = False, True
            self.end_headers()
            sent = 0
            while has_body and (piece := answer.read1(PIECE_BYTES)):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
                sent += len(piece)
            if is_chunked:
                self.wfile.write(b"0\r\n\r\n")
            elif has_body and length is not None and sent != int(length):
                raise http.client.IncompleteRead(b"")
        except (OSError, http.client.HTTPException, ValueError) as error:
            LOG.info("an answer broke off: %s", error or type(error).__name__)
            self.close_connection = True

    # --- what is not the server's ---

    def _tell(self, status: int, rule: str, text: str, hint: str, retry_after: int | None) -> None:
        mesh = {"hop": "adapter", "stage": "model", "rule": rule, "hint": hint}
        if urlsplit(self.path).path.startswith("/api/"):
            told = {"error": text, "code": rule, "mesh": mesh}
        else:
            told = {"error": {"message": text, "type": rule, "code": status}, "mesh": mesh}
        body = json.dumps(told).encode()
        try:
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True


class Front(ThreadingHTTPServer):
    """Listens at once; serve_forever() answers. A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listen: tuple[str, int], holdings: Holdings, wait: float) -> None:
        self.holdings, self.wait = holdings, wait
        self.places = threading.Semaphore(CONNECTIONS_MAX)
        self.bodies_lock, self.bodies_bytes = threading.Lock(), 0
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, Handler)

    def reserve(self, count: int) -> bool:
        """Room for a body, or less of it; False if there is none."""
        with self.bodies_lock:
            if count > 0 and self.bodies_bytes + count > BODIES_BYTES_MAX:
                return False
            self.bodies_bytes += count
            return True

    def process_request(self, request, client_address) -> None:
        if not self.places.acquire(blocking=False):
            return self.shutdown_request(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request, client_address) -> None:
        LOG.debug("a client's connection broke", exc_info=True)
