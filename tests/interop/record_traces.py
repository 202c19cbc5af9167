"""Records what two libzmq sockets say to each other, byte for byte, into tests/interop/traces.

usage: record_traces.py          writes the traces again
       record_traces.py --check  records, writes nothing, and says which traces differ; exit code 77 with another libzmq

A relay stands between the two sockets and keeps the bytes of both directions. Each step of a conversation ends when the
receiving socket has its whole message, so the bytes kept since the step before are that message's. The format:

    sockets DEALER ROUTER      who connected, who was bound
    client | server            whose turn it is; below it:
      frame HEX [* TIMES]      a frame of the message as it must come out, empty without HEX
      wire HEX                 the bytes, in pieces of 64; a turn without a frame is greeting and READY, or a command
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

VERSION = (4, 3, 4)
TRACES = Path(__file__).resolve().parent / "traces"
PATIENCE_S = 5.0
ROUTING_ID = b"caller"
# (bytes, times): the edges of the short frame, and text that is none.
BODIES = [(b"", 1), (b"x", 1), (b"\xc0\xff\xee\x80\xfe", 51), (b"\x00\x01\xed\xa0", 64)]
Message = list[tuple[bytes, int]]


class Relay:
    """One tcp connection, passed on to `port` and remembered."""

    def __init__(self, port: int):
        self.seen = {"client": b"", "server": b""}
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._to))
        self._ends = [client, server]
        threading.Thread(target=self._pass, args=("server", server, client), daemon=True).start()
        self._pass("client", client, server)

    def _pass(self, who: str, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.seen[who] += data
                sink.sendall(data)
        except OSError:
            pass  # closed by the conversation's end

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            end.close()


class Conversation:
    """Two libzmq sockets, a relay between them, and the trace of it."""

    def __init__(self, client_type: str, server_type: str, heartbeat_ms: int = 0):
        self._context = zmq.Context()
        self.client, self.server = (self._context.socket(getattr(zmq, kind)) for kind in (client_type, server_type))
        for each in (self.client, self.server):
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        if heartbeat_ms:
            self.client.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
            self.client.setsockopt(zmq.HEARTBEAT_TTL, 1500)
        if client_type == "DEALER":
            self.client.setsockopt(zmq.ROUTING_ID, ROUTING_ID)
        self._relay = Relay(self.server.bind_to_random_port("tcp://127.0.0.1"))
        self._kept = {"client": 0, "server": 0}
        self.lines = [f"sockets {client_type} {server_type}"]
        self.client.connect(f"tcp://127.0.0.1:{self._relay.port}")
        # A greeting of 64 bytes, then READY, a short command frame: flags and size stand in front of it.
        self._await(lambda: all(len(s) > 65 and len(s) >= 66 + s[65] for s in self._relay.seen.values()), "READY")
        self.keep("client", [])
        self.keep("server", [])

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited for {what}")
            time.sleep(0.001)

    def keep(self, who: str, message: Message) -> None:
        """Ends a step: what `who` said since the last one was `message`."""
        data = self._relay.seen[who][self._kept[who]:]
        self._kept[who] += len(data)
        self.lines.append(who)
        for piece, times in message:
            self.lines.append(f"  frame {piece.hex()}{f' * {times}' if times > 1 else ''}".rstrip())
        self.lines += [f"  wire {data[at:at + 64].hex()}" for at in range(0, len(data), 64)]

    def say(self, who: str, frames: list[bytes], wire: Message) -> list[bytes]:
        """`who` sends `frames`; gives what the other gets. `wire` is the message as the protocol carries it."""
        sender, receiver = (self.client, self.server) if who == "client" else (self.server, self.client)
        sender.send_multipart(frames)
        received = receiver.recv_multipart()
        self.keep(who, wire)
        return received

    def ask(self, envelope: Message, body: Message) -> None:
        """One request and its echo. REQ makes and REP takes the envelope itself; ROUTER has an id in front."""
        plain = [piece * times for piece, times in (body if self.client.type == zmq.REQ else envelope + body)]
        received = self.say("client", plain, envelope + body)
        self.say("server", received, envelope + body)

    def await_ping(self) -> None:
        """The client's next PING and the server's PONG, both without messages."""
        seen = self._relay.seen
        self._await(lambda: all(len(seen[who]) > kept for who, kept in self._kept.items()), "PING and PONG")
        self.keep("client", [])
        self.keep("server", [])

    def close(self) -> str:
        for each in (self.client, self.server):
            each.close()
        self._relay.close()
        self._context.term()
        return "\n".join(self.lines) + "\n"


def record_echoes(client_type: str, server_type: str) -> str:
    """Every body there and back, then a message of several frames."""
    conversation = Conversation(client_type, server_type)
    envelopes: list[Message] = [[(b"", 1)]]
    if client_type == "DEALER":
        envelopes.append([(b"\x07\x00\x00\xff", 1), (b"", 1)])
        if server_type != "REP":
            envelopes.append([])
    for envelope in envelopes:
        for body in BODIES if envelope == envelopes[0] else BODIES[:2]:
            conversation.ask(envelope, [body])
    conversation.ask(envelopes[0], [(b"one", 1), (b"", 1), (b"three", 1)])
    return conversation.close()


def record_heartbeat() -> str:
    """A DEALER that PINGs between two messages."""
    conversation = Conversation("DEALER", "ROUTER", heartbeat_ms=400)
    conversation.ask([], [(b"before", 1)])
    conversation.await_ping()
    conversation.ask([], [(b"after", 1)])
    return conversation.close()


def record_all() -> dict[str, str]:
    pairs = [("REQ", "REP"), ("REQ", "ROUTER"), ("DEALER", "REP"), ("DEALER", "ROUTER"), ("DEALER", "DEALER")]
    traces = {f"{c}_{s}".lower(): record_echoes(c, s) for c, s in pairs}
    return {**traces, "heartbeat": record_heartbeat()}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    if zmq.zmq_version_info() != VERSION:
        print(f"the traces are of libzmq {VERSION}, this is {zmq.zmq_version_info()}")
        return 77
    differing = []
    for name, text in record_all().items():
        path = TRACES / f"{name}.txt"
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differing.append(name)
    for name in differing:
        print(f"{name}: libzmq says something else today")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
