"""An archive's range in columns, for schedules over millions of requests; the core does what columns cannot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from agents.cli.past import DECISIONS_AFTER_MS, Part, Seen, horizon_ms, join, through_core
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, read_period, require
from streams.core.answers import Answers
from streams.core.past import SCORES_AFTER_MS, Way
from streams.core.simulate import Recorded, Said, answers, cannot, decode_quickly, own_budgets

_decode = msgspec.json.Decoder(Said).decode


def read_columns(
    root: Path, pipeline: Pipeline, ways: Sequence[Way], period: Period, labels: Mapping[str, bool], lead_ms: float
) -> tuple[Seen, dict[str, str]]:
    """Every way over the range, and why the core had to do which; raises what is wrong with the archive."""
    topics = Topics(pipeline.name)
    numbers = require(root, topics.raw, pipeline.partitions)
    require(root, topics.scores, pipeline.partitions)
    seen, slow = Seen(period), dict[str, str]()
    parts = [_partition(root, pipeline, number, ways, seen, lead_ms, slow) for number in numbers]
    return join(root, pipeline, seen, parts, labels), slow


def _partition(
    root: Path,
    pipeline: Pipeline,
    number: int,
    ways: Sequence[Way],
    seen: Seen,
    lead_ms: float,
    slow: dict[str, str],
) -> Part | None:
    recorded = Recorded(pipeline, seen.names)
    scores_end_ms = _read(root, pipeline, number, ways, seen, recorded)
    table = recorded.table(pipeline.request.budget_ms)
    if not len(table.offsets):
        return None
    found: dict[str, Answers] = {}
    left: list[Way] = []
    for way in ways:
        if why := cannot(way.pipeline, pipeline, table, recorded.rejections, lead_ms):
            slow[way.name] = why
            left.append(way)
        else:
            found[way.name] = answers(way.pipeline, pipeline, table, lead_ms, seen.names)
    ids = table.ids
    if left:
        past = through_core(root, pipeline, number, left, seen, lead_ms)
        found |= {variant.way.name: variant.answered.rows(table.offsets) for variant in past.variants}
        scores_end_ms, ids = min(scores_end_ms, past.scores_end_ms), past.asked.ids
    return Part(
        number,
        table.offsets,
        ids,
        table.at_ms,
        own_budgets(table, pipeline, pipeline),
        table.happened,
        {way.name: found[way.name] for way in ways},
        {model: times[0] for model, times in table.scores.items()},
        {},
    ).cut(seen, scores_end_ms)


def _read(root: Path, pipeline: Pipeline, number: int, ways: Sequence[Way], seen: Seen, recorded: Recorded) -> int:
    """Fill the columns; returns the time up to which scores are known."""
    topics, period, before_ms = Topics(pipeline.name), seen.period, horizon_ms(pipeline, ways)
    last_ms = longest_ms = 0
    for record in read_period(root, topics.raw, number, period, before_ms):
        last_ms = record.timestamp_ms
        recorded.request_seen(record.offset, last_ms)
    if not last_ms:
        return 0
    for record in read_period(
        root, topics.decisions, number, Period(period.since_ms, last_ms + DECISIONS_AFTER_MS), before_ms
    ):
        try:
            said = _decode(record.value or b"")
        except UNREADABLE:
            continue
        longest_ms = max(longest_ms, said.budget_ms)
        recorded.decided(said, record.timestamp_ms)
    longest_ms = max(longest_ms, *(way.pipeline.request.budget_ms for way in ways))
    end_ms = 0
    until_ms = last_ms + longest_ms + SCORES_AFTER_MS
    for record in read_period(root, topics.scores, number, Period(period.since_ms), before_ms):
        end_ms = max(end_ms, min(record.timestamp_ms, until_ms))
        if record.timestamp_ms > until_ms:
            break
        try:
            recorded.scores_offered(record.offset, record.timestamp_ms, decode_quickly(record.value))
        except UnreadableRecord:
            seen.counts["records on scores that are none"] += 1
    return end_ms
