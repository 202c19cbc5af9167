"""Memory of this host's GPUs, leased before it is used, so that no agent runs into another's out-of-memory error.

    import mesh_vram as vram

    with vram.lease("llama3-8b", want="6GiB", priority="interactive") as lease:
        model = load_model()                # your framework allocates, the lease is its budget
        with lease.use():                   # who is computing is asked last
            model.generate(...)
                                            # leaving the block gives it back

Sizes are bytes as an int or a text ("6GiB", "512 MiB", "4.5G"; K, M, G and T are powers of 1024). Times are seconds.

Give back when others need it. The callback runs on a thread of this module:

    def on_yield(lease, wanted):            # wanted.bytes, wanted.how, wanted.within
        model.unload()
        return wanted.bytes                 # so much is free now; 0 or False: no; None: later, with lease.give_back()

    lease = vram.lease("llama3-8b", want="6GiB", on_yield=on_yield)

One copy of the weights for all agents of this host: the first fills it, the others get it when it is full.

    with vram.shared("llama3-8b@sha256:9f…", want="4.7GiB", fill=read_weights_into) as weights:
        table = numpy.frombuffer(weights.memory(), dtype="uint8")    # read-only

lease() raises TooLarge, TimedOut, Busy, Policed, Unreachable, …: all are VramError, and say what to do. When the arbiter is
restarted nothing happens but that calls take longer. Everything may be called from several threads.

The arbiter's socket is MESH_VRAM_SOCKET of the environment, or /run/mesh/gpu.leases; vram.Connection(path) is for others.
"""

from .connection import Connection, close, lease, shared
from .errors import (Busy, Closed, Internal, Invalid, Lost, NoMemory, Policed, TimedOut, TooLarge, Unreachable, Unsupported,
                     VramError)
from .leases import Chunk, Lease, Wanted
from .sizes import parse_size

__all__ = ["Busy", "Chunk", "Closed", "Connection", "Internal", "Invalid", "Lease", "Lost", "NoMemory", "Policed", "TimedOut",
           "TooLarge", "Unreachable", "Unsupported", "VramError", "Wanted", "close", "lease", "parse_size", "shared"]
