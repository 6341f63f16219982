"""Days of decisions that have become mature: their figures are stored once, for ever, by whoever archives.

`rendezvous quality` does it, in a process of its own, at the lowest priority and with an end to its patience: a day's
races take room and time, and the archiver goes on reading meanwhile, whatever becomes of it.
"""

import asyncio
import logging
from pathlib import Path

from agents.aside import run_aside, words_of
from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.figures import place_of, stored_days
from streams.archive.layout import Layout
from streams.archive.ranges import times_held
from streams.core.judged import DAY_MS, day_name, look_again_ms, over_ms

logger = logging.getLogger(__name__)

PATIENCE_S = 3_000.0


class Maturing:
    """Remembers which days are worth another look, and when; what is stored lies in the archive."""

    def __init__(self, pipeline: Pipeline, file: Path, root: Path) -> None:
        self._pipeline = pipeline
        self._file = file
        self._root = root
        self._fields = ("", *pipeline.labels.segments)
        self._again_ms: dict[int, float] = {}

    async def store(self, now_s: float) -> list[str]:
        """Look at every day that is due, the oldest first; returns the days that are stored now and were not before.

        What is wrong with the archive is said, and tried again the next time.
        """
        try:
            days = await asyncio.to_thread(self.due, now_s * 1e3)
        except RendezvousError as error:
            logger.error("%s", error)
            return []
        found = []
        for day in days:
            self._again_ms[day] = look_again_ms(day, now_s * 1e3, self._pipeline.labels.mature_days)
            if await self._stored(day):
                logger.info("%s is mature: its figures are stored", day_name(day))
                found.append(day_name(day))
        return found

    def due(self, now_ms: float) -> list[int]:
        """The days to look at, by the footers: over, archived, and not stored. None as long as no label has come."""
        topics, numbers = Topics(self._pipeline.name), range(self._pipeline.partitions)
        if not any(Layout(self._root, topics.labels, number).segments() for number in numbers):
            return []
        held = times_held(self._root, topics.raw, numbers)
        if held is None:
            return []
        stored = [set(stored_days(self._root, self._pipeline.name, field)) for field in self._fields]
        days = sorted(set(range(held[0] // DAY_MS, held[1] // DAY_MS + 1)) - stored[0].intersection(*stored[1:]))
        return [day for day in days if self._again_ms.get(day, over_ms(day)) <= now_ms]

    async def _stored(self, day: int) -> bool:
        """Whether a day is stored, by every field, once it has been looked at."""
        for field in self._fields:
            place = place_of(self._root, self._pipeline.name, day_name(day), field)
            if not place.exists():
                await self._judge(day, field)
            if not place.exists():  # it is not mature, or not all of it is here
                return False
        return True

    async def _judge(self, day: int, field: str) -> None:
        by = ["--by", field] if field else []
        words = (
            *("quality", "--json", *by, "--archive", str(self._root)),
            *("--since", str(day * DAY_MS), "--until", str((day + 1) * DAY_MS)),
        )
        ended = await run_aside(words_of(self._pipeline, self._file, *words), PATIENCE_S)
        if ended.code != 0:
            logger.warning("%s: its figures could not be told: %s", day_name(day), ended.why)
