"""raw + scores + decisions + dead-letters + labels + tallies + roster-history + verdicts + minutes -> Parquet + quality

The files are the commit log: where they end is where reading goes on, whatever the group's offset says. A file is
closed by size, rows or age, also when no record comes; what is buffered and lost is read again.

A disk that takes nothing stops the reading, and nothing else: what is buffered stays, nothing is committed, and
the same file is tried again until it is taken.
"""  # noqa: E501  the road is one line

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException, Message, TopicPartition
from faust.types import TP

from agents.actor import unmoved
from agents.compared_hours import ComparedHours
from agents.maturing import Maturing
from agents.told_days import ToldDays
from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline, PolicyKind
from schemas.topics import Topics
from streams.archive.buffer import Columns, columns
from streams.archive.compaction import compact
from streams.archive.disk import DiskTrouble
from streams.archive.layout import NOW, Layout, partitions
from streams.archive.lives import settle
from streams.archive.retention import retire
from streams.archive.store import store_of
from streams.archive.writer import Limits, LostRace, PartitionWriter
from streams.kafka.batch import Batch
from streams.kafka.edge import Position
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)

LOOK_S = 0.5
LOOK_AT_DISK_S = 10.0
LOOK_AT_TOPICS_S = 5.0
UPKEEP_FIRST_S, UPKEEP_S = 300.0, 3600.0
RETRY_S = (1.0, 2.0, 5.0)
"""Pauses while the disk takes nothing; the last one for as long as it lasts: what waits, waits in memory."""


class TopicMadeAnew(RendezvousError):
    """A topic was deleted and made anew: its offsets begin again, in a tree of their own."""


