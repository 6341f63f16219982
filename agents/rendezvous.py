"""raw + scores -> decisions

Reads raw itself, so that a request is answered by its deadline although the router and every model are dead.
What to decide, and when, is `streams.core.rendezvous`; here are the clock, the timer and the way to Kafka.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message, TopicPartition
from faust.types import TP
from msgspec import Struct, json

from schemas.blocks import (
    NotAskedBlock,
    RejectionBlock,
    ScoreBlock,
    ScoresBlock,
    TickBlock,
    decode_scores,
    encode_scores,
)
from schemas.dead_letters import DeadLetter
from schemas.decisions import encode_decision
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.requests import Headers
from schemas.topics import Topics
from streams.core.pending import Reply
from streams.core.rendezvous import Checkpoint, Rendezvous
from streams.core.validator import Validator, header
from streams.kafka.batch import Batch, Outgoing, Sending
from streams.kafka.edge import Position
from streams.kafka.records import read_record
from streams.kafka.transport import BatchApp

LEAD_MS = 4.0
"""A default leaves this long before its deadline: the way to the broker's log takes some of it."""

TICK_S = 1.0


class Resume(Struct, frozen=True):
    """The metadata of raw's commit: where the scores that belong to it begin."""

    scores: int


class Published(Sending):
    """Decisions on their way; the rendezvous hears when they are all confirmed."""

    __slots__ = ("core", "offsets")

    def __init__(self, core: Rendezvous, offsets: list[int]) -> None:
        super().__init__()
        self.core = core
        self.offsets = offsets

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Delivery report of one decision."""
        super().delivered(error, message)
        if not self.pending and not self.failures:
            self.core.published(self.offsets)


class Desk:
    """Every partition this member owns: records and time in, decisions out."""

    _app: BatchApp

    def __init__(self, pipeline: Pipeline) -> None:
        self.cores: dict[int, Rendezvous] = {}
        self.decided = 0
        self._pipeline = pipeline
        self._topics = Topics(pipeline.name)
        self._validator = Validator(pipeline)
        self._carried = ("traceparent", *pipeline.output.headers)
        self._timer: asyncio.TimerHandle | None = None

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app

    def begin(self, starts: Mapping[TP, int]) -> None:
        """Take over partitions: nothing is known but where reading starts."""
        numbers = {tp.partition for tp in starts}
        self.cores = {number: self._core(number, starts) for number in numbers}

    def _core(self, number: int, starts: Mapping[TP, int]) -> Rendezvous:
        start = Checkpoint(starts[TP(self._topics.raw, number)], starts[TP(self._topics.scores, number)])
        return Rendezvous(self._pipeline, number, start, LEAD_MS)

    async def take(self, batch: Batch) -> None:
        """Take note of raw records or of scores, and decide what can be decided."""
        core = self.cores[batch.partition]
        if batch.topic == self._topics.raw:
            requests = [read_record(message, self._validator) for message in batch.messages]
            replies = core.requests_seen(requests, self._app.producer.now_ms())
        else:
            replies = []
            for message in batch.messages:
                replies += await self._scores(core, batch, message)
        await self._publish(core, replies)
        self._arm()

    async def _scores(self, core: Rendezvous, batch: Batch, message: Message) -> list[Reply]:
        position = message.offset()
        try:
            block = decode_scores(message.value())
        except UnreadableRecord as error:
            letter = DeadLetter(batch.topic, batch.partition, position, "rendezvous", "UnreadableRecord", str(error))
            await self._app.producer.dead_letter(Sending(), letter, message.key(), message.value())
            return []
        return self._offer(core, block, position, message.timestamp()[1])

    def _offer(self, core: Rendezvous, block: ScoresBlock, position: int, log_ms: int) -> list[Reply]:
        now_ms = self._app.producer.now_ms()
        match block:
            case ScoreBlock():
                return core.scores_offered(block, position, log_ms, now_ms)
            case RejectionBlock():
                return core.rejected(block, position, now_ms)
            case NotAskedBlock():
                return core.not_asked(block, position, now_ms)
            case TickBlock():
                return []

    async def on_time(self) -> None:
        """Decide what is due although no record came."""
        for core in list(self.cores.values()):
            await self._publish(core, core.due(self._app.producer.now_ms()))
        self._arm()

    def _arm(self) -> None:
        """One timer for all: the earliest moment at which time alone decides."""
        due_ms = min((due for core in self.cores.values() if (due := core.next_due_ms)), default=None)
        if due_ms is None:
            return
        loop = asyncio.get_running_loop()
        at_s = loop.time() + max(0.0, due_ms - self._app.producer.now_ms()) / 1e3
        if self._timer is not None:
            if not self._timer.cancelled() and loop.time() < self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at_s, lambda: self._app.add_future(self.on_time()))

    async def _publish(self, core: Rendezvous, replies: Sequence[Reply]) -> None:
        if not replies:
            return
        self.decided += len(replies)
        sending = Published(core, [reply.request.offset for reply in replies])
        topic = self._topics.decisions
        copies: list[Outgoing] = []
        records: list[Outgoing] = []
        for reply in replies:
            request, decision = reply.request, reply.decision
            headers = self._carry(request.headers) if request.headers else None
            value = encode_decision(decision)
            records.append(Outgoing(topic, value, request.key, decision.ticket.partition, headers))
            if request.headers and (copy_to := self._reply_to(request.headers)):
                copies.append(Outgoing(copy_to, value, request.key, -1, headers))
        await self._app.producer.send_batch(sending, records)
        if copies:
            await self._app.producer.send_copies(copies)

    def _carry(self, headers: Headers) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in headers if name in self._carried]

    def _reply_to(self, headers: Headers) -> str | None:
        """The topic a producer wants its answer on, when the pipeline allows it."""
        prefix = self._pipeline.output.reply_to_prefix
        wanted = (header(headers, "reply-to") or b"").decode(errors="replace") if prefix else ""
        return wanted if wanted.startswith(prefix) and _topic_name(wanted) else None

    def committable(self) -> Mapping[TP, Position]:
        """Raw at the low watermark of requests without a confirmed decision, with the scores' place beside."""
        found: dict[TP, Position] = {}
        for number, core in self.cores.items():
            checkpoint = core.checkpoint()
            metadata = json.encode(Resume(checkpoint.scores)).decode()
            found[TP(self._topics.raw, number)] = (checkpoint.raw, metadata)
            found[TP(self._topics.scores, number)] = (checkpoint.scores, "")
        return found

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read scores from where the commit of raw says, not from where scores were read to."""
        found: dict[TP, int] = {}
        for place in committed:
            if place.topic == self._topics.raw and place.offset >= 0 and place.metadata:
                try:
                    resume = json.decode(place.metadata, type=Resume)
                except UNREADABLE:
                    continue
                found[TP(self._topics.scores, place.partition)] = resume.scores
        return found

    async def tick(self) -> None:
        """Let the broker tell the time: one small record on `scores`."""
        numbers = sorted(self.cores)
        if numbers:
            value = encode_scores(TickBlock(self._app.producer.now_ms()))
            sending = Sending()
            await self._app.producer.send_batch(sending, [Outgoing(self._topics.scores, value, None, numbers[0])])

    @property
    def undecided(self) -> int:
        """Requests without a decision, over all partitions."""
        return sum(core.undecided for core in self.cores.values())

    def overdue_ms(self) -> float:
        """How long the first undecided request waits beyond its time."""
        now_ms = self._app.producer.now_ms()
        return max((core.oldest_overdue_ms(now_ms) for core in self.cores.values()), default=0.0)


def attach(app: BatchApp, pipeline: Pipeline, desk: Desk) -> None:
    """Put the rendezvous's agent on the app."""
    topics = Topics(pipeline.name)
    desk.open(app)

    @app.agent(app.topic(topics.raw, topics.scores), name="rendezvous")
    async def rendezvous(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await desk.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        desk.begin({tp: app.consumer.starts[tp] for tp in assigned})
        await desk.tick()
        await app.producer.flush()

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: Any, __: Iterable[TP], **___: Any) -> None:
        desk.cores = {}

    @app.task
    async def tick() -> None:
        while not app.should_stop:
            await asyncio.sleep(TICK_S)
            await desk.tick()


def _topic_name(name: str) -> bool:
    return 0 < len(name) <= 249 and all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
