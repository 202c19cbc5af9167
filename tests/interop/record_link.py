"""Records what two sidecars of this version say to each other, for later versions to be tried against.

usage: MESH_SIDECAR=PATH record_link.py > links/NAME.txt

Run it with the sidecar of a version that goes out, when the wire is about to change: tests/sim then plays each side of the
recording to a sidecar of the version that is built. The format:

    turn               a step of the conversation: a request and what it is answered
    asks HEX [HEX …]   the parts of its body; the agent gives them back
    gets CODE          or it ends with this code
    caller | callee HEX  what the sidecar on that side said in this step, in pieces
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
import mesh  # noqa: E402  (needs the path above)
import zmq  # noqa: E402

QUIET_S = 0.25
LINE_BYTES = 64
TEXT = b'{"action":"describe","text":"' + b"the same words again and again, " * 100 + b'"}'


class Tap:
    """A relay that keeps the bytes of the first connection through it."""

    def __init__(self, to_port: int):
        self.seen: dict[str, bytes] = {"caller": b"", "callee": b""}
        self._to = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        caller, _ = self._listener.accept()
        callee = socket.create_connection(("127.0.0.1", self._to))
        threading.Thread(target=self._pass, args=("callee", callee, caller), daemon=True).start()
        self._pass("caller", caller, callee)

    def _pass(self, who: str, source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            self.seen[who] += data
            sink.sendall(data)

    def take(self) -> dict[str, bytes]:
        time.sleep(QUIET_S)
        taken = dict(self.seen)
        self.seen = {"caller": b"", "callee": b""}
        return taken

    def close(self) -> None:
        self._listener.close()


def put(kind: str, data: bytes) -> None:
    for at in range(0, len(data), LINE_BYTES):
        print(kind, data[at:at + LINE_BYTES].hex())


def main() -> None:
    taps: list[Tap] = []

    def via(port: int) -> Tap:
        taps.append(Tap(port))
        return taps[0]

    contracts = {"echo": {"methods": {"describe": {"priority": "interactive"}}}}
    meshed = mesh.Mesh({"echo": {}}, contracts=contracts, via=via, compression="always")
    agent = mesh.Agent(meshed.agent_ports["echo"], lambda body: body)
    meshed.wait_for_agents()
    client = meshed.client("echo", zmq.DEALER)
    steps = [[b"ping"], [TEXT], [b"two", b"parts"], [b"x" * 9000]]
    for step in steps:
        client.send_multipart([b"", *step])
        assert client.recv_multipart() == [b"", *step]
        print("turn")
        print("asks", " ".join(part.hex() for part in step))
        for who, data in taps[0].take().items():
            put(who, data)
    # An agent that is gone: the error has all its texts.
    agent.stop()
    client.send_multipart([b"", b"late"])
    code = json.loads(client.recv_multipart()[-1])["code"]
    print("turn")
    print("asks", b"late".hex())
    print("gets", code)
    for who, data in taps[0].take().items():
        put(who, data)
    meshed.stop()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
