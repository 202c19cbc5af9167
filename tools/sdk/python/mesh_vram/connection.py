"""The connection to the arbiter, and the one that is made when somebody first asks."""

import atexit
import ctypes
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from . import _library, errors
from ._library import byref, call
from .leases import HOW, Lease, Wanted
from .sizes import parse_size

LOG = logging.getLogger("mesh_vram")
KINDS = {"accounted": 0, "backed": 1, "shared": 2}
PRIORITIES = {"normal": 0, "critical": 1, "interactive": 2, "batch": 3}
REVOCABLE = {"release": 0, "never": 1, "trim": 2, "offload": 3, "kill": 4}
YIELD_LOOK_MS = 60_000


def _pick(what: str, known: dict[str, int], name: str) -> int:
    if name not in known:
        raise errors.Invalid(f"{name!r} is no {what}", "one of " + ", ".join(known), "argument")
    return known[name]


def _ms(seconds: float | None) -> int:
    """At least 1 for a time that is given: 0 stands for none."""
    return 0 if seconds is None else min(max(1, round(seconds * 1000)), 2**32 - 1)


def _pid(number: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
        raise errors.Invalid(f"{number!r} is no pid", "the number of a living process of this user", "argument")
    return number


class Connection:
    """A connection to one arbiter. Most programs need none of their own: lease() makes one.

    path    its socket; None: MESH_VRAM_SOCKET, or /run/mesh/gpu.leases
    client  what the operator sees; None: the program's name
    wait    seconds to try for; Unreachable if no arbiter answers

    close() releases all of its leases; so does the end of the program.
    """

    def __init__(self, path: str | os.PathLike | None = None, client: str | None = None, wait: float = 2.0) -> None:
        self._yields: threading.Thread | None = None
        error = _library.Error()
        name = (client if client is not None else Path(sys.argv[0]).stem or "python").encode()[:64]
        self._handle = call("connect", os.fsencode(path) if path is not None else None, name, _ms(wait), byref(error))
        if not self._handle:
            raise errors.of(error)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._leases: "weakref.WeakValueDictionary[str, Lease]" = weakref.WeakValueDictionary()
        OPEN.add(self)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Nobody is left who could be in a call, but for the thread that waits for yields.
    def __del__(self) -> None:
        if not getattr(self, "_handle", None) or self._pid != os.getpid():
            return
        self.close()
        if self._yields is threading.current_thread():
            return
        if self._yields is not None:
            self._yields.join()
        handle, self._handle = self._handle, None
        call("close", handle)

    def close(self) -> None:
        """Releases all of its leases; whoever waits gets Closed."""
        if self._pid == os.getpid():
            call("shut", self._handle)

    @property
    def gpus(self) -> dict[str, int]:
        """UUID → the largest lease it could grant if nobody held any."""
        found = (_library.Gpu * 32)()
        count = call("gpus", self._handle, found, len(found))
        return {each.uuid.decode(): each.largest_bytes for each in found[: min(count, len(found))]}

    @property
    def epoch(self) -> int:
        """Of the arbiter: another number after each restart."""
        return call("epoch", self._handle)

    def lease(self, model: str | None = None, want: int | str = 0, *, min: int | str | None = None,
              peak: int | str = 0, kind: str = "accounted", priority: str = "normal", revocable: str | None = None,
              wait: float | None = 30.0, ttl: float | None = None, hold: float | None = None,
              load: float | None = None, layout: str | None = None, gpu: str | None = None, gpus: int = 1,
              ticket: str | None = None, pid: int = 0, on_yield: Callable | None = None) -> Lease:
        """Waits until memory is granted.

        model      what will be loaded; the same text is the same to all agents
        want       size; it would like that much …
        min        … and can live on that (as much as want, if not given)
        peak       while loading, until lease.commit()
        kind       "accounted": your framework allocates. "backed": the arbiter hands out memory, see Lease.memory() and
                   Lease.chunks(). "shared": see shared()
        priority   "critical", "interactive", "normal" or "batch"
        revocable  how far it goes when others need it: "never", "trim", "offload", "release", or "kill" (this process may
                   be ended). "release" with on_yield, otherwise "never"
        wait       seconds to wait, then TimedOut; None: as long as the arbiter lets anybody wait (5 minutes)
        ttl        seconds after which it is asked to yield unless renewed
        hold       seconds it expects to need it: short ones may pass others in the queue
        load       seconds it takes to load again: what is costly to load stays longer
        gpu, gpus  the UUID of the only one that will do; on how many at once
        ticket     Lease.id of one that was offloaded and comes back to its place in the queue
        pid        for who leases for others, accounted only: the process of this user that will use the memory. What it
                   uses is held against the lease, which is lost when it ends; 0: this process
        on_yield   on_yield(lease, wanted) when others need it, see help(mesh_vram)
        """
        agreed = revocable or ("release" if on_yield else "never")
        request = _library.Request(
            struct_bytes=ctypes.sizeof(_library.Request), kind=_pick("kind", KINDS, kind),
            priority=_pick("priority", PRIORITIES, priority), revocability=_pick("revocability", REVOCABLE, agreed),
            min_bytes=parse_size(min) if min is not None else 0, want_bytes=parse_size(want),
            peak_bytes=parse_size(peak), wait_ms=_ms(wait), hold_hint_ms=_ms(hold), ttl_ms=_ms(ttl), load_ms=_ms(load),
            model=model.encode() if model else None, layout=layout.encode() if layout else None,
            gpu=gpu.encode() if gpu else None, gpu_count=gpus, ticket=ticket.encode() if ticket else None,
            pid=_pid(pid))
        error = _library.Error()
        handle = call("acquire", self._handle, byref(request), byref(error))
        if not handle:
            raise errors.of(error)
        made = Lease(self, handle, model, on_yield)
        made._is_writable = kind == "backed" or made.is_writer
        with self._lock:
            self._leases[made.id] = made
            if self._yields is None:
                self._yields = threading.Thread(target=_pass_on_yields, args=(weakref.ref(self), self._handle),
                                                name="mesh_vram yields", daemon=True)
                self._yields.start()
        return made

    def shared(self, model: str, want: int | str, fill: Callable[[memoryview], object] | None = None, **more) -> Lease:
        """Weights that all agents of this host have once. Read-only, in Lease.memory().

        Who is first gets memory to write: fill(memory) is called with it, then it is sealed. All others wait until then.
        If fill raises, the next who waits is first. Without fill: Lease.is_writer says who has to write and seal.
        On a card, where memory() is Unsupported, fill is called with the lease itself.
        `model` should change with the content: put its hash in it. More: as of lease(); all readers are asked to yield
        (on_yield) or none, and none while one of them is not revocable.
        """
        made = self.lease(model, want, kind="shared", **more)
        if made.is_writer and fill is not None:
            try:
                try:
                    fill(made.memory())
                except errors.Unsupported:
                    fill(made)
                made.seal()
                made._is_writable = False
            except BaseException:
                made.release()
                raise
        return made


def _pass_on_yields(connection: "weakref.ref[Connection]", handle: int) -> None:
    found = _library.Yield()
    while connection() is not None and (got := call("next_yield", handle, YIELD_LOOK_MS, byref(found))) >= 0:
        held = connection()
        lease = held._leases.get(found.lease.decode()) if held and got else None
        if lease is None:
            continue
        wanted = Wanted(HOW[found.how], found.bytes, found.within_ms / 1000)
        try:
            freed = lease._asked(wanted)
            if freed is not None and lease.bytes > 0:
                lease.give_back(freed)
        except Exception:
            LOG.exception("on_yield of %r failed; it keeps its memory", lease)
            try:
                lease.give_back(0)
            except errors.VramError:
                pass
        del held, lease


OPEN: "weakref.WeakSet[Connection]" = weakref.WeakSet()
_default: Connection | None = None
_default_lock = threading.Lock()


def _connection() -> Connection:
    global _default
    with _default_lock:
        if _default is None:
            _default = Connection()
        return _default


def lease(model: str | None = None, want: int | str = 0, **more) -> Lease:
    return _connection().lease(model, want, **more)


def shared(model: str, want: int | str, fill: Callable[[memoryview], object] | None = None, **more) -> Lease:
    return _connection().shared(model, want, fill, **more)


lease.__doc__, shared.__doc__ = Connection.lease.__doc__, Connection.shared.__doc__


def close() -> None:
    """Releases all leases of lease() and shared(), and closes their connection. The next lease() opens another."""
    global _default
    with _default_lock:
        made, _default = _default, None
    if made:
        made.close()


def _close_all() -> None:
    for each in list(OPEN):
        each.close()


def _after_fork() -> None:
    """The child has no threads of the parent, and none of its leases."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()
    OPEN.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