class Shelf:
    """Every partition this member archives; `ask_ids` tells the topics' ids, and may take its time."""

    def __init__(self, pipeline: Pipeline, root: Path, ask_ids: Callable[[], Mapping[str, str]], writer: str) -> None:
        self._archive = archive = pipeline.archive
        self._limits = Limits(archive.max_rows, archive.max_bytes, archive.max_age_s)
        self._max_bytes = 2 * archive.max_bytes
        self._root = root
        topics = Topics(pipeline.name)
        self._kept = (topics.tallies, topics.roster_history)  # what was before a range counts in it, however old
        self._ask_ids = ask_ids
        self._topic_ids = ask_ids()
        self._writer = writer
        self._writers: dict[TP, PartitionWriter] = {}
        self._ends: dict[TP, int] = {}
        self._lock = asyncio.Lock()
        self._trouble_since_s: float | None = None
        self._scarce = False
        self.rows = 0
        self.files = 0
        for topic, topic_id in self._topic_ids.items():
            if number := settle(root, topic, topic_id, writer):
                logger.warning(
                    "%s was made anew; what was archived of it before is in %s/data-%s", topic, root, number
                )

    async def check_lives(self) -> None:
        """Raise TopicMadeAnew when a topic is not the one it was when this process began.

        A consumer reads on in the new life as if nothing had happened: what is buffered is of the old one for sure
        only when this was asked after it was read.
        """
        try:
            found = await asyncio.to_thread(self._ask_ids)
        except (KafkaException, RendezvousError) as error:  # away for a moment: asked again
            logger.warning("the topics' ids cannot be read: %s", error)
            return
        for topic, topic_id in found.items():
            if topic_id != self._topic_ids[topic]:
                self.drop()
                raise TopicMadeAnew(f"{topic} was deleted and made anew: starting again, with a new tree for it")

    def keep_up(self, now_s: float) -> None:
        """Delete what is older than the retention and merge small files, earlier lives' too; runs beside the loop."""
        archive = self._archive
        own = [writer.layout for writer in list(self._writers.values())]
        mine = {(layout.topic, layout.partition) for layout in own}
        own += [one for one in partitions(self._root) if one.tree != NOW and (one.topic, one.partition) in mine]
        for layout in own:
            try:
                if archive.retention_days and layout.topic not in self._kept:
                    gone = retire(layout, now_s * 1e3, archive.retention_days, self._writer)
                    logger.info("%s: %s files older than the retention deleted", layout.data, gone.files)
                if archive.compact_bytes:
                    for merged in compact(layout, now_s, target_bytes=archive.compact_bytes):
                        logger.info("%s: %s files merged", merged.path, merged.files)
            except RendezvousError as error:  # damage, a disk that is full, somebody else at work: the next time
                logger.error("%s", error)

    def writer(self, tp: TP) -> PartitionWriter:
        """The writer of one partition, made when first asked for."""
        if tp not in self._writers:
            layout = Layout(self._root, tp.topic, tp.partition)
            topic_id = self._topic_ids.get(tp.topic, "")
            self._writers[tp] = PartitionWriter(layout, self._limits, topic_id, self._writer)
        return self._writers[tp]

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read on where the files end; what is buffered is read again."""
        self.drop()
        found = {}
        for place in committed:
            tp = TP(place.topic, place.partition)
            writer = self.writer(tp)
            following = writer.scan()
            if following < writer.reached:
                logger.error(
                    "%s: offsets %s to %s were here and are gone: read again from Kafka, as far as it has them",
                    writer.layout.data,
                    following,
                    writer.reached - 1,
                )
            if following or place.offset >= 0:
                found[tp] = following
        return found

    def begin(self, starts: Mapping[TP, int]) -> None:
        """Reading starts here; what lies between the files' end and here is gone from the topic."""
        for tp, start in starts.items():
            writer = self.writer(tp)
            if start > writer.next_offset:
                first = not writer.next_offset
                why = "the archive begins here" if first else "the topic's retention was shorter than our absence"
                level = logging.INFO if first else logging.ERROR
                logger.log(level, "%s: no offsets %s to %s: %s", tp, writer.next_offset, start - 1, why)
                writer.note_gap(start, why)
            self._ends[tp] = writer.next_offset

    def holds(self, tp: TP) -> bool:
        """Whether this member archives a partition."""
        return tp in self._writers

    def drop(self) -> None:
        """Forget buffers: the partitions are somebody else's, or read again."""
        self._writers.clear()
        self._ends.clear()

    async def take(self, batch: Batch) -> None:
        """Buffer one batch, and close the file when it is due.

        It goes to the writer of when it came. Where that was let go meanwhile (a disk was waited for), nobody closes
        it, and the batch is read again: in the next writer it would leave a gap before it.
        """
        writer = self.writer(TP(batch.topic, batch.partition))
        async with self._lock:
            writer.extend(columns_of(batch.messages), time.monotonic())
            await self._close_due()
            while self.buffered_bytes >= self._max_bytes:
                largest = max(self._writers, key=lambda tp: self._writers[tp].buffered_bytes)
                await self._close(largest, self._writers[largest])

    async def close_due(self) -> None:
        """Close files that are old enough although no record came."""
        async with self._lock:
            await self._close_due()

    async def close_all(self) -> None:
        """Close everything that is buffered."""
        async with self._lock:
            for tp, writer in list(self._writers.items()):
                if writer.buffered:
                    await self._close(tp, writer)

    async def _close_due(self) -> None:
        for tp, writer in list(self._writers.items()):
            if writer.due(time.monotonic()):
                await self._close(tp, writer)

    async def _close(self, tp: TP, writer: PartitionWriter) -> None:
        """Write and fsync beside the loop; wait for a disk that is full rather than lose or skip anything.

        The lock is held meanwhile: nothing more is buffered, so the inboxes fill and reading stops.
        """
        tries, before = 0, writer.rows
        while self._writers.get(tp) is writer:  # else it was revoked: the next owner reads it again
            try:
                await self.check_lives()
                end = await asyncio.to_thread(writer.close_segment)
            except DiskTrouble as error:
                wait_s = RETRY_S[min(tries, len(RETRY_S) - 1)]
                tries += 1
                self._note_trouble(error, wait_s)
                await asyncio.sleep(wait_s)
            except LostRace as error:
                logger.warning("%s", error)
                end = writer.next_offset
                break
            else:
                self.files += 1
                self.rows += writer.rows - before
                break
        else:
            return
        reached("archive.before_commit")
        self._ends[tp] = end
        self._note_well()

    def _note_trouble(self, error: DiskTrouble, wait_s: float) -> None:
        if self._trouble_since_s is None:
            self._trouble_since_s = time.monotonic()
        logger.error("%s (next try in %s s, waiting for %.0f s)", error, wait_s, self.trouble_s)

    def _note_well(self) -> None:
        if self._trouble_since_s is not None:
            logger.warning("the disk takes files again, after %.0f s; nothing was lost", self.trouble_s)
        self._trouble_since_s = None

    @property
    def trouble_s(self) -> float:
        """For how long the disk has taken nothing; 0 when it is well."""
        return 0.0 if self._trouble_since_s is None else max(0.001, time.monotonic() - self._trouble_since_s)

    def look_at_disk(self) -> None:
        """Say once when the disk becomes scarce, and once when it is not any more."""
        free = store_of(self._root).free_share(self._root)
        if (scarce := free < self._archive.warn_free) != self._scarce:
            self._scarce = scarce
            word = "free space or a larger disk is needed soon" if scarce else "enough again"
            logger.warning("%s: %.0f %% of the disk is free: %s", self._root, 100 * free, word)

    def committable(self) -> Mapping[TP, Position]:
        """Where the files end."""
        return {tp: (end, "") for tp, end in self._ends.items()}

    @property
    def buffered(self) -> int:
        """Records that are in no file yet."""
        return sum(writer.buffered for writer in self._writers.values())

    @property
    def buffered_bytes(self) -> int:
        """Their bytes."""
        return sum(writer.buffered_bytes for writer in self._writers.values())

    def figures(self) -> Mapping[str, float]:
        """What the status line shows."""
        shown: dict[str, float] = {"rows": self.rows, "files": self.files, "buffered": self.buffered}
        if self._scarce:
            shown["% free"] = 100 * store_of(self._root).free_share(self._root)
        return shown | ({"s the disk takes nothing": self.trouble_s} if self.trouble_s else {})


