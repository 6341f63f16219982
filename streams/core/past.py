"""A partition's past run again, in process: archived raw and scores through one pipeline or several side by side.

The core is the live one, its clock the log's. A model that is not changed answers with the score and at the time
the archive has; one that is changed is scored here, given what the tables had said then, and answers after the
latency that is stated. What differs from the live run even when nothing is changed: a score counts from its log time,
not from when a process had read it, and timers are never late. Reads no clock and writes nothing.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from math import inf
from typing import Protocol

import numpy as np

from schemas.blocks import ScoreBlock, ScoresBlock, decode_scores
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.requests import Headers, Rejection, Request
from streams.core.again import Again
from streams.core.answers import Answered, Asked, Names, ScoreColumn
from streams.core.coupled_past import CoupledPast
from streams.core.enriched_past import EnrichedPast
from streams.core.enrichment import Enrichment, event_of
from streams.core.entitlement import Spans
from streams.core.features import Derivation, FeatureTable
from streams.core.given import Given
from streams.core.learned import NOTHING, Learned
from streams.core.scored_past import Scored, by_log_time, scored_block
from streams.core.validator import Validator

CHUNK = 4096
"""Requests that are read and scored together: to LightGBM a call costs as much as fifty rows."""

SCORES_AFTER_MS = 1_000
"""How long after the last deadline scores are read on."""


class Kept(Protocol):
    """A record as an archive keeps it."""

    @property
    def offset(self) -> int:
        """Where it lies."""

    @property
    def timestamp_ms(self) -> int:
        """When it was appended."""

    @property
    def key(self) -> bytes | None:
        """As the producer sent it."""

    @property
    def value(self) -> bytes | None:
        """As the producer sent it."""

    @property
    def headers(self) -> Headers | None:
        """As the producer sent them."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of answering: its name, its pipeline, the models that are scored here instead of read.

    `learned` is what its bandit knew by when, `spans` which models were in which role; without them the pipeline's
    are, all the time.
    """

    name: str
    pipeline: Pipeline
    scored: Mapping[str, Scored] = field(default_factory=dict)
    derivations: Mapping[str, Derivation] = field(default_factory=dict)
    learned: Learned = NOTHING
    spans: Spans | None = None


class Variant:
    """One way of answering, at work on one partition."""

    def __init__(self, way: Way, partition: int, start: int, lead_ms: float, names: Names) -> None:
        self.way = way
        self.answered = Answered(names)
        self.own_scores = {name: ScoreColumn() for name in way.scored}
        self._again = Again(way.pipeline, partition, start, lead_ms, spans=way.spans, learned=way.learned)
        features, enrich = way.pipeline.features, way.pipeline.enrich
        self._table = FeatureTable(features, way.derivations, enrich) if way.scored else None
        self._enrichment = Enrichment(way.pipeline)
        self._tables = list(self._enrichment.tables)
        self._archived: deque[tuple[int, int, ScoresBlock]] = deque()
        self._own: list[tuple[int, int, ScoreBlock]] = []
        self._coupled = CoupledPast(way.pipeline, way.scored)
        self._made = 0
        self._position = 0

    @property
    def untrusted(self) -> int:
        """Blocks of a model or version that the pipeline does not name."""
        return self._again.untrusted

    def requests_seen(self, found: Sequence[Request | Rejection], kept: Mapping[int, Mapping[str, bytes]]) -> None:
        """Take raw records, and what was joined into them; the models that are changed score them."""
        self._again.requests_seen(found)
        if self._table is not None:
            requests = [request for request in found if isinstance(request, Request)]
            self._score(self._table, self._enrichment.rejoin(requests, kept) if self._tables else requests)

    def scores_offered(self, position: int, log_ms: int, block: ScoresBlock) -> None:
        """Take what lies on archived `scores`, except of models that are scored here."""
        if not (isinstance(block, ScoreBlock) and block.model in self.way.scored):
            self._archived.append((log_ms, position, block))
            self._coupled.offered(block, log_ms)

    def go(self, known_ms: float) -> None:
        """Go on through time: everything up to `known_ms` was given."""
        for name, scored, parts in self._coupled.made(known_ms):
            self._made_own(name, scored, parts)
        archived, own = self._archived, self._own
        while True:
            if archived and archived[0][0] <= known_ms and not (own and own[0][0] < archived[0][0]):
                log_ms, self._position, block = archived.popleft()
            elif own and own[0][0] <= known_ms:
                log_ms, _, block = heappop(own)
            else:
                break
            self._again.scores_offered(block, self._position, log_ms)
        self._take()

    def end(self) -> None:
        """Nothing more comes: every timer fires."""
        self.go(inf)
        self._again.close("raw", "scores")
        self._take()

    def _take(self) -> None:
        for decision in self._again.decided():
            self.answered.take(decision, decision.used_ms)

    def _score(self, table: FeatureTable, requests: list[Request]) -> None:
        requests, matrix = _readable(table, requests)
        if not requests:
            return
        offsets = np.array([request.offset for request in requests], dtype=np.int64)
        at_ms = np.array([request.at_ms for request in requests], dtype=np.int64)
        deadlines_ms = at_ms + np.array([request.budget_ms for request in requests], dtype=np.int64)
        given = Given(matrix, tuple(event_of(request, self._tables) for request in requests))
        self._coupled.requests_seen(offsets, at_ms, deadlines_ms, matrix, given.events)
        for name, scored in self.way.scored.items():
            if name in self._coupled:
                continue
            block, reasons = scored_block(name, scored, offsets, given)
            parts = list(by_log_time(block, reasons, offsets, at_ms + scored.latency_ms))
            for log_ms, part in parts:
                self._coupled.offered(part, log_ms)
            self._made_own(name, block, parts)

    def _made_own(self, name: str, block: ScoreBlock, parts: Iterable[tuple[int, ScoreBlock]]) -> None:
        self.own_scores[name].take(block, 0, 0)
        for log_ms, part in parts:
            self._made += 1
            heappush(self._own, (log_ms, self._made, part))


def _readable(table: FeatureTable, requests: list[Request]) -> tuple[list[Request], np.ndarray]:
    """Requests and their matrix; one that a derivation raises on was rejected by the router, and is left out."""
    try:
        return requests, table.matrix(requests)
    except Exception:  # a derivation is anybody's code
        good = []
        for request in requests:
            try:
                table.matrix([request])
            except Exception:  # noqa: S112  the archived scores hold its rejection and the reason
                continue
            good.append(request)
        return good, table.matrix(good)


class Past:
    """One partition's archive on its way through every variant; what is asked and scored is kept in columns.

    `watch` is shown the requests as the base pipeline reads them.
    """

    def __init__(
        self,
        base: Pipeline,
        partition: int,
        ways: Sequence[Way],
        lead_ms: float,
        names: Names,
        watch: Callable[[Sequence[Request | Rejection]], None] = lambda _: None,
    ) -> None:
        self.asked = Asked()
        self.scores: dict[str, ScoreColumn] = {}
        self.counts: Counter[str] = Counter()
        self.variants: list[Variant] = []
        self.scores_end_ms = 0
        self.raw_end_ms = 0
        self.enriched_end = inf
        self._base = base
        self._partition = partition
        self._ways = ways
        self._watch = watch
        self._lead_ms = lead_ms
        self._names = names
        self._spans = next((way.spans for way in ways if way.spans is not None), None)
        self._versions = _versions(self._spans)
        self._ahead: Kept | None = None
        self._last_ms = 0

    def run(self, raw: Iterator[Kept], scores: Iterator[Kept], enriched: Iterable[Kept] = ()) -> None:
        """Read all to their ends; requests must be in offset order, the others in theirs."""
        joined = EnrichedPast(record.value for record in enriched)
        readers = _Readers([self._base, *(way.pipeline for way in self._ways)], self._partition)
        while chunk := list(islice(raw, CHUNK)):
            if not self.variants:
                self.variants = [
                    Variant(way, self._partition, chunk[0].offset, self._lead_ms, self._names) for way in self._ways
                ]
            found = readers.read(chunk)
            self._seen(found)
            kept = self._kept(joined, found[0])
            for variant in self.variants:
                variant.requests_seen(found[readers.shape(variant.way.pipeline)], kept)
            self._scores_through(scores, chunk[-1].timestamp_ms)
            for variant in self.variants:
                variant.go(chunk[-1].timestamp_ms)
        self._scores_through(scores, self._last_ms + SCORES_AFTER_MS)
        for variant in self.variants:
            variant.end()

    def _kept(self, joined: EnrichedPast, found: Sequence[Request | Rejection]) -> Mapping[int, Mapping[str, bytes]]:
        """What was joined into these requests; those after the last that is archived are not to be judged."""
        if not needs_enriched(self._base, self._ways):
            return {}
        kept = joined.through(found[-1].offset)
        self.enriched_end = joined.last
        lost = sum(isinstance(one, Request) and one.offset not in kept and one.offset <= joined.last for one in found)
        if lost:
            self.counts["requests of which nothing says what was joined into them: taken as nothing"] += lost
        return kept

    def _seen(self, found: Sequence[Sequence[Request | Rejection]]) -> None:
        self.asked.seen(found[0])
        self._watch(found[0])
        self.raw_end_ms = found[0][-1].at_ms
        longest = max(request.at_ms + request.budget_ms for shape in found for request in shape)
        self._last_ms = max(self._last_ms, longest)

    def _scores_through(self, scores: Iterator[Kept], until_ms: float) -> None:
        """Give the variants what was appended to `scores` up to this time."""
        while True:
            record = self._ahead or next(scores, None)
            self._ahead = record
            if record is None or record.timestamp_ms > until_ms:
                if record is not None:
                    self.scores_end_ms = max(self.scores_end_ms, int(min(until_ms, record.timestamp_ms)))
                return
            self._ahead = None
            self.scores_end_ms = max(self.scores_end_ms, record.timestamp_ms)
            try:
                block = decode_scores(record.value)
            except UnreadableRecord:
                self.counts["records on scores that are none"] += 1
                continue
            if isinstance(block, ScoreBlock):
                column = self.scores.setdefault(block.model, ScoreColumn())
                column.take(self._entitled(block), record.offset, record.timestamp_ms)
            for variant in self.variants:
                variant.scores_offered(record.offset, record.timestamp_ms, block)

    def _entitled(self, block: ScoreBlock) -> ScoreBlock:
        """Of a name that had several versions, only the scores of the one that was entitled at the request's time."""
        if self._spans is None:
            return block
        versions = self._versions.get(block.model, frozenset())
        if versions <= {block.version}:
            return block
        offsets = np.frombuffer(block.offsets, dtype="<i8")
        at_ms = self.asked.at_ms_of(offsets).tolist()
        own = np.array([self._version_at(block.model, at) == block.version for at in at_ms], dtype=bool)
        return ScoreBlock(
            block.model,
            block.version,
            offsets[own].tobytes(),
            np.frombuffer(block.scores, dtype="<f8")[own].tobytes(),
        )

    def _version_at(self, model: str, at_ms: float) -> str:
        pipeline = self._spans.at(at_ms) if self._spans else self._base
        return next((one.version for one in pipeline.models if one.name == model), "")


