"""A frozen slice of archived input: the newest requests of a range, as the models of a pipeline are given them."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        first, last = self.requests[0], self.requests[-1]
        digest = sum_of(b"".join(self.values()))[:12]
        return f"{len(self.requests):,} requests, {iso(first.at_ms)} to {iso(last.at_ms)}, sha256 {digest}"


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
