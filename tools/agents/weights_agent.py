#!/usr/bin/env python3
"""An agent that computes with weights of a file: its own copy of them, or the one that all agents of this host share.

It is told what to do on stdin, a word a line, and answers each with a line of JSON:

  own       reads the file
  shared    gets the shared copy, and fills it if it is the first; with --key, which all must name alike
  compute   multiplies the matrix with a vector; the digest of the product is the same whoever computes it
  drop      forgets its weights
"""
import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy

COLUMNS = 4096


class WeightsAgent:
    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key
        self.size = file.stat().st_size
        self.filled = False
        self.lease = self.matrix = None

    def read_into(self, memory: memoryview) -> None:
        with open(self.file, "rb", buffering=0) as file:
            done = 0
            while done < self.size:
                done += file.readinto(memory[done:self.size])
        self.filled = True

    def own(self) -> dict:
        memory = memoryview(bytearray(self.size))
        self.read_into(memory)
        return self.use(memory)

    def shared(self) -> dict:
        import mesh_vram
        self.filled = False
        self.lease = mesh_vram.shared(self.key, self.size, fill=self.read_into, revocable="never")
        return self.use(self.lease.memory())

    def use(self, memory: memoryview) -> dict:
        self.matrix = numpy.frombuffer(memory, dtype=numpy.float32, count=self.size // 4).reshape(-1, COLUMNS)
        return {"filled": self.filled, "read_only": not self.matrix.flags.writeable}

    def compute(self) -> dict:
        vector = numpy.cos(numpy.arange(COLUMNS, dtype=numpy.float32))
        product = self.matrix @ vector
        return {"digest": hashlib.sha256(product.tobytes()).hexdigest(), "norm": float(numpy.linalg.norm(product))}

    def drop(self) -> dict:
        self.matrix = None
        if self.lease is not None:
            self.lease.release()
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a file of float32, a multiple of 16 KiB")
    parser.add_argument("--key", default="weights", help="of the shared copy; should change with the file")
    options = parser.parse_args()
    agent = WeightsAgent(options.weights, options.key)
    words = {name: getattr(agent, name) for name in ("own", "shared", "compute", "drop")}
    for line in sys.stdin:
        print(json.dumps(words[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
