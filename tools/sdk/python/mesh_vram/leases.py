"""A lease, and what can be done with it."""

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import _library, errors
from ._library import byref, call
from .sizes import parse_size

HOW = ("trim", "offload", "release")


class Wanted(NamedTuple):
    """What others need of a lease."""

    how: str  # "trim" (down to its minimum), "offload" (keep the content elsewhere), "release"
    bytes: int  # to be given back
    within: float  # seconds from now on


class Chunk(NamedTuple):
    """A piece of a backed or shared lease, in the order of addresses."""

    fd: int  # the lease's own, closed with it; for cuMemImportFromShareableHandle
    gpu: int  # position in Lease.gpus
    bytes: int


class Lease:
    """Memory that was granted. A context manager: leaving the block releases it.

    It is made by lease() and shared(). Several threads may use it.
    """

    def __init__(self, connection, handle: int, model: str | None, on_yield: Callable | None) -> None:
        self._connection = connection
        self._handle = handle
        self._lock = threading.RLock()
        self._mapped: dict[int, ctypes.Array] = {}
        self.model = model
        self.on_yield = on_yield
        self.id = call("id", handle).decode()  # 32 hexadecimal digits, as meshctl shows them
        count = call("gpu_count", handle)
        self.gpus = [call("gpu_uuid", handle, i).decode() for i in range(count)]
        self.is_writer = bool(call("is_writer", handle))
        self._is_writable = False

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.release()

    def __repr__(self) -> str:
        state = f"{self.bytes >> 20} MiB" if self._handle else "released"
        return f"<mesh_vram.Lease {self.model or self.id[:8]}: {state}>"

    def _order(self, name: str, *arguments) -> None:
        with self._lock:
            error = _library.Error()
            if call(name, self._held(), *arguments, byref(error)) != 0:
                raise errors.of(error)

    def _held(self) -> int:
        if not self._handle:
            raise errors.Closed("This lease was released", "acquire another", "closed")
        return self._handle

    @property
    def bytes(self) -> int:
        """On each GPU; 0 after release."""
        with self._lock:
            return call("bytes", self._handle) if self._handle else 0

    @property
    def is_lost(self) -> bool:
        """Whether it is not this process's any more; see Lost."""
        with self._lock:
            return bool(self._handle) and bool(call("is_lost", self._handle))

    def commit(self, size: int | str | None = None) -> int:
        """Loading is over, and so much is needed from now on (all of it by default); the rest goes back. Once. What is left.

        Until then it counts as in use, and others wait for longer before it is asked back."""
        self._order("commit", self.bytes if size is None else parse_size(size))
        return self.bytes

    def renew(self) -> None:
        """Its ttl begins anew."""
        self._order("renew")

    def live(self, size: int | str) -> None:
        """So much of it lives, the rest lies in the framework's allocator; the arbiter may ask for that."""
        self._order("live", parse_size(size))

    def seal(self) -> None:
        """Shared weights are written: readers get them, and nobody writes to them again (a view that could faults)."""
        self._order("seal")

    def give_back(self, size: int | str) -> int:
        """So much was freed, asked or not; 0: it will not be. Of shared weights all or nothing. What is left."""
        self._order("give_back", parse_size(size))
        return self.bytes

    @contextlib.contextmanager
    def use(self, *, breaks: bool = False) -> Iterator["Lease"]:
        """While in the block it computes, and is asked to yield only if nobody idle can.

        breaks  where the card is too hot, and the lease is normal or batch, wait before the block for up to 2 s
        """
        if breaks:
            self._order("begin")
        else:
            with self._lock:
                call("use", self._held(), 1)
        try:
            yield self
        finally:
            with self._lock:
                if self._handle:
                    call("use", self._handle, 0)

    def memory(self, gpu: int = 0) -> memoryview:
        """All of a backed or shared lease as bytes; read-only but for its writer. Unsupported on a card: see chunks().

        After release it holds zeros, so that a view that was forgotten does no harm.
        """
        with self._lock:
            address, size, error = ctypes.c_void_p(), ctypes.c_uint64(), _library.Error()
            if call("map", self._held(), gpu, byref(address), byref(size), byref(error)) != 0:
                raise errors.of(error)
            if gpu not in self._mapped:
                array = (ctypes.c_ubyte * size.value).from_address(address.value)
                # As soon as the lease is over and no view is left.
                weakref.finalize(array, call, "unmap", address.value, size.value).atexit = False
                self._mapped[gpu] = array
            view = memoryview(self._mapped[gpu]).cast("B")
            return view if self._is_writable else view.toreadonly()

    def chunks(self) -> list[Chunk]:
        """Descriptors of a backed or shared lease, to be imported by a card's driver."""
        with self._lock:
            count = call("chunks", self._held(), None, 0)
            found = (_library.Chunk * count)()
            call("chunks", self._handle, found, count)
            return [Chunk(each.descriptor, each.gpu, each.bytes) for each in found]

    def release(self) -> None:
        """Gives all of it back; nothing may compute with it any more. Again: does nothing. Never fails."""
        with self._lock:
            handle, self._handle = self._handle, 0
            if handle and self._connection._handle:  # which takes it along when both are collected, in either order
                call("release", handle)
            self._mapped.clear()

    def _asked(self, wanted: Wanted) -> int | None:
        return self.on_yield(self, wanted) if self.on_yield else 0
