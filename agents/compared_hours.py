"""Hours that are over: one comparison record for each of their requests is kept, by whoever archives.

`rendezvous archive comparisons` does it, in a process of its own, at the lowest priority and with an end to its
patience: the archiver goes on reading meanwhile, and what was not done is done at the next look.
"""

import asyncio
import logging
from pathlib import Path

from agents.aside import run_aside, words_of
from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline
from streams.archive.compared import due_hours, retire_hours

logger = logging.getLogger(__name__)

PATIENCE_S = 3_000.0


class ComparedHours:
    """Remembers nothing: what is kept lies beside the archive."""

    def __init__(self, pipeline: Pipeline, file: Path, root: Path) -> None:
        self._pipeline = pipeline
        self._file = file
        self._root = root

    async def keep(self, now_s: float) -> None:
        """Keep the hours that are due, when the pipeline wants any, and delete those older than the retention.

        What is wrong is said, and tried again the next time.
        """
        if not self._pipeline.archive.comparisons:
            return
        try:
            await asyncio.to_thread(retire_hours, self._root, self._pipeline, now_s * 1e3)
            due = await asyncio.to_thread(due_hours, self._root, self._pipeline)
        except RendezvousError as error:
            logger.error("%s", error)
            return
        if not due:
            return
        words = words_of(self._pipeline, self._file, "archive", "comparisons", "--root", str(self._root))
        ended = await run_aside(words, PATIENCE_S)
        if ended.code != 0:
            logger.warning("%s hours of comparisons are due, and not all could be kept: %s", len(due), ended.why)
