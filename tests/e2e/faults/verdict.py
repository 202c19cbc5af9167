"""The join: what callers saw, against what agents executed, against what was broken meanwhile.

Like an accident report: each witness tells only what they saw, and no error is taken for granted. One that happened
while nothing was broken on its way, or long after it was mended, is a finding as much as a call that ran twice.
"""
from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

# On top of each promise: at the worst moment of a machine that is busy with something else, and for nearly all.
MACHINE_S = 1.0
NEARLY_ALL_S = 0.1
LATE_S = 0.050
RESUME_S = 3.0
FREED_S = 3.0
TOLD_S = {True: 1.0, False: 2.0}  # by whether the caller is on the host of what died
LATE, RESUMED, FREED = "late", "resumed", "freed"
TOLD = {True: "told near", False: "told far"}
PROMISED_S = {LATE: LATE_S, RESUMED: RESUME_S, FREED: FREED_S, TOLD[True]: TOLD_S[True], TOLD[False]: TOLD_S[False]}
# Who is answered sooner before the deadline was not answered because of it.
BY_DEADLINE_S = 0.050
# A caller's socket connects again to its restarted sidecar, and what it asked meanwhile leaves it then.
RECONNECT_S = 1.0

UNTOUCHED = {"NOT_SENT", "DRAINING", "OVERLOADED", "NO_ROUTE"}  # promise that the agent never saw the call
EXPECTED = {"OK", "DEADLINE", "NOT_SENT", "OUTCOME_UNKNOWN", "OVERLOADED"}
NOTHING = "NOTHING"
# An order has a key, and is executed once however often it is asked for; to look does no harm.
EXECUTIONS_MAX = {"look": 4}
DIED_IN_BETWEEN = "died_in_between"


@dataclass(frozen=True)
class Call:
    id: str
    host: str
    kind: str
    service: str
    sent: float
    ended: float | None  # None: the caller heard nothing
    result: str
    rule: str = ""  # of an error

    @property
    def subject(self) -> str:
        """What it asks for, again as "ID#2"."""
        return self.id.partition("#")[0]


@dataclass(frozen=True)
class Fault:
    """`who`: wire, sidecar-HOST or agent-SERVICE. `what`: cut (the wire), kill or stop. It ended when the wire was whole,
    the new process ready or the stopped one told to go on."""
    who: str
    what: str
    host: str
    began: float
    ended: float

    def touches(self, call: Call) -> bool:
        if self.who == "wire":
            return call.host == "a"
        if self.who.startswith("agent-"):
            return self.who == f"agent-{call.service}"
        return self.host in (call.host, "b")  # all agents are on b

    def is_own_sidecar(self, call: Call) -> bool:
        return self.who == f"sidecar-{call.host}"

    def was_during(self, call: Call, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        return call.sent <= self.ended + after_s and (call.ended is None or call.ended >= self.began - before_s)


FEW, MANY = 5, 20


@dataclass
class Verdict:
    findings: list[str] = field(default_factory=list)
    calls: int = 0
    ok: int = 0
    errors: Counter = field(default_factory=Counter)
    exempt: int = 0
    executed_twice: int = 0
    lost: int = 0
    # What was measured of each promise, by its name.
    measures: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PROMISED_S})
    early_s: float | None = None  # of what was answered in time: how narrowly, below 0

    def worst_s(self, name: str) -> float | None:
        return max(self.measures[name], default=self.early_s if name == LATE else None)

    def nearly_all_s(self, name: str) -> float | None:
        """95 of 100 are below it; of a few, half of them."""
        values = sorted(self.measures[name])
        if len(values) < FEW:
            return None
        return values[math.ceil((0.95 if len(values) >= MANY else 0.5) * len(values)) - 1]

    def find(self, text: str) -> None:
        if text not in self.findings:
            self.findings.append(text)


