"""Whatever a producer sends is a request, or a rejection that says why; nothing raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.requests import Rejection, Request
from streams.core.event_shape import MAX_DEPTH
from streams.core.validator import minted
from tests.unit.small import read

GOOD = {"request_id": "a-1", "x": 1.5, "colour": "red", "box": {"late": True}}


def event(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_a_good_event_becomes_a_request_with_id_budget_and_key():
    found = read(event(), offset=7)
    assert isinstance(found, Request)
    assert (found.request_id, found.offset, found.budget_ms, found.key, found.at_ms) == ("a-1", 7, 100, b"key", 1_000)


@pytest.mark.parametrize("value", [event(request_id=None), b'{"x": 1}'])
def test_an_id_that_is_absent_is_minted_from_the_ticket(value: bytes):
    assert read(value, offset=9).request_id == minted(0, 9)


def test_the_budget_is_the_headers_then_the_fields_then_the_pipelines():
    field = event(limits={"ms": 70})
    assert read(field, [("budget-ms", b"50")]).budget_ms == 50
    assert read(field).budget_ms == 70
    assert read(event()).budget_ms == 100
    assert read(field, [("budget-ms", b"50"), ("budget-ms", b"60")]).budget_ms == 60, "the last header counts"


@pytest.mark.parametrize("text", [b"0", b"-1", b"600001", b"nan", b"inf", b"1e999", b"soon", b"", b"\xff"])
def test_an_impossible_budget_is_rejected_and_the_pipelines_is_used_for_the_answer(text: bytes):
    found = read(event(), [("budget-ms", text)])
    assert isinstance(found, Rejection)
    assert (found.error, found.budget_ms, found.request_id) == ("budget", 100, "a-1")
    assert "header budget-ms" in found.reason


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "null"),
        (b"", "empty"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b"{", "truncated"),
        (b"[1]", "object"),
        (b"NaN", ""),
        (b'{"x": NaN}', ""),
        (b'{"x": Infinity}', ""),
        (b'{"x": 1e400}', "x"),
        (b'{"x": 1e16}', "x: "),
        (b'{"x": "1"}', "x: "),
        (b'{"x": true}', "x: "),
        (b'{"x": null}', "x: "),
        (b"{}", "`x`"),
        (b'{"x": 1, "box": 3}', "box: "),
        (b'{"x": 1, "box": {"late": "no"}}', "box.late: "),
        (b'{"x": 1, "request_id": 7}', "request_id: "),
        (b'{"x": 1, "request_id": "a/b"}', "request_id: "),
        (b'{"x": 1, "request_id": ""}', "request_id: "),
        (b'{"x": 1, "y": ' + b"[" * 1000 + b"]" * 1000 + b"}", f"deeper than {MAX_DEPTH}"),
        (b'{"x": 1, "note": "' + b"a" * 300_000 + b'"}', "the cap is 262144"),
    ],
)
def test_what_is_wrong_is_named(value: bytes | None, says: str):
    found = read(value)
    assert isinstance(found, Rejection), found
    assert says in found.reason


def test_brackets_inside_strings_are_no_depth():
    assert isinstance(read(event(note="[" * 500 + '\\"{')), Request)


def test_headers_are_bounded():
    assert "33 headers" in reason(read(event(), [("a", b"")] * 33))
    assert "at most 8192" in reason(read(event(), [("a", b"x" * 9_000)]))


def reason(found: Request | Rejection) -> str:
    assert isinstance(found, Rejection)
    return found.reason


@given(value=st.one_of(st.none(), st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_bytes_make_it_raise(value: bytes | None):
    assert isinstance(read(value), Request | Rejection)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
_fields = st.sampled_from(["request_id", "x", "colour", "box", "limits"])


@given(found=st.dictionaries(_fields, _json, max_size=5), budget=st.none() | st.binary(max_size=8))
def test_no_event_makes_it_raise_and_what_passes_is_within_bounds(found: dict[str, object], budget: bytes | None):
    headers = None if budget is None else [("budget-ms", budget)]
    read_as = read(json.dumps(found).encode(), headers)
    assert 1 <= read_as.budget_ms <= 600_000
    assert 1 <= len(read_as.request_id) <= 128
    if isinstance(read_as, Rejection):
        assert read_as.reason


@given(colour=st.text(max_size=20), x=st.floats(-1e15, 1e15), late=st.booleans() | st.none())
def test_every_well_formed_event_passes(colour: str, x: float, late: bool | None):
    assert isinstance(read(event(colour=colour, x=x, box={"late": late})), Request)
