"""callers.py PLAN: callers on one host, all in one loop, each of which writes down what it saw.

PLAN is JSON: host, run (makes ids unique), seed, ports (service → endpoint), budget_s, seconds_max, results (a file),
and how many callers of each kind there are for each service. A line on stdin, or seconds_max, ends the asking; what is
open is waited for. One line a call in the results: id, host, kind, service, sent, ended, result, rule, and a second one
where a call was answered again.

An order of the service pay is asked for again, with the same key and as "ID#2", until it is known what became of it, and
now and then when it is known.
"""
from __future__ import annotations

import json
import random
import select
import sys
import time

import zmq

# After its deadline. A REQ whose sidecar died and came back is freed within 3 s; a stopped one answers when it goes on.
PATIENCE_SECONDS = 8.0
THINK_SECONDS = (0.02, 0.08)
DEALER_WINDOW = 4
# Past the deadline. Nobody answers what a DEALER asked a sidecar that died: it must not fill the window for good, and is
# not waited for at the end.
DEALER_WINDOW_SECONDS = 1.5
LONG_WORK_MS = 300
NOTHING, GARBLED = "NOTHING", "GARBLED"
KEYED = "pay"
ATTEMPTS_MAX = 20
KNOWN_AGAIN = 0.2  # how often an order that is known is asked for again, of all
DIED_IN_BETWEEN = "died_in_between"  # nobody will ever know


