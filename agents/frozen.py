"""The frozen reference as the monitor takes it: its window of the archive, gathered as if it were live, and learnt.

A person sets it (`rendezvous reference set`). One that no longer fits, or cannot be read, is said in one line and
refused: then the monitor goes on with what it has, or learns from the log.
"""

import logging
from collections.abc import Callable, Iterator
from heapq import merge
from pathlib import Path

from schemas.blocks import decode_scores
from schemas.enriched import decode_enriched, rows_of
from schemas.errors import ConfigurationRefused, RendezvousError, UnreadableRecord
from schemas.pipeline import Pipeline, Role
from schemas.probes import Tokens
from schemas.topics import Topics
from streams.archive.ranges import Period, iso, read_period, times_held
from streams.archive.segment import Record
from streams.core.entitlement import Spans
from streams.core.frozen_reference import FrozenReference, misfits
from streams.core.gathering import AFTER_MS, Gathered, Gathering, Places, decode_decision_seen
from streams.core.validator import Validator
from streams.core.watched import Watched
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching, learnt
from streams.reference_file import read_reference

logger = logging.getLogger(__name__)

MOST_REQUESTS = 200_000
"""A watch learns no more, and these are read through in half a minute."""

BEFORE_MS = 60_000
"""So long before the window the requests may have come that are decided in it."""

Step = tuple[int, int, Callable[[], None]]
"""Log time, which log, and what to tell the gathering."""


class Frozen:
    """The reference that is set, looked at again when its file changes."""

    def __init__(self, pipeline: Pipeline, fields: WatchedFields, file: Path, archive: Path) -> None:
        self._pipeline = pipeline
        self._fields = fields
        self._file = file
        self._archive = archive
        self._seen: tuple[int, int, str] | None = None

    def look(self, watching: Watching, now: Pipeline, spans: Spans, tokens: Tokens) -> tuple[str, Watched] | None:
        """What a reference that was not there at the last look has taught, and how it is called; blocks.

        `now` are the models that are entitled. None when there is nothing new, or nothing that fits.
        """
        try:
            stat = self._file.stat()
        except OSError:
            return None
        seen = stat.st_mtime_ns, stat.st_size
        if (*seen, watching.reference) == self._seen:
            return None
        self._seen = *seen, watching.reference
        try:
            found = read_reference(self._file)
            if found is None or watching.reference == said_of(found):
                return None
            self._require(found, now)
            past = gathered(self._archive, self._pipeline, self._fields, found, spans, tokens)
            watched = learnt(now, watching.fields, past, spans)
            self._seen = *seen, said_of(found)
            return said_of(found), watched
        except (RendezvousError, ValueError) as error:
            logger.error("the reference that is set is not used: %s", error)
            return None

    def _require(self, found: FrozenReference, now: Pipeline) -> None:
        models = {model.name: model.version for model in now.models if model.role is not Role.DECOY}
        held_ms = times_held(self._archive, Topics(self._pipeline.name).raw, range(self._pipeline.partitions))
        why = misfits(found, models, held_ms, [feature.name for feature in now.features])
        if found.requests > MOST_REQUESTS:
            why.append(f"it has {found.requests:,} requests, and at most {MOST_REQUESTS:,} are learnt from")
        if why:
            raise ConfigurationRefused(
                f"{self._file}: {'; '.join(why)}; set another with `rendezvous reference set`, or remove the file"
            )


def said_of(found: FrozenReference) -> str:
    """Which window, when, and by whom: as verdicts say it."""
    return f"{iso(found.since_ms)} to {iso(found.until_ms)}, set {iso(found.set_at_ms)} by {found.by}"


def gathered(
    root: Path, pipeline: Pipeline, fields: WatchedFields, found: FrozenReference, spans: Spans, tokens: Tokens
) -> Iterator[Gathered]:
    """The requests decided in the window with what came for them, over all partitions in the order of the log.

    Raises ArchiveDamaged, naming file and range.
    """
    every = (_partition(root, pipeline, fields, found, spans, tokens, one) for one in range(pipeline.partitions))
    for one in merge(*every, key=lambda one: (one.at_ms, one.ticket.partition)):
        if found.since_ms <= (one.at_ms if one.decided_ms is None else one.decided_ms) < found.until_ms:
            yield one


def _partition(
    root: Path,
    pipeline: Pipeline,
    fields: WatchedFields,
    found: FrozenReference,
    spans: Spans,
    tokens: Tokens,
    number: int,
) -> Iterator[Gathered]:
    """One partition's logs, merged by log time into a gathering; what is whole is taken out as they go."""
    gathering = Gathering(pipeline, number, Places(0, 0, 0))
    gathering.entitle(spans)
    validator = Validator(pipeline)
    period = Period(found.since_ms, found.until_ms)
    after = Period(found.since_ms, found.until_ms + pipeline.request.max_budget_ms + int(AFTER_MS))
    topics = Topics(pipeline.name)

    def asked(record: Record) -> None:
        one = validator.read(record.value, record.headers, record.key, number, record.offset, record.timestamp_ms)
        gathering.requested(one, fields.of(one, record.value), tokens.probe_of(record.headers))

    def scored(record: Record) -> None:
        try:
            gathering.scored(decode_scores(record.value), record.offset, record.timestamp_ms)
        except UnreadableRecord:
            gathering.reached("scores", record.timestamp_ms)

    def decided(record: Record) -> None:
        try:
            gathering.decided(decode_decision_seen(record.value), record.offset, record.timestamp_ms)
        except UnreadableRecord:
            gathering.passed(record.offset, record.timestamp_ms)

    def joined(record: Record) -> None:
        try:
            rows = list(rows_of(decode_enriched(record.value)))
        except UnreadableRecord:
            rows = []
        gathering.joined(rows, record.offset, record.timestamp_ms)

    logs = [(topics.raw, period, asked), (topics.scores, after, scored), (topics.decisions, after, decided)]
    logs += [(topics.enriched, after, joined)] if pipeline.enrich else []
    steps = [_steps(root, topic, number, part, take, place) for place, (topic, part, take) in enumerate(logs)]
    for _, _, step in merge(*steps, key=lambda one: one[:2]):
        step()
        while gathering.ready:
            yield _whole(gathering.hand_on(), fields)
    for log in gathering.logs[1:]:
        gathering.reached(log, float("inf"))
    while gathering.ready:
        yield _whole(gathering.hand_on(), fields)


def _whole(one: Gathered, fields: WatchedFields) -> Gathered:
    if one.joined is not None:
        one.fields |= fields.joined(one.joined)
    return one


def _steps(
    root: Path, topic: str, number: int, period: Period, take: Callable[[Record], None], place: int
) -> Iterator[Step]:
    for record in read_period(root, topic, number, period, BEFORE_MS):
        yield record.timestamp_ms, place, lambda record=record: take(record)
