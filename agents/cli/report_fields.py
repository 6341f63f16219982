"""Fields of a range, then and now: the event's own, and those that tables said of it, as `enriched` has them."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from agents.cli.races import records_at
from schemas.blocks import Offsets
from schemas.errors import UNREADABLE
from schemas.pipeline import Feature, FeatureType, Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, read_period
from streams.core.enriched_past import EnrichedPast
from streams.core.event_fields import as_number, as_word, value_at
from streams.core.races import Races
from streams.core.shifts import Shift, of_numbers, of_words
from streams.core.watched_fields import WatchedFields

SAMPLE = 5_000
"""Requests of either part whose fields are looked at."""


def fields_of(
    root: Path, pipeline: Pipeline, races: Races, first: Offsets, last: Offsets, notes: list[str]
) -> list[Shift]:
    """Every declared field, the largest shift first; what could not be looked at is added to `notes`."""
    parts = [rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows)), dtype=np.int64)] for rows in (first, last)]
    if not len(parts[0]):
        return []
    rows, then = np.concatenate(parts), len(parts[0])
    events = raw_of(root, pipeline, races, rows)
    if unreadable := sum(event is None for event in events):
        notes.append(f"{unreadable:,} of the requests whose fields were looked at are no JSON objects")
    found = [_of_events(one, events[:then], events[then:]) for one in pipeline.features_of_event]
    found += _of_tables(root, pipeline, races, rows, then, notes)
    return sorted(found, key=lambda shift: (-shift.effect, shift.name))


def _of_events(feature: Feature, *parts: list[object]) -> Shift:
    return _shift(feature, *([value_at(event, feature.parts) for event in part] for part in parts))


def _of_tables(
    root: Path, pipeline: Pipeline, races: Races, rows: Offsets, then: int, notes: list[str]
) -> list[Shift]:
    """Fields of what was joined in. Of a request that `enriched` does not know, nothing is known: it is left out."""
    watched = WatchedFields(pipeline, ())
    if not watched.of_tables:
        return []
    records = joined_of(root, pipeline, races, rows)
    if unknown := sum(one is None for one in records):
        notes.append(
            f"{unknown:,} of the requests whose fields were looked at are not on enriched: left out of its fields"
        )
    parts = [[watched.joined(one) for one in part if one is not None] for part in (records[:then], records[then:])]
    features = {one.name: one for one in pipeline.features}
    return [
        _shift(features[name], *([values[name] for values in part] for part in parts)) for name in watched.of_tables
    ]


def _shift(feature: Feature, then: list[object], now: list[object]) -> Shift:
    if feature.type is FeatureType.NUMBER:
        return of_numbers(feature.name, *(np.array([as_number(value) for value in part]) for part in (then, now)))
    return of_words(feature.name, *([as_word(value) for value in part] for part in (then, now)))


def raw_of(root: Path, pipeline: Pipeline, races: Races, rows: Offsets) -> list[object]:
    """The events of some rows, decoded; None where the record is gone or no JSON."""
    topic, found = Topics(pipeline.name).raw, dict[tuple[int, int], bytes | None]()
    partitions, offsets = races.partitions[rows], races.offsets[rows]
    for number in np.unique(partitions).tolist():
        records = records_at(root, topic, number, offsets[partitions == number])
        found.update({(number, offset): record.value for offset, record in records.items()})
    return [_decoded(found.get(ticket)) for ticket in zip(partitions.tolist(), offsets.tolist(), strict=True)]


def _decoded(value: bytes | None) -> object:
    try:
        return msgspec.json.decode(value or b"")
    except UNREADABLE:
        return None


def joined_of(root: Path, pipeline: Pipeline, races: Races, rows: Offsets) -> list[Mapping[str, bytes] | None]:
    """By table, the records that were joined into some rows; None where the archive does not say.

    A request's own are in the log after it: reading begins with the oldest of these rows.
    """
    topic, found = Topics(pipeline.name).enriched, dict[tuple[int, int], Mapping[str, bytes]]()
    partitions, offsets, at_ms = races.partitions[rows], races.offsets[rows], races.at_ms[rows]
    for number in np.unique(partitions).tolist():
        own = partitions == number
        since = Period(int(at_ms[own].min()))
        past = EnrichedPast(record.value for record in read_period(root, topic, number, since))
        for offset in np.unique(offsets[own]).tolist():
            records = past.through(offset).get(offset)
            if records is not None:
                found[number, offset] = records
    return [found.get(ticket) for ticket in zip(partitions.tolist(), offsets.tolist(), strict=True)]
