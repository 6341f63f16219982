"""Which models are asked for which requests."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.blocks import MAX_ROWS, offsets_of
from schemas.requests import Request
from streams.core.fan_out import OVERLOADED, FanOut
from tests.unit.small import pipeline, read


def requests(*ages_ms: float, now_ms: int = 10_000) -> list[Request]:
    found = []
    for offset, age_ms in enumerate(ages_ms):
        one = read(json.dumps({"x": offset, "colour": "red"}).encode(), offset=offset, at_ms=int(now_ms - age_ms))
        assert isinstance(one, Request)
        found.append(one)
    return found


def fan(*ages_ms: float):
    found = FanOut(pipeline()).fan(requests(*ages_ms), 10_000)
    return {model.name: rows for model, rows in found.rows}, found.not_asked


def test_every_model_is_given_every_request_in_its_own_columns():
    rows, not_asked = fan(0, 1, 2)
    assert not_asked is None
    assert set(rows) == {"first", "second", "mirror", "yardstick"}
    assert rows["first"].matrix.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert rows["second"].matrix.tolist() == [[0, 0], [0, 1], [0, 2]]
    assert rows["first"].deadlines_ms.tolist() == [10_100, 10_099, 10_098]


@pytest.mark.parametrize(
    ("age_ms", "passed"), [(24, ()), (25, ("mirror",)), (49, ("mirror",)), (50, ("second", "mirror"))]
)
def test_when_events_wait_shadows_are_passed_over_first_then_challengers(age_ms: float, passed: tuple[str, ...]):
    rows, not_asked = fan(age_ms, 0)
    assert set(rows) == {"first", "second", "mirror", "yardstick"} - set(passed)
    assert (not_asked.models if not_asked else ()) == passed
    if not_asked:
        assert (offsets_of(not_asked.offsets), not_asked.reason) == ((0, 1), OVERLOADED)


def test_a_request_past_its_deadline_goes_only_to_models_that_want_it():
    rows, not_asked = fan(150, 0)
    assert not_asked is None
    assert rows["first"].offsets.tolist() == [1]
    assert rows["yardstick"].offsets.tolist() == [0, 1]
    rows, _ = fan(150)
    assert set(rows) == {"yardstick"}


def test_a_block_is_bounded():
    with pytest.raises(ValueError, match="a block holds 256"):
        fan(*[0] * (MAX_ROWS + 1))
    assert fan() == ({}, None)


@given(st.lists(st.integers(0, 300), max_size=20))
def test_every_live_request_is_sent_to_or_passed_over_by_every_model(ages_ms: list[int]):
    rows, not_asked = fan(*ages_ms)
    live = [offset for offset, age_ms in enumerate(ages_ms) if age_ms < 100]
    for model in pipeline().models:
        passed = not_asked is not None and model.name in not_asked.models
        given_rows = rows[model.name].offsets.tolist() if model.name in rows else []
        if model.expired == "score":
            assert given_rows == list(range(len(ages_ms)))
        else:
            assert given_rows == ([] if passed else live)
        if passed:
            assert not_asked is not None
            assert list(offsets_of(not_asked.offsets)) == live
