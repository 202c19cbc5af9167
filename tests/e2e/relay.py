"""A tcp relay between two sidecars that holds each direction back by as much as the test says."""

import socket
import threading
import time


class Relay:
    def __init__(self, to_port: int):
        self.forth_s = 0.0
        self.back_s = 0.0
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                return
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(near, far, lambda: self.forth_s), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, lambda: self.back_s), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, delay_s) -> None:
        try:
            while data := source.recv(65536):
                if delay_s() > 0:
                    time.sleep(delay_s())
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()
