"""The consumer under the agents.

Batches that the reader has cut go to the agents' inboxes, and are committed over the longest finished
prefix of their partition. On revoke it finishes and commits what can be finished at once, drops what is
held, then lets go: what was not committed is read again by the next owner. What waits in the inboxes is bounded, in
records and in bytes: the rest stays at the broker.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from faust.transport import base
from faust.types import TP

from schemas.dead_letters import DeadLetter
from schemas.errors import RendezvousError
from streams.core.finished import FinishedPrefix
from streams.kafka.batch import Batch
from streams.kafka.bounds import bounds_of
from streams.kafka.edge import Position
from streams.kafka.reader import Reader
from streams.kafka.stream import BatchTopic, Inbox

HIGH, LOW = 8192, 2048
"""Records in the agents' inboxes at which reading stops, and goes on."""
HIGH_BYTES, LOW_BYTES = 64 << 20, 16 << 20
"""The same in bytes: so many of the largest records would be 2 GB."""

DRAIN_S = 2.5
TRIES = 3
BACKOFF_S = 0.05
COMMIT_S = 2.0
BOUNDS_S = 5.0


class Consumer(base.Consumer):
    """Faust's consumer interface over a `Reader`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.edge = self.app.edge
        self.generation = 0
        self.taken_records = 0
        self.starts: Mapping[TP, int] = {}
        self._outstanding = 0
        self._outstanding_bytes = 0
        self._behind = False
        self._draining = False
        self._prefixes: dict[TP, FinishedPrefix] = {}
        self._committed: dict[TP, Position] = {}
        self._assignment: set[TP] = set()
        self._idle = asyncio.Event()
        self._reader = Reader(self.edge, self)

    # From the reader -------------------------------------------------------------------------------------

    def assigned(self, positions: Mapping[TP, int], generation: int) -> None:
        """Take over these partitions."""
        self.loop.call_soon(self._assigned, dict(positions), generation)

    def died(self, error: BaseException) -> None:
        """End the role."""
        self.add_future(self.crash(error))

    def deliver(self, batches: list[Batch]) -> None:
        """Hand batches to the agents."""
        for batch in batches:
            if batch.generation != self.generation or self._draining:
                continue
            tp = TP(batch.topic, batch.partition)
            if self.edge.committable is None:
                self._prefixes[tp].opened(batch)
            self._outstanding += len(batch)
            self._outstanding_bytes += batch.size
            for channel in self.app.topics._tp_index[tp]:
                channel.inbox.put(batch)
        if not self._behind and (self._outstanding >= HIGH or self._outstanding_bytes >= HIGH_BYTES):
            self._set_behind(behind=True)

    # From the agents -------------------------------------------------------------------------------------

    def taken(self, batch: Batch) -> None:
        """The agent asks for the next batch: this one is in its past."""
        if batch.parent is not None:
            batch.parent.parts -= 1
        batch.taken = True
        if batch.generation != self.generation:
            return
        self.taken_records += len(batch)
        self._outstanding -= len(batch)
        self._outstanding_bytes -= batch.size
        if self._behind and self._outstanding <= LOW and self._outstanding_bytes <= LOW_BYTES:
            self._set_behind(behind=False)
        if not self._outstanding:
            self._idle.set()

    async def retry(self, inbox: Inbox, error: Exception) -> None:
        """The agent raised: the batch again, then record by record, then the dead letters.

        Raises the error itself when it is Kafka's, or when no batch was in hand: then the role ends.
        """
        batch, inbox.in_hand = inbox.in_hand, None
        if batch is None or isinstance(error, KafkaException | RendezvousError):
            raise error
        place = f"{batch.topic}/{batch.partition}/{batch.next_offset - len(batch)}"
        self.log.warning("%s, try %s of %s: %r", place, batch.attempt, TRIES, error, exc_info=error)
        if batch.attempt < TRIES:
            batch.attempt += 1
            await asyncio.sleep(BACKOFF_S * batch.attempt)
            inbox.put_back([batch])
        elif len(batch) > 1:
            inbox.put_back(batch.split())
        else:
            await self._give_up(batch, error)
            self.taken(batch)

    async def _give_up(self, batch: Batch, error: Exception) -> None:
        message = batch.messages[0]
        letter = DeadLetter(
            batch.topic,
            batch.partition,
            batch.next_offset - 1,
            self.edge.role,
            type(error).__name__,
            str(error),
            batch.attempt,
            message.headers(),
        )
        await self.app.producer.dead_letter(batch, letter, message.key(), message.value())

    def _set_behind(self, *, behind: bool) -> None:
        self._behind = behind
        self._reader.agents(behind=behind)

    def _assigned(self, positions: dict[TP, int], generation: int) -> None:
        self.generation = generation
        self.starts = positions
        self._outstanding = 0
        self._outstanding_bytes = 0
        self._draining = False
        self._assignment = set(positions)
        self._committed.clear()
        self._prefixes = {tp: FinishedPrefix(offset) for tp, offset in positions.items()}
        self._set_behind(behind=False)
        self.app.consumer_generation_id = generation
        self.app.on_rebalance_start()
        self.add_future(self._begin(set(positions), generation))

    async def _begin(self, partitions: set[TP], generation: int) -> None:
        """Faust's chain first (its index, the roles that listen), then the flow."""
        await self.on_partitions_assigned(partitions, generation)
        if generation == self.generation:
            await self.app.tables.flow()

    async def revoked(self, partitions: set[TP]) -> list[TopicPartition]:
        """Finish and let go; returns what is to be committed."""
        await self._drain()
        await self._resolve_failures()
        places = _places(self._due())
        await self._let_go(partitions)
        return places

    async def lost(self, partitions: set[TP]) -> None:
        """Let go without a commit."""
        # Faust's chain would wait until all is finished, and commit it: neither is ours to do any more.
        self._draining = True
        await self._let_go(partitions)

    async def _let_go(self, partitions: set[TP]) -> None:
        self.generation = -1
        self._reader.flowing = False
        for inbox in self._inboxes():
            inbox.drain()
        await self.on_partitions_revoked(partitions)
        self._assignment -= partitions
        for tp in partitions:
            self._prefixes.pop(tp, None)

    def _inboxes(self) -> Iterable[Inbox]:
        return [channel.inbox for channel in self.app.topics if isinstance(channel, BatchTopic)]

    async def wait_empty(self) -> None:
        """Let the agents finish what they have in hand, bounded; commit what is finished."""
        if self._draining or self.app.crash_reason is not None:
            return
        await self._drain()
        await self.commit()

    async def _drain(self) -> None:
        self._draining = True
        self._reader.flowing = False
        if self.edge.committable is None:
            for inbox in self._inboxes():
                self._dropped(inbox.drain())
            try:
                await asyncio.wait_for(self._all_confirmed(), DRAIN_S)
            except TimeoutError:
                self.log.warning("not all was finished in %s s: the rest is read again", DRAIN_S)
        else:
            if self.edge.finish is not None:
                try:
                    await asyncio.wait_for(self.edge.finish(), DRAIN_S)
                except TimeoutError:
                    self.log.warning("what is held was not finished in %s s: it is read again", DRAIN_S)
            await self.app.producer.flush()

    def _dropped(self, batches: Iterable[Batch]) -> None:
        """They wait no more; what was read before these partitions were ours counts as nothing waiting."""
        for batch in batches:
            if batch.generation == self.generation:
                self._outstanding -= len(batch)
                self._outstanding_bytes -= batch.size

    async def _all_confirmed(self) -> None:
        while self._outstanding > 0:
            self._idle.clear()
            await self._idle.wait()
        while self.app.producer.poll():
            await asyncio.sleep(0.003)

    # Commit ----------------------------------------------------------------------------------------------

    async def force_commit(self, *_: Any, **__: Any) -> bool:
        """Commit what is finished and was not committed yet; nothing of what was let go."""
        if self.generation < 0:
            return False
        await self._resolve_failures()
        due = self._due()
        if not due:
            return False
        generation = self.generation
        error = await self._ask_to_commit(_places(due))
        if error is not None:
            # Not committed is read again; the next round tries once more.
            self.log.warning("commit refused: %s", error)
            return False
        if generation == self.generation:
            self._committed.update(due)
        return True

    async def _ask_to_commit(self, places: list[TopicPartition]) -> KafkaError | None:
        answer: asyncio.Future[KafkaError | None] = self.loop.create_future()

        def resolve(error: KafkaError | None) -> None:
            if not answer.done():
                answer.set_result(error)

        self._reader.commit(places, resolve)
        try:
            return await asyncio.wait_for(answer, COMMIT_S)
        except TimeoutError:
            return KafkaError(KafkaError._TIMED_OUT, f"no answer in {COMMIT_S} s")

    def _due(self) -> dict[TP, Position]:
        """What may be committed and was not yet."""
        return {
            tp: position
            for tp, position in self._committable().items()
            if tp in self._assignment and self._committed.get(tp) != position
        }

    def _committable(self) -> Mapping[TP, Position]:
        if self.edge.committable is not None:
            return self.edge.committable()
        found = {tp: prefix.committable() for tp, prefix in self._prefixes.items()}
        return {tp: (offset, "") for tp, offset in found.items() if offset is not None}

    async def bounds(self, partitions: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        """First and next offset of partitions, asked for now; raises KafkaException when nobody answers."""
        client = self._reader.client

        def ask() -> dict[TP, tuple[int, int]]:
            return {tp: bounds_of(client, TopicPartition(tp.topic, tp.partition), BOUNDS_S) for tp in partitions}

        return await asyncio.to_thread(ask)

    def leave_alone(self, partitions: frozenset[TP]) -> None:
        """For a role that holds records until others have come: no more of these for now."""
        self._reader.leave_alone(partitions)

    async def _resolve_failures(self) -> None:
        for prefix in self._prefixes.values():
            for batch in list(prefix):
                if isinstance(batch, Batch) and batch.failures:
                    await self.app.producer.resolve_failures(batch)

    # What Faust asks of a consumer -----------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Begin to read; called once, by the Conductor."""
        self._reader.start(topics)

    async def _drain_messages(self, fetcher: Any) -> None:
        """The loop itself reads; Faust's fetcher only waits."""
        await fetcher.wait_for_stopped()

    def resume_flow(self) -> None:
        """Faust's index knows the partitions now: records may arrive."""
        super().resume_flow()
        self._reader.flowing = True
        self._reader.agents(behind=self._behind)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Everything was positioned at assignment."""
        return {}

    def assignment(self) -> set[TP]:
        """The partitions that are ours now."""
        return set(self._assignment)

    @property
    def joined(self) -> bool:
        """Whether the group has given this member its partitions, be they none."""
        return self.generation > 0

    def lag(self) -> int:
        """Records between the last commit and the ends of our partitions, as of the last fetch."""
        behind = 0
        for tp, (offset, _) in self._committable().items():
            end = self._reader.ends.get(tp)
            behind += max(0, end - offset) if end is not None else 0
        return behind

    @property
    def rate(self) -> float:
        """Records per second, smoothed."""
        return self._reader.rate

    def highwater(self, tp: TP) -> int:
        """The end of a partition, as of the last fetch."""
        return self._reader.ends.get(tp, 0)

    async def on_stop(self) -> None:
        """Finish, commit, close."""
        await self.wait_empty()
        await self._reader.stop()
        await asyncio.to_thread(self._reader.close)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise NotImplementedError("commits go through force_commit")

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        raise NotImplementedError("the reader delivers")

    async def _seek(self, partition: TP, offset: int) -> None:
        raise NotImplementedError("positions are chosen at assignment")

    async def create_topic(self, *_: Any, **__: Any) -> None:
        """Refused: topics are an operator's."""
        raise NotImplementedError("topics are made by `streams.kafka.admin`, never by a role")

    def _to_message(self, tp: TP, record: Any) -> Any:
        raise NotImplementedError("agents are handed batches")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The ends of partitions; Faust asks for those of tables, of which there are none."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The starts of partitions; Faust asks for those of tables, of which there are none."""
        return dict.fromkeys(partitions, 0)

    async def position(self, tp: TP) -> int | None:
        """Where reading has got to."""
        return self._prefixes[tp].committable() if tp in self._prefixes else None

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Faust seeks in tables only, of which there are none."""

    def topic_partitions(self, topic: str) -> int | None:
        """Number of partitions of a topic, as far as it is known."""
        return len({tp.partition for tp in self._assignment if tp.topic == topic}) or None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Partitions are written explicitly."""
        return partition


def _places(positions: Mapping[TP, Position]) -> list[TopicPartition]:
    return [TopicPartition(tp.topic, tp.partition, offset, metadata) for tp, (offset, metadata) in positions.items()]