def needs_enriched(base: Pipeline, ways: Sequence[Way]) -> bool:
    """Whether what was joined into requests is to be read: only who scores anything is given it."""
    return bool(base.enrich) and any(way.scored for way in ways)


def _versions(spans: Spans | None) -> Mapping[str, frozenset[str]]:
    """Every version that each name was entitled in."""
    found: dict[str, set[str]] = {}
    for span in spans.spans if spans else ():
        for model in span.pipeline.models:
            found.setdefault(model.name, set()).add(model.version)
    return {name: frozenset(versions) for name, versions in found.items()}


class _Readers:
    """One validator for each way to read a record: pipelines that read alike share what was read."""

    def __init__(self, pipelines: Sequence[Pipeline], partition: int) -> None:
        self._partition = partition
        self._validators: list[Validator] = []
        self._shapes: list[tuple[object, ...]] = []
        for pipeline in pipelines:
            if _shape(pipeline) not in self._shapes:
                self._shapes.append(_shape(pipeline))
                self._validators.append(Validator(pipeline))

    def shape(self, pipeline: Pipeline) -> int:
        """Which of the readings is this pipeline's."""
        return self._shapes.index(_shape(pipeline))

    def read(self, chunk: Sequence[Kept]) -> list[list[Request | Rejection]]:
        """The chunk, read in every way."""
        return [
            [
                validator.read(one.value, one.headers, one.key, self._partition, one.offset, one.timestamp_ms)
                for one in chunk
            ]
            for validator in self._validators
        ]


def _shape(pipeline: Pipeline) -> tuple[object, ...]:
    return (pipeline.request, pipeline.features, pipeline.enrich, pipeline.record_cap_bytes, pipeline.replay)
