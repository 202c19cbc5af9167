"""The table that is drawn over itself while the traffic runs; on anything but a terminal, a line now and then."""
from __future__ import annotations

import time

from demo.cast import Call
from demo.report import Paint, service_lines
from demo.traffic import Traffic

LINE_EVERY_SECONDS = 10
BAR_CELLS = 40


class LiveTable:
    def __init__(self, calls: list[Call], traffic: Traffic, seconds: float, paint: Paint) -> None:
        self.calls = calls
        self.traffic = traffic
        self.seconds = seconds
        self.paint = paint
        self.drawn = 0
        self.next_line_at = time.monotonic() + LINE_EVERY_SECONDS

    def show(self, done: float) -> None:
        """`done`: the share of the run that is over, 0 to 1."""
        if not self.paint.is_terminal:
            if time.monotonic() >= self.next_line_at:
                self.next_line_at += LINE_EVERY_SECONDS
                requests = sum(client.series.requests for client in self.traffic.clients)
                bad = requests - sum(client.series.right for client in self.traffic.clients)
                print(f"  {done * self.seconds:.0f} of {self.seconds:.0f} s: {requests} requests, {bad} bad",
                      flush=True)
            return
        filled = round(done * BAR_CELLS)
        bar = f"{'█' * filled}{'░' * (BAR_CELLS - filled)} {done * self.seconds:.0f} of {self.seconds:.0f} s"
        lines = service_lines(self.calls, self.traffic, self.paint) + ["", self.paint.dim(bar)]
        up = f"\x1b[{self.drawn}A" if self.drawn else ""
        print(up + "".join(f"\x1b[2K{line}\n" for line in lines), end="", flush=True)
        self.drawn = len(lines)

    def clear(self) -> None:
        """Takes the table away again, so that the report can stand in its place."""
        if self.drawn:
            print(f"\x1b[{self.drawn}A\x1b[J", end="", flush=True)
            self.drawn = 0
