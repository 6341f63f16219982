"""The thread that reads: librdkafka's consumer, polled beside the event loop.

It cuts what it reads into batches of one partition and hands them to the loop, one hop per pass. Outside the
rebalance callbacks it touches nothing of the loop's. It paces itself: at once when idle, seldom when busy.

Every call of the client is made in this thread: confluent-kafka lets one thread at a time into a client, and
one that waits for records would keep another that wants to commit waiting without end (measured, 2.16.1).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from faust.types import TP

from schemas.errors import ConfigurationRefused, Paused, RendezvousError, Superseded
from streams.core.pacing import Pace
from streams.kafka.batch import Batch
from streams.kafka.clients import DENIED
from streams.kafka.edge import Edge

logger = logging.getLogger(__name__)

Done = Callable[[KafkaError | None], None]

IDLE_S = 0.1
RECORDS = 1023
FULL_S = 2.0
EARLY_S = 0.001
ENDS_S = 0.25
ASK_S = 10.0
ECHO_S = 60.0
"""How long after a lost session a commit of that session may still be answered."""


class Loop(Protocol):
    """What the thread asks of the event loop's side; each call is thread-safe."""

    def assigned(self, positions: Mapping[TP, int], generation: int) -> None:
        """These are all the partitions now."""

    def revoked(self, partitions: set[TP]) -> list[TopicPartition]:
        """Finish what can be finished and let go; returns what is to be committed before it is another's."""

    def lost(self, partitions: set[TP]) -> None:
        """Somebody else has these already: drop what is in flight."""

    def deliver(self, batches: list[Batch]) -> None:
        """Hand batches to the agents."""

    def died(self, error: BaseException) -> None:
        """The thread has ended by an error."""


