"""An archive's range in columns, for schedules over millions of requests; the core does what columns cannot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agents.cli.moved import by_columns, moved
from agents.cli.past import DECISIONS_AFTER_MS, Part, Seen, horizon_ms, join, reaching, through_core
from agents.cli.taught import taught
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, read_period_batches, require
from streams.core.alike import Values
from streams.core.answers import Answers
from streams.core.column_limits import cannot, own_budgets
from streams.core.labels import Labels
from streams.core.past import SCORES_AFTER_MS, Way
from streams.core.recorded import Recorded
from streams.core.simulate import answers


def read_columns(
    root: Path, pipeline: Pipeline, ways: Sequence[Way], period: Period, labels: Labels | None, lead_ms: float
) -> tuple[Seen, dict[str, str]]:
    """Every way over the range, and why the core had to do which; raises what is wrong with the archive."""
    topics = Topics(pipeline.name)
    numbers = require(root, topics.raw, pipeline.partitions)
    require(root, topics.scores, pipeline.partitions)
    seen, slow = Seen(period), dict[str, str]()
    ways = moved(root, pipeline, taught(root, pipeline, ways, period))
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
        moves = "" if by_columns(way) else "models were moved meanwhile"
        if why := moves or cannot(way.pipeline, pipeline, table):
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
        table.probes,
    ).cut(seen, scores_end_ms)


def _read(root: Path, pipeline: Pipeline, number: int, ways: Sequence[Way], seen: Seen, recorded: Recorded) -> int:
    """Fill the columns; returns the time up to which scores are known."""
    topics, period, before_ms = Topics(pipeline.name), seen.period, horizon_ms(pipeline, ways)
    last_ms = read_requests(root, topics.raw, number, period, before_ms, recorded)
    if not last_ms:
        return 0
    decisions = reaching(period, last_ms + DECISIONS_AFTER_MS)
    for batch in read_period_batches(root, topics.decisions, number, decisions, before_ms, ("value",)):
        _, at_ms, values = batch.columns
        recorded.decided(values.to_numpy(zero_copy_only=False).tolist(), at_ms.to_numpy())
    longest_ms = max(recorded.longest_ms, *(way.pipeline.request.budget_ms for way in ways))
    until_ms = last_ms + longest_ms + SCORES_AFTER_MS
    end_ms = read_scores(root, topics.scores, number, Period(period.since_ms), before_ms, until_ms, recorded)
    seen.counts["records on scores that are none"] += recorded.unreadable
    return end_ms


def read_requests(root: Path, topic: str, number: int, period: Period, before_ms: int, recorded: Recorded) -> int:
    """Raw's columns of one partition; returns the last log time, 0 without any."""
    last_ms = 0
    for batch in read_period_batches(root, topic, number, period, before_ms, ("headers",)):
        offsets, at_ms, headers = batch.columns
        recorded.requests_seen(offsets.to_numpy(), at_ms.to_numpy(), _refined(offsets, headers))
        last_ms = int(at_ms[-1].as_py())
    return last_ms


def read_scores(
    root: Path, topic: str, number: int, period: Period, before_ms: int, until_ms: int, recorded: Recorded
) -> int:
    """What lies on scores up to a log time; returns up to when that is known."""
    end_ms = 0
    for batch in read_period_batches(root, topic, number, period, before_ms, ("value",)):
        log_ms = batch.column(1).to_numpy()
        end_ms = max(end_ms, min(int(log_ms.max()), until_ms))
        after = np.flatnonzero(log_ms > until_ms)
        inside = batch.slice(0, int(after[0])) if len(after) else batch
        offsets, at_ms, values = inside.columns
        recorded.scores_offered(offsets.to_numpy(), at_ms.to_numpy(), _values(values))
        if len(after):
            break
    return end_ms


def _refined(offsets: pa.Array, headers: pa.ListArray) -> list[int]:
    """Requests that ask for answers that get better; of a header that is there twice, the last counts."""
    pairs = headers.flatten()
    named = pc.equal(pairs.field("k"), "refine")
    if not pc.any(named).as_py():
        return []
    rows = pc.list_parent_indices(headers).filter(named).to_pylist()
    asks = dict(zip(rows, pairs.field("v").filter(named).to_pylist(), strict=True))
    return [offsets[row].as_py() for row, value in asks.items() if value == b"1"]


def _values(column: pa.BinaryArray) -> Values:
    """A column's bytes, where they lie."""
    _, ends, data = column.buffers()
    bounds = np.frombuffer(ends, dtype=np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return Values(np.frombuffer(data or b"", dtype=np.uint8), bounds[:-1], np.diff(bounds))
