"""needs.<name> + scores -> model.<name>

One process per model that needs others' scores: it holds the model's rows until those are there, and sends them on
with them; a row that waits in vain is an error of that model. Why a process of its own, and when a row is given up,
is `streams.core.coupling`. A commit stands at the first record of which anything is unconfirmed, and scores are read
again from its log time on: so a crash loses no row, and sends some twice, which changes nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Message, TopicPartition
from faust.types import TP

from agents.timer import Timer
from schemas.blocks import decode_scores, encode_json_rows, encode_rows, encode_scores
from schemas.dead_letters import DeadLetter
from schemas.errors import UnreadableRecord
from schemas.needs import decode_needing
from schemas.pipeline import Model, Pipeline
from schemas.topics import Topics
from streams.core.coupling import Coupling, Sent
from streams.core.fan_out import cut
from streams.kafka.batch import Batch, Outgoing, Sending, Told
from streams.kafka.clients import Cluster
from streams.kafka.edge import Position
from streams.kafka.reading import TopicReader
from streams.kafka.transport import BatchApp

TICK_S = 1.0
"""How often it is seen what became of rows that the broker refused: nothing else need come."""

BEFORE_MS = 1_000
"""A score may be in its log this much before the row that needs it: two topics, two logs."""


class Coupler:
    """Every partition this member owns: rows and scores in, whole rows out."""

    _app: BatchApp

    def __init__(self, pipeline: Pipeline, model: Model, cluster: Cluster) -> None:
        self._pipeline = pipeline
        self._model = model
        self._cluster = cluster
        topics = Topics(pipeline.name)
        self._rows, self._scores = topics.needs(model.name), topics.scores
        self._to = topics.model(model.name)
        self._couplings: dict[int, Coupling] = {}
        self._read: dict[int, int] = {}
        self._failed: list[Told] = []
        self._timer = Timer(lambda: self._app.add_future(self.on_time()))

    @property
    def topics(self) -> tuple[str, str]:
        """What it reads: with equal partition numbers."""
        return self._rows, self._scores

    def begin(self, app: BatchApp, starts: Mapping[TP, int]) -> None:
        """Take over partitions."""
        self._app = app
        self._couplings = {
            tp.partition: Coupling(self._pipeline, self._model, at)
            for tp, at in starts.items()
            if tp.topic == self._rows
        }
        self._read = {tp.partition: at for tp, at in starts.items() if tp.topic == self._scores}

    def end(self) -> None:
        """Let go of every partition."""
        self._couplings = {}

    async def take(self, batch: Batch) -> None:
        """Take note of rows or of scores, and send what became whole."""
        coupling = self._couplings[batch.partition]
        for message in batch.messages:
            if batch.topic == self._scores:
                self._read[batch.partition] = (message.offset() or 0) + 1
                sent = self._scores_of(coupling, message)
            else:
                sent = await self._rows_of(batch, coupling, message)
            await self._send(batch.partition, coupling, sent)
        self._arm()

    def _scores_of(self, coupling: Coupling, message: Message) -> Sent:
        try:
            block = decode_scores(message.value())
        except UnreadableRecord:  # the rendezvous keeps it as a dead letter
            return Sent()
        return coupling.scores_offered(block)

    async def _rows_of(self, batch: Batch, coupling: Coupling, message: Message) -> Sent:
        try:
            needing = decode_needing(message.value())
        except UnreadableRecord as error:
            place = (batch.topic, batch.partition, message.offset())
            letter = DeadLetter(*place, "coupler", type(error).__name__, str(error))
            await self._app.producer.dead_letter(Sending(), letter, message.key(), message.value())
            return Sent()
        return coupling.rows_offered(needing, message.offset() or 0, self._app.producer.now_ms())

    async def _send(self, number: int, coupling: Coupling, sent: Sent) -> None:
        records = [
            Outgoing(self._to, value, None, number)
            for rows in sent.rows
            for part in cut(rows)
            for value in (encode_json_rows(part) if self._model.wire == "json" else [encode_rows(part)])
        ]
        records += [Outgoing(self._scores, encode_scores(block), None, number) for block in sent.errors]
        if records:
            sending = Told(lambda: coupling.confirmed(sent.positions), self._failed)
            await self._app.producer.send_batch(sending, records)
            sending.handed_over()
        else:
            coupling.confirmed(sent.positions)

    async def on_time(self) -> None:
        """Give up what is due although no record came."""
        for number, coupling in list(self._couplings.items()):
            await self._send(number, coupling, coupling.due(self._app.producer.now_ms()))
        self._arm()

    def _arm(self) -> None:
        due_ms = (coupling.next_due_ms for coupling in self._couplings.values())
        self._timer.arm(due_ms, self._app.producer.now_ms())

    async def settle(self) -> None:
        """A row that the broker will never take is a dead letter; raises KafkaException for other failures."""
        await self._app.producer.settle(self._failed)

    def committable(self) -> Mapping[TP, Position]:
        """Rows at the first record that is not confirmed; scores as a figure of lag."""
        found: dict[TP, Position] = {}
        for number, coupling in self._couplings.items():
            found[TP(self._rows, number)] = (coupling.low(), "")
            found[TP(self._scores, number)] = (self._read[number], "")
        return found

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read scores from a little before the first row that is read again; from their end where none waits."""
        places = {place.partition: place.offset for place in committed if place.topic == self._rows}
        with TopicReader(self._cluster, self._scores) as scores, TopicReader(self._cluster, self._rows) as rows:
            found = scores.ends_of(self._scores, places)  # before rows: the scores of one that comes now come later
            bounds = rows.bounds()
            at = {number: max(offset, bounds[number][0]) for number, offset in places.items()}
            for number, offset in at.items():
                message = next(rows.to_end({number: offset}), None)
                if message is not None:
                    found[number] = scores.at_time(message.timestamp()[1] - BEFORE_MS)[number]
        return {TP(self._scores, number): offset for number, offset in found.items()}

    def figures(self) -> Mapping[str, float]:
        """What the status line shows."""
        couplings = self._couplings.values()
        return {"waiting": sum(one.waiting for one in couplings), "without": sum(one.without for one in couplings)}


def attach(app: BatchApp, coupler: Coupler) -> None:
    """Put the coupler of one model on the app."""

    @app.agent(app.topic(*coupler.topics), name="coupler")
    async def at_work(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await coupler.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        coupler.begin(app, {tp: app.consumer.starts[tp] for tp in assigned})

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: Any, __: Iterable[TP], **___: Any) -> None:
        coupler.end()

    @app.task
    async def tick() -> None:
        while not app.should_stop:
            await asyncio.sleep(TICK_S)
            await coupler.settle()
