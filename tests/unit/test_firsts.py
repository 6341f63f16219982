"""What is not scored again: only what whoever answers takes for a repeat, too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import offsets_of
from schemas.requests import Request
from streams.core.fan_out import REPEATED, FanOut
from streams.core.repeats import Firsts, Repeats
from tests.unit.small import pipeline, request

HORIZON_S = 1.0


def named(offset: int, name: str, at_ms: int) -> Request:
    return replace(request(offset, at_ms=at_ms), request_id=name)


def taken(firsts: Firsts, *requests: Request) -> list[int]:
    return [one.offset for one in firsts.apart(list(requests))[1]]


def grown_up(at_ms: int) -> Firsts:
    """One that remembers the horizon before this."""
    firsts = Firsts(0, HORIZON_S)
    firsts.apart([named(0, "begins", at_ms - 1_001)])
    return firsts


def test_a_repeat_is_known_as_long_as_its_first_is_and_a_batch_that_is_tried_again_is_the_same():
    firsts = grown_up(10_000)
    batch = [named(1, "a", 10_000), named(2, "b", 10_001), named(3, "a", 10_002), named(4, "a", 11_000)]
    assert taken(firsts, *batch) == [3, 4]
    assert taken(firsts, *batch) == [3, 4]
    assert taken(firsts, named(5, "a", 11_001), named(6, "a", 11_002)) == [6]


@pytest.mark.parametrize(
    "other",
    [
        named(2, "b", 10_001),
        replace(named(2, "a", 10_001), key=b"k"),
        replace(named(2, "a", 10_001), value=b"{ }"),
        replace(named(2, "a", 10_001), budget_ms=99),
    ],
    ids=["id", "key", "payload", "budget"],
)
def test_anything_else_is_scored(other: Request):
    assert taken(grown_up(10_000), named(1, "a", 10_000), other) == []


def test_what_was_minted_by_place_and_a_horizon_of_nothing_know_no_repeats():
    assert taken(grown_up(10_000), named(1, "0-1", 10_000), named(2, "0-2", 10_001)) == []
    nothing = Firsts(0, 0)
    assert taken(nothing, named(1, "a", 90_000), named(2, "a", 90_000)) == []


def test_who_has_just_begun_cannot_tell_the_first_from_its_repeats():
    """The first came before: `a` at 10,900 repeats it, at 11,500 it is a new request."""
    repeats, firsts = Repeats(HORIZON_S), Firsts(0, HORIZON_S)
    for one in (named(0, "a", 10_000), named(1, "a", 10_900), named(2, "a", 11_500)):
        known = repeats.seen(one, 0)
        assert known is not None
        if one.offset:
            assert taken(firsts, one) == []
    assert known.offset == 2


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 700)), min_size=1, max_size=20),
    st.integers(0, 4),
    st.integers(1, 8),
)
def test_it_never_knows_of_one_that_whoever_answers_does_not_know(
    came: list[tuple[str, int]], begins: int, limit: int
):
    repeats, firsts, at_ms = Repeats(HORIZON_S), Firsts(0, HORIZON_S), 100_000
    firsts.LIMIT = limit  # type: ignore[misc]
    for offset, (name, later_ms) in enumerate(came):
        at_ms += later_ms
        one = named(offset, name, at_ms)
        known = repeats.seen(one, 0)
        assert known is not None
        if offset >= begins and taken(firsts, one):
            assert known.offset != offset


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 700)), max_size=60))
def test_once_it_remembers_a_horizon_it_knows_them_all(came: list[tuple[str, int]]):
    repeats, firsts, at_ms = Repeats(HORIZON_S), grown_up(100_000), 100_000
    for number, (name, later_ms) in enumerate(came):
        at_ms += later_ms
        one = named(number + 1, name, at_ms)
        known = repeats.seen(one, 0)
        assert known is not None
        assert bool(taken(firsts, one)) == (known.offset != one.offset)


def test_every_model_is_told_not_to_wait_for_them():
    [said] = FanOut(pipeline()).unasked([request(3), request(5)])
    assert (set(said.models), said.reason) == ({"first", "second", "mirror", "yardstick"}, REPEATED)
    assert list(offsets_of(said.offsets)) == [3, 5]
