"""What `archive comparisons` reads: raw, scores and decisions of a range, side by side by their log times."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from agents.cli.moved import history_of
from agents.cli.past import UNCHANGED, held, horizon_ms
from agents.cli.taught import taught
from schemas.blocks import decode_scores
from schemas.decisions import decode_decision
from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.compared import HOUR_MS, due_hours, keep_hour, place_of
from streams.archive.comparisons import write_comparisons
from streams.archive.ranges import Period, read_period, require
from streams.archive.segment import ArchiveDamaged, Record
from streams.core.again import Again
from streams.core.comparison import UNDECIDED_MS, Comparing, Comparison, Roles
from streams.core.entitlement import Spans, always
from streams.core.lead import LEAD_MS
from streams.core.past import CHUNK, Way
from streams.core.validator import Validator

STEP_MS = 1_000
"""Beyond the last request the logs are read on in such steps, as long as anything is waited for."""

CLOSED = "scores that came when their record was closed: not in it"
LEFT_OUT = "requests at the end left out: the archive ends before what was made of them"
NO_SCORES, NO_DECISION = "records on scores that are none", "records on decisions that are none"


class Log:
    """One topic of a partition, read as far as a log time. `reached_ms` is up to when it is known."""

    def __init__(self, records: Iterator[Record]) -> None:
        self.reached_ms = 0.0
        self.ended = False
        self._records = records
        self._next: Record | None = None

    def through(self, until_ms: float) -> Iterator[Record]:
        """The records up to this time that were not given before."""
        while (record := self._next or next(self._records, None)) is not None:
            if record.timestamp_ms > until_ms:
                self._next = record
                self.reached_ms = max(self.reached_ms, until_ms)
                return
            self._next = None
            self.reached_ms = max(self.reached_ms, record.timestamp_ms)
            yield record
        self.ended = True


def read_comparisons(
    root: Path, pipeline: Pipeline, period: Period, counts: Counter[str], advance: Callable[[int], None]
) -> Iterator[Comparison]:
    """Every request of the range, partition by partition, in the order of raw; the monitor's own are left out.

    What is not in it is counted by its sentence in `counts`. Raises ArchiveDamaged, naming file and range, and
    ConfigurationRefused when there is nothing.
    """
    topics, found = Topics(pipeline.name), 0
    numbers = require(root, topics.raw, pipeline.partitions)
    every = _every(root, pipeline, _moved(root, pipeline), numbers, period, counts, advance)
    for found, one in enumerate(every, 1):  # noqa: B007
        yield one
    if not found:
        raise ConfigurationRefused(
            f"{root}: no request of {topics.raw} in {period} can be told; {held(root, topics.raw, numbers)}"
        )


def keep_comparisons(
    root: Path, pipeline: Pipeline, writer: str, counts: Counter[str], advance: Callable[[int], None]
) -> Iterator[tuple[Path, int]]:
    """Keep every hour that is over, the oldest first; yields its file and its rows once it is there.

    An hour that is not whole is passed over, and raised when the others are kept. Raises what `read_comparisons`
    does, ArchiveBusy and DiskTrouble.
    """
    numbers, moved = range(pipeline.partitions), _moved(root, pipeline)
    broken: list[ArchiveDamaged] = []
    for hour in due_hours(root, pipeline):
        period = Period(hour * HOUR_MS, (hour + 1) * HOUR_MS)
        every = _every(root, pipeline, moved, numbers, period, counts, advance)
        try:
            rows = keep_hour(root, pipeline, hour, writer, partial(write_comparisons, every))
        except ArchiveDamaged as error:
            broken.append(error)
            continue
        yield place_of(root, pipeline.name, hour), rows
    if broken:
        raise ArchiveDamaged(
            f"{len(broken)} hours are not whole and not kept, the others are; the first: {broken[0]}"
        )


def _moved(root: Path, pipeline: Pipeline) -> tuple[Spans, Roles]:
    """Who was entitled, and for what each was asked, over all of the archive."""
    history = history_of(root, pipeline)
    spans, beside = (history.spans, history.beside) if history else (always(pipeline), [])
    return spans, Roles(spans, beside)


def _every(
    root: Path,
    pipeline: Pipeline,
    moved: tuple[Spans, Roles],
    numbers: Iterable[int],
    period: Period,
    counts: Counter[str],
    advance: Callable[[int], None],
) -> Iterator[Comparison]:
    require(root, Topics(pipeline.name).scores, pipeline.partitions)
    require(root, Topics(pipeline.name).decisions, pipeline.partitions)
    spans, roles = moved
    (way,) = taught(root, pipeline, [Way(UNCHANGED, pipeline, spans=spans)], period)
    for number in numbers:
        yield from _partition(root, way, number, period, roles, counts, advance)


def _partition(
    root: Path,
    way: Way,
    number: int,
    period: Period,
    roles: Roles,
    counts: Counter[str],
    advance: Callable[[int], None],
) -> Iterator[Comparison]:
    topics, validator = Topics(way.pipeline.name), Validator(way.pipeline)
    before_ms, following = horizon_ms(way.pipeline, [way]), Period(period.since_ms)
    raw = read_period(root, topics.raw, number, period, before_ms)
    scores = Log(read_period(root, topics.scores, number, following, before_ms))
    decisions = Log(read_period(root, topics.decisions, number, following, before_ms))
    comparing: Comparing | None = None
    until_ms = last_ms = 0
    while chunk := list(islice(raw, CHUNK)):
        if comparing is None:
            start = chunk[0].offset
            again = Again(way.pipeline, number, start, LEAD_MS, spans=way.spans, learned=way.learned, traced=True)
            comparing = Comparing(number, again, roles, period.since_ms or 0)
        requests = [
            validator.read(one.value, one.headers, one.key, number, one.offset, one.timestamp_ms) for one in chunk
        ]
        comparing.requests_seen(requests)
        until_ms, last_ms = requests[-1].at_ms, max(last_ms, *(one.at_ms + one.budget_ms for one in requests))
        _give(comparing, scores, decisions, until_ms, counts)
        advance(len(chunk))
        yield from comparing.ready(min(scores.reached_ms, decisions.reached_ms))
    if comparing is None:
        return
    comparing.end_of_raw()
    while comparing.waiting and until_ms < last_ms + UNDECIDED_MS and not (scores.ended and decisions.ended):
        until_ms += STEP_MS
        _give(comparing, scores, decisions, until_ms, counts)
        yield from comparing.ready(min(scores.reached_ms, decisions.reached_ms))
    yield from comparing.rest(scores.reached_ms, decisions.reached_ms)
    counts[CLOSED] += comparing.closed
    counts[LEFT_OUT] += comparing.left_out


def _give(comparing: Comparing, scores: Log, decisions: Log, until_ms: float, counts: Counter[str]) -> None:
    """Both logs as far as this time."""
    for record in scores.through(until_ms):
        try:
            comparing.scores_offered(decode_scores(record.value), record.offset, record.timestamp_ms)
        except UnreadableRecord:
            counts[NO_SCORES] += 1
    for record in decisions.through(until_ms):
        try:
            comparing.decided(decode_decision(record.value or b""), record.timestamp_ms)
        except UnreadableRecord:
            counts[NO_DECISION] += 1
