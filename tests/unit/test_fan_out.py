"""Which models are asked for which requests."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import MAX_ROWS, Rows, offsets_of
from schemas.pipeline import Role
from schemas.requests import Request
from streams.core.fan_out import EVENT_BYTES, OVERLOADED, FanOut, cut
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
    assert not_asked == []
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
    assert [(block.models, offsets_of(block.offsets), block.reason) for block in not_asked] == (
        [(passed, (0, 1), OVERLOADED)] if passed else []
    )


def test_a_request_past_its_deadline_goes_only_to_models_that_want_it():
    rows, not_asked = fan(150, 0)
    assert [(block.models, offsets_of(block.offsets)) for block in not_asked] == [
        (("first", "second", "mirror"), (0,))
    ]
    assert rows["first"].offsets.tolist() == [1]
    assert rows["yardstick"].offsets.tolist() == [0, 1]
    rows, _ = fan(150)
    assert set(rows) == {"yardstick"}


def test_a_decoy_is_given_what_any_model_is_and_nothing_else():
    base = pipeline()
    decoy = replace(base.model("mirror"), role=Role.DECOY)
    models = (base.model("first"), base.model("second"), decoy, base.model("yardstick"))
    for canary, sent in ((models[3], [0, 1]), (replace(models[3], expired="by-role"), [1])):
        found = FanOut(replace(base, models=(*models[:3], canary))).fan(requests(150, 60), 10_000)
        rows = {model.name: block.offsets.tolist() for model, block in found.rows}
        assert rows == {"first": [1], "mirror": sent, "yardstick": sent}, "60 of 100 ms: no challenger any more"
        passed = {(block.models, offsets_of(block.offsets)) for block in found.not_asked}
        late = ("first", "second") if sent == [0, 1] else ("first", "second", "mirror", "yardstick")
        assert passed == {(("second",), (1,)), (late, (0,))}


def test_too_much_work_is_cut_to_the_newest_that_can_be_ready_in_time():
    """A row costs 1 ms and 90 ms are left at most: of 20 that wait 80 ms or less, one per ms, 15 and 75 ms."""
    fan_out = FanOut(pipeline())
    for _ in range(200):
        fan_out.took(20.0, 20)
    found = fan_out.fan(requests(*range(80, 60, -1)), 10_000)
    assert found.asked == 14
    (block,) = [block for block in found.not_asked if "first" in block.models]
    assert offsets_of(block.offsets) == tuple(range(6))
    assert fan_out.fan(requests(*range(20)), 10_000).asked == 20


def test_a_model_that_takes_events_is_sent_them_and_nobody_else_is():
    base = pipeline()
    eager, lazy = (replace(base.model(name), takes="events") for name in ("yardstick", "second"))
    models = (base.model("first"), lazy, eager)
    found = FanOut(replace(base, models=models)).fan(requests(150, 0, 0), 10_000)
    rows = {model.name: block for model, block in found.rows}
    assert rows["first"].events == ()
    assert [json.loads(event)["x"] for event in rows["second"].events] == [1, 2]
    assert [json.loads(event)["x"] for event in rows["yardstick"].events] == [0, 1, 2]
    assert rows["yardstick"].offsets.tolist() == [0, 1, 2]


@given(st.lists(st.integers(1, EVENT_BYTES + 10), min_size=1, max_size=12))
def test_blocks_with_large_events_are_cut_to_what_a_record_holds(sizes: list[int]):
    count = len(sizes)
    numbers = np.arange(count)
    rows = Rows("m", numbers, numbers, numbers[:, None] * 1.0, tuple(bytes(size) for size in sizes))
    parts = cut(rows)
    assert [offset for part in parts for offset in part.offsets.tolist()] == list(range(count))
    assert [len(event) for part in parts for event in part.events] == sizes
    assert all(len(part.events) == 1 or sum(map(len, part.events)) <= EVENT_BYTES for part in parts)


def test_a_block_is_bounded():
    with pytest.raises(ValueError, match="a block holds 256"):
        fan(*[0] * (MAX_ROWS + 1))
    assert fan() == ({}, [])


@given(st.lists(st.integers(0, 300), max_size=20), st.floats(0, 20))
def test_every_request_is_sent_to_or_passed_over_by_every_model_and_never_both(ages_ms: list[int], row_ms: float):
    fan_out = FanOut(pipeline())
    fan_out.took(row_ms, 1)
    found = fan_out.fan(requests(*ages_ms), 10_000)
    given_rows = {model.name: rows.offsets.tolist() for model, rows in found.rows}
    for model in pipeline().models:
        sent = given_rows.get(model.name, [])
        passed = [o for block in found.not_asked if model.name in block.models for o in offsets_of(block.offsets)]
        assert sorted(sent + passed) == list(range(len(ages_ms)))
        if model.expired == "score":
            assert not passed
        else:
            assert all(ages_ms[offset] < 100 for offset in sent)
