"""The desk at which requests are answered: clock, timer and the way to Kafka around the pure core.

What to decide, and when, is `streams.core.rendezvous`. A desk that takes over partitions first reads the roster and
decisions back, then runs the core through the time it missed (`streams.core.recovery`), then arms its timers.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, Message, TopicPartition
from faust.types import TP

from agents.answering import Answering
from agents.followed import Followed
from agents.looks import Looks
from agents.passing_over import PassingOver
from agents.recoveries import Recoveries
from agents.resuming import Resuming
from agents.timer import Timer
from schemas.blocks import ScoresBlock, TickBlock, decode_scores, encode_scores
from schemas.dead_letters import DeadLetter
from schemas.decisions import Decision, decode_decision
from schemas.errors import Paused, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.lead import LEAD_MS
from streams.core.pending import Reply
from streams.core.recovery import Recovery
from streams.core.rendezvous import Rendezvous
from streams.core.validator import Validator
from streams.kafka.batch import Batch, Outgoing, Sending
from streams.kafka.clients import Cluster
from streams.kafka.edge import Position
from streams.kafka.reading import TopicReader, read_back
from streams.kafka.records import read_record
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)

TICK_S = 1.0

PAUSE_S = 3.0
"""A desk that stood still for this long (stopped, swapped out, a sleeping host) may not be the owner any more, and
its standby has answered: it may say nothing before it has read decisions back. It looks each `TICK_S`."""

MANY_AHEAD = 100_000
"""Tickets decided before raw was read so far: with more it is asked where raw ends. Beyond that no request was
decided by anybody of ours, and a stranger's records are not kept."""

NO_SCORES = TickBlock(0.0)

GRACE_MS = 500.0
"""What a standby leaves the owner after a request could be answered, or a quarter of the budget if that is
less: too short a grace means two records of one answer whenever the owner is busy, too long a one an answer that a
pause of the broker makes late."""


