"""Minute by minute: what each minute holds is counted by hand, parts are the whole, and no restart can be seen."""

import doctest
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from agents.cli.minutes import lines_of
from agents.cli.minutes import minutes as minutes_command
from agents.snapshot import KEPT
from schemas.decisions import Ticket
from schemas.errors import UnreadableRecord
from schemas.minutes import MINUTE_MS, Buckets, Minute, decode_minute, encode_minute, key_of
from streams.core import buckets, minutes
from streams.core.buckets import MOST, Sketch, buckets_of, middles_of, packed, summed
from streams.core.event_fields import OTHERS
from streams.core.gathering import AFTER_MS, Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.minute_sums import EVERY_MS, Fullest, Summed, summed_up
from streams.core.minutes import FOLD, Minutes
from streams.core.score_figures import MOST_VALUES
from tests.unit.small import TEXT

EXPECTED = {"first": "1", "second": "7"}
SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def request(at_ms: int, scores: dict[str, float], **more: Any) -> Gathered:
    took = dict.fromkeys(scores, 10.0)
    one = Gathered(Ticket(0, at_ms), at_ms, at_ms + 100 + AFTER_MS, EXPECTED, {}, None, scores, {}, took)
    for name, value in more.items():
        setattr(one, name, value)
    return one


def stream(count: int, apart_ms: int = 20) -> Iterator[Gathered]:
    """Scores of every size, senders without end, and a model that takes over after a third."""
    chance = np.random.default_rng(4)
    for number in range(count):
        scores = {"first": float(chance.normal()), "second": float(np.exp(chance.normal(0, 3)))}
        if number % 7 == 0:
            del scores["second"]
        one = request(
            apart_ms * number,
            scores,
            took_ms={name: float(round(np.exp(chance.normal(3, 1)))) for name in scores},
            without={"second": ("error", "skipped")[number % 2]} if number % 14 < 8 and number % 7 == 0 else {},
            fields={"who": f"somebody {number % 50}", "kind": "ab"[number % 2]},
            winner="first" if number % 3 else None,
        )
        one.expected = EXPECTED if number < count / 3 else EXPECTED | {"second": "8"}
        yield one


def told(found: Minutes, requests: Iterable[Gathered]) -> list[Minute]:
    return [minute for one in requests for minute in found.take(one)]


def ended(requests: Iterable[Gathered], *segments: str) -> list[Minute]:
    found = Minutes(segments)
    return [*told(found, requests), *found.expire(float("inf"))]


def sketched(values: Iterable[float]) -> Buckets:
    numbers = buckets_of(np.array(list(values), np.float64))
    return packed(*summed(numbers, np.ones(len(numbers), np.int64)))


def test_a_minute_is_what_is_counted_by_hand():
    minute = ended(
        [
            request(60_000, {"first": 0.25, "second": 0.5}, winner="first"),
            request(60_001, {"first": 0.25}, without={"second": "error"}, winner="first"),
            request(60_002, {"first": 0.75}, without={"second": "skipped"}, took_ms={"first": 150.0}),
            request(60_003, {}, without={"second": "timed out"}),
            request(119_999, {}),
            request(60_004, {"first": 0.5}, probe="p"),
            request(60_005, {}, expected={}),
        ]
    )
    assert [(one.at_ms, one.model, one.version, one.field) for one in minute] == [
        (60_000, "first", "1", ""),
        (60_000, "second", "7", ""),
    ]
    first, second = (one.values[""] for one in minute)
    assert (first.asked, first.scored, first.failed, first.skipped, first.late, first.won) == (5, 3, 0, 0, 1, 2)
    assert (second.asked, second.scored, second.failed, second.skipped, second.late, second.won) == (5, 1, 2, 1, 0, 0)
    assert first.scores == sketched([0.25, 0.25, 0.75])
    assert first.took_ms == sketched([10.0, 10.0, 150.0])
    assert [decode_minute(encode_minute(one)) for one in minute] == minute
    assert json.decode(key_of(minute[1])) == [60_000, "second", "7", ""]


def test_minutes_put_together_are_the_whole_and_so_are_the_values_of_a_field():
    requests = list(stream(12_000))
    found = ended(requests, "who", "kind")
    assert len({one.at_ms for one in found}) == 4
    for model, versions in (("first", ["1"]), ("second", ["7", "8"])):
        for field in ("", "who", "kind"):
            mine = [one for one in found if (one.model, one.field) == (model, field)]
            assert [*dict.fromkeys(one.version for one in mine)] == versions
            figures = [value for one in mine for value in one.values.values()]
            assert sum(one.asked for one in figures) == 12_000
            assert sum(one.won for one in figures) == (8_000 if model == "first" else 0)
            scores, took = Sketch(), Sketch()
            for one in figures:
                scores.merge(one.scores)
                took.merge(one.took_ms)
            every = np.array([one.scores[model] for one in requests if model in one.scores])
            assert scores.total == took.total == len(every) == sum(one.scored for one in figures)
            exact = summed(buckets_of(every), np.ones(len(every), np.int64))
            assert [part.tolist() for part in scores.summed()] == [part.tolist() for part in exact]
            expected = np.quantile(every, SHARES, method="inverted_cdf")
            assert scores.quantiles(SHARES) == pytest.approx(expected.tolist(), rel=0.004)


