"""One answer for each repeat, an answer that is owed from the standby, and time that was missed: by hand.

Crashes anywhere, twins and zombies are explored in `test_model_check`.
"""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from schemas.decisions import Decision, Outcome, Ticket
from schemas.pipeline import RequestShape
from schemas.requests import Request
from streams.core.recovery import ROUNDS, Recovery
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint
from tests.unit.small import pipeline, request, scores

PIPELINE = pipeline(request=RequestShape(budget_ms=100, repeat_s=1.0))
GRACE_MS = 500.0


def named(offset: int, name: str, at_ms: int = 1_000, value: bytes = b"{}", key: bytes | None = None) -> Request:
    return Request(offset, name, at_ms, 100, key, None, None, value)


def desk(lead_ms: float = 0.0, grace_ms: float = 0.0, *, from_log: bool = False) -> Rendezvous:
    return Rendezvous(PIPELINE, 0, lead_ms=lead_ms, grace_ms=grace_ms, from_log=from_log)


def test_a_repeat_is_given_the_first_ones_answer():
    core = desk()
    core.requests_seen([named(0, "a")], 1_000)
    (first,) = core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    (again,) = core.requests_seen([named(1, "a", 1_500)], 1_501)
    assert (again.decision.model, again.decision.score) == (first.decision.model, first.decision.score)
    assert again.decision.duplicate_of == first.decision.ticket
    assert again.decision.ticket.offset == 1
    assert core.undecided == 0


def test_a_repeat_of_what_is_not_decided_waits_for_it():
    core = desk()
    assert core.requests_seen([named(0, "a"), named(1, "a", 1_010)], 1_010) == []
    assert core.scores_offered(scores("first", 1, score=0.2), 0, 1_020, 1_020) == []
    both = core.scores_offered(scores("first", 0), 1, 1_021, 1_021)
    assert [(r.decision.ticket.offset, r.decision.score) for r in both] == [(0, 0.7), (1, 0.7)]


@pytest.mark.parametrize(
    "other",
    [
        named(1, "a", 1_010, b'{"x": 1}'),
        named(1, "a", 1_010, key=b"k"),
        named(1, "b", 1_010),
        replace(named(1, "a", 1_010), budget_ms=90),
        named(1, "a", 2_001),
    ],
    ids=["payload", "key", "id", "budget", "beyond the horizon"],
)
def test_anything_else_is_a_new_request(other: Request):
    core = desk()
    core.requests_seen([named(0, "a")], 1_000)
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    assert core.requests_seen([other], other.at_ms) == []
    (reply,) = core.scores_offered(scores("first", 1, score=0.2), 1, other.at_ms + 1, other.at_ms + 1)
    assert reply.decision.duplicate_of is None
    assert reply.decision.score == 0.2


def test_a_standby_says_nothing_when_the_owner_does():
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0)], 1_000)
    assert core.scores_offered(scores("first", 0), 0, 1_004, 1_005) == []
    assert core.next_due_ms == 1_030
    assert core.decided(decision_of(0), 1_010) == []
    assert core.due(2_000) == []
    assert core.checkpoint().raw == 1


def test_a_standby_gives_the_owners_answer_a_grace_later():
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0), request(1)], 1_000)
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    assert core.due(1_029.9) == []
    (reply,) = core.due(1_030)
    assert (reply.decision.model, reply.decision.standby, reply.decision.used_ms) == ("first", True, 5.0)
    assert core.due(1_096) == []
    assert core.scores_offered(scores("first", 1), 1, 1_098, 1_098) == []
    assert core.due(1_103.9) == []
    (default,) = core.due(1_104)
    assert (default.decision.outcome, default.decision.ticket.offset) == (Outcome.DEFAULT, 1)


def test_a_standby_waits_for_what_an_owner_that_is_heard_has_said_meanwhile():
    """Its grace is 25 ms: a quarter of the budget."""
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0), request(1), request(2), request(3)], 1_000)
    assert core.decided(decision_of(0, now_ms=1_085), 1_090) == []
    assert core.due(1_096) == []
    assert core.due(1_104) == [], "the log was not read up to now, and the owner spoke 14 ms ago"
    assert core.next_due_ms == 1_115
    assert core.decided(decision_of(1, now_ms=1_096), 1_112) == [], "there it is"
    assert core.due(1_115) == []
    assert core.decided(decision_of(2, now_ms=1_097), 1_128) == []
    assert core.due(1_128.9) == []
    (default,) = core.due(1_129)
    assert default.decision.ticket.offset == 3, "an owner that lags is waited for no longer than a grace"


