"""What reads: librdkafka's consumer, polled by the event loop whenever it would sleep.

It cuts what it reads into batches of one partition and hands them to the agents. It paces itself: at once when idle,
seldom when busy. Rebalance callbacks come from inside a poll; the loop goes on turning within them until what is held
is finished (`RecordLoop.run_within`).
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from faust.types import TP

from schemas.errors import ConfigurationRefused, Paused, RendezvousError, Superseded
from streams.core.pacing import Pace
from streams.kafka.batch import Batch
from streams.kafka.bounds import bounds_of
from streams.kafka.clients import DENIED
from streams.kafka.edge import Edge
from streams.kafka.loop import RecordLoop, running_loop
from streams.kafka.records import read_headers

logger = logging.getLogger(__name__)

Done = Callable[[KafkaError | None], None]

RECORDS = 1023
FULL_S = 2.0
"""The broker is left alone while the agents are behind, but never so long that it throws us out."""
SERVE_S = 0.1
EARLY, EARLY_BYTES = 20_000, 64 << 20
"""Records, and bytes of them, that are kept for agents that are not ready; more stay at the broker until they are."""
STARTING_S = 0.01
"""Who takes partitions over waits for a thread that reads decisions back, which wakes nobody here."""
ENDS_S = 0.25
ASK_S = 10.0
JOIN_S = 20.0
ECHO_S = 60.0
"""How long after a lost session a commit of that session may still be answered."""


class Role(Protocol):
    """What the reader asks of the role it reads for."""

    def assigned(self, positions: Mapping[TP, int], generation: int) -> None:
        """These are all the partitions now."""

    def revoked(self, partitions: set[TP]) -> Coroutine[Any, Any, list[TopicPartition]]:
        """Finish what can be finished and let go; returns what is to be committed before it is another's."""

    def lost(self, partitions: set[TP]) -> Coroutine[Any, Any, None]:
        """Somebody else has these already: drop what is in flight."""

    def deliver(self, batches: list[Batch]) -> None:
        """Hand batches to the agents."""

    def died(self, error: BaseException) -> None:
        """Reading has ended by an error."""