@given(st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=1, max_size=50))
def test_a_bucket_is_right_to_four_in_a_thousand_and_in_the_order_of_its_values(values: list[float]):
    numbers = buckets_of(np.array(sorted(values)))
    assert (np.diff(numbers) >= 0).all()
    assert middles_of(numbers).tolist() == pytest.approx(sorted(values), rel=0.004, abs=1e-307)


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(buckets).failed == 0


def test_a_sketch_of_too_many_buckets_is_coarser_and_still_adds_up():
    chance = np.random.default_rng(1)
    wild = np.concatenate([sign * np.exp(chance.normal(0, 40, 20_000)) for sign in (-1.0, 1.0)])
    whole, half = sketched(wild), sketched(wild[:20_000])
    assert MOST / 2 < len(whole.at) <= MOST
    together = Sketch()
    together.merge(half)
    together.merge(sketched(wild[20_000:]))
    together.merge(sketched([]))
    assert together.coarser >= half.coarser > 0
    exact = np.quantile(wild, SHARES, method="inverted_cdf")
    assert together.quantiles(SHARES) == pytest.approx(exact.tolist(), rel=0.004 * 2**together.coarser)
    numbers, counts = np.arange(2 * buckets.HALF), np.ones(2 * buckets.HALF, np.int64)
    every = packed(numbers, counts)
    assert (len(every.at), sum(every.of), every.coarser) == (MOST, 2 * buckets.HALF, 8)
    assert Sketch().quantiles(SHARES) == []


def test_kept_anywhere_it_goes_on_as_if_nothing_had_been():
    """Whoever is killed begins at the last snapshot: nothing is lost, and what is written again is the same."""
    requests = list(stream(9_000))
    usual = [encode_minute(one) for one in ended(requests, "who")]
    for place in (1, 2_999, 3_000, 3_001, 7_000):
        kept = Minutes(("who",))
        before = told(kept, requests[:place])
        snapshot = encode_state(kept, KEPT)
        again = told(kept, requests[place : place + 3_500])  # and then it is killed
        kept = decode_state(snapshot, KEPT)
        rest = [*told(kept, requests[place:]), *kept.expire(float("inf"))]
        assert [encode_minute(one) for one in before + rest] == usual
        assert again == rest[: len(again)]


def test_counted_together_or_one_by_one_is_the_same(monkeypatch: pytest.MonkeyPatch):
    requests = list(stream(3_000))
    together = ended(requests, "who")
    monkeypatch.setattr(minutes, "FOLD", 1)
    assert ended(requests, "who") == together


def test_a_minute_ends_with_a_later_request_or_when_the_log_is_known_beyond_it():
    found = Minutes()
    assert found.due_ms == float("inf")
    assert not found.take(request(61_000, {"first": 1.0}))
    assert found.due_ms == 120_000
    assert not found.expire(119_999)
    assert [one.model for one in found.expire(120_000)] == ["first", "second"]
    assert found.due_ms == float("inf")
    assert not found.expire(float("inf"))
    assert not found.take(request(180_000, {"first": 1.0}))
    assert [one.at_ms for one in found.take(request(600_000, {"first": 1.0}))] == [180_000] * 2


def test_a_little_earlier_is_counted_in_the_open_minute_and_a_clock_that_was_set_begins_another():
    found = Minutes()
    assert told(found, [request(at_ms, {"first": 1.0}) for at_ms in (600_000, 599_000, 480_001)]) == []
    [first, _] = found.take(request(60_000, {"first": 1.0}))
    assert (first.at_ms, first.asked) == (600_000, 3)
    assert found.due_ms == 120_000


