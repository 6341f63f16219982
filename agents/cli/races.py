"""What `quality`, `label-next` and `report` read: the races and the labels of a range, from the archive alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agents.cli.past import DECISIONS_AFTER_MS, held, reaching, read_labels_topic
from schemas.blocks import Offsets, decode_scores
from schemas.errors import ConfigurationRefused, NothingInRange, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.inspection import holding
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period, require
from streams.archive.reader import read_batches
from streams.archive.segment import Record, records_of
from streams.core.answers import Names
from streams.core.intervals import Bools
from streams.core.labels import Truths
from streams.core.past import SCORES_AFTER_MS
from streams.core.races import Races, Racing, decode_told


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive, or what is put together like one: from `begins_ms` on, a log time, it has all.

    `left_out` counts, by what they are, the records of before that are not in it and still to come.
    """

    root: Path
    begins_ms: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Found:
    """A range as the archive tells it.

    `reached_ms` is the newest log time of anything in the archive; `begins_ms` that of the oldest request, 0 when
    nothing came before it.
    """

    races: Races
    truths: Truths
    reached_ms: int
    begins_ms: int
    counts: Counter[str]


def read_races(root: Path, pipeline: Pipeline, period: Period, fields: Sequence[str] = ()) -> Found:
    """Every request that was decided in the period, with these fields of its event, and its labels.

    A request without a decision counts at its own log time. Raises ArchiveDamaged, naming file and range, and
    NothingInRange when there is nothing.
    """
    topics, counts = Topics(pipeline.name), Counter[str]()
    try:
        numbers = require(root, topics.raw, pipeline.partitions)
    except ConfigurationRefused as error:
        raise NothingInRange(str(error)) from error
    names, ways = Names(), Names()
    values: dict[str, dict[str, int]] = {field: {} for field in fields}
    parts = [
        _partition(root, pipeline, period, Racing(number, names, ways, values), number, counts) for number in numbers
    ]
    races = Races.joined(parts)
    rows = np.ones(len(races), dtype=bool)
    if period.since_ms is not None:
        rows &= races.decided_ms >= period.since_ms
    if period.until_ms is not None:
        rows &= races.decided_ms < period.until_ms
    if not rows.any():
        raise NothingInRange(f"{root}: no request of {topics.raw} in {period}; {held(root, topics.raw, numbers)}")
    races = races.only(rows)
    labels = read_labels_topic(root, pipeline, period)
    truths = labels.join(races.partitions, races.offsets, races.ids, races.at_ms)
    return Found(races, truths, reached_ms(root, pipeline), begins_ms(root, topics.raw, numbers), counts)


def _partition(
    root: Path,
    pipeline: Pipeline,
    period: Period,
    racing: Racing,
    number: int,
    counts: Counter[str],
) -> Races:
    topics, last_ms = Topics(pipeline.name), 0
    for record in read_period(root, topics.raw, number, period, DECISIONS_AFTER_MS):
        last_ms = record.timestamp_ms
        racing.request_seen(record.offset, last_ms, record.value)
    if not last_ms:
        return racing.races(pipeline.request.budget_ms)
    after = reaching(period, last_ms + DECISIONS_AFTER_MS)
    longest_ms = pipeline.request.budget_ms
    for record in read_period(root, topics.decisions, number, after, DECISIONS_AFTER_MS):
        try:
            told = decode_told(record.value)
        except UnreadableRecord:
            counts["records on decisions that are none"] += 1
            continue
        longest_ms = max(longest_ms, told.budget_ms)
        racing.decided(told, record.offset, record.timestamp_ms)
    after = reaching(period, last_ms + longest_ms + SCORES_AFTER_MS)
    for record in read_period(root, topics.scores, number, after, DECISIONS_AFTER_MS):
        try:
            racing.scores_offered(record.offset, record.timestamp_ms, decode_scores(record.value))
        except UnreadableRecord:
            counts["records on scores that are none"] += 1
    races = racing.races(pipeline.request.budget_ms)
    rows = told_whole(root, pipeline, number, races)
    if left_out := int((~rows).sum()):
        counts["requests at the end left out: the archive ends before what was made of them"] += left_out
    return races.only(rows)


def told_whole(root: Path, pipeline: Pipeline, number: int, races: Races) -> Bools:
    """Rows whose scores and decision the archive would have by now: files of each topic close at their own time.

    Without archived decisions there is nothing to wait for, and every row is taken.
    """
    topics = Topics(pipeline.name)
    layouts = [Layout(root, topic, number) for topic in (topics.decisions, topics.scores)]
    decisions_ms, scores_ms = (holding(one).to_ms if one.segments() else None for one in layouts)
    if decisions_ms is None or scores_ms is None:
        return np.ones(len(races), dtype=bool)
    open_ = ~races.decided & (races.at_ms + races.budgets_ms > decisions_ms)
    return (races.at_ms <= min(decisions_ms, scores_ms)) & ~open_


def records_at(root: Path, topic: str, partition: int, offsets: Offsets) -> dict[int, Record]:
    """Single records of a partition, by offset; those that are not there any more are left out."""
    if not len(offsets):
        return {}
    wanted = pa.array(offsets, pa.int64())
    return {
        record.offset: record
        for batch in read_batches(root, topic, partition, start=int(offsets.min()), end=int(offsets.max()) + 1)
        for record in records_of(batch.filter(pc.is_in(batch.column(0), wanted)))
    }


def begins_ms(root: Path, topic: str, numbers: Sequence[int]) -> int:
    """From when on every request is in the archive: 0 when it has the topic's first ones."""
    found = [holding(Layout(root, topic, number)) for number in numbers]
    return max(((one.from_ms or 0) if one.start else 0 for one in found), default=0)


def reached_ms(root: Path, pipeline: Pipeline) -> int:
    """The newest log time in a pipeline's archive, by the footers."""
    topics = Topics(pipeline.name)
    layouts = [
        Layout(root, topic, number)
        for topic in (topics.raw, topics.scores, topics.decisions, topics.labels)
        for number in range(pipeline.partitions)
    ]
    return max((holding(layout).to_ms or 0 for layout in layouts if layout.segments()), default=0)
