"""Bad input to a monitor that runs: counted and said, no crash and no page.

What a file of events may hold is in `test_verdicts`, bad labels in `test_labels`, references that do not fit in
`test_frozen`, damaged snapshots in `test_snapshot`.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from msgspec import json
from msgspec.structs import replace

from agents.monitor import Monitor
from agents.reading import _take_scores
from agents.snapshot import SnapshotFile
from agents.telling import Telling
from schemas.blocks import encode_scores, pack_scores
from schemas.decisions import Ticket
from schemas.pipeline import MonitorSettings
from schemas.requests import Rejection
from schemas.verdicts import Alarm, Reported, Severity, Word
from streams.core.entitlement import always
from streams.core.gathering import AFTER_MS, DecisionSeen, Gathered, Gathering, Places
from streams.core.validator import Validator
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching
from streams.kafka.clients import Cluster
from tests.unit.small import request, scores
from tests.unit.test_thin import FIRST, LAST_MS, WINDOW_MS, expired, ready
from tests.unit.test_watching import GROWN, PIPELINE, ROWS, fresh, stream, told

SETTINGS = MonitorSettings(reference_rows=ROWS, probes=0)
WATCHED = replace(PIPELINE, monitor=SETTINGS)
NAMES = {model.name: model.version for model in PIPELINE.models if model.role != "decoy"}
JSON_SCORE = {"model": "first", "version": "1", "offset": 5, "score": 0.5}


def plain_block(score: float) -> bytes:
    """A block as a program that checks nothing would write it."""
    return encode_scores(replace(scores("first", 5), scores=pack_scores([score])))


@pytest.mark.parametrize(
    "value",
    [
        plain_block(float("nan")),
        plain_block(float("inf")),
        json.encode(JSON_SCORE | {"score": "0.5"}),
        json.encode(JSON_SCORE).replace(b"0.5", b"NaN"),
        json.encode(JSON_SCORE).replace(b"0.5", b"1e999"),
        b"\xc1",
        b"",
        None,
    ],
)
def test_a_score_that_is_no_finite_number_is_no_score_and_the_next_ones_count(value: bytes | None):
    gathering = Gathering(PIPELINE, 0, Places(5, 0, 0))
    gathering.requested(request(5), {}, None)
    good = encode_scores(scores("second", 5))
    messages = [
        SimpleNamespace(value=lambda one=one: one, offset=lambda place=place: place, timestamp=lambda: (1, 1_010))
        for place, one in enumerate((value, good))
    ]
    unreadable = _take_scores(gathering, SimpleNamespace(messages=messages))  # type: ignore[arg-type]
    assert unreadable == [0]
    gathering.decided(DecisionSeen(Ticket(0, 5), "fallback", final=True, model="second"), 0, 1_020)
    for log in ("scores", "decisions"):
        gathering.reached(log, 1_100 + AFTER_MS + 1)
    assert gathering.ready, "nobody waits for it for ever"
    one = gathering.hand_on()
    assert (one.scores, one.without, gathering.read_to().scores) == ({"second": 0.7}, {}, 2)


def test_blocks_of_scores_that_cannot_be_read_are_said_in_the_next_verdict_once_however_often_they_are_read(
    tmp_path: Path,
):
    monitor = Monitor(WATCHED, SETTINGS, Cluster("127.0.0.1:1"), SnapshotFile(tmp_path, "mine"))
    monitor._watching, reading = fresh(), monitor._reading
    monitor._app = SimpleNamespace(consumer=SimpleNamespace(leave_alone=lambda _: None))  # type: ignore[assignment]
    topic = reading.topics["scores"]

    def read(*values: bytes | None, begin: int) -> None:
        reading.begin({TP(name, 0): begin for name in reading.topics.values()}, always(PIPELINE))
        messages = [
            SimpleNamespace(value=lambda one=one: one, offset=lambda place=place: place, timestamp=lambda: (1, 1_010))
            for place, one in enumerate(values, begin)
        ]
        asyncio.run(monitor.take(SimpleNamespace(topic=topic, partition=0, messages=messages)))  # type: ignore[arg-type]

    read(plain_block(float("nan")), encode_scores(scores("second", 5)), b"\xc1", begin=7)
    notes = [one.notes for one in told(monitor._watching, stream(FIRST))]
    read(b"\xc1", None, begin=9)  # the first of them again, after a restart
    notes += [one.notes for one in told(monitor._watching, stream(2_000, FIRST))]
    said = "blocks on scores that cannot be read: nothing in them is a score"
    assert [[note for note in found if said in note] for found in notes] == [[f"2 {said}"], [f"1 {said}"], []]


def asked(found: Iterator[Gathered], **scored: float) -> Iterator[Gathered]:
    """The same with who was asked: without a score of a model where that share of them says so."""
    for one in found:
        one.expected, one.leave_ms = NAMES, one.at_ms + 100 + AFTER_MS
        for name, share in scored.items():
            if one.ticket.offset % 100 >= 100 * share:
                del one.scores[name]
        one.took_ms = dict.fromkeys(one.scores, 5.0)
        yield one


def test_a_few_scores_that_never_came_are_in_the_figures_and_no_alarm():
    watching = fresh()
    told(watching, asked(stream(FIRST)))
    found = told(watching, asked(stream(2_000, FIRST), first=0.97))
    assert [(one.verdict, one.alarm) for one in found] == [(Word.HEALTHY, None)] * 2
    assert [one.models["first 1"].scored for one in found] == [0.97, 0.97]


def test_a_field_that_changes_its_type_is_data_and_no_page_though_nobody_can_score_such_requests():
    watching = Watching(PIPELINE, MonitorSettings(reference_rows=ROWS, probes=0), ("x",))
    told(watching, asked(stream(FIRST)))
    fields, validator = WatchedFields(PIPELINE, ()), Validator(PIPELINE)
    found: list[Reported] = []
    for number in range(FIRST, FIRST + 2_000):
        value = json.encode({"x": "seven", "colour": "red"})
        refused = validator.read(value, None, None, 0, number, 10 * number)
        assert isinstance(refused, Rejection)
        odd = {"x": fields.of(refused, value)["x"]}
        one = Gathered(Ticket(0, number), 10 * number, 10.0 * number, {}, odd, None, outcome="rejected")
        found += told(watching, iter([one]))
    assert {(one.verdict, one.field, one.severity) for one in found} == {(Word.DATA, "x", Severity.NOTICE)}
    assert "of another type in 100.0 % of events, such as 'seven'" in found[0].effect
    assert sum(one.answers["rejected"] for one in found) >= 1_250


def test_a_model_that_appears_and_vanishes_is_no_alarm_and_learning_it_ends_in_peace():
    watching = fresh()
    told(watching, stream(FIRST))
    found = told(watching, stream(700, FIRST, more="better"), GROWN)
    found += told(watching, stream(2 * ROWS, FIRST + 700))
    assert {(one.verdict, one.alarm) for one in found} == {(Word.HEALTHY, None)}
    assert len(found) == 4
    [wrong, *_] = told(watching, stream(1_500, FIRST + 700 + 2 * ROWS, wrong="second"))
    assert (wrong.verdict, wrong.model) == (Word.CODE, "second"), "and it sees what comes after"


def test_a_window_of_one_request_is_too_few():
    watching = ready()
    told(watching, (replace(one, at_ms=int(LAST_MS + 5)) for one in stream(1, FIRST)))
    watching.judging.slowest_ms = 0.0  # type: ignore[union-attr]  (no rate is known: that it is thin is no news)
    [found] = expired(watching, watching.due_ms + 1)
    assert (found.verdict, found.events, found.severity, found.alarm) == (Word.TOO_FEW, 1, None, None)
    assert found.sentence == "No answer: 1 events in 300 s, and at least 500 are needed."


@pytest.mark.parametrize("jump_ms", [30 * 86_400_000, -90 * 86_400_000])
def test_a_clock_that_jumps_is_counted_and_no_page(jump_ms: int):
    """A month on, or three back: 8,640 windows of silence between are notices, and told once."""
    watching = ready()
    found: list[Reported] = []
    for one in stream(3_000, FIRST):
        one.at_ms += jump_ms
        found += expired(watching, one.at_ms)
        found += told(watching, iter([one]))
    assert not any(one.severity is Severity.PAGE for one in found)
    assert any("jumps of the clock" in note for one in found for note in one.notes)
    assert [one.alarm for one in found if one.alarm in (Alarm.RAISED, Alarm.CHANGED)] == (
        [Alarm.RAISED] if jump_ms > 0 else []
    )
    assert [one.verdict for one in found[-2:]] == [Word.HEALTHY] * 2


def test_of_many_reminders_at_once_only_those_of_now_are_told(tmp_path: Path):
    watching = ready()
    found = expired(watching, LAST_MS + 200 * WINDOW_MS + 1)  # 16 hours of silence
    assert sum(one.alarm is Alarm.REMINDER for one in found) > 10
    sent: list[Any] = []

    async def send(_: object, records: list[Any]) -> None:
        sent.extend(records)

    now_ms = LAST_MS + 200 * WINDOW_MS
    telling = Telling("small.verdicts", Cluster("127.0.0.1:1"), MonitorSettings(), tmp_path / "taken")
    telling.open(SimpleNamespace(producer=SimpleNamespace(now_ms=lambda: now_ms, send_batch=send)))  # type: ignore[arg-type]

    async def say() -> None:
        for one in found:
            await telling.say(one)

    asyncio.run(say())
    assert len(sent) == len(found), "each is written"
    assert [line.split()[1] for line in telling.news] == ["raised:", "reminder:"]
