"""Stored days come on the topic once, whatever happens in between, and what is not taken is sent again."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import convert, json
from msgspec.structs import replace

from agents.told_days import ToldDays
from schemas.pipeline import LabelSettings
from streams.archive.figures import place_of, read_figures, store_figures, untold_days
from streams.core.judged import Judged
from streams.core.measures import measures
from streams.kafka.batch import Outgoing, Sending
from tests.unit.small import pipeline
from tests.unit.test_expected import day as scored

OF = pipeline(labels=LabelSettings(expected=0.8))
FIRST, SECOND = "2025-11-24", "2025-11-25"


def figures(day: str) -> list[Judged]:
    """Of two models."""
    scores, true = scored(np.random.default_rng(1), 300)
    found = measures(scores, true.astype(np.int8), np.ones(300), 0.5, None)
    one = Judged(
        day=day, field="", value="", state="mature", requests=300, labelled=300, coverage=1.0, threshold=0.5,
        model="first", version="1", measures=found,
    )  # fmt: skip
    return [one, replace(one, model="second")]


class Broker:
    """What a producer is to those who tell; `takes` says whether it takes what is sent."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.takes = True

    async def send_batch(self, sending: Sending, records: Sequence[Outgoing]) -> None:
        if self.takes:
            self.records += records
        else:
            sending.pending += len(records)

    async def flush(self) -> None:
        return None


def tell(root: Path, broker: Broker, of: Any = OF) -> list[str]:
    return asyncio.run(ToldDays(of, root, "w").tell(broker))  # type: ignore[arg-type]


def test_each_stored_day_is_told_once_also_after_a_restart(tmp_path: Path):
    broker = Broker()
    store_figures(tmp_path, "small", "w", figures(SECOND))
    store_figures(tmp_path, "small", "w", figures(FIRST))
    assert tell(tmp_path, broker) == [FIRST, SECOND]
    assert tell(tmp_path, broker) == []
    assert [json.decode(record.key or b"") for record in broker.records] == [
        [day, model, "1"] for day in (FIRST, SECOND) for model in ("first", "second")
    ]
    assert {(record.topic, record.partition) for record in broker.records} == {("small.quality", 0)}
    told = [convert(json.decode(record.value or b""), Judged) for record in broker.records]
    stored = [row for day in (FIRST, SECOND) for row in read_figures(place_of(tmp_path, "small", day, "")) or ()]
    assert told == stored


def by_colour(day: str) -> list[Judged]:
    """The same split by a field, with a value that needs quoting."""
    return [replace(row, field="colour", value=value) for value in ("red", 'a "b"') for row in figures(day)]


def test_the_declared_segments_of_a_day_are_told_too_each_once_under_a_key_of_its_own(tmp_path: Path):
    broker, split = Broker(), replace(OF, labels=LabelSettings(expected=0.8, segments=("colour",)))
    store_figures(tmp_path, "small", "w", by_colour(FIRST))
    assert tell(tmp_path, broker, OF) == [], "not declared"
    assert tell(tmp_path, broker, split) == [f"{FIRST} by colour"]
    store_figures(tmp_path, "small", "w", figures(FIRST))
    store_figures(tmp_path, "small", "w", by_colour(SECOND))
    assert tell(tmp_path, broker, split) == [FIRST, f"{SECOND} by colour"]
    assert tell(tmp_path, broker, split) == []
    models = ("first", "second")
    split_keys = [[FIRST, model, "1", "colour", value] for value in ("red", 'a "b"') for model in models]
    keys = [json.decode(record.key or b"") for record in broker.records]
    assert keys == [
        *split_keys,
        *([FIRST, model, "1"] for model in models),
        *([SECOND, *key[1:]] for key in split_keys),
    ]
    told = [convert(json.decode(record.value or b""), Judged) for record in broker.records]
    places = [place_of(tmp_path, "small", *place) for place in ((FIRST, "colour"), (FIRST, ""), (SECOND, "colour"))]
    assert told == [row for place in places for row in read_figures(place) or ()]


def test_what_the_broker_does_not_take_is_said_and_told_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    broker = Broker()
    store_figures(tmp_path, "small", "w", figures(FIRST))
    broker.takes = False
    with caplog.at_level(logging.ERROR):
        assert tell(tmp_path, broker) == []
    assert "small.quality: the figures of 2025-11-24 are not taken, and sent again the next time" in caplog.text
    broker.takes = True
    assert tell(tmp_path, broker) == [FIRST]
    assert len(broker.records) == 2


def test_who_dies_before_it_is_noted_tells_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broker = Broker()
    store_figures(tmp_path, "small", "w", figures(FIRST))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.told_days.note_told", die)
    with pytest.raises(KeyboardInterrupt):
        tell(tmp_path, broker)
    monkeypatch.undo()
    assert tell(tmp_path, broker) == [FIRST]
    assert broker.records[:2] == broker.records[2:]


def test_a_damaged_day_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    broker = Broker()
    for day in (FIRST, SECOND):
        store_figures(tmp_path, "small", "w", figures(day))
    place_of(tmp_path, "small", FIRST, "").write_bytes(b"nothing")
    assert tell(tmp_path, broker) == [SECOND]
    assert "no readable figures" in caplog.text
    assert untold_days(tmp_path, "small", "") == [FIRST]


def test_without_labels_in_the_pipeline_file_nothing_is_told(tmp_path: Path):
    broker = Broker()
    store_figures(tmp_path, "small", "w", figures(FIRST))
    assert tell(tmp_path, broker, pipeline()) == []
    assert not broker.records