class Reader:
    """Owns the consumer client. Used on the event loop only, but for `close`."""

    def __init__(self, edge: Edge, role: Role) -> None:
        self.client = Client(dict(edge.consumer) | {"on_commit": self._committed})
        self.generation = 0
        self.ends: dict[TP, int] = {}
        self.flowing = False
        self.rate = 0.0
        self._edge = edge
        self._role = role
        self._loop: RecordLoop | None = None
        self._outside = asyncio.Event()
        self._outside.set()
        self._pace = Pace(edge.pace_per_thousand_ms, edge.pace_max_ms)
        self._next_s = 0.0
        self._full_s: float | None = None
        self._paused = False
        self._alone: frozenset[TP] = frozenset()
        self._alone_wanted: frozenset[TP] = frozenset()
        self._early: list[Message] = []
        self._early_bytes = 0
        self._wanted: deque[tuple[list[TopicPartition], Done]] = deque()
        self._under_way: deque[Done] = deque()
        self._ends_read_s = 0.0
        self._lost_s = -ECHO_S
        self._topics: list[str] = []
        self._joined_anew = False

    def start(self, topics: Iterable[str]) -> None:
        """Subscribe and begin to read."""
        self._topics = list(topics)
        self.client.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
        self._loop = running_loop()
        self._loop.read_from(self)

    async def stop(self) -> None:
        """Read no more; waits for a callback that is under way, in which everything else may happen."""
        await self._outside.wait()
        self._leave()

    def _leave(self) -> None:
        if self._loop is not None:
            self._loop.leave()

    def close(self) -> None:
        """Close the client; blocks. A static member keeps its partitions for a session."""
        self.client.close()

    def agents(self, *, behind: bool) -> None:
        """Read nothing while the agents are behind."""
        self._full_s = time.monotonic() if behind else None
        if not behind:
            self._next_s = 0.0

    def leave_alone(self, partitions: frozenset[TP]) -> None:
        """Read nothing more of these partitions, and of all others again; what is on its way still comes."""
        self._alone_wanted = partitions

    def _leave_alone(self) -> None:
        mine = frozenset(TP(place.topic, place.partition) for place in self.client.assignment())
        wanted = self._alone_wanted & mine
        for partitions, change in (
            (self._alone - wanted, self.client.resume),
            (wanted - self._alone, self.client.pause),
        ):
            if partitions & mine:
                change([TopicPartition(tp.topic, tp.partition) for tp in partitions & mine])
        self._alone = wanted

    def commit(self, places: list[TopicPartition], done: Done) -> None:
        """Commit at the next read; `done` is called with an error or None."""
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

    def pause_s(self) -> float:
        """How long to leave the broker alone: by the pace, or because the agents are behind."""
        return self._next_s - time.monotonic()

    def read(self, wait_s: float) -> None:
        """One pass: commits that are asked for, and the records that are there. An error ends the role."""
        self._outside.clear()
        try:
            self._read(wait_s)
        except BaseException as error:
            self._leave()
            self._role.died(error)
        finally:
            self._outside.set()

    def _read(self, wait_s: float) -> None:
        self._serve_commits()
        if self._full_s is not None or self._paused:
            self._hold_back()
            if self._paused or self._full_s is not None:
                return
        if self._alone != self._alone_wanted:
            self._leave_alone()
        if not self.flowing:
            wait_s = min(wait_s, STARTING_S)
        messages = self.client.consume(RECORDS, 0) if not wait_s else self.client.consume(1, wait_s)
        if wait_s and messages:
            messages += self.client.consume(RECORDS, 0)
        read_headers(messages)
        started_s = time.monotonic()
        if not self.flowing:
            # Faust's index does not know the partitions yet: a record would find no agent. An error is no record:
            # without partitions, nothing else would ever say that this member is fenced.
            records = [message for message in messages if self._is_record(message)]
            self._early += records
            self._early_bytes += sum(map(len, records))
            if len(self._early) >= EARLY or self._early_bytes >= EARLY_BYTES:
                self._full_s = started_s - FULL_S
            return
        if self._early:
            messages = self._early + messages
            self._forget_early()
        if not messages:
            return
        self._role.deliver(list(self._cut(messages)))
        self._read_ends(started_s)
        self._next_s = started_s + self._pace.pause_s(len(messages), started_s)
        self.rate = self._pace.rate

    def _forget_early(self) -> None:
        self._early, self._early_bytes = [], 0

    def _hold_back(self) -> None:
        """Read nothing while the agents are behind; after a while, poll a paused consumer for its group's sake."""
        if self._full_s is None:
            self.client.resume(self.client.assignment())
            self._paused, self._alone = False, frozenset()
            return
        now_s = time.monotonic()
        self._next_s = now_s + SERVE_S
        if now_s - self._full_s < FULL_S:
            return
        if not self._paused:
            self.client.pause(self.client.assignment())
            self._paused = True
        for message in self.client.consume(1, 0):
            if self._is_record(message):
                raise RuntimeError(f"a record of the paused {message.topic()} arrived")

    def _cut(self, messages: Sequence[Message]) -> Iterable[Batch]:
        """Runs of one partition, bounded in records and bytes so that no batch holds the loop for long."""
        generation, most = self.generation, self._edge.max_batch_bytes
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
                    yield Batch(str(place[0]), int(place[1] or 0), run, generation, most - room)
                run, place, room = [], here, most
            run.append(message)
            room -= size
        if run:
            yield Batch(str(place[0]), int(place[1] or 0), run, generation, most - room)

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
        # What librdkafka mends by itself it tells nobody of; this it tells, and joins again.
        if error.code() != KafkaError._MAX_POLL_EXCEEDED:
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

    def _assign(self, client: Client, partitions: list[TopicPartition]) -> None:
        self.generation += 1
        if not self._joined_anew and len(_numbers(partitions, self._topics)) > 1:
            self._joined_anew = True
            threading.Thread(target=_join_anew, args=(self._edge.leaving(), self._topics)).start()
            partitions = []
        positions = self._positions(client, partitions)
        placed = [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in positions.items()]
        self.flowing = False
        self._forget_early()
        client.assign(placed)
        self._check_same_numbers(positions)
        if self._paused or self._alone:
            client.resume(placed)
        self._paused, self._alone, self._alone_wanted = False, frozenset(), frozenset()
        self._role.assigned(positions, self.generation)

    def _positions(self, client: Client, partitions: list[TopicPartition]) -> dict[TP, int]:
        committed = client.committed(partitions, timeout=ASK_S) if partitions else []
        own = self._edge.positions(committed) if self._edge.positions else {}
        positions: dict[TP, int] = {}
        for place in committed:
            if place.error is not None:
                raise KafkaException(place.error)
            tp = TP(place.topic, place.partition)
            if tp in own:
                positions[tp] = max(own[tp], bounds_of(client, place, ASK_S)[0])  # the rest is gone by retention
            elif place.offset >= 0 and place.topic not in self._edge.from_end:
                positions[tp] = place.offset
            else:
                low, high = bounds_of(client, place, ASK_S)
                from_end = self._edge.start == "latest" or place.topic in self._edge.from_end
                positions[tp] = high if from_end else low
        return positions

    def _check_same_numbers(self, positions: Mapping[TP, int]) -> None:
        found = _numbers(positions, self._edge.same_partitions)
        if len(found) > 1:
            raise RendezvousError(
                f"the group gave this member different partitions of its topics: {found}. Give all topics "
                "of the pipeline the same number of partitions, and all members the assignor `range`"
            )

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run this to its end now; called from inside a poll, or from the thread that closes the client."""
        if self._loop is None:
            raise RuntimeError("a rebalance before the reader has started")
        if asyncio._get_running_loop() is self._loop:
            return self._loop.run_within(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _revoke(self, client: Client, partitions: list[TopicPartition]) -> None:
        places = self._run(self._role.revoked({TP(place.topic, place.partition) for place in partitions}))
        self._forget_commits()
        if places:
            try:
                client.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                # Not committed is read again by the next owner.
                logger.warning("commit before the rebalance refused: %s", error.args[0])
        client.unassign()
        self._forget_early()

    def _lose(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._lost_s = time.monotonic()
        self._run(self._role.lost({TP(place.topic, place.partition) for place in partitions}))
        self._forget_commits()
        client.unassign()
        self._forget_early()

    def _read_ends(self, now_s: float) -> None:
        """Now and then note where our partitions end, as of the last fetch: that is what lag is made of."""
        if now_s - self._ends_read_s < ENDS_S:
            return
        self._ends_read_s = now_s
        for place in self.client.assignment():
            marks = self.client.get_watermark_offsets(place, cached=True)
            if marks and marks[1] >= 0:
                self.ends[TP(place.topic, place.partition)] = marks[1]


def _numbers(places: Iterable[TopicPartition | TP], topics: Iterable[str]) -> dict[tuple[int, ...], list[str]]:
    """Partition numbers, and the topics of which just these are there."""
    every, found = list(places), dict[tuple[int, ...], list[str]]()
    for topic in topics:
        numbers = tuple(sorted(place.partition for place in every if place.topic == topic))
        found.setdefault(numbers, []).append(topic)
    return found


def _join_anew(edge: Edge, topics: list[str]) -> None:
    """Join the group as one more member, and leave: then everybody is asked anew for the topics it reads.

    A static member that is back within its session is given what it had, whatever it subscribes to now: by a program
    that reads one topic more than the one before, that topic would never be read.
    """
    logger.warning("the group does not know yet that this role reads %s: it is asked to begin anew", topics)
    client = Client(dict(edge.consumer))
    try:
        client.subscribe(topics)
        deadline_s = time.monotonic() + JOIN_S
        while not client.assignment() and time.monotonic() < deadline_s:
            client.poll(SERVE_S)
    finally:
        client.close()
