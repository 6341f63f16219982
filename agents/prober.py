"""Sends the probes: frozen records down the live road, on a clock, after a move of the roster, and on suspicion."""

import secrets
import time
from collections.abc import Iterable, Sequence

from agents.reading import SKEW_MS
from schemas.pipeline import Pipeline
from schemas.probes import encode_token, marked
from schemas.topics import Topics
from streams.core.deployed import changes_who_is_asked
from streams.core.entitlement import Entry
from streams.core.probing import Probe, Probing, Renaming
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.transport import BatchApp

ANNOUNCED_S = 2.0
"""From the token's record to the first probe: whoever marks answers has read it by then."""

APART_S = 2.0
"""A round that is asked for comes at once, never more than one in this time."""


class Prober:
    """One life's token, and when the next round is due."""

    def __init__(self, pipeline: Pipeline, app: BatchApp, every_s: float) -> None:
        self._topics = Topics(pipeline.name)
        self._renaming = Renaming(pipeline.request.id)
        self._partitions = pipeline.partitions
        self._app = app
        self._every_s = every_s
        self._token = secrets.token_hex(16)
        self._announcing: Sending | None = None
        self._announced_s: float | None = None
        self._sent_s = float("-inf")
        self._asked_ms: list[float] = []
        self.rounds = 0

    async def announce(self) -> None:
        """Write the token's sum; it is announced once the broker has it: before, probes would count as requests."""
        if self._announced_s is not None:
            return
        if self._announcing is None:
            key, value = encode_token(self._token)
            self._announcing = Sending()
            await self._app.producer.send_batch(self._announcing, [Outgoing(self._topics.probes, value, key, 0)])
        await self._app.producer.flush()
        if not self._announcing.pending:
            await self._app.producer.resolve_failures(self._announcing)
            self._announced_s = time.monotonic()

    @property
    def announced(self) -> bool:
        """Whether the broker has the token."""
        return self._announced_s is not None

    def ask(self) -> None:
        """Something moved, or is held against another reference: a round is due at once."""
        self._asked_ms.append(float("-inf"))

    def moved(self, entries: Iterable[Entry]) -> None:
        """The roster was moved: a round is due as soon as that counts, whether or not anybody asks anything then."""
        self._asked_ms += [entry.from_ms + SKEW_MS for entry in entries if changes_who_is_asked(entry.record)]

    async def look(self, probing: Probing) -> None:
        """Send a round if one is due."""
        now_s = time.monotonic()
        since_s = now_s - self._sent_s
        if not probing.chosen or self._announced_s is None or now_s - self._announced_s < ANNOUNCED_S:
            return
        now_ms = self._app.producer.now_ms()
        later_ms = [at_ms for at_ms in self._asked_ms if at_ms > now_ms]
        asked = len(later_ms) < len(self._asked_ms)
        if since_s >= self._every_s or (asked and since_s >= APART_S):
            self._sent_s, self._asked_ms = now_s, later_ms
            await self._app.producer.send_batch(Sending(), self._round(probing.probes, probing.name))
            self.rounds += 1

    def _round(self, probes: Sequence[Probe], name: str) -> list[Outgoing]:
        """Each probe with an id of its own, on another partition than in the round before."""
        at_ms = int(self._app.producer.now_ms())
        return [
            Outgoing(
                self._topics.raw,
                self._renaming.renamed(one.value, f"probe:{name}:{at_ms}:{number}"),
                one.key,
                (number + self.rounds) % self._partitions,
                list(marked(self._token, f"{name}-{number}", one.joined)),
            )
            for number, one in enumerate(probes)
        ]
