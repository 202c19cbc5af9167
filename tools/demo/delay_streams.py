"""delay_streams.py MILLISECONDS PORT,… LISTEN_ADDRESS=TARGET_ADDRESS…: TCP connections over a wire that takes its time.

Listens on each address and port, carries what comes to the same port of the target that much later, and counts. A line
on standard input is answered with a line: connections opened, bytes carried (without headers, which nobody shows on
loopback). Ends when standard input does.
"""
from __future__ import annotations

import asyncio
import functools
import selectors
import sys

READ_BYTES = 65536


class Wire:
    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.connections = 0
        self.carried = 0

    async def connect(self, target: tuple[str, int], reader: asyncio.StreamReader,
                      writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            # The handshake of TCP takes a round trip too.
            await asyncio.sleep(2 * self.delay_s)
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.carry(reader, far_writer), self.carry(far_reader, writer))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def read() -> None:
            try:
                while data := await reader.read(READ_BYTES):
                    self.carried += len(data)
                    await queue.put((loop.time() + self.delay_s, data))
            except OSError:
                pass
            await queue.put((loop.time() + self.delay_s, b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            reading.cancel()
            writer.close()


async def main() -> None:
    wire = Wire(float(sys.argv[1]) / 1000)
    for route in sys.argv[3:]:
        listen, target = route.split("=")
        for port in map(int, sys.argv[2].split(",")):
            await asyncio.start_server(functools.partial(wire.connect, (target, port)), listen, port)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(wire.connections, wire.carried, flush=True)


if __name__ == "__main__":
    # select() waits in microseconds; epoll, which asyncio would take, in whole milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main())
