"""Silence and thin traffic: a window ends by the log's time, too, once, whatever is restarted when."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from msgspec.structs import replace

from agents.reading import SKEW_MS, Reading
from agents.snapshot import KEPT
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Alarm, Reported, Severity, Word
from streams.core.entitlement import always
from streams.core.gathering import Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.monitor_checks import monitor_mistakes
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching, later
from tests.unit.test_watching import PIPELINE, ROWS, SETTINGS, fresh, stream, told

SPANS = always(PIPELINE)
WINDOW_MS = SETTINGS.window_s * 1e3
FIRST = ROWS + 1_000
LAST_MS = 10.0 * (FIRST - 1)


def ready() -> Watching:
    watching = fresh()
    assert watching.due_ms == float("inf"), "nothing is due before there is a reference"
    told(watching, stream(FIRST))
    assert watching.due_ms == LAST_MS + WINDOW_MS
    return watching


def expired(watching: Watching, until_ms: float) -> list[Reported]:
    return list(watching.expire(until_ms, SPANS))


def test_a_dead_producer_is_told_with_what_the_reference_lets_expect():
    watching = ready()
    assert expired(watching, watching.due_ms) == []
    [found] = expired(watching, LAST_MS + WINDOW_MS + 1)
    assert (found.verdict, found.severity, found.alarm) == (Word.TRAFFIC, Severity.NOTICE, Alarm.RAISED)
    assert found.sentence == (
        "Hardly anything comes: 0 requests in 300 s, where the reference never had fewer than 30,000. "
        "Look at the producers and at what is before them."
    )
    assert (found.window, found.events, found.said_at_ms) == (1, 0, LAST_MS + WINDOW_MS)
    assert (found.from_ticket.offset, found.said_at_ticket.offset) == (FIRST - 1, FIRST - 1), "the last there was"
    assert found.since_ticket is not None
    assert abs(found.since_ticket.offset - FIRST) <= 250
    again = expired(watching, LAST_MS + 3 * WINDOW_MS + 1)
    assert [(one.window, one.verdict, one.alarm) for one in again] == [
        (2, Word.TRAFFIC, None),
        (3, Word.TRAFFIC, None),
    ]


def test_requests_into_which_nothing_was_joined_are_requests_that_came():
    watching = ready()
    told(watching, (replace(one, joined=None) for one in stream(16_000, FIRST)))
    [found] = expired(watching, LAST_MS + WINDOW_MS + 1)
    assert (found.verdict, found.answers) == (Word.TOO_FEW, {"preferred": 16_000})


def slow(count: int) -> list[Gathered]:
    """One request a second."""
    return [replace(one, at_ms=1_000 * one.ticket.offset) for one in stream(count)]


def test_where_few_requests_are_usual_they_are_too_few_and_are_judged_when_there_are_enough():
    watching = fresh()
    found = []
    for one in slow(FIRST + 2_000):
        found += [*expired(watching, one.at_ms), *told(watching, iter([one]))]
    assert {one.verdict for one in found} == {Word.TOO_FEW, Word.HEALTHY}
    assert [one.window for one in found] == list(range(len(found)))
    judged = [one for one in found if one.verdict is Word.HEALTHY]
    assert len(judged) >= 4
    assert [one.from_event for one in judged[1:]] == [one.from_event + 500 for one in judged[:-1]]
    for one in judged[1:]:
        assert abs(one.from_ticket.offset - one.from_event) < 250
    [few, *_] = [one for one in found if one.verdict is Word.TOO_FEW]
    assert few.sentence == f"No answer: {few.events} events in 300 s, and at least 500 are needed."
    assert sum(sum(one.answers.values()) for one in found) <= FIRST + 2_000, "none is counted twice"


def test_a_fault_at_a_low_rate_is_still_named():
    watching = fresh()
    found = []
    for one in slow(FIRST + 2_000):
        if one.ticket.offset >= FIRST:
            one.scores["second"] = 1 - one.scores["second"]
        found += [*expired(watching, one.at_ms), *told(watching, iter([one]))]
    assert [one.model for one in found if one.alarm is Alarm.RAISED] == ["second"]


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_it_is_the_same_whoever_notices_and_after_a_restart_nothing_is_told_twice(killed_after: int):
    looked, read = ready(), ready()
    by_look = [one for until in range(3) for one in expired(looked, LAST_MS + (until + 1) * WINDOW_MS + 1)]
    next_one = replace(next(iter(stream(1, FIRST))), at_ms=int(LAST_MS + 3 * WINDOW_MS + 2))
    assert expired(read, next_one.at_ms) == by_look
    kept = decode_state(encode_state(ready(), KEPT), KEPT)
    again = expired(kept, next_one.at_ms)
    last = by_look[killed_after]
    assert [one for one in again if later(one, last)] == by_look[killed_after + 1 :]


def test_how_far_the_logs_reach_is_asked_when_a_verdict_is_due_though_nobody_waits():
    reading = Reading(PIPELINE, WatchedFields(PIPELINE, ()))
    reading.begin({TP(topic, 0): 5 for topic in reading.topics.values()}, SPANS)
    asked = []

    async def bounds(places: dict[TP, str]) -> dict[TP, tuple[int, int]]:
        asked.append(len(places))
        return dict.fromkeys(places, (0, 5))

    app = SimpleNamespace(producer=SimpleNamespace(now_ms=lambda: 9_000.0), consumer=SimpleNamespace(bounds=bounds))
    asyncio.run(reading.settle(app, 9_000.0))  # type: ignore[arg-type]
    assert (asked, reading.frontier_ms) == ([], float("-inf"))
    asyncio.run(reading.settle(app, 8_000.0))  # type: ignore[arg-type]
    assert (asked, reading.frontier_ms) == ([3], 9_000.0 - SKEW_MS)


def test_a_window_of_less_than_ten_seconds_is_refused():
    wrong = replace(PIPELINE, monitor=MonitorSettings(window_s=9))
    assert [str(one) for one in monitor_mistakes(wrong)] == ["monitor.window_s: too short; write 300: five minutes"]


def test_a_pause_where_few_requests_are_usual_anyway_is_no_news():
    watching = fresh()
    rows = slow(FIRST)
    for one in rows:
        expired(watching, one.at_ms)
        told(watching, iter([one]))
    _, *empty = expired(watching, watching.due_ms + 3 * WINDOW_MS + 1)
    assert [(one.verdict, one.events) for one in empty] == [(Word.TOO_FEW, 0)] * 3