def refuse_full_disk(root: Path, stop_free: float) -> None:
    """Raise DiskTrouble when there is too little room to begin with."""
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
    if (free := store_of(root).free_share(root)) < stop_free:
        raise DiskTrouble(
            f"{root}: {100 * free:.1f} % of the disk is free, less than {100 * stop_free:g} %: the archiver does not "
            "start. Free space, or set archive.stop_free"
        )


def columns_of(messages: Sequence[Message]) -> Columns:
    """Records as the archive keeps them."""
    times = [message.timestamp() for message in messages]
    return columns(
        [message.offset() or 0 for message in messages],
        [at_ms for _, at_ms in times],
        # librdkafka counts types from 1 (0: none); Kafka's own numbers are 0 and 1.
        [max(0, kind - 1) for kind, _ in times],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.headers() for message in messages],
    )


def topics_of(pipeline: Pipeline) -> tuple[str, ...]:
    """What is archived; what was joined into events, and what the monitor said, where they are."""
    topics = Topics(pipeline.name)
    every = [topics.raw, topics.scores, topics.decisions, topics.dead_letters, topics.labels, topics.roster_history]
    every += [topics.tallies] if pipeline.policy.kind is PolicyKind.BANDIT else []
    every += [topics.verdicts, topics.minutes] if pipeline.monitor else []
    every += [topics.enriched] if pipeline.enrich else []
    return tuple(every)


def attach(
    app: BatchApp, pipeline: Pipeline, shelf: Shelf, maturing: Maturing, told: ToldDays, compared: ComparedHours
) -> None:
    """Put the archiver's agent on the app."""

    @app.agent(app.topic(*topics_of(pipeline)), name="archiver")
    async def archiver(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await shelf.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: object, assigned: Iterable[TP], **__: object) -> None:
        shelf.begin({tp: app.consumer.starts[tp] for tp in assigned})

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: object, __: Iterable[TP], **___: object) -> None:
        shelf.drop()

    async def or_end(work: Awaitable[None]) -> None:
        try:
            await work
        except TopicMadeAnew as error:
            await app.crash(error)

    async def or_next_time(upkeep: Awaitable[object]) -> None:
        try:
            await upkeep
        except (RendezvousError, OSError) as error:  # a disk or bucket that is away: records are taken all the same
            logger.error("%s", error)

    @app.task
    async def close_due() -> None:
        while not app.should_stop:
            await asyncio.sleep(LOOK_S)
            await or_end(shelf.close_due())

    @app.task
    async def look_at_disk() -> None:
        while not app.should_stop:
            shelf.look_at_disk()
            await asyncio.sleep(LOOK_AT_DISK_S)

    @app.task
    async def look_at_topics() -> None:
        while not app.should_stop:
            await asyncio.sleep(LOOK_AT_TOPICS_S)
            await or_end(shelf.check_lives())

    @app.task
    async def keep_up() -> None:
        wait_s = UPKEEP_FIRST_S
        while not app.should_stop:
            await asyncio.sleep(wait_s)
            await or_next_time(asyncio.to_thread(shelf.keep_up, time.time()))
            wait_s = UPKEEP_S

    @app.task
    async def store_mature_days() -> None:
        wait_s, first = UPKEEP_FIRST_S, TP(Topics(pipeline.name).raw, 0)
        while not app.should_stop:
            await asyncio.sleep(wait_s)
            if shelf.holds(first):  # of several members one
                await or_next_time(maturing.store(time.time()))
                await or_next_time(told.tell(app.producer))
                await or_next_time(compared.keep(time.time()))
            wait_s = UPKEEP_S


def stuck(app: BatchApp, shelf: Shelf) -> Callable[[], bool]:
    """There are records to read, and neither was one taken nor a file closed since the last look.

    What is buffered is healthy lag, and a disk that takes nothing is waited for.
    """
    return unmoved(
        lambda: (app.consumer.taken_records, shelf.files),
        lambda: not shelf.trouble_s and app.consumer.lag() > shelf.buffered,
    )
