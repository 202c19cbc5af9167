"""The lease dialect that agents speak already, on a port: AcquireGpuLease and ReleaseGpuLease as JSON over REQ/REP.

usage: python3 -m mesh_vram.lease_port [--listen tcp://127.0.0.1:7155] [--arbiter PATH] [--wait SECONDS] [--ttl SECONDS]

    {"action": "AcquireGpuLease", "client": "tts", "model_name": "xtts", "vram_estimate_mb": 2048, "priority": 1,
     "ttl_seconds": 60, "pid": 4711}
 →  {"status": "success", "granted": true, "lease_id": "9f…", "vram_reserved_mb": 2048, "reason": "", "retry_after_ms": 0}
    {"action": "ReleaseGpuLease", "lease_id": "9f…"}   →   {"status": "success", "success": true}
    {"action": "RenewGpuLease", "lease_id": "9f…"}     its ttl begins anew

{"command": …, "payload": {…}} is answered alike, with SUCCESS or ERROR and the fields in the payload. Without an action the
fields say what is meant. priority 1 is critical, 2 interactive, 3 normal, 4 and more batch.

pid, or process_id, is optional: of the client's process, as this computer counts them and of the user of this port. What
that process uses is then held against its leases, and they end with it; without, it shows as a stranger's, beside them.

What cannot be granted within --wait is answered with granted: false, a reason, and when to try again (0: never). A lease
that is not released or renewed within its ttl_seconds (--ttl if it names none) is given back: memory that its client still
uses is not granted to anybody before it is free. Nobody is asked to yield here, since this dialect has no
word for it: agents that use `mesh_vram` itself are asked, and served, better.
"""

import argparse
import json
import math
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import zmq

from . import errors
from .connection import Connection
from .leases import Lease

PRIORITIES = {1: "critical", 2: "interactive", 3: "normal"}
MIB = 1 << 20
WORKERS = 32
REQUEST_BYTES_MAX = 64 * 1024
OPEN_MAX = 1024  # requests that wait; a client has one
RETRY_MS = {errors.TooLarge: 0, errors.Invalid: 0, errors.Unsupported: 0, errors.Unreachable: 2000}


def priority_of(number: object) -> str:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return "normal"
    return PRIORITIES.get(number, "batch")


def pid_of(fields: dict) -> int | None:
    """0 where none is named; None for what is no pid."""
    named = [fields[key] for key in ("pid", "process_id") if fields.get(key) is not None]
    is_one = all(type(each) is int and 0 <= each < 2**31 and each == named[0] for each in named)
    return (named[0] if named else 0) if is_one else None


