"""The producer under the agents: librdkafka, with a delivery report for every record.

A full queue is awaited, never dropped. A record that the broker will never take (too large) becomes a dead
letter; any other lasting error ends the process, and its supervisor's restart reads again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client
from faust.transport import base
from mode import Service

from schemas.dead_letters import DeadLetter, kept_value
from streams.core.log_clock import LogClock
from streams.kafka.batch import Batch, Outgoing, Sending, Told

logger = logging.getLogger(__name__)

POLL_S = 0.1
FLUSH_POLL_S = 0.01
FULL_QUEUE_S = 0.005
FLUSH_S = 10.0
COPIES = 10_000
"""Copies on their way at most: one to a topic that is not there stays for a while, and a queue full of them would
hold decisions up."""

CONNECT_S = 10.0
ANSWER_S = 0.5
SAMPLE_S = 0.5
ASKS, NEAR_MS = 5, 20.0
"""A first record may wait for half a second at a broker that has just started: it is asked again."""

UNTAKEABLE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
Report = Callable[[KafkaError | None, Message], None]
Refused = tuple[Outgoing, BufferError | KafkaException]


class Copies(Sending):
    """Records whose failure is a line in the log and no more."""

    __slots__ = ()

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Delivery report of one copy."""
        self.pending -= 1
        if error is not None:
            logger.warning("a copy to %s was not taken: %s", message.topic(), error.str())


