"""raw -> Parquet

The files are the commit log: where they end is where reading goes on, whatever the group's offset says. A file is
closed by size, rows or age, also when no record comes; what is buffered and lost is read again.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from faust.types import TP

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import DiskTrouble, Limits, PartitionWriter
from streams.kafka.batch import Batch
from streams.kafka.edge import Position
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

LOOK_S = 0.5
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class Shelf:
    """Every partition this member archives."""

    def __init__(self, pipeline: Pipeline, root: Path, topic_ids: Mapping[str, str], writer: str) -> None:
        archive = pipeline.archive
        self._limits = Limits(archive.max_rows, archive.max_bytes, archive.max_age_s)
        self._root = root
        self._topic_ids = topic_ids
        self._writer = writer
        self._writers: dict[TP, PartitionWriter] = {}
        self._ends: dict[TP, int] = {}
        self._lock = asyncio.Lock()
        self.trouble = 0

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
            following = self.writer(tp).scan()
            if following or place.offset >= 0:
                found[tp] = following
        return found

    def begin(self, starts: Mapping[TP, int]) -> None:
        """Reading starts here; what lies between the files' end and here is gone from the topic."""
        for tp, start in starts.items():
            writer = self.writer(tp)
            if start > writer.next_offset:
                if writer.layout.segments():
                    writer.note_gap(start, "the topic's retention was shorter than the archiver's absence")
                writer.next_offset = start

    def drop(self) -> None:
        """Forget buffers: the partitions are somebody else's, or read again."""
        self._writers.clear()
        self._ends.clear()

    async def take(self, batch: Batch) -> None:
        """Buffer one batch, and close the file when it is due."""
        tp = TP(batch.topic, batch.partition)
        writer = self.writer(tp)
        async with self._lock:
            writer.append(map(record_of, batch.messages), time.monotonic())
            if writer.due(time.monotonic()):
                await self._close(tp, writer)

    async def close_due(self) -> None:
        """Close files that are old enough although no record came."""
        async with self._lock:
            for tp, writer in list(self._writers.items()):
                if writer.due(time.monotonic()):
                    await self._close(tp, writer)

    async def close_all(self) -> None:
        """Close everything that is buffered."""
        async with self._lock:
            for tp, writer in list(self._writers.items()):
                if writer.buffered:
                    await self._close(tp, writer)

    async def _close(self, tp: TP, writer: PartitionWriter) -> None:
        """Write and fsync beside the loop; wait for a disk that is full rather than lose or skip anything."""
        for wait_s in (*RETRY_S, None):
            try:
                end = await asyncio.to_thread(writer.close_segment)
                reached("archive.before_commit")
                self._ends[tp] = end
            except DiskTrouble:
                self.trouble += 1
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
            else:
                return

    def committable(self) -> Mapping[TP, Position]:
        """Where the files end."""
        return {tp: (end, "") for tp, end in self._ends.items()}

    @property
    def rows(self) -> int:
        """Records written to files by this process."""
        return sum(writer.rows for writer in self._writers.values())

    @property
    def files(self) -> int:
        """Files written by this process."""
        return sum(writer.files for writer in self._writers.values())

    @property
    def buffered(self) -> int:
        """Records that are in no file yet."""
        return sum(writer.buffered for writer in self._writers.values())


def record_of(message: Any) -> Record:
    """One record as the archive keeps it."""
    kind, at_ms = message.timestamp()
    # librdkafka counts types from 1 (0: none); Kafka's own numbers are 0 and 1.
    return Record(message.offset(), at_ms, max(0, kind - 1), message.key(), message.value(), message.headers())


def attach(app: BatchApp, pipeline: Pipeline, shelf: Shelf) -> None:
    """Put the archiver's agent on the app."""

    @app.agent(app.topic(Topics(pipeline.name).raw), name="archiver")
    async def archiver(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await shelf.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        shelf.begin({tp: app.consumer.starts[tp] for tp in assigned})

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: Any, __: Iterable[TP], **___: Any) -> None:
        shelf.drop()

    @app.task
    async def close_due() -> None:
        while not app.should_stop:
            await asyncio.sleep(LOOK_S)
            await shelf.close_due()
