#!/usr/bin/env python3
"""An agent that loads a model onto a card: looks what is free, then allocates piece by piece as loaders do.

With --leased it leases the memory first and waits for it, and gives it back when it is asked to. It is told what to do on
stdin, a word a line, and answers each with a line of JSON:

  look      how much is free on the card
  load      gets the memory and fills it, or tells why not
  work      a checksum of what it loaded
  free      gives the memory back
  status    whether it was asked for its memory, and when that was free
"""
import argparse
import json
import sys
import threading
import time
import zlib
from pathlib import Path

from stand_in_card import Card, OutOfMemory

PIECE = 32 << 20
PIECE_S = 0.02  # a disk takes its time


class LoaderAgent:
    def __init__(self, card: Card, size: int, leased: bool, priority: str) -> None:
        self.card, self.size, self.leased, self.priority = card, size, leased, priority
        self.lock = threading.Lock()
        self.lease = None
        self.memory: memoryview | None = None
        self.asked_at = self.freed_at = None

    def look(self) -> dict:
        return {"free_mib": self.card.free() >> 20, "needed_mib": self.size >> 20}

    def load(self) -> dict:
        began = time.monotonic()
        if self.leased:
            import mesh_vram
            self.lease = mesh_vram.lease("loaded", self.size, kind="backed", priority=self.priority, on_yield=self.on_yield)
        granted = time.monotonic()
        try:
            self.memory = self.lease.memory() if self.leased else memoryview(bytearray(self.size))
            for start in range(0, self.size, PIECE):
                count = min(PIECE, self.size - start)
                self.card.take(count)
                self.memory[start:start + count] = bytes([start // PIECE % 251 + 1]) * count
                time.sleep(PIECE_S)
        except OutOfMemory as error:
            self.free()
            return {"loaded": False, "error": f"out of memory: {error}"}
        if self.leased:
            self.lease.commit(self.size)
        return {"loaded": True, "began": began, "granted": granted, "done": time.monotonic()}

    def work(self) -> dict:
        return {"sum": zlib.crc32(self.memory) if self.memory is not None else None}

    def free(self) -> dict:
        with self.lock:
            if self.memory is not None:
                self.memory.release()
                self.memory = None
            self.card.give_back()
            self.freed_at = time.monotonic()  # before anybody else is granted it
            if self.lease is not None:
                self.lease.release()
        return {}

    def on_yield(self, _, wanted) -> int:
        self.asked_at = time.monotonic()
        self.free()
        return wanted.bytes

    def status(self) -> dict:
        return {"asked_at": self.asked_at, "freed_at": self.freed_at, "has_memory": self.memory is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", type=Path, required=True, help="the books of the card (stand_in_card.py)")
    parser.add_argument("--mib", type=int, required=True)
    parser.add_argument("--leased", action="store_true", help="from mesh-arbiter")
    parser.add_argument("--priority", default="normal")
    options = parser.parse_args()
    agent = LoaderAgent(Card(options.card), options.mib << 20, options.leased, options.priority)
    words = {name: getattr(agent, name) for name in ("look", "load", "work", "free", "status")}
    for line in sys.stdin:
        print(json.dumps(words[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
