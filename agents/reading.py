"""The monitor's reading: every log of every partition, each as far as it was read, gathered by request.

Who reads ahead of the slowest waits, and who waits for what may never come asks how far the logs reach.
"""

import logging
from collections.abc import Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition
from faust.types import TP

from schemas.blocks import TickBlock, decode_scores
from schemas.enriched import decode_enriched, rows_of
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.probes import NO_TOKENS, Tokens
from schemas.requests import Request
from schemas.topics import Topics
from streams.core.entitlement import Spans
from streams.core.gathering import (
    ENRICHED,
    Gathered,
    Gathering,
    Places,
    ahead,
    decode_decision_seen,
    in_log_order,
    logs_of,
)
from streams.core.validator import Validator
from streams.core.watched_fields import WatchedFields
from streams.kafka.batch import Batch
from streams.kafka.edge import Position
from streams.kafka.records import read_record
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)

SKEW_MS = 200.0
"""How far this process's idea of the broker's clock may be from it."""

NO_SCORES = TickBlock(0.0)


class Reading:
    """One gathering a partition, and which topic is which log."""

    def __init__(self, pipeline: Pipeline, fields: WatchedFields) -> None:
        topics = Topics(pipeline.name)
        every = {"raw": topics.raw, "scores": topics.scores, "decisions": topics.decisions, ENRICHED: topics.enriched}
        self.topics = {log: every[log] for log in logs_of(pipeline)}
        self.tokens = NO_TOKENS
        self.gatherings: dict[int, Gathering] = {}
        self._pipeline = pipeline
        self._logs = {topic: log for log, topic in self.topics.items()}
        self._validator = Validator(pipeline)
        self._fields = fields
        self._unreadable: list[tuple[int, int]] = []

    def starts(self, committed: Sequence[TopicPartition], kept: Mapping[int, Places]) -> Mapping[TP, int]:
        """Read on where the snapshot belongs; without one from the beginning, if the pipeline begins there."""
        starts = {}
        for place in committed:
            known = kept.get(place.partition)
            if known is not None:
                starts[TP(place.topic, place.partition)] = int(getattr(known, self._logs[place.topic]))
            elif self._pipeline.start == "earliest":
                starts[TP(place.topic, place.partition)] = OFFSET_BEGINNING
        return starts

    def begin(self, starts: Mapping[TP, int], spans: Spans) -> None:
        """Gather the partitions of these places."""
        self.gatherings = {}
        for number in sorted({tp.partition for tp in starts}):
            places = Places(**{log: starts[TP(topic, number)] for log, topic in self.topics.items()})
            self.gatherings[number] = Gathering(self._pipeline, number, places)
        self.entitle(spans)

    def entitle(self, spans: Spans) -> None:
        """More of the roster is known."""
        for gathering in self.gatherings.values():
            gathering.entitle(spans)

    def announced(self, tokens: Tokens) -> None:
        """More tokens of probes are known."""
        self.tokens = tokens

    def take(self, batch: Batch, *, keep: bool) -> bool:
        """Gather one batch of any of the logs; False when its partition is nobody's. `keep` raw records with it."""
        gathering = self.gatherings.get(batch.partition)
        if gathering is None:
            return False
        match self._logs[batch.topic]:
            case "raw":
                self._take_raw(gathering, batch, keep=keep)
            case "scores":
                self._unreadable += [(batch.partition, place) for place in _take_scores(gathering, batch)]
            case "decisions":
                _take_decisions(gathering, batch)
            case _:
                _take_enriched(gathering, batch)
        return True

    def _take_raw(self, gathering: Gathering, batch: Batch, *, keep: bool) -> None:
        for message in batch.messages:
            found, value = read_record(message, self._validator), message.value()
            probe = self.tokens.probe_of(found.headers)
            record = (found.key, value) if keep and value and isinstance(found, Request) and probe is None else None
            gathering.requested(found, self._fields.of(found, value), probe, record)

    def unreadable(self) -> list[tuple[int, int]]:
        """Blocks of scores that could not be read, by partition and offset, since this was asked last."""
        found, self._unreadable = self._unreadable, []
        return found

    def hand_on(self) -> Gathered | None:
        """The next request, over all partitions, with all its fields; None when it is not known yet which that is."""
        gathering = in_log_order(self.gatherings.values())
        if gathering is None:
            return None
        one = gathering.hand_on()
        if one.joined is not None:
            one.fields |= self._fields.joined(one.joined)
        return one

    def pace(self, app: BatchApp) -> None:
        """Read on only what is not far ahead of the rest."""
        far = ahead(self.gatherings.values())
        app.consumer.leave_alone(frozenset(TP(self.topics[log], number) for number, log in far))

    @property
    def frontier_ms(self) -> float:
        """No request before this log time is still to be handed on, of any partition."""
        return min((gathering.frontier_ms for gathering in self.gatherings.values()), default=float("-inf"))

    async def settle(self, app: BatchApp, due_ms: float) -> None:
        """Ask how far the logs reach when somebody waits for what may never come, or a verdict is due."""
        asked_ms = app.producer.now_ms() - SKEW_MS
        gatherings = dict(self.gatherings)
        if asked_ms <= due_ms and not any(gathering.overdue(asked_ms) for gathering in gatherings.values()):
            return
        places = {TP(topic, number): log for number in gatherings for log, topic in self.topics.items()}
        try:
            bounds = await app.consumer.bounds(places)
        except KafkaException as error:  # nobody answers: what waits goes on waiting
            logger.warning("how far the logs reach is not known: %s", error.args[0])
            return
        for tp, (first, following) in bounds.items():
            gatherings[tp.partition].bounded(places[tp], first, following, asked_ms)

    def places(self) -> dict[int, Places]:
        """Where to read on, by partition."""
        return {number: gathering.places() for number, gathering in self.gatherings.items()}

    def committable(self, kept: Mapping[int, Places]) -> Mapping[TP, Position]:
        """Where a snapshot goes on: it is what counts, and the group's own offsets follow it."""
        return {
            TP(topic, number): (int(getattr(places, log)), "")
            for number, places in kept.items()
            for log, topic in self.topics.items()
            if getattr(places, log) >= 0
        }

    def read_all(self, app: BatchApp) -> bool:
        """Whether every log was read to its end, as of the last fetch."""
        return all(
            app.consumer.highwater(TP(topic, number)) <= max(0, getattr(gathering.read_to(), log))
            for number, gathering in self.gatherings.items()
            for log, topic in self.topics.items()
        )


def _take_scores(gathering: Gathering, batch: Batch) -> list[int]:
    """The offsets of those that could not be read."""
    unreadable = []
    for message in batch.messages:
        position = message.offset() or 0
        try:
            block = decode_scores(message.value())
        except UnreadableRecord:  # a dead letter of the rendezvous'
            unreadable.append(position)
            block = NO_SCORES
        gathering.scored(block, position, message.timestamp()[1])
    return unreadable


def _take_decisions(gathering: Gathering, batch: Batch) -> None:
    for message in batch.messages:
        position, log_ms = message.offset() or 0, message.timestamp()[1]
        try:
            decision = decode_decision_seen(message.value())
        except UnreadableRecord:
            gathering.passed(position, log_ms)
            continue
        gathering.decided(decision, position, log_ms)


def _take_enriched(gathering: Gathering, batch: Batch) -> None:
    for message in batch.messages:
        try:
            rows = list(rows_of(decode_enriched(message.value())))
        except UnreadableRecord as error:  # only the router writes there
            logger.warning("%s/%s/%s: %s", batch.topic, batch.partition, message.offset(), error)
            rows = []
        gathering.joined(rows, message.offset() or 0, message.timestamp()[1])