class Leases:
    """What was granted through this port, and until when. Used by several threads."""

    def __init__(self, arbiter: str | None, wait: float, ttl: float) -> None:
        self.connection = Connection(arbiter, client="lease_port", wait=10)
        self.wait, self.ttl = wait, ttl
        self.lock = threading.Lock()
        self.held: dict[str, tuple[Lease, float, float]] = {}  # id → lease, ttl, until when

    def acquire(self, fields: dict) -> dict:
        refusal = {"granted": False, "lease_id": "", "vram_reserved_mb": 0}
        size, ttl = fields.get("vram_estimate_mb"), fields.get("ttl_seconds") or self.ttl
        if not all(isinstance(each, (int, float)) and math.isfinite(each) and 0 < each < 1e9 for each in (size, ttl)):
            return refusal | {"reason": "vram_estimate_mb and ttl_seconds are numbers above 0", "retry_after_ms": 0}
        pid = pid_of(fields)
        if pid is None:
            return refusal | {"reason": "pid is the number of a process, above 0", "retry_after_ms": 0}
        try:
            lease = self.connection.lease(str(fields.get("model_name") or "") or None, math.ceil(size * MIB), wait=self.wait,
                                          priority=priority_of(fields.get("priority", 3)), pid=pid)
        except errors.VramError as error:
            return refusal | {"reason": str(error), "retry_after_ms": RETRY_MS.get(type(error), 1000)}
        with self.lock:
            self.held[lease.id] = lease, ttl, time.monotonic() + ttl
        return {"granted": True, "lease_id": lease.id, "vram_reserved_mb": lease.bytes // MIB, "reason": "", "retry_after_ms": 0}

    def release(self, fields: dict) -> dict:
        with self.lock:
            lease, *_ = self.held.pop(str(fields.get("lease_id")), (None,))
        if lease is None:
            return {"success": False, "reason": "There is no such lease: released before, or its ttl was over"}
        lease.release()
        return {"success": True}

    def renew(self, fields: dict) -> dict:
        with self.lock:
            name = str(fields.get("lease_id"))
            if name not in self.held:
                return {"success": False, "reason": "There is no such lease: released before, or its ttl was over"}
            lease, ttl, _ = self.held[name]
            self.held[name] = lease, ttl, time.monotonic() + ttl
        try:
            lease.renew()
        except (errors.Lost, errors.Closed):
            with self.lock:
                self.held.pop(name, None)
            return {"success": False, "reason": "There is no such lease: the process that it was for has ended"}
        except errors.VramError:
            pass  # the arbiter is away; the lease is held all the same
        return {"success": True}

    def expire(self) -> None:
        now = time.monotonic()
        with self.lock:
            over = [name for name, (_, _, until) in self.held.items() if until <= now]
            leases = [self.held.pop(name)[0] for name in over]
        for lease in leases:
            lease.release()


def answer(leases: Leases, body: bytes) -> dict:
    """Never raises: whatever comes in is answered in the dialect it was asked in."""
    try:
        request = json.loads(body) if len(body) <= REQUEST_BYTES_MAX else None
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return {"status": "error", "error": "This is no JSON object", "message": "This is no JSON object", "granted": False}
    has_payload = "command" in request
    fields = request.get("payload") if has_payload else request
    fields = fields if isinstance(fields, dict) else {}
    action = request.get("command") or request.get("action") or request.get("type") or \
        ("AcquireGpuLease" if "vram_estimate_mb" in fields else "ReleaseGpuLease" if "lease_id" in fields else "")
    known = {"acquiregpulease": leases.acquire, "releasegpulease": leases.release, "renewgpulease": leases.renew,
             "ping": lambda _: {"success": True}, "healthcheck": lambda _: {"success": True}}
    what = known.get(str(action).lower().replace("_", ""))
    told = what(fields) if what else {"success": False, "reason": f"Unknown action: {str(action)[:64]}"}
    good = bool(told.get("granted", told.get("success")))
    if not good:
        told |= {"error": told["reason"], "message": told["reason"]}
    if has_payload:
        return {"status": "SUCCESS" if good else "ERROR", "message": told.get("message", ""), "payload": told}
    return {"status": "success" if good else "error"} | told


class Port:
    """A ROUTER that is a REP to each client: a request that waits for memory holds nobody else up."""

    def __init__(self, leases: Leases, endpoint: str) -> None:
        self.leases = leases
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        self.router.bind(endpoint)
        self.wake_in = self.context.socket(zmq.PAIR)
        self.wake_in.bind("inproc://answered")
        self.wake_out = self.context.socket(zmq.PAIR)
        self.wake_out.connect("inproc://answered")
        self.wake_lock = threading.Lock()
        self.answered: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self.open = 0
        self.workers = ThreadPoolExecutor(WORKERS)

    @property
    def endpoint(self) -> str:
        return self.router.getsockopt_string(zmq.LAST_ENDPOINT)

    def work(self, envelope: list[bytes], body: bytes) -> None:
        try:
            told = answer(self.leases, body)
        except Exception as error:  # a client that gets no answer is stuck for good
            told = {"status": "error", "error": str(error), "message": str(error), "granted": False}
        self.answered.put([*envelope, json.dumps(told).encode()])
        with self.wake_lock:
            self.wake_out.send(b"")

    def take(self) -> None:
        *envelope, body = self.router.recv_multipart()
        if self.open >= OPEN_MAX:
            told = {"status": "error", "granted": False, "reason": "Too many wait", "retry_after_ms": 1000}
            self.router.send_multipart([*envelope, json.dumps(told).encode()])
            return
        self.open += 1
        self.workers.submit(self.work, envelope, body)

    def run(self, stop: threading.Event) -> None:
        poller = zmq.Poller()
        poller.register(self.router, zmq.POLLIN)
        poller.register(self.wake_in, zmq.POLLIN)
        while not stop.is_set():
            ready = dict(poller.poll(100))
            if self.wake_in in ready:
                self.wake_in.recv()
                self.open -= 1
                self.router.send_multipart(self.answered.get())
            if self.router in ready:
                self.take()
            self.leases.expire()
        self.leases.connection.close()
        self.workers.shutdown(cancel_futures=True)
        self.context.destroy(linger=0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m mesh_vram.lease_port", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="tcp://127.0.0.1:7155", metavar="ENDPOINT")
    parser.add_argument("--arbiter", metavar="PATH", help="its socket; MESH_VRAM_SOCKET or /run/mesh/gpu.leases if not given")
    parser.add_argument("--wait", type=float, default=1.0, metavar="SECONDS", help="for memory, before granted: false (1)")
    parser.add_argument("--ttl", type=float, default=300.0, metavar="SECONDS", help="of a lease that names none (300)")
    options = parser.parse_args()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        port = Port(Leases(options.arbiter, options.wait, options.ttl), options.listen)
    except (errors.VramError, zmq.ZMQError) as error:
        print(f"lease_port: {error}", file=sys.stderr)
        return 69
    print(f"listening on {port.endpoint}", flush=True)
    port.run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