def judge(calls: list[Call], ledger: list[str], faults: list[Fault], budget_s: float) -> Verdict:
    """`calls` has one for each answer, `ledger` the id of each execution."""
    verdict = Verdict(calls=len({call.id for call in calls}))
    judge_ledger(verdict, calls, Counter(ledger))
    judge_answers(verdict, calls)
    judge_known(verdict, calls)
    attempts = defaultdict(list)
    for call in calls:
        attempts[call.subject].append(call)
    for call in calls:
        judge_error(verdict, call, attempts[call.subject], faults)
        judge_time(verdict, call, faults, budget_s)
    owed = [call for call in calls if not is_exempt(call, faults)]
    for fault in faults:
        judge_telling(verdict, owed, fault)
        judge_freeing(verdict, calls, fault, faults)
        judge_resuming(verdict, calls, fault, faults)
    judge_nearly_all(verdict)
    return verdict


def judge_ledger(verdict: Verdict, calls: list[Call], executed: Counter) -> None:
    services = {call.subject: call.service for call in calls}
    for name, times in executed.items():
        if times > EXECUTIONS_MAX.get(services.get(name, ""), 1):
            verdict.executed_twice += 1
            verdict.find(f"{name} was executed {times} times")
    for name in executed.keys() - services.keys():
        verdict.find(f"{name} was executed and nobody asked for it")
    attempts = Counter(call.subject for call in calls)
    for call in calls:
        # Of several attempts another one may have been executed.
        if call.result in UNTOUCHED and executed[call.subject] and attempts[call.subject] == 1:
            verdict.find(f"{told(call)} although it was executed")
        if call.result == "OK" and not executed[call.subject]:
            verdict.find(f"{told(call)} although it was not executed")


def judge_answers(verdict: Verdict, calls: list[Call]) -> None:
    for name, answers in Counter(call.id for call in calls).items():
        if answers > 1:
            verdict.find(f"{name} was answered {answers} times")
    for call in calls:
        if call.result not in EXPECTED | {NOTHING}:
            verdict.find(f"{told(call)}, which no fault here gives reason for")
        if call.result == "OK":
            verdict.ok += 1
        elif call.result != NOTHING:
            verdict.errors[call.result] += 1


def judge_known(verdict: Verdict, calls: list[Call]) -> None:
    """Whoever was told OK once is never told later that nobody knows."""
    known_at: dict[str, float] = {}
    for call in calls:
        if call.result == "OK":
            known_at[call.subject] = min(call.ended, known_at.get(call.subject, call.ended))
    for call in calls:
        if call.rule == DIED_IN_BETWEEN and call.sent > known_at.get(call.subject, math.inf):
            verdict.find(f"{told(call)} although {call.subject} had been answered")


def judge_error(verdict: Verdict, call: Call, attempts: list[Call], faults: list[Fault]) -> None:
    if call.result == "OK":
        return
    # That nobody knows what became of an earlier attempt was decided then.
    reasons = attempts if call.rule == DIED_IN_BETWEEN else [call]
    if not any(fault.touches(one) and fault.was_during(one, after_s=RESUME_S + MACHINE_S)
               for fault in faults for one in reasons):
        verdict.find(f"{told(call)} while nothing on its way was broken")


def is_exempt(call: Call, faults: list[Fault]) -> bool:
    """Its own sidecar was killed under it, and may owe it nothing."""
    return any(fault.what == "kill" and fault.is_own_sidecar(call) and fault.was_during(call, after_s=RECONNECT_S)
               for fault in faults)


def judge_time(verdict: Verdict, call: Call, faults: list[Fault], budget_s: float) -> None:
    if is_exempt(call, faults):
        verdict.exempt += 1
        return
    if call.ended is None:
        verdict.lost += 1
        verdict.find(f"{call.id} ({call.kind}, {call.service}) never got an answer")
        return
    late_s = call.ended - max([call.sent + budget_s, *excused_until(call, faults, budget_s)])
    verdict.early_s = late_s if verdict.early_s is None else max(verdict.early_s, late_s)
    if late_s > -BY_DEADLINE_S:
        verdict.measures[LATE].append(late_s)
    if late_s > LATE_S + MACHINE_S:
        verdict.find(f"{told(call)} {1000 * late_s:.0f} ms after its deadline")