@pytest.mark.parametrize(
    ("heard", "at_ms", "leaves_ms"),
    [
        (replace, 1_060, 1_104),  # silent for more than a grace
        (lambda said: replace(said, decided_at_ms=1_104), 1_100, 1_104),  # it has gone by this request
        (lambda said: replace(said, standby=True), 1_100, 1_104),  # no word of the owner's
        (replace, 1_100, 1_125),
    ],
    ids=["silence", "gone by", "its own", "heard"],
)
def test_only_an_owner_that_is_heard_is_waited_for(
    heard: Callable[[Decision], Decision], at_ms: float, leaves_ms: float
):
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0), request(1)], 1_000)
    core.decided(heard(decision_of(0, now_ms=1_050)), at_ms)
    core.due(1_096)
    moments = [1_104 + quarter / 4 for quarter in range(120)]
    assert next(moment for moment in moments if core.due(moment)) == leaves_ms


def test_what_is_held_for_a_decided_request_does_not_hold_the_score_position():
    core = desk()
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    core.decided(decision_of(0), 1_006)
    assert core.requests_seen([request(0)], 1_010) == []
    assert core.checkpoint() == Checkpoint(1, 1, 1_000)


def decision_of(offset: int, name: str = "r", now_ms: float = 1_005) -> Decision:
    core = desk()
    core.requests_seen([named(offset, name)], 1_000)
    (reply,) = core.scores_offered(scores("first", offset), 0, 1_004, now_ms)
    return reply.decision


def test_what_is_overdue_is_decided_as_of_its_deadline():
    """`second` was acceptable from 60 % on; the champion's score came later, though before the deadline."""
    core = desk()
    recovery = Recovery(core, 2, 2)
    recovery.requests_seen([request(0), request(1, at_ms=1_200)])
    assert recovery.run(9_000) == []
    recovery.scores_offered(0, 1_010, lambda at: core.scores_offered(scores("second", 0), 0, 1_010, at))
    recovery.scores_offered(1, 1_080, lambda at: core.scores_offered(scores("first", 0), 1, 1_080, at))
    early, late = recovery.run(9_000)
    assert (early.decision.model, early.decision.decided_at_ms) == ("second", 1_060)
    assert (early.decision.recovered, early.decision.late_by_ms) == (True, 7_900)
    assert (late.decision.outcome, late.decision.used_ms) == (Outcome.DEFAULT, 100)
    assert recovery.done


def test_what_came_while_it_was_run_through_belongs_to_the_time_that_was_missed():
    """The champion's score lay in the log when `second` became acceptable: a twin that has read it says so."""
    core = desk()
    recovery = Recovery(core, 1, 1, asked_ms=1_000)
    recovery.requests_seen([request(0)])
    recovery.scores_offered(0, 1_010, lambda at: core.scores_offered(scores("second", 0), 0, 1_010, at))
    assert recovery.run(1_070) == []
    assert recovery.has_read_all
    assert not recovery.done, "its ends are old"
    recovery.grown(1, 2, 1_070)
    assert recovery.run(1_075) == []
    recovery.scores_offered(1, 1_050, lambda at: core.scores_offered(scores("first", 0), 1, 1_050, at))
    (reply,) = recovery.run(1_080)
    assert (reply.decision.model, reply.decision.used_ms) == ("first", 50)
    assert recovery.done


def test_where_nothing_came_meanwhile_nothing_is_waited_for():
    core = desk()
    recovery = Recovery(core, 1, 0, asked_ms=1_000)
    recovery.requests_seen([request(0)])
    assert recovery.run(2_000) == []
    recovery.grown(1, 0, 2_000)
    assert len(recovery.run(9_000)) == 1
    assert recovery.done


def test_who_never_catches_up_goes_live_all_the_same():
    core = desk()
    recovery = Recovery(core, 1, 0, asked_ms=0)
    for number in range(ROUNDS):
        recovery.requests_seen([request(number, at_ms=1_000 + number)])
        recovery.run(100_000 * (number + 1))
        assert not recovery.done
        recovery.grown(number + 2, 0, 100_000 * (number + 1))
    recovery.requests_seen([request(ROUNDS, at_ms=1_000 + ROUNDS)])
    recovery.run(9_000_000)
    assert recovery.done


@pytest.mark.parametrize("budget_ms", [7, 33, 37, 611, 599_983])
def test_a_timer_whose_time_is_rounded_down_fires_once(budget_ms: int):
    """Of 37 ms, 60 % is 22.2 ms: after today's epoch no float is that."""
    core = desk()
    recovery = Recovery(core, 1, 0)
    recovery.requests_seen([request(0, at_ms=1_764_000_000_123, budget_ms=budget_ms)])
    (reply,) = recovery.run(1_764_001_000_000)
    assert (reply.decision.outcome, reply.decision.used_ms) == (Outcome.DEFAULT, budget_ms)


def test_a_hole_at_the_end_is_not_waited_for_for_ever():
    core = desk()
    recovery = Recovery(core, 2, 0)
    recovery.requests_seen([request(0)])
    assert not recovery.done
    recovery.close()
    assert len(recovery.run(9_000)) == 1
    assert recovery.done


def test_a_repeat_has_no_time_of_its_own():
    """Its own first timer comes before its first's last: after a standstill both are overdue."""
    core = desk()
    core.requests_seen([named(0, "a"), named(1, "a", 1_035)], 1_035)
    assert core.due(1_060) == []
    first, again = core.due(1_500)
    assert (first.decision.ticket.offset, again.decision.duplicate_of) == (0, first.decision.ticket)