class Reader:
    """Owns the consumer client and its thread."""

    def __init__(self, edge: Edge, loop: Loop) -> None:
        self.client = Client(dict(edge.consumer) | {"on_commit": self._committed})
        self.generation = 0
        self.ends: dict[TP, int] = {}
        self.space = threading.Event()
        self.space.set()
        self.flowing = threading.Event()
        self.rate = 0.0
        self._edge = edge
        self._loop = loop
        self._pace = Pace(edge.pace_per_thousand_ms, edge.pace_max_ms)
        self._stop = threading.Event()
        self._early: list[Message] = []
        self._wanted: deque[tuple[list[TopicPartition], Done]] = deque()
        self._under_way: deque[Done] = deque()
        self._ends_read_s = 0.0
        self._lost_s = -ECHO_S
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=f"{edge.role}-reader", daemon=True)

    def start(self, topics: Iterable[str]) -> None:
        """Subscribe and begin to read."""
        self.client.subscribe(list(topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; blocks until it has."""
        self._stop.set()
        self.space.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Close the client: a static member keeps its partitions for a session."""
        self.client.close()

    def commit(self, places: list[TopicPartition], done: Done) -> None:
        """Commit soon (from any thread); `done` is called in the reading thread with an error or None."""
        self._wanted.append((places, done))

    def _serve_commits(self) -> None:
        while self._wanted:
            places, done = self._wanted.popleft()
            self._under_way.append(done)
            self.client.commit(offsets=places, asynchronous=True)

    def _forget_commits(self) -> None:
        """What was asked for before a rebalance and was not sent yet: those partitions may be another's."""
        while self._wanted:
            self._wanted.popleft()[1](KafkaError(KafkaError._ASSIGNMENT_LOST, "let go meanwhile"))

    def _committed(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        failed = error or next((place.error for place in places if place.error), None)
        if self._under_way:
            self._under_way.popleft()(failed)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._pass()
        except BaseException as error:
            self._loop.died(error)

    def _pass(self) -> None:
        self._serve_commits()
        self._wait_for_space()
        # When busy, records are there already: one call of the client instead of two.
        messages = self.client.consume(RECORDS, 0) if self._busy else []
        if not messages:
            messages = self.client.consume(1, IDLE_S if not self._early else EARLY_S)
            if messages:
                messages += self.client.consume(RECORDS, 0)
        started_s = time.monotonic()
        if not self.flowing.is_set():
            # Faust's index does not know the partitions yet: a record would find no agent. An error is no record:
            # without partitions, nothing else would ever say that this member is fenced.
            self._early += [message for message in messages if self._is_record(message)]
            return
        if self._early:
            messages, self._early = self._early + messages, []
        if not messages:
            return
        self._loop.deliver(list(self._cut(messages)))
        self._read_ends(started_s)
        pause_s = self._pace.pause_s(len(messages), started_s)
        self.rate = self._pace.rate
        remaining_s = pause_s - (time.monotonic() - started_s)
        self._busy = remaining_s > 0
        if self._busy:
            time.sleep(remaining_s)

    def _cut(self, messages: Sequence[Message]) -> Iterable[Batch]:
        """Runs of one partition, bounded in records and bytes so that no batch holds the loop for long."""
        generation = self.generation
        run: list[Message] = []
        place: tuple[str | None, int | None] = (None, None)
        room = 0
        for message in messages:
            if message.error() is not None:  # asked here: a call for each record is felt
                self._check(message.error())
                continue
            here = (message.topic(), message.partition())
            size = len(message)
            if here != place or size > room or len(run) >= self._edge.max_batch_records:
                if run:
                    yield Batch(str(place[0]), int(place[1] or 0), run, generation)
                run, place, room = [], here, self._edge.max_batch_bytes
            run.append(message)
            room -= size
        if run:
            yield Batch(str(place[0]), int(place[1] or 0), run, generation)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        self._check(error)
        return False

    def _check(self, error: KafkaError) -> None:
        # A fatal error hides its cause: librdkafka hands out only the text.
        fatal = error.code() == KafkaError._FATAL
        if error.code() == KafkaError.FENCED_INSTANCE_ID or (fatal and "fenced" in error.str()):
            raise self._fenced()
        if error.code() in DENIED:
            raise ConfigurationRefused(
                f"{self._edge.consumer.get('group.id')}: Kafka denies it ({error.str()}): grant this principal READ "
                "on its topics and on the group"
            )
        if fatal or error.fatal() or not error.retriable():
            if error.code() == KafkaError._MAX_POLL_EXCEEDED:
                logger.warning("%s", error.str())
                return
            raise KafkaException(error)
        logger.warning("%s", error.str())

    def _fenced(self) -> Superseded:
        """Another process has this name, or this one had: it joined anew after it had lost its session.

        Then librdkafka may send a commit of the lost session once more, and the answer is fatal to it (measured,
        2.16.1). A process that is started again tells the two apart: it has lost no session.
        """
        name, lost_s = self._edge.consumer.get("group.instance.id"), time.monotonic() - self._lost_s
        if lost_s < ECHO_S:
            return Paused(
                f"{name}: it lost its session {lost_s:.0f} s ago, and is taken for another since it is back; this "
                "process ends, to be started again"
            )
        return Superseded(f"{name}: another process runs under this name; this one ends. Run each instance once")

    def _wait_for_space(self) -> None:
        """Leave the broker alone while the agents are behind, but never so long that it throws us out."""
        if self.space.is_set() or self.space.wait(FULL_S):
            return
        held = self.client.assignment()
        self.client.pause(held)
        while not self.space.wait(IDLE_S) and not self._stop.is_set():
            self._serve_commits()
            # Everything is paused: this only serves the group's heartbeat and rebalances.
            for message in self.client.consume(1, 0):
                if self._is_record(message):
                    raise RuntimeError(f"a record of the paused {message.topic()} arrived")
        self.client.resume(self.client.assignment())

    def _assign(self, client: Client, partitions: list[TopicPartition]) -> None:
        self.generation += 1
        positions = self._positions(client, partitions)
        placed = [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in positions.items()]
        self.flowing.clear()
        self._early = []
        client.assign(placed)
        self._check_same_numbers(positions)
        self._loop.assigned(positions, self.generation)

    def _positions(self, client: Client, partitions: list[TopicPartition]) -> dict[TP, int]:
        committed = client.committed(partitions, timeout=ASK_S) if partitions else []
        own = self._edge.positions(committed) if self._edge.positions else {}
        positions: dict[TP, int] = {}
        for place in committed:
            if place.error is not None:
                raise KafkaException(place.error)
            tp = TP(place.topic, place.partition)
            if tp in own:
                positions[tp] = own[tp]
            elif place.offset >= 0 and place.topic not in self._edge.from_end:
                positions[tp] = place.offset
            else:
                low, high = client.get_watermark_offsets(place, timeout=ASK_S)
                from_end = self._edge.start == "latest" or place.topic in self._edge.from_end
                positions[tp] = high if from_end else low
        return positions

    def _check_same_numbers(self, positions: Mapping[TP, int]) -> None:
        numbers = {
            topic: {tp.partition for tp in positions if tp.topic == topic} for topic in self._edge.same_partitions
        }
        if len({frozenset(found) for found in numbers.values()}) > 1:
            raise RendezvousError(
                f"the group gave this member different partitions of its topics: {numbers}. Give all topics "
                "of the pipeline the same number of partitions, and all members the assignor `range`"
            )

    def _revoke(self, client: Client, partitions: list[TopicPartition]) -> None:
        places = self._loop.revoked({TP(place.topic, place.partition) for place in partitions})
        self._forget_commits()
        if places:
            try:
                client.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                # Not committed is read again by the next owner.
                logger.warning("commit before the rebalance refused: %s", error.args[0])
        client.unassign()
        self._early = []

    def _lose(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._lost_s = time.monotonic()
        self._loop.lost({TP(place.topic, place.partition) for place in partitions})
        self._forget_commits()
        client.unassign()
        self._early = []

    def _read_ends(self, now_s: float) -> None:
        """Now and then note where our partitions end, as of the last fetch: that is what lag is made of."""
        if now_s - self._ends_read_s < ENDS_S:
            return
        self._ends_read_s = now_s
        for place in self.client.assignment():
            marks = self.client.get_watermark_offsets(place, cached=True)
            if marks and marks[1] >= 0:
                self.ends[TP(place.topic, place.partition)] = marks[1]
