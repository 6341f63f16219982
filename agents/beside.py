"""What the monitor knows beside the logs: the reference that is set, what models were trained on, and their files.

All of it is read in threads or processes of its own: the monitor goes on reading meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from agents.frozen import Frozen
from agents.replayed import Replayed
from agents.roster_watch import Moves
from schemas.pipeline import Pipeline
from schemas.probes import Tokens
from schemas.verdicts import NotMadeAsTrained, Reported
from streams.core.training import Training
from streams.core.versions import files_of, suspected
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching
from streams.models.fingerprints import fingerprints_of, marks_of, unlike_training

logger = logging.getLogger(__name__)


class Beside:
    """Of one pipeline, in the folder of its `file`; its archive; and where a reference is set."""

    def __init__(self, pipeline: Pipeline, fields: WatchedFields, file: Path, archive: Path, reference: Path) -> None:
        self._folder = file.parent
        self._frozen = Frozen(pipeline, fields, reference, archive)
        self._replayed = Replayed(file, archive)
        self._training = Training({})
        self._unlike: list[NotMadeAsTrained] = []
        self._now: Pipeline | None = None
        self._marks: list[tuple[str, int, int]] = []
        self._referring = False

    async def refer(self, watching: Callable[[], Watching], moves: Moves, tokens: Tokens, now_ms: float) -> bool:
        """Take over a reference that somebody has set, once, and say so; it is read for seconds, one at a time."""
        if self._referring:
            return False
        self._referring = True
        try:
            spans = moves.spans
            found = await asyncio.to_thread(self._frozen.look, watching(), spans.at(now_ms), spans, tokens)
        finally:
            self._referring = False
        if found is None:
            return False
        watching().refer(*found)
        logger.info("requests are held against the reference that was set: %s", found[0])
        return True

    async def train(self, now: Pipeline) -> None:
        """Read what the models of now were trained on, where it lies beside them, and what they are made of here."""
        self._now = now
        self._marks = await asyncio.to_thread(marks_of, self._folder, now)
        found, why = await asyncio.to_thread(fingerprints_of, self._folder, now)
        self._training = Training(found)
        self._unlike = await asyncio.to_thread(unlike_training, self._folder, now, found)
        for one in why:
            logger.warning("%s", one)

    async def look_again(self) -> None:
        """The same once a model's file, or its fingerprint, is another."""
        if self._now is not None and await asyncio.to_thread(marks_of, self._folder, self._now) != self._marks:
            await self.train(self._now)

    def evidence(self, report: Reported, watching: Watching, moves: Moves) -> Reported:
        """The same with how far this is from training, and what a replay has proved."""
        training = self._training.beside(watching.recent())
        evidence = replace(report.evidence, training=training, software=self._unlike)
        model = suspected(report, moves.spans.at(report.said_at_ms))
        versions = watching.taken_over(model, report.since_event) if model else None
        both = files_of(model, versions, moves.spans) if model and versions else None
        if model and both:
            self._replayed.ask(model, both)
            evidence = replace(evidence, replayed=self._replayed.said)
        elif report.alarmed is None:
            self._replayed.forget()
        return replace(report, evidence=evidence)
