"""The monitor's proof: the same archived input through the old and the new file of a model, in a process of its own.

At the lowest priority and with an end to its patience. The monitor goes on reading meanwhile, and whatever becomes of
it, nothing else is changed by it.
"""

import asyncio
import logging
from pathlib import Path

from msgspec import json

from agents.aside import run_aside
from schemas.errors import UNREADABLE
from streams.core.versions import Replay, Version, sentence

logger = logging.getLogger(__name__)

ROWS = 2_000
PATIENCE_S = 120.0
SAME, DIFFERENT = 0, 3
"""How `rendezvous diff` ends when it has found out."""


class Replayed:
    """At most one replay at a time; each question is asked once."""

    def __init__(self, file: Path, archive: Path) -> None:
        self._file = file
        self._archive = archive
        self._asked: tuple[str, Version, Version] | None = None
        self._task: asyncio.Task[None] | None = None
        self.said = ""

    def ask(self, model: str, both: tuple[Version, Version]) -> None:
        """Begin, unless it was asked before or another one is still on its way."""
        question = (model, *both)
        if question != self._asked and (self._task is None or self._task.done()):
            self._asked, self.said = question, ""
            self._task = asyncio.create_task(self._replay(*question))

    def forget(self) -> None:
        """All is well again: the next trouble is another question."""
        self._asked, self.said = None, ""

    async def _replay(self, model: str, old: Version, new: Version) -> None:
        folder = self._file.parent
        words = [f"{model}={folder / one.artifact}" for one in (old, new)]
        where = ("-P", str(self._file), "--archive", str(self._archive))
        ended = await run_aside(["diff", *words, *where, "--rows", str(ROWS), "--json"], PATIENCE_S)
        if ended.code not in (SAME, DIFFERENT):
            logger.warning("%s: what was asked could not be replayed: %s", model, ended.why)
            return
        try:
            self.said = sentence(model, old, new, json.decode(ended.out, type=Replay))
        except UNREADABLE as error:
            logger.warning("%s: no answer of a replay: %s", model, error)
            return
        logger.info("%s", self.said)
