"""What each watched field was in a window: every figure against the same one counted by hand."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agents.cli.verdict_lines import lines_of_fields
from agents.snapshot import KEPT
from schemas.verdicts import FieldFigures, decode_verdict, encode_verdict
from streams.core import watching as watching_module
from streams.core.entitlement import always
from streams.core.event_fields import OTHERS
from streams.core.field_figures import MOST_WORDS, fields_of
from streams.core.gathering import Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.watching import Watching
from tests.unit.test_watching import PIPELINE, ROWS, SETTINGS, stream, told

COLOURS = ("red", "red", "red", "green", "green", "blue", "grey", "black", "white", True)


def coloured(count: int, first: int = 0, **wrong: list[Any]) -> Iterator[Gathered]:
    """Requests of one number and one category; `wrong` takes the place of a field's first values."""
    for number, one in enumerate(stream(count, first)):
        one.fields["colour"] = COLOURS[number % len(COLOURS)]
        for name, values in wrong.items():
            if number < len(values):
                one.fields[name] = values[number]
        yield one


def watched(**wrong: list[Any]) -> tuple[Watching, dict[str, FieldFigures], list[Gathered]]:
    """After one window whose first values are wrong; the figures of its fields, and its requests."""
    watching = Watching(PIPELINE, replace(SETTINGS, reference_rows=ROWS), ("x", "colour"))
    told(watching, coloured(ROWS))
    last = list(coloured(1_000, ROWS, **wrong))
    told(watching, iter(last))
    assert watching.judging is not None
    return watching, fields_of(watching.judging.watch.ring), last


def test_each_record_has_those_of_its_requests():
    watching = Watching(PIPELINE, SETTINGS, ("x", "colour"))
    found = told(watching, coloured(ROWS + 2_000))
    assert [decode_verdict(encode_verdict(one)).fields for one in found] == [one.fields for one in found]
    assert {one.fields["colour"].words["red"] for one in found} == {0.3}
    [early] = told(watching, coloured(250, ROWS + 2_000, colour=["pink"] * 125))
    assert early.fields["colour"].new == 0.125, "said before the window ends: three quarters are of the one before"


def test_records_of_the_same_requests_work_them_out_once(monkeypatch: pytest.MonkeyPatch):
    watching = Watching(PIPELINE, SETTINGS, ("x", "colour"))
    worked_out: list[object] = []
    monkeypatch.setattr(watching_module, "fields_of", lambda ring: worked_out.append(ring) or fields_of(ring))
    [last] = told(watching, coloured(ROWS + 1_000))
    silent = list(watching.expire(last.said_at_ms + 86_400_000, always(PIPELINE)))
    assert len(silent) > 200
    assert (len(worked_out), silent[-1].fields) == (1, last.fields)
    [early] = told(watching, coloured(250, ROWS + 1_000, colour=["pink"] * 125))
    assert early.fields["colour"].new == 0.125
    assert len(worked_out) == 2


def test_what_is_missing_of_another_type_new_or_far_outside_is_told_in_shares():
    strange: list[Any] = [*[None] * 100, *["ten"] * 50, *[float("inf")] * 5, *[1e6] * 20]
    watching, found, last = watched(x=strange, colour=[*["pink"] * 30, *[None] * 40, *[["red"]] * 10])
    x, colour = found["x"], found["colour"]
    assert (x.requests, x.nulls, x.other_type, x.new, x.outside) == (1_000, 0.1, 0.055, 0.0, 0.02)
    assert (colour.nulls, colour.other_type, colour.new, colour.outside) == (0.04, 0.01, 0.03, 0.0)
    numbers = sorted(value for one in last if isinstance(value := one.fields["x"], float) and np.isfinite(value))
    assert x.quantiles["p99"] == 1e6, "one that moved beyond all that the reference had is told as it is"
    assert (x.quantiles["p50"], x.quantiles["p1"]) == (numbers[len(numbers) // 2], numbers[len(numbers) // 100])
    assert (x.words, colour.quantiles) == ({}, {})
    counted = Counter(one.fields["colour"] for one in last if type(one.fields["colour"]) in (str, bool))
    assert colour.words == {str(word): count / 1_000 for word, count in counted.items() if str(word) in colour.words}
    assert list(colour.words.values()) == [0.276, 0.184, 0.092, 0.092, 0.092]
    again = decode_state(encode_state(watching, KEPT), KEPT)
    assert fields_of(again.judging.watch.ring) == found


def test_new_words_are_told_together_and_a_field_that_is_gone_has_no_quantiles():
    _, found, _ = watched(x=[None] * 1_000, colour=["pink"] * 600)
    assert (found["x"].nulls, found["x"].quantiles) == (1.0, {})
    assert next(iter(found["colour"].words.items())) == (OTHERS, 0.6)
    assert len(found["colour"].words) == MOST_WORDS
    x, colour = lines_of_fields(found)
    assert x == "      x: 100.0% missing (1,000 requests)"
    assert colour.startswith("      colour: 60.0% new; (others) 60.0%, red 12.0%")


def test_figures_are_of_the_newest_thousand_and_there_are_none_before_the_reference():
    watching = Watching(PIPELINE, SETTINGS, ("x", "colour"))
    assert fields_of(None) == {}
    told(watching, coloured(ROWS))
    assert watching.judging is not None
    assert fields_of(watching.judging.watch.ring) == {}
    rest = coloured(2_500, ROWS, colour=["pink"] * 1_400)
    for more, count, pink in ((250, 250, 1.0), (1_000, 1_000, 1.0), (1_250, 1_000, 0.0)):
        told(watching, islice(rest, more))
        found = fields_of(watching.judging.watch.ring)["colour"]
        assert (found.requests, found.new) == (count, pink)
