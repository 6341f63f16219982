"""Stored days of figures are put on `quality`, once and for ever, for whoever follows the topic.

Keyed by day, model and version, and by field and value where a day is split by a declared segment; compacted. What
was told is noted in the archive after the broker has it: whoever
dies in between tells it again, in the same words, and of equal keys one is kept.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from msgspec import json

from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.figures import note_told, place_of, read_figures, untold_days
from streams.core.judged import Judged
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.producer import Producer

logger = logging.getLogger(__name__)


class ToldDays:
    """The archiver's right to write: this topic, and no other."""

    def __init__(self, pipeline: Pipeline, root: Path, writer: str) -> None:
        self._pipeline = pipeline
        self._root = root
        self._writer = writer

    async def tell(self, producer: Producer) -> list[str]:
        """Send every stored day that was not told, the oldest first, then its segments; returns what is there now.

        Nothing where the pipeline file has no `[labels]`. What the broker does not take is said, and tried again the
        next time: whoever archives goes on.
        """
        if not self._pipeline.tells_quality:
            return []
        found: list[str] = []
        for field in ("", *self._pipeline.labels.segments):
            for day in await asyncio.to_thread(untold_days, self._root, self._pipeline.name, field):
                try:
                    rows = await asyncio.to_thread(
                        read_figures, place_of(self._root, self._pipeline.name, day, field)
                    )
                    if not await self._sent(producer, day, rows or ()):
                        return found
                    await asyncio.to_thread(note_told, self._root, self._pipeline.name, day, field, self._writer)
                except RendezvousError as error:  # damage, a disk that is full
                    logger.error("%s", error)
                else:
                    found.append(f"{day} by {field}" if field else day)
        return found

    async def _sent(self, producer: Producer, day: str, rows: Sequence[Judged]) -> bool:
        topic, sending = Topics(self._pipeline.name).quality, Sending()
        try:
            await producer.send_batch(sending, [record_of(topic, row) for row in rows])
        except KafkaException as error:
            logger.error("%s: the figures of %s cannot be sent: %s", topic, day, error)
            return False
        await producer.flush()
        if not (sending.failures or sending.pending):
            return True
        why = sending.failures[0][0] if sending.failures else "no broker has answered yet"
        logger.error("%s: the figures of %s are not taken, and sent again the next time: %s", topic, day, why)
        return False


def record_of(topic: str, row: Judged) -> Outgoing:
    """One model's figures of one day, or of a segment of it, as they are stored."""
    segment = [row.field, row.value] if row.field else []
    return Outgoing(topic, json.encode(row), json.encode([row.day, row.model, row.version, *segment]), 0)