class Producer(base.Producer):
    """Faust's producer interface, and `send_batch` for our agents. Used on the event loop only."""

    client: Client

    def __post_init__(self) -> None:
        self._sent = asyncio.Event()
        self.clock = LogClock(time.time() * 1e3, time.monotonic() * 1e3)
        self._sampled_s = 0.0
        self._copies = Copies()

    def now_ms(self) -> float:
        """The broker's time, as far as this process knows it."""
        return self.clock.at_ms(time.monotonic() * 1e3)

    async def on_start(self) -> None:
        """Connect, and know the topics: the first record must not wait for either."""
        self.client = Client(dict(self.app.edge.producer))
        await asyncio.to_thread(self.client.list_topics, timeout=CONNECT_S)
        await super().on_start()
        for _ in range(ASKS):
            if not self.app.edge.ask_time or self.clock.within_ms <= NEAR_MS:
                break
            await self.ask_time()
            await self.flush()

    async def ask_time(self) -> None:
        """Send a record of no other use, whose log time tells the broker's clock.

        For whoever may send nothing else because its clock is wrong: a scorer to which all rows are late.
        """
        if self.app.edge.ask_time:
            self._sampled_s = 0.0
            await self.send_batch(Sending(), [self.app.edge.ask_time()])

    async def send_batch(self, batch: Sending, records: Sequence[Outgoing]) -> None:
        """Produce for a batch: it is not finished before each of these is confirmed.

        Raises KafkaException when the client refuses a record for any reason but its size.
        """
        if isinstance(batch, Batch):
            batch = batch.owner
        self.client.poll(0)
        left = iter(records)
        refused = self._queue(batch, left, self._clock_sample(batch))
        while refused:
            record, error = refused
            if isinstance(error, BufferError):
                self.client.poll(0)
                await asyncio.sleep(FULL_QUEUE_S)
                left = iter((record, *left))
            else:
                await self._refused(batch, record, error)
            refused = self._queue(batch, left, batch.delivered)
        self._sent.set()

    def _queue(self, batch: Sending, records: Iterator[Outgoing], report: Report) -> Refused | None:
        """Hand records to the client, until one is not taken: that one, and why. `report` is the first one's."""
        produce = self.client.produce
        for record in records:
            try:
                produce(record.topic, record.value, record.key, record.partition, report, None, 0, record.headers)
            except (BufferError, KafkaException) as error:
                return record, error
            batch.pending += 1
            report = batch.delivered
        return None

    def _clock_sample(self, batch: Sending) -> Report:
        """Now and then a delivery report tells the time too."""
        sent_s = time.monotonic()
        if sent_s - self._sampled_s < SAMPLE_S:
            return batch.delivered

        def report(error: KafkaError | None, message: Message) -> None:
            kind, log_ms = message.timestamp()
            if error is None and kind == TIMESTAMP_LOG_APPEND_TIME:
                self._sampled_s = sent_s
                self.clock.confirmed(sent_s * 1e3, time.monotonic() * 1e3, log_ms)
            batch.delivered(error, message)

        return report

    async def _refused(self, batch: Sending, record: Outgoing, error: KafkaException) -> None:
        """The client itself will not take this record."""
        cause = error.args[0]
        if cause.code() not in UNTAKEABLE or record.topic == self.app.edge.dead_letters:
            raise error
        letter = DeadLetter(record.topic, record.partition, -1, self.app.edge.role, cause.name(), str(cause.str()))
        await self.dead_letter(batch, letter, record.key, record.value)

    async def dead_letter(self, batch: Sending, letter: DeadLetter, key: bytes | None, value: bytes | None) -> None:
        """Keep a record nobody could read: the original, or what identifies it when it is too large."""
        value, sizes = kept_value(value, self.app.edge.dead_letter_cap)
        headers: list[tuple[str, Any]] = [*letter.headers(), *sizes]
        topic = self.app.edge.dead_letters
        await self.send_batch(batch, [Outgoing(topic, value, key, letter.partition, headers)])

    def send_copies(self, records: Sequence[Outgoing]) -> None:
        """Send what nothing waits for: a copy to a topic that a producer named and that may not exist.

        Where too many are on their way already, and where the client knows that there is no such topic, they are
        left out.
        """
        room = max(0, COPIES - self._copies.pending)
        left_out = [(record, "too many wait") for record in records[room:]]
        left = iter(records[:room])
        while refused := self._queue(self._copies, left, self._copies.delivered):
            record, error = refused
            why = "the queue is full" if isinstance(error, BufferError) else error.args[0].str()
            left_out.append((record, why))
        if left_out:
            record, why = left_out[0]
            logger.warning("%d copies were left out, the first to %s: %s", len(left_out), record.topic, why)
        self._sent.set()

    async def resolve_failures(self, batch: Sending) -> None:
        """Turn deliveries the broker refused for good into dead letters.

        Raises KafkaException when a failure is of any other kind.
        """
        failures, batch.failures = batch.failures, []
        for error, message in failures:
            if error.code() not in UNTAKEABLE or message.topic() == self.app.edge.dead_letters:
                raise KafkaException(error)
            letter = DeadLetter(
                message.topic() or "",
                message.partition() or 0,
                -1,
                self.app.edge.role,
                error.name(),
                error.str(),
            )
            await self.dead_letter(batch, letter, _key(message), message.value())

    async def settle(self, failed: list[Told]) -> None:
        """What the broker refused for good becomes dead letters; who waits is told when it has those.

        Raises KafkaException when a failure is of any other kind.
        """
        while failed:
            told = failed.pop()
            told.pending += 1
            await self.resolve_failures(told)
            told.handed_over()

    @Service.task
    async def _poll(self) -> None:
        """Serve delivery reports here, on the loop: no thread, no lock.

        Whoever sends serves them too: to wake up for them alone costs more than they do.
        """
        while not self.should_stop:
            if len(self.client):
                self.client.poll(0)
                await asyncio.sleep(POLL_S)
            else:
                self._sent.clear()
                await self._sent.wait()

    def answered(self) -> bool:
        """Ask whether a broker answers now; blocks, for any thread but the loop's."""
        try:
            self.client.list_topics(self.app.edge.dead_letters, timeout=ANSWER_S)
        except KafkaException:
            return False
        return True

    def poll(self) -> int:
        """Serve delivery reports now; returns how many records are still in flight."""
        self.client.poll(0)
        return len(self.client)

    async def flush(self) -> None:
        """Wait, bounded, until all that was sent is confirmed."""
        deadline_s = self.loop.time() + FLUSH_S
        while self.poll() and self.loop.time() < deadline_s:
            await asyncio.sleep(FLUSH_POLL_S)

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None, *_: Any, **__: Any
    ) -> Awaitable[Any]:
        """Faust's own way to send: one record; the future resolves when the broker has it."""
        confirmed: asyncio.Future[Message] = self.loop.create_future()

        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                confirmed.set_exception(KafkaException(error))
            else:
                confirmed.set_result(message)

        self.client.produce(topic, value, key, -1 if partition is None else partition, report)
        self._sent.set()
        return confirmed

    async def on_stop(self) -> None:
        """Confirm what is in flight, then let go."""
        await super().on_stop()
        if hasattr(self, "client"):
            await self.flush()

    def supports_headers(self) -> bool:
        """Kafka has had headers since 0.11."""
        return True


def _key(message: Message) -> bytes | None:
    key = message.key()
    return key.encode() if isinstance(key, str) else key
