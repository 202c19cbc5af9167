"""Made-up witnesses, each with one lie or one mishap in what they tell, and the verdict finds it."""
from __future__ import annotations

import unittest
from dataclasses import replace

from verdict import DIED_IN_BETWEEN, FREED, LATE, RESUMED, TOLD, Call, Fault, judge

BUDGET_S = 2.0
CUT = Fault("wire", "cut", "a", began=10, ended=14)
AGENT_KILL = Fault("agent-rep", "kill", "b", began=10, ended=11)
CALLEE_KILL = Fault("sidecar-b", "kill", "b", began=10, ended=11)
CALLER_KILL = Fault("sidecar-a", "kill", "a", began=10, ended=11)
CALLER_STOP = Fault("sidecar-a", "stop", "a", began=10, ended=15)


def call(name: str = "one", sent: float = 10.5, ended: float | None = 11.0, result: str = "OK", *, host: str = "a",
         kind: str = "faithful", service: str = "rep") -> Call:
    return Call(name, host, kind, service, sent, ended, result)


BEFORE = call("before", 5.0, 5.1)
AFTER = [call(f"after{at}", at, at + 0.1) for at in (12.5, 14.5, 15.5)]


class TheVerdict(unittest.TestCase):
    def judge(self, *calls: Call, executed: str = "", faults: list[Fault] | None = None):
        """BEFORE and AFTER are told with the rest, since there is no run without calls that go well."""
        well = [BEFORE, *AFTER]
        return judge([*calls, *well], [one.id for one in well] + executed.split(), faults or [], BUDGET_S)

    def assert_finds(self, text: str, *calls: Call, executed: str = "", faults: list[Fault] | None = None) -> None:
        findings = self.judge(*calls, executed=executed, faults=faults).findings
        self.assertTrue(any(text in one for one in findings), findings)

    def assert_clean(self, *calls: Call, executed: str = "", faults: list[Fault] | None = None):
        verdict = self.judge(*calls, executed=executed, faults=faults)
        self.assertEqual(verdict.findings, [])
        return verdict

    def test_a_run_in_which_all_went_well_is_clean(self) -> None:
        verdict = self.assert_clean(call(), executed="one")
        self.assertEqual((verdict.calls, verdict.ok, verdict.lost, verdict.executed_twice), (5, 5, 0, 0))

    def test_an_error_that_a_fault_explains_is_clean(self) -> None:
        verdict = self.assert_clean(call(result="OUTCOME_UNKNOWN"), call("two", result="NOT_SENT"), executed="one",
                                    faults=[CUT])
        self.assertEqual(verdict.errors, {"OUTCOME_UNKNOWN": 1, "NOT_SENT": 1})

    def test_a_second_execution_is_found_whatever_the_caller_was_told(self) -> None:
        for result in ("OK", "OUTCOME_UNKNOWN", "DEADLINE"):
            self.assert_finds("executed 2 times", call(result=result), executed="one one", faults=[CUT])
        self.assertEqual(self.judge(call(), executed="one one", faults=[CUT]).executed_twice, 1)

    def test_a_second_execution_of_an_exempt_call_is_found(self) -> None:
        self.assert_finds("executed 2 times", call(sent=9.0, ended=13.0, result="OUTCOME_UNKNOWN"), executed="one one",
                          faults=[CALLER_KILL])

    def test_codes_that_promise_an_untouched_agent_are_lies_about_an_executed_call(self) -> None:
        for code in ("NOT_SENT", "OVERLOADED", "DRAINING", "NO_ROUTE"):
            self.assert_finds("although it was executed", call(result=code), executed="one", faults=[CUT])

    def test_ok_without_an_execution_is_found(self) -> None:
        self.assert_finds("not executed", call())

    def test_a_reply_that_belongs_to_another_request_is_found(self) -> None:
        self.assert_finds("GARBLED", call(result="GARBLED"), executed="one", faults=[CUT])

    def test_a_second_answer_is_found(self) -> None:
        self.assert_finds("answered 2 times", call(), call(ended=11.5, result="DEADLINE"), executed="one", faults=[CUT])

    def test_an_execution_that_nobody_asked_for_is_found(self) -> None:
        self.assert_finds("nobody asked", executed="stranger")

    def test_a_code_that_has_no_business_here_is_found(self) -> None:
        for code in ("INTERNAL", "INVALID", "MADE_UP"):
            self.assert_finds("no fault here gives reason", call(result=code), faults=[CUT])

    def test_a_call_without_any_answer_is_lost_unless_its_own_sidecar_died(self) -> None:
        silent = call(sent=10.5, ended=None, result="NOTHING")
        for fault in (CUT, CALLEE_KILL, AGENT_KILL, CALLER_STOP):
            self.assert_finds("never got an answer", silent, faults=[fault])
            self.assertEqual(self.judge(silent, faults=[fault]).lost, 1)
        self.assertEqual(self.assert_clean(silent, faults=[CALLER_KILL]).exempt, 1)

    def test_the_death_of_the_other_sidecar_excuses_no_silence(self) -> None:
        near = call(host="b", ended=None, result="NOTHING")
        self.assert_finds("never got an answer", near, faults=[CALLER_KILL])
        self.assert_clean(near, call("two", 12.5, 12.6, host="b"), executed="two", faults=[CALLEE_KILL])

    def test_an_answer_long_after_the_deadline_is_found(self) -> None:
        self.assert_finds("after its deadline", call(sent=10.0, ended=13.2, result="DEADLINE"), faults=[CUT])
        self.assert_finds("after its deadline", call(sent=10.0, ended=13.2), executed="one", faults=[CUT])
        verdict = self.assert_clean(call(sent=10.0, ended=12.03, result="DEADLINE"), faults=[CUT])
        self.assertAlmostEqual(verdict.worst_s(LATE), 0.03)

    def test_a_stopped_sidecar_owes_its_answers_from_when_it_goes_on(self) -> None:
        for sent, owed in ((9.5, 15.0), (10.5, 17.0)):  # what it was asked meanwhile it accepts when it goes on
            verdict = self.assert_clean(call(sent=sent, ended=owed + 0.2, result="DEADLINE"), faults=[CALLER_STOP])
            self.assertAlmostEqual(verdict.worst_s(LATE), 0.2)
            late = call(sent=sent, ended=owed + 1.2, result="DEADLINE")
            self.assert_finds("after its deadline", late, faults=[CALLER_STOP])

    def test_a_little_late_is_found_where_most_are(self) -> None:
        def late(count: int, seconds: float) -> list[Call]:
            return [call(f"c{at}", 10.0, 12.0 + seconds, "DEADLINE") for at in range(count)]
        for count in (5, 30):
            self.assert_finds("late: nearly all took up to 300 ms", *late(count, 0.3), faults=[CUT])
            self.assert_clean(*late(count, 0.1), faults=[CUT])
        few = [replace(one, id=f"few {one.id}") for one in late(2, 0.3)]
        self.assert_clean(*late(40, 0.02), *few, faults=[CUT])
        self.assertAlmostEqual(self.assert_clean(*late(40, 0.02), *few, faults=[CUT]).nearly_all_s(LATE), 0.02)

    def test_most_of_what_comes_back_comes_in_time(self) -> None:
        held = [call(f"held{at}", 9.5, 14.5, "OUTCOME_UNKNOWN") for at in range(5)]
        self.assert_finds("freed: nearly all took up to 3500 ms", *held, faults=[CALLER_KILL])
        self.assert_clean(*[replace(one, ended=14.05) for one in held], faults=[CALLER_KILL])

    def test_an_order_is_executed_once_however_often_it_is_asked_for(self) -> None:
        first = call("pay", 10.5, 11.0, "OUTCOME_UNKNOWN", service="pay")
        again = replace(first, id="pay#2", sent=12.0, ended=12.1, result="OK")
        well = call("well", 14.2, 14.3, service="pay")
        self.assert_clean(first, again, well, executed="pay well", faults=[CUT])
        self.assert_clean(replace(first, result="NOT_SENT"), again, well, executed="pay well", faults=[CUT])
        self.assert_finds("executed 2 times", first, again, well, executed="pay pay well", faults=[CUT])
        self.assert_finds("not executed", first, again, well, executed="well", faults=[CUT])

    def test_what_was_answered_is_never_unknown_later(self) -> None:
        known = call("pay", 10.5, 11.0, service="pay")
        unknown = replace(known, id="pay#2", sent=12.0, ended=12.1, result="OUTCOME_UNKNOWN", rule=DIED_IN_BETWEEN)
        well = call("well", 14.2, 14.3, service="pay")
        self.assert_finds("had been answered", known, unknown, well, executed="pay well", faults=[CUT])
        self.assert_clean(known, replace(unknown, rule="link_lost"), well, executed="pay well", faults=[CUT])
        self.assert_clean(replace(known, result="OUTCOME_UNKNOWN"), unknown, well, executed="pay well", faults=[CUT])

    def test_that_nobody_knows_has_the_reason_of_the_first_attempt(self) -> None:
        first = call("pay", 10.5, 11.0, "OUTCOME_UNKNOWN", service="pay")
        again = replace(first, id="pay#2", sent=30.0, ended=30.1, rule=DIED_IN_BETWEEN)
        well = call("well", 14.2, 14.3, service="pay")
        self.assert_clean(first, again, well, executed="pay well", faults=[CUT])
        self.assert_finds("nothing on its way was broken", first, replace(again, rule="link_lost"), well,
                          executed="pay well", faults=[CUT])
        self.assert_finds("nothing on its way was broken", replace(first, sent=3.0, ended=3.5), again, well,
                          executed="pay well", faults=[CUT])

    def test_to_look_more_than_once_does_no_harm_and_yet_has_an_end(self) -> None:
        looked = call("look", 10.5, 11.0, service="look")
        well = call("well", 14.2, 14.3, service="look")
        self.assert_clean(looked, well, executed="look look look look well", faults=[CUT])
        self.assert_finds("executed 5 times", looked, well, executed="look look look look look well", faults=[CUT])

    def test_an_error_while_nothing_is_broken_is_found(self) -> None:
        self.assert_finds("nothing on its way was broken", call(result="DEADLINE"))
        self.assert_finds("nothing on its way was broken", call(sent=8.0, ended=9.9, result="DEADLINE"), faults=[CUT])

    def test_an_error_long_after_the_fault_is_found(self) -> None:
        self.assert_finds("nothing on its way was broken", call(sent=18.1, ended=18.5, result="NOT_SENT"), faults=[CUT])
        self.assert_clean(call(sent=16.5, ended=16.9, result="NOT_SENT"), faults=[CUT])

    def test_the_death_of_an_agent_excuses_no_error_of_another_service(self) -> None:
        other = call(result="NOT_SENT", service="router")
        self.assert_finds("nothing on its way was broken", other, faults=[AGENT_KILL])

    def test_a_cut_wire_excuses_no_error_between_neighbours(self) -> None:
        self.assert_finds("nothing on its way was broken", call(result="NOT_SENT", host="b"), faults=[CUT])

    def test_callers_of_what_was_killed_must_be_told_soon(self) -> None:
        held = call(sent=9.5, ended=13.1, result="OUTCOME_UNKNOWN")
        for fault in (AGENT_KILL, CALLEE_KILL):
            findings = judge([BEFORE, held], ["before"], [fault], budget_s=9.0).findings
            self.assertTrue(any("was killed" in one for one in findings), findings)
        near = replace(held, ended=12.1, host="b")
        self.assert_finds("was killed", near, faults=[AGENT_KILL])
        well = call("well", 12.5, 12.6, host="b")
        told = self.assert_clean(replace(held, ended=10.8), replace(near, id="two", ended=10.3), well, executed="two well",
                                 faults=[AGENT_KILL])
        self.assertEqual([round(told.worst_s(TOLD[is_near]), 6) for is_near in (False, True)], [0.8, 0.3])

    def test_a_call_that_its_own_sidecar_lost_is_nobody_elses_to_tell(self) -> None:
        held = call(sent=9.5, ended=13.9, result="OUTCOME_UNKNOWN")
        self.assert_clean(held, faults=[CALLER_KILL, AGENT_KILL])

    def test_a_req_socket_whose_sidecar_came_back_must_be_freed_soon(self) -> None:
        held = call(sent=9.5, ended=15.1, result="OUTCOME_UNKNOWN")
        self.assert_finds("came back", held, faults=[CALLER_KILL])
        self.assert_finds("waited for good", replace(held, ended=None, result="NOTHING"), faults=[CALLER_KILL])
        self.assert_finds("waited for good", replace(held, sent=9.999, ended=None, result="NOTHING"), faults=[CALLER_KILL])
        verdict = self.assert_clean(replace(held, ended=13.2), faults=[CALLER_KILL])
        self.assertAlmostEqual(verdict.worst_s(FREED), 2.2)

    def test_a_second_death_gives_the_freeing_of_a_req_socket_another_chance_and_the_last_none(self) -> None:
        again = replace(CALLER_KILL, began=13, ended=14)
        held = call(sent=9.5, ended=16.5, result="OUTCOME_UNKNOWN")
        self.assert_clean(held, faults=[CALLER_KILL, again])
        self.assert_finds("came back", replace(held, ended=18.5), faults=[CALLER_KILL, again])

    def test_a_dealer_is_freed_by_nobody(self) -> None:
        self.assert_clean(call(sent=9.5, ended=None, result="NOTHING", kind="dealer"), faults=[CALLER_KILL])

    def test_a_service_that_does_not_come_back_is_found(self) -> None:
        late = [call("late", 18.5, 18.6)]
        for calls in ([], late):
            findings = judge([BEFORE, *calls], ["before", "late"] if calls else ["before"], [CUT], BUDGET_S).findings
            self.assertTrue(any("a was served by rep only" in one for one in findings), findings)
        self.assertAlmostEqual(self.assert_clean(faults=[CUT]).worst_s(RESUMED), 0.6)

    def test_a_fault_elsewhere_excuses_no_slow_return(self) -> None:
        other = replace(AGENT_KILL, who="agent-router", began=14.5, ended=14.9)
        for faults, excused in (([CUT, other], False), ([CUT, replace(other, who="agent-rep")], True)):
            findings = judge([BEFORE, call("late", 19, 19.1)], ["before", "late"], faults, BUDGET_S).findings
            self.assertEqual(any("after wire was back" in one for one in findings), not excused, findings)

    def test_each_route_must_come_back_by_itself(self) -> None:
        self.assert_finds("a was served by router only", call("two", 5.0, 5.1, service="router"), executed="two",
                          faults=[CUT])


if __name__ == "__main__":
    unittest.main()