def test_a_repeat_is_told_the_first_record_in_the_log():
    core = desk()
    core.decided(decision_of(0, "a"), 1_010)
    core.decided(replace(decision_of(0, "a"), score=0.2), 1_011)
    (again,) = core.requests_seen([named(1, "a", 1_100)], 1_100)
    assert again.decision.score == 0.7


def test_whoever_reads_decisions_tells_a_repeat_what_the_log_says_not_what_it_said_itself():
    core = desk(from_log=True)
    core.requests_seen([named(0, "a")], 1_000)
    assert len(core.scores_offered(scores("first", 0), 0, 1_004, 1_005)) == 1
    assert core.requests_seen([named(1, "a", 1_100)], 1_100) == []
    assert core.due(9_000) == []
    (again,) = core.decided(replace(decision_of(0, "a"), score=0.2), 9_001)
    assert (again.decision.ticket.offset, again.decision.score) == (1, 0.2)


@pytest.mark.parametrize("now_ms", [1_004.96, 1_005.5, 1_005.999, 998.5])
def test_the_horizon_is_exact_after_a_read_back_too(now_ms: float):
    """The last millisecond of it, wherever between two milliseconds the answer was given."""
    core = desk()
    core.decided(decision_of(0, "a", now_ms), 1_010)
    assert len(core.requests_seen([named(1, "a", 2_000)], 2_000)) == 1
    core = desk()
    core.decided(decision_of(0, "a", now_ms), 1_010)
    assert core.requests_seen([named(1, "a", 2_001)], 2_001) == []


def test_a_repeat_is_answered_whatever_its_first_one_was_taken_for():
    """An earlier life with a longer memory took it for a repeat itself."""
    core = desk()
    core.requests_seen([named(5, "a"), named(6, "a", 1_010)], 1_010)
    (again,) = core.decided(replace(decision_of(5, "a"), duplicate_of=Ticket(0, 1)), 1_020)
    assert (again.decision.ticket.offset, again.decision.score) == (6, 0.7)


def test_a_request_is_a_repeat_of_what_came_before_it_in_raw_whatever_was_decided_of_later_ones_first():
    """A twin's decisions are read ahead of raw: of a request beyond the horizon of the first, among others."""
    core = desk(from_log=True)
    core.requests_seen([named(0, "a", 1_000)], 1_000)
    core.decided(decision_of(0, "a"), 1_010)
    core.decided(replace(decision_of(2, "a", 2_105), used_ms=5.0), 2_110)
    (again,) = core.requests_seen([named(1, "a", 1_990)], 2_120)
    assert again.decision.duplicate_of == Ticket(0, 0)
    assert core.requests_seen([named(2, "a", 2_100)], 2_120) == []
    (again,) = core.requests_seen([named(3, "a", 2_200)], 2_200)
    assert again.decision.duplicate_of == Ticket(0, 2)


def test_what_was_decided_of_requests_that_raw_does_not_show_any_more_can_be_repeated():
    core = desk()
    core.decided(decision_of(3, "a"), 1_010)
    (again,) = core.requests_seen([named(7, "a", 1_100)], 1_100)
    assert again.decision.duplicate_of == Ticket(0, 3)


@pytest.mark.parametrize(
    ("now_ms", "kept_ms"),
    [
        pytest.param(1_020, 0, id="a standby leaves it to the owner still"),
        pytest.param(1_031, 25, id="a standby has said it by now"),
        pytest.param(9_000, 25, id="long overdue"),
    ],
)
def test_what_a_twin_must_have_said_meanwhile_is_kept_back_for_a_grace(now_ms: float, kept_ms: float):
    core = desk(lead_ms=4, from_log=True)
    recovery = Recovery(core, 1, 1, GRACE_MS)
    recovery.requests_seen([named(0, "a")])
    recovery.scores_offered(0, 1_005, lambda at_ms: core.scores_offered(scores("first", 0), 0, 1_005, at_ms))
    said = recovery.run(now_ms)
    assert len(said) == (0 if kept_ms else 1)
    assert core.due(now_ms + kept_ms - 1) == []
    said += core.due(now_ms + kept_ms)
    (reply,) = said
    assert reply.decision.recovered
    assert reply.decision.used_ms == 5
    assert reply.decision.late_by_ms == max(0, now_ms + kept_ms - 1_100)


def test_what_was_kept_back_is_not_said_when_the_twin_is_heard():
    core = desk(lead_ms=4, from_log=True)
    recovery = Recovery(core, 1, 0, GRACE_MS)
    recovery.requests_seen([named(0, "a")])
    assert recovery.run(9_000) == []
    assert core.checkpoint().raw == 0
    core.decided(decision_of(0, "a"), 9_010)
    assert core.due(10_000) == []
    assert core.checkpoint().raw == 1