class Desk:
    """Every partition this member owns: records and time in, decisions out."""

    _app: BatchApp

    def __init__(self, pipeline: Pipeline, cluster: Cluster, *, standby: bool = False) -> None:
        self._cluster = cluster
        self._standby = standby
        self._role = "standby" if standby else "rendezvous"
        self._awake_s = time.monotonic()
        self._resuming = Resuming(Topics(pipeline.name))
        self.cores: dict[int, Rendezvous] = {}
        self._many: dict[int, int] = {}
        self.answering = Answering(pipeline, self._role)
        self._pipeline = pipeline
        self._topics = Topics(pipeline.name)
        self._recoveries = Recoveries(self._role, self._topics, self._answer)
        self._looks = Looks(self._topics.decisions, self._answer) if standby else None
        self._validator = Validator(pipeline)
        self._timer = Timer(lambda: self._app.add_future(self.on_time()))
        rule = None if standby else pipeline.breaker
        self._passing = PassingOver(pipeline, rule, cluster) if rule else None
        self.followed = Followed(pipeline, cluster, lambda: self.cores.values(), self._passing)

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app
        self._recoveries.open(app)
        self.followed.open(app)
        if self._looks:
            self._looks.open(app)

    async def begin(self, starts: Mapping[TP, int]) -> None:
        """Take over partitions: learn what is decided, then run through what was missed as it is read."""
        # What was decided before these partitions were lost and is still on its way must be read back too.
        await self._app.producer.flush()
        numbers = sorted({tp.partition for tp in starts})
        self.cores = {}
        self._recoveries.begin({})
        asked_ms = self._app.producer.now_ms()
        (known, ends), _ = await asyncio.gather(asyncio.to_thread(self._past, numbers), self.followed.begin())
        cores = {number: self._core(number, starts) for number in numbers}
        now_ms = self._app.producer.now_ms()
        for decision in known:
            cores[decision.ticket.partition].decided(decision, now_ms)
        for number, core in cores.items():
            core.raw_ends(ends[number][0])  # which was asked once these were read
        grace_ms = GRACE_MS if self._pipeline.standby else 0.0
        self._recoveries.begin({n: Recovery(core, *ends[n], grace_ms, asked_ms) for n, core in cores.items()})
        self.cores = cores
        if self._looks:
            self._looks.begin(cores, starts)
        self._awake_s = time.monotonic()

    def end(self) -> None:
        """Let go of every partition."""
        self.cores = {}
        self._recoveries.begin({})
        if self._looks:
            self._looks.begin({}, {})

    def _core(self, number: int, starts: Mapping[TP, int]) -> Rendezvous:
        start = self._resuming.start(number, starts)
        grace_ms = GRACE_MS if self._standby else 0.0
        return Rendezvous(
            self._pipeline,
            number,
            start,
            LEAD_MS,
            grace_ms,
            from_log=self._pipeline.standby,
            looks=self._standby,
            spans=self.followed.spans,
            learned=self.followed.learned,
        )

    def _past(self, numbers: Sequence[int]) -> tuple[list[Decision], dict[int, tuple[int, int]]]:
        """Decisions of the horizon, and where raw and scores end now; blocks."""
        horizon_ms = self._pipeline.request.repeat_s * 1e3
        since_ms = {number: max(0.0, self._resuming.since_ms.get(number, 0.0) - horizon_ms) for number in numbers}
        with TopicReader(self._cluster, self._topics.decisions) as reader:
            known = [decision for message in read_back(reader, since_ms) if (decision := _decision(message))]
            raw = reader.ends_of(self._topics.raw, numbers)
            scores = reader.ends_of(self._topics.scores, numbers)
        return known, {number: (raw[number], scores[number]) for number in numbers}

    async def take(self, batch: Batch) -> None:
        """Take note of raw records, of scores or of decisions, and decide what can be decided.

        Raises Paused when this process stood still before.
        """
        self._stay_awake()
        core = self.cores[batch.partition]
        recovery = self._recoveries.at(batch.partition)
        now_ms = self._app.producer.now_ms()
        replies: list[Reply] = []
        if batch.topic == self._topics.raw:
            requests = [read_record(message, self._validator) for message in batch.messages]
            reached(f"{self._role}.after_request_read")
            if recovery:
                recovery.requests_seen(requests)
            else:
                replies = core.requests_seen(requests, now_ms)
                if self._passing:
                    self._passing.asked(batch.partition, requests)
        elif batch.topic == self._topics.scores:
            for message in batch.messages:
                replies += await self._scores(core, recovery, batch, message)
        else:
            for message in batch.messages:
                if decision := _decision(message):
                    replies += core.decided(decision, now_ms)
            if self._looks:
                replies += self._looks.read(batch.partition, batch.next_offset)
        if recovery:
            replies += self._recoveries.run(batch.partition)
        await self._answer(core, replies)
        await self._keep_what_can_be(core, batch.partition)  # before more decisions are read

    async def _keep_what_can_be(self, core: Rendezvous, number: int) -> None:
        """Forget what was decided of requests that are not there; who is far behind asks seldom."""
        if core.ahead <= self._many.get(number, MANY_AHEAD):
            return
        raw = TP(self._topics.raw, number)
        try:
            _, end = (await self._app.consumer.bounds([raw]))[raw]
        except KafkaException as error:  # it is asked again when more was read
            logger.warning("%s decided ahead of raw, whose end is not known: %s", core.ahead, error)
            return
        core.raw_ends(end)
        self._many[number] = max(MANY_AHEAD, 2 * core.ahead)

    async def _answer(self, core: Rendezvous, replies: Sequence[Reply]) -> None:
        await self._publish(core, replies)
        self._arm()

    async def _scores(
        self, core: Rendezvous, recovery: Recovery | None, batch: Batch, message: Message
    ) -> list[Reply]:
        position, log_ms = message.offset() or 0, message.timestamp()[1]
        block: ScoresBlock = NO_SCORES
        try:
            block = decode_scores(message.value())
        except UnreadableRecord as error:
            if not self._standby:  # one letter is enough
                await self._dead_letter(batch, message, error)
        if recovery is None:
            if self._passing:
                self._passing.offered(batch.partition, block, log_ms)
            return core.scores_offered(block, position, log_ms, self._app.producer.now_ms())
        recovery.scores_offered(
            position, log_ms, lambda as_of_ms: core.scores_offered(block, position, log_ms, as_of_ms)
        )
        return []

    async def _dead_letter(self, batch: Batch, message: Message, error: UnreadableRecord) -> None:
        place = (batch.topic, batch.partition, message.offset())
        letter = DeadLetter(*place, "rendezvous", type(error).__name__, str(error))
        await self._app.producer.dead_letter(Sending(), letter, message.key(), message.value())

    async def on_time(self) -> None:
        """Decide what is due although no record came."""
        self._stay_awake()
        for number, core in list(self.cores.items()):
            if self._recoveries.at(number) is None:
                await self._publish(core, core.due(self._app.producer.now_ms()))
        self._arm()

    def _arm(self) -> None:
        if self._looks:
            self._looks.look()
        armed = (core.next_due_ms for number, core in self.cores.items() if self._recoveries.at(number) is None)
        self._timer.arm(armed, self._app.producer.now_ms())

    async def _publish(self, core: Rendezvous, replies: Sequence[Reply]) -> None:
        if replies:
            self._stay_awake()  # it may have stood still since it took what it decided by
            await self.answering.publish(self._app.producer, core, replies, self.followed.tokens)

    def committable(self) -> Mapping[TP, Position]:
        """What may be committed now."""
        return self._resuming.committable(self.cores)

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Where to read on."""
        return self._resuming.positions(committed)

    def _stay_awake(self) -> None:
        """Raises Paused after a pause, and ever after: nothing may be said while this process ends."""
        now_s = time.monotonic()
        if self.cores and now_s - self._awake_s > PAUSE_S:
            raise Paused(
                f"stood still for {now_s - self._awake_s:.1f} s: others may have answered meanwhile, so this "
                "process ends, to be started again and read what was decided"
            )
        self._awake_s = now_s

    async def tick(self) -> None:
        """Let the broker tell the time: one small record on `scores`. And see what became of decisions."""
        self._stay_awake()
        await self.answering.settle(self._app.producer)
        numbers = sorted(self.cores)
        if self._passing:
            self._app.add_future(self._passing.look(self._app.producer.now_ms()))
        if numbers:
            value = encode_scores(TickBlock(self._app.producer.now_ms()))
            sending = Sending()
            await self._app.producer.send_batch(sending, [Outgoing(self._topics.scores, value, None, numbers[0])])

    async def close_recoveries(self) -> None:
        """End those that have waited in vain."""
        await self._recoveries.close_overdue()

    @property
    def recovered(self) -> int:
        """Replies that were given for a time that was missed."""
        return self._recoveries.recovered

    @property
    def undecided(self) -> int:
        """Requests without a decision, over all partitions."""
        return sum(core.undecided for core in self.cores.values())

    def overdue_ms(self) -> float:
        """How long the first undecided request waits beyond its time."""
        now_ms = self._app.producer.now_ms()
        return max((core.oldest_overdue_ms(now_ms) for core in self.cores.values()), default=0.0)


def _decision(message: Message) -> Decision | None:
    """The decision of a record; a foreign record among decisions is nobody's answer."""
    try:
        decision = decode_decision(message.value() or b"")
    except UnreadableRecord:
        return None
    return decision if decision.ticket.partition == message.partition() else None


def attach(app: BatchApp, name: str, topics: Sequence[str], desk: Desk) -> None:
    """Put an agent that works at this desk on the app."""
    desk.open(app)

    @app.agent(app.topic(*topics), name=name)
    async def at_desk(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await desk.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        await desk.begin({tp: app.consumer.starts[tp] for tp in assigned})
        await desk.tick()
        await app.producer.flush()

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: Any, __: Iterable[TP], **___: Any) -> None:
        desk.end()

    @app.task
    async def tick() -> None:
        while not app.should_stop:
            await asyncio.sleep(TICK_S)
            await desk.tick()
            await desk.close_recoveries()
