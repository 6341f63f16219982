"""A frozen slice of archived input: the newest requests of a range, as the models of a pipeline are given them.

Or all of them in passing, where none has to be kept.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

from msgspec import json

from agents.cli.past import held
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.requests import Request
from schemas.topics import Topics
from streams.archive.ranges import Period, iso, read_period, require
from streams.core.enriched_past import EnrichedPast
from streams.core.enrichment import Enrichment, event_of
from streams.core.features import Derivation, FeatureTable
from streams.core.given import Given
from streams.core.validator import Validator
from streams.models.artifact import sum_of

Newest = tuple[int, int, Request]
"""Log time, partition, request."""

TOGETHER = 1_000
"""Requests of a partition that are joined with what was joined into them at once, when they are read in passing."""


@dataclass
class Slice:
    """Requests in the order of their log times, and their tickets; `rejected` counts records that are no requests."""

    requests: list[Request] = field(default_factory=list)
    tickets: list[tuple[int, int]] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    tables: tuple[str, ...] = ()

    def values(self) -> list[bytes]:
        """The events as JSON, with what was joined into them."""
        return [event_of(request, self.tables) for request in self.requests]

    def events(self) -> list[object]:
        """The same, decoded."""
        return [json.decode(value) for value in self.values()]

    def given(self, pipeline: Pipeline, derivations: dict[str, Derivation]) -> Given:
        """All of the pipeline's columns; raises ConfigurationRefused when a derivation raises."""
        try:
            matrix = FeatureTable(pipeline.features, derivations, pipeline.enrich).matrix(self.requests)
        except Exception as error:  # a derivation is anybody's code
            raise ConfigurationRefused(
                f"{self.said()}: a derived feature raised {error!r}; mend the function that `derive` names"
            ) from error
        return Given(matrix, tuple(self.values()))

    def said(self) -> str:
        """Which requests these are: count, times, and a sum that is the same for the same input."""
        times = self.requests[0].at_ms, self.requests[-1].at_ms
        return _said(len(self.requests), times, sum_of(b"".join(self.values())))


class Passing:
    """Every request of a period in the order of log times, one after the other: memory is that of a few of them.

    What they were is known when all were read.
    """

    def __init__(self, root: Path, pipeline: Pipeline, period: Period) -> None:
        self._root, self._pipeline, self._period = root, pipeline, period
        self._tables = tuple(one.name for one in pipeline.enrich)
        self._count, self._first_ms, self._last_ms = 0, 0, 0
        self._sum = sha256()

    def events(self) -> Iterator[object]:
        """Each as an event, decoded; raises what is wrong with the archive, naming file and range."""
        topic = Topics(self._pipeline.name).raw
        numbers = require(self._root, topic, self._pipeline.partitions)
        every = [self._of(number) for number in numbers]
        for at_ms, _, request in heapq.merge(*every, key=lambda one: (one[0], one[1], one[2].offset)):
            value = event_of(request, self._tables)
            self._first_ms = self._first_ms if self._count else at_ms
            self._last_ms = at_ms
            self._count += 1
            self._sum.update(value)
            yield json.decode(value)
        if not self._count:
            held_ = held(self._root, topic, numbers)
            raise ConfigurationRefused(f"{self._root}: no request of {topic} in {self._period}; {held_}")

    def said(self) -> str:
        """Which requests these were, as a slice of them says it."""
        return _said(self._count, (self._first_ms, self._last_ms), self._sum.hexdigest())

    def _of(self, number: int) -> Iterator[Newest]:
        """One partition's; of which it is not archived what was joined into them is left out."""
        requests = self._requests(number)
        if not self._tables:
            yield from requests
            return
        joins, enrichment, past = Topics(self._pipeline.name).enriched, Enrichment(self._pipeline), None
        while some := list(islice(requests, TOGETHER)):
            if past is None:
                records = read_period(self._root, joins, number, Period(some[0][0]))
                past = EnrichedPast(record.value for record in records)
            kept = past.through(some[-1][2].offset)
            there = [request for _, _, request in some if request.offset in kept]
            yield from ((one.at_ms, number, one) for one in enrichment.rejoin(there, kept))

    def _requests(self, number: int) -> Iterator[Newest]:
        topic, validator = Topics(self._pipeline.name).raw, Validator(self._pipeline)
        for record in read_period(self._root, topic, number, self._period):
            found = validator.read(
                record.value, record.headers, record.key, number, record.offset, record.timestamp_ms
            )
            if isinstance(found, Request):
                yield found.at_ms, number, found


def read_slice(root: Path, pipeline: Pipeline, period: Period, rows: int) -> Slice:
    """The newest `rows` requests of a period; raises what is wrong with the archive, naming file and range."""
    topic, validator = Topics(pipeline.name).raw, Validator(pipeline)
    found = Slice(tables=tuple(one.name for one in pipeline.enrich))
    numbers = require(root, topic, pipeline.partitions)
    kept: list[Newest] = []
    for number in numbers:
        newest: deque[Newest] = deque(maxlen=rows)
        for record in read_period(root, topic, number, period):
            request = validator.read(
                record.value, record.headers, record.key, number, record.offset, record.timestamp_ms
            )
            if isinstance(request, Request):
                newest.append((request.at_ms, number, request))
            else:
                found.rejected[request.error] += 1
        kept += _joined(root, pipeline, number, newest, found)
    kept.sort(key=lambda one: (one[0], one[1], one[2].offset))
    for _, number, request in kept[-rows:]:
        found.requests.append(request)
        found.tickets.append((number, request.offset))
    if not found.requests:
        raise ConfigurationRefused(f"{root}: no request of {topic} in {period}; {held(root, topic, numbers)}")
    return found


def _joined(root: Path, pipeline: Pipeline, number: int, newest: Sequence[Newest], found: Slice) -> list[Newest]:
    """The same with what the router had joined into them; of which that is not archived is left out, and counted."""
    if not pipeline.enrich or not newest:
        return list(newest)
    records = read_period(root, Topics(pipeline.name).enriched, number, Period(newest[0][0]))
    kept = EnrichedPast(record.value for record in records).through(newest[-1][2].offset)
    requests = [request for _, _, request in newest if request.offset in kept]
    if lost := len(newest) - len(requests):
        found.rejected["not-enriched"] += lost
    return [(request.at_ms, number, request) for request in Enrichment(pipeline).rejoin(requests, kept)]


def _said(count: int, times_ms: tuple[int, int], digest: str) -> str:
    first, last = map(iso, times_ms)
    return f"{count:,} requests, {first} to {last}, sha256 {digest[:12]}"
