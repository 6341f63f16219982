"""When the champion is passed over, and when it is back: by its scores alone."""

import math

import pytest

from schemas.blocks import NotAskedBlock, RowError, ScoreBlock, pack_offsets, pack_scores
from schemas.pipeline import BreakerSettings, Guard
from streams.core.breaker import Breaker
from tests.unit.small import request

RULE = BreakerSettings(requests=10, late_share=0.5, error_share=0.2, guard_share=0.2, well_s=5)
GUARDS = [Guard(model="first", min=0.0, max=1.0)]
START_MS = 1_000.0


def breaker(*, over: bool = False) -> Breaker:
    return Breaker(RULE, GUARDS, "first", "1", over=over, now_ms=START_MS)


def asked(found: Breaker, *offsets: int) -> None:
    found.asked(0, [request(offset, at_ms=1_000) for offset in offsets])


def scored(*offsets: int, model: str = "first", score: float = 0.7, errors: tuple[int, ...] = ()) -> ScoreBlock:
    rows = tuple(RowError(offset, "no score") for offset in errors)
    return ScoreBlock(model, "1", pack_offsets(list(offsets)), pack_scores([score] * len(offsets)), rows)


def test_one_that_answers_in_time_stays():
    found = breaker()
    asked(found, *range(10))
    found.offered(0, scored(*range(10)), 1_050)
    assert found.turn(2_000) is None


def test_with_fewer_requests_than_asked_for_nothing_is_said():
    found = breaker()
    asked(found, *range(9))
    assert found.turn(2_000) is None


@pytest.mark.parametrize(("late", "turns"), [(5, False), (6, True)])
def test_scores_that_come_late_or_never_pass_it_over(late: int, turns: bool):
    found = breaker()
    asked(found, *range(10))
    found.offered(0, scored(*range(10 - late)), 1_050)
    found.offered(0, scored(9), 1_101)
    turn = found.turn(2_000)
    assert (turn is not None) is turns
    if turn:
        assert (turn.model, turn.over) == ("first", True)
        assert turn.why == "of its last 10 scores 60% came after 100% of the budget, or never"


def test_what_is_not_due_yet_is_not_late():
    found = breaker()
    asked(found, *range(10))
    assert found.turn(1_099) is None
    assert found.turn(1_101) is not None


@pytest.mark.parametrize("bad", ["error", "nan", "guard"])
def test_errors_and_scores_outside_the_guard_pass_it_over(bad: str):
    found = breaker()
    asked(found, *range(10))
    found.offered(0, scored(*range(7)), 1_050)
    if bad == "error":
        found.offered(0, scored(errors=(7, 8, 9)), 1_050)
    else:
        found.offered(0, scored(7, 8, 9, score=math.nan if bad == "nan" else 1.5), 1_050)
    turn = found.turn(2_000)
    assert turn is not None
    assert ("outside" if bad == "guard" else "errors") in turn.why


def test_other_models_other_partitions_and_what_it_was_not_asked_are_no_fault_of_its_own():
    found = breaker()
    asked(found, *range(10))
    found.offered(0, scored(*range(10), model="second", score=math.nan), 1_050)
    found.offered(1, scored(*range(10), score=math.nan), 1_050)
    found.offered(0, NotAskedBlock(("first",), pack_offsets(list(range(10))), "overloaded"), 1_060)
    assert found.turn(2_000) is None


def test_it_comes_back_when_it_is_well_and_has_been_away_for_long_enough():
    found = breaker(over=True)
    asked(found, *range(10))
    found.offered(0, scored(*range(10)), 1_050)
    assert found.turn(START_MS + 4_999) is None
    turn = found.turn(START_MS + 5_000)
    assert turn is not None
    assert (turn.over, turn.why) == (False, "well again: 10 of its last 10 scores")
    asked(found, *range(10, 20))
    assert found.turn(START_MS + 6_000) is None  # ten more that never came