@pytest.mark.parametrize("gone", ["", "MOST_VALUES", "turn"])
def test_memory_is_flat_over_days_of_senders_and_versions_without_end(gone: str, monkeypatch: pytest.MonkeyPatch):
    if gone == "MOST_VALUES":
        monkeypatch.setattr(minutes, gone, 1 << 40)
    if gone == "turn":
        monkeypatch.setattr(Minutes, "_begin", once(Minutes._begin))
    found, sizes, most = Minutes(("who",)), [], 0
    for number, one in enumerate(stream(200, apart_ms=3_600_000)):
        one.fields["who"] = f"somebody {number}"
        one.expected = {"first": str(number // 2), "second": "1"}
        for minute in found.take(one):
            most = max(most, len(encode_minute(minute)))
        if number % 20 == 19:
            sizes.append(len(encode_state(found, KEPT)))
    assert one.at_ms > 8 * 86_400_000
    assert gone or most < 1_000
    assert (sizes[-1] > 1.2 * sizes[0]) is bool(gone), sizes


def once(begin: Callable[[Minutes], None]) -> Callable[[Minutes], None]:
    return lambda self: None if hasattr(self, "models") else begin(self)


def test_values_beyond_the_first_are_others_and_a_busy_minute_is_bounded():
    requests = [replace(one, at_ms=one.ticket.offset // 1_000) for one in stream(2 * FOLD)]
    found = Minutes(("who",))
    assert told(found, requests) == []
    assert len(found.rows.marks) < FOLD
    by_who = [one for one in found.expire(float("inf")) if one.field == "who"]
    assert {len(one.values) for one in by_who} == {MOST_VALUES + 1}
    assert by_who[0].values[OTHERS].asked == sum(number % 50 >= MOST_VALUES for number in range(2 * FOLD))
    assert by_who[0].asked == 2 * FOLD


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b'{"at_ms": 1}', None]
    + [
        encode_minute(replace(one, values={"": replace(one.values[""], scores=wrong)}))
        for one in ended([request(1, {"first": 1.0})])[:1]
        for wrong in (Buckets([1], []), Buckets([], [], 19), Buckets([], [], -1))
    ],
)
def test_what_is_no_minute_is_said_to_be_none(value: bytes | None):
    with pytest.raises(UnreadableRecord, match="not a minute"):
        decode_minute(value)


def test_a_minute_is_as_long_as_it_says():
    assert {one.at_ms % MINUTE_MS for one in ended(stream(9_000))} == {0}


def put_together(found: Iterable[Minute], every: str) -> list[Summed]:
    fullest = Fullest()
    for one in found:
        fullest.take(one)
    return summed_up(fullest, EVERY_MS[every])


def test_any_span_has_the_counts_and_quantiles_of_all_its_requests():
    requests = list(stream(9_000, apart_ms=1_000))
    found = ended(requests, "kind")
    [first, *_] = hours = [one for one in put_together(found, "hour") if (one.model, one.field) == ("first", "")]
    assert [(one.from_ms, one.to_ms, one.minutes, one.asked) for one in hours] == [
        (0, 3_600_000, 60, 3_600),
        (3_600_000, 7_200_000, 60, 3_600),
        (7_200_000, 9_000_000, 30, 1_800),
    ]
    own = [one for one in requests if one.at_ms < 3_600_000]
    scores, took = np.array([(one.scores["first"], one.took_ms["first"]) for one in own]).T
    exact = np.quantile(scores, (0.1, 0.5, 0.9), method="inverted_cdf").tolist()
    assert list(first.scores.values()) == pytest.approx(exact, rel=0.004)
    exact = np.quantile(took, (0.5, 0.99, 0.999), method="inverted_cdf").tolist()
    assert list(first.latency_ms.values()) == pytest.approx(exact, rel=0.004)
    assert first.late == sum(one.took_ms["first"] > 100 for one in own)
    for every, count in (("minute", 150), ("day", 1), ("all", 1)):
        rows = [one for one in put_together(found, every) if (one.model, one.field) == ("first", "")]
        assert (len(rows), sum(one.asked for one in rows)) == (count, 9_000)
    by_kind = [one for one in put_together(found, "all") if one.field == "kind" and one.model == "first"]
    assert [(one.value, one.asked) for one in by_kind] == [("a", 4_500), ("b", 4_500)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_minute_that_was_written_again_counts_once_and_one_that_knows_less_does_not(order: int):
    requests = list(stream(9_000))
    whole, later = ended(requests), ended(requests[4_000:])
    assert put_together([*whole, *whole], "all") == put_together(whole, "all")
    assert put_together([whole, later][::order][0] + [whole, later][::order][1], "all") == put_together(whole, "all")


def test_people_can_read_them():
    found = put_together(ended(stream(9_000, apart_ms=1_000), "kind"), "hour")
    head, span, line, *rest = lines_of([one for one in found if not one.field])
    assert head.split() == ["requests", "scored", "failed", "late", "won", "score", "p10", "p50", "p90", "ms", "p50",
                            "p99", "p99.9"]  # fmt: skip
    assert span == "1970-01-01 00:00 to 1970-01-01 01:00"
    assert line.startswith("first 1")
    assert line.split()[2:5] == ["3,600", "100.0%", "0.0%"]
    assert sum(one.startswith("1970") for one in rest) == 2
    assert any(one.startswith("first 1 kind a") for one in lines_of([one for one in found if one.field]))


def test_a_span_without_scores_has_no_quantiles():
    [first, _] = put_together(ended([request(1, {})]), "all")
    assert (first.asked, first.scored, first.scores, first.latency_ms) == (1, 0, {}, {})
    assert lines_of([first])[-1].split()[-6:] == ["-"] * 6


def test_a_field_that_is_not_declared_and_a_value_without_one_are_refused(tmp_path: Path):
    (tmp_path / "p.toml").write_text(TEXT + '[monitor]\nsegments = ["x"]\n')

    def asked(*words: str) -> Result:
        return CliRunner().invoke(minutes_command, ["-P", str(tmp_path / "p.toml"), *words])

    assert "not among [monitor] segments (declared: x)" in str(asked("--by", "y").exception)
    assert "say which with --by" in asked("--segment", "a").output
    (tmp_path / "p.toml").write_text(TEXT)
    assert "has no monitor" in str(asked().exception)