class Book:
    """What was seen, and what there is to ask."""

    def __init__(self, plan: dict) -> None:
        self.plan = plan
        self.random = random.Random(plan["seed"])
        self.file = open(plan["results"], "a", buffering=1, encoding="utf-8")
        self.asked = 0
        self.is_asking = True
        self.unknown: list[dict] = []  # orders to ask for again
        self.known: list[dict] = []
        self.attempts: dict[str, int] = {}

    def ask(self, service: str) -> tuple[str, dict]:
        """The name of the next call, and what it asks for."""
        order = self.order_again() if service == KEYED else None
        request = order or self.request(service)
        name = request["id"]
        if service == KEYED:
            attempt = self.attempts[name] = self.attempts.get(name, 0) + 1
            name += f"#{attempt}" if attempt > 1 else ""
        return name, request

    def order_again(self) -> dict | None:
        if self.unknown:
            return self.unknown.pop(0)
        return self.random.choice(self.known) if self.known and self.random.random() < KNOWN_AGAIN else None

    def take_notice(self, order: dict, result: str, rule: str) -> None:
        attempts = self.attempts[order["id"]]
        if result == "OK":
            if attempts == 1:
                self.known.append(order)
        elif rule != DIED_IN_BETWEEN and attempts < ATTEMPTS_MAX:
            self.unknown.append(order)

    def request(self, service: str) -> dict:
        """Mostly small; what is large takes its time on a narrow wire, also compressed."""
        self.asked += 1
        chance = self.random.random()
        size = 150_000 if chance > 0.99 else 20_000 if chance > 0.97 else self.random.choice((0, 30, 300, 2000))
        long_one = service == "router" and self.random.random() < 0.25
        return {"id": f"{self.plan['run']}/{self.plan['host']}/{self.asked}", "pad": self.random.randbytes(size // 2).hex(),
                "work_ms": LONG_WORK_MS if long_one else self.random.choice((0, 0, 1, 3))}

    def write(self, call: dict, result: str, rule: str = "") -> None:
        ended = None if result == NOTHING else time.monotonic()
        line = {**call, "host": self.plan["host"], "ended": ended, "result": result, "rule": rule}
        self.file.write(json.dumps(line) + "\n")


def result_of(reply: bytes, call: dict) -> tuple[str, str]:
    """OK, the code of an error, or GARBLED for what answers no request of ours; and by which rule."""
    try:
        said = json.loads(reply)
        if "code" in said:
            return str(said["code"]), str(said["mesh"]["rule"])
        return ("OK" if said["id"] == call["id"].partition("#")[0] else GARBLED), ""
    except (ValueError, KeyError, TypeError):
        return GARBLED, ""


class Caller:
    kind = ""

    def __init__(self, book: Book, service: str) -> None:
        self.book, self.service = book, service
        self.endpoint = book.plan["ports"][service]
        self.open: dict[str, dict] = {}
        self.orders: dict[str, dict] = {}  # of open calls with a key
        self.next_at = time.monotonic() + book.random.uniform(0, THINK_SECONDS[1])

    def connect(self, kind: int) -> None:
        self.socket = zmq.Context.instance().socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(self.endpoint)

    def begin(self, now: float) -> tuple[dict, bytes]:
        name, request = self.book.ask(self.service)
        call = {"id": name, "kind": self.kind, "service": self.service, "sent": now}
        self.open[name] = call
        if self.service == KEYED:
            self.orders[name] = request
        self.think(now)
        return call, json.dumps(request).encode()

    def end(self, call: dict, result: str, rule: str = "") -> None:
        self.book.write(call, result, rule)
        if order := self.orders.pop(call["id"], None):
            self.book.take_notice(order, result, rule)

    def think(self, now: float) -> None:
        self.next_at = now + self.book.random.uniform(*THINK_SECONDS)

    def may_ask(self, now: float) -> bool:
        return now >= self.next_at and not self.open

    def patience_s(self) -> float:
        return PATIENCE_SECONDS

    def is_hopeless(self, call: dict, now: float) -> bool:
        return now > call["sent"] + self.book.plan["budget_s"] + self.patience_s()

    def give_up(self, now: float) -> None:
        for call in [one for one in self.open.values() if self.is_hopeless(one, now)]:
            del self.open[call["id"]]
            self.end(call, NOTHING)
            self.after_nothing()

    def after_nothing(self) -> None:
        raise NotImplementedError

    def ask(self, now: float) -> None:
        raise NotImplementedError

    def hear(self, now: float) -> None:
        raise NotImplementedError


class Faithful(Caller):
    """Keeps its REQ socket; a new one only when it got no answer at all."""
    kind = "faithful"

    def __init__(self, book: Book, service: str) -> None:
        super().__init__(book, service)
        self.connect(zmq.REQ)

    def ask(self, now: float) -> None:
        self.socket.send(self.begin(now)[1])

    def hear(self, now: float) -> None:
        reply = self.socket.recv()
        _, call = self.open.popitem()
        self.end(call, *result_of(reply, call))
        self.think(now)

    def after_nothing(self) -> None:
        self.socket.close()
        self.connect(zmq.REQ)


class Fresh(Faithful):
    """A new REQ socket for each call, as most agents do."""
    kind = "fresh"

    def ask(self, now: float) -> None:
        self.socket.close()
        self.connect(zmq.REQ)
        super().ask(now)


class Dealer(Caller):
    """Several calls at once on one connection, told apart by the frame before the delimiter."""
    kind = "dealer"

    def __init__(self, book: Book, service: str) -> None:
        super().__init__(book, service)
        self.connect(zmq.DEALER)
        self.ended: dict[str, dict] = {}

    def patience_s(self) -> float:
        return super().patience_s() if self.book.is_asking else DEALER_WINDOW_SECONDS

    def may_ask(self, now: float) -> bool:
        young_since = now - self.book.plan["budget_s"] - DEALER_WINDOW_SECONDS
        return now >= self.next_at and sum(call["sent"] > young_since for call in self.open.values()) < DEALER_WINDOW

    def ask(self, now: float) -> None:
        call, body = self.begin(now)
        self.socket.send_multipart([call["id"].encode(), b"", body])

    def hear(self, now: float) -> None:
        frames = self.socket.recv_multipart()
        name = frames[0].decode(errors="replace")
        call = self.open.pop(name, None)
        if call is None:  # a second answer, or one to a question never asked
            call = self.ended.get(name, {"id": name, "kind": self.kind, "service": self.service, "sent": now})
        self.ended[name] = call
        self.end(call, *result_of(frames[-1], call))

    def after_nothing(self) -> None:
        pass


KINDS = {one.kind: one for one in (Faithful, Fresh, Dealer)}


def turn(callers: list[Caller], is_asking: bool) -> None:
    poller = zmq.Poller()
    owners = {caller.socket: caller for caller in callers}
    for one in owners:
        poller.register(one, zmq.POLLIN)
    now = time.monotonic()
    wakes = [caller.next_at for caller in callers if is_asking]
    wait_ms = max(0, min(10.0, 1000 * (min(wakes, default=now + 1) - now)))
    for ready, _ in poller.poll(wait_ms):
        owners[ready].hear(time.monotonic())
    for caller in callers:
        now = time.monotonic()
        caller.give_up(now)
        if is_asking and caller.may_ask(now):
            caller.ask(now)


def main() -> None:
    book = Book(json.loads(sys.argv[1]))
    callers = [KINDS[kind](book, service) for service, kinds in book.plan["callers"].items()
               for kind, count in kinds.items() for _ in range(count)]
    print("ready", flush=True)
    end = time.monotonic() + book.plan["seconds_max"]
    while book.is_asking or any(caller.open for caller in callers):
        if time.monotonic() > end or select.select([sys.stdin], [], [], 0)[0]:
            book.is_asking = False
        turn(callers, book.is_asking)


if __name__ == "__main__":
    main()