def excused_until(call: Call, faults: list[Fault], budget_s: float) -> list[float]:
    """Who is stopped answers nobody until it goes on, and has only then accepted what it was asked meanwhile."""
    return [fault.ended + (budget_s if call.sent >= fault.began else 0.0) for fault in faults
            if fault.what == "stop" and fault.is_own_sidecar(call) and fault.was_during(call)]


def judge_telling(verdict: Verdict, calls: list[Call], fault: Fault) -> None:
    if fault.what != "kill":
        return
    for call in calls:
        if call.ended is None or call.result == "OK" or not fault.touches(call):
            continue
        if not (call.sent < fault.ended and call.ended > fault.began):
            continue
        told_s, is_near = call.ended - max(fault.began, call.sent), call.host == fault.host
        verdict.measures[TOLD[is_near]].append(told_s)
        if told_s > TOLD_S[is_near] + MACHINE_S:
            verdict.find(f"{told(call)} {1000 * told_s:.0f} ms after {fault.who} was killed")


def judge_freeing(verdict: Verdict, calls: list[Call], fault: Fault, faults: list[Fault]) -> None:
    if fault.what != "kill":
        return
    for call in calls:
        waits = call.sent < fault.began and (call.ended is None or call.ended > fault.began)
        if not waits or call.kind == "dealer" or not fault.is_own_sidecar(call):
            continue
        own = [other for other in faults if other.is_own_sidecar(call)]
        if is_disturbed(fault, own, call.ended, FREED_S + MACHINE_S):
            continue
        if call.ended is None:
            verdict.find(f"{call.id} ({call.kind}, {call.service}) waited for good for a sidecar that came back")
            continue
        freed_s = call.ended - fault.ended
        verdict.measures[FREED].append(freed_s)
        if freed_s > FREED_S + MACHINE_S:
            verdict.find(f"{told(call)} {1000 * freed_s:.0f} ms after its sidecar came back")


def judge_resuming(verdict: Verdict, calls: list[Call], fault: Fault, faults: list[Fault]) -> None:
    routes = {(call.host, call.service): call for call in calls if fault.touches(call)}
    for route, one in sorted(routes.items()):
        good = [call.ended for call in calls
                if (call.host, call.service) == route and call.result == "OK" and call.ended > fault.ended]
        resumed_at = min(good, default=None)
        on_its_way = [other for other in faults if other.touches(one)]
        if is_disturbed(fault, on_its_way, resumed_at, RESUME_S + MACHINE_S):
            continue
        resumed_s = float("inf") if resumed_at is None else resumed_at - fault.ended
        verdict.measures[RESUMED].append(resumed_s)
        if resumed_s > RESUME_S + MACHINE_S:
            verdict.find(f"{route[0]} was served by {route[1]} only {resumed_s:.1f} s after {fault.who} was back")


def judge_nearly_all(verdict: Verdict) -> None:
    """One may be late because the machine was busy; when most are, it is the mesh."""
    for name, promised_s in PROMISED_S.items():
        seconds = verdict.nearly_all_s(name)
        if seconds is not None and seconds > promised_s + NEARLY_ALL_S:
            verdict.find(f"{name}: nearly all took up to {1000 * seconds:.0f} ms, promised are {1000 * promised_s:.0f}")


def is_disturbed(fault: Fault, others: list[Fault], came_at: float | None, due_s: float) -> bool:
    """What had to come after the fault did not come before the next one, and that began before it was due."""
    return any(fault.ended <= other.began < fault.ended + due_s and (came_at is None or came_at > other.began)
               for other in others)


def told(call: Call) -> str:
    return f"{call.id} ({call.kind}, {call.service}) got {call.result}"
