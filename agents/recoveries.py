"""A desk's partitions that are still at the time they missed: each goes live when it has caught up with its logs.

How it is run through is `streams.core.recovery`. Here the ends of the logs are asked for again while it runs: what
came meanwhile belongs to it too, else its timers would fire before the scores that are waiting to be read.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from confluent_kafka import KafkaException
from faust.types import TP

from schemas.topics import Topics
from streams.core.pending import Reply
from streams.core.recovery import Recovery
from streams.core.rendezvous import Rendezvous
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)

PATIENCE = 2
"""Looks in vain at a recovery that waits for records which may never be shown."""


class Recoveries:
    """By partition. `recovered` counts replies that came of them; `answer` says those found while nothing is read."""

    _app: BatchApp

    def __init__(
        self, role: str, topics: Topics, answer: Callable[[Rendezvous, Sequence[Reply]], Awaitable[None]]
    ) -> None:
        self.recovered = 0
        self._role = role
        self._topics = topics
        self._answer = answer
        self._of: dict[int, Recovery] = {}
        self._waited: dict[int, int] = {}
        self._asking: set[int] = set()

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app

    def begin(self, found: Mapping[int, Recovery]) -> None:
        """These partitions were taken over, and no others."""
        self._of = {number: recovery for number, recovery in found.items() if not recovery.done}
        self._waited = {}

    def at(self, number: int) -> Recovery | None:
        """What this partition is still at; None when it is live."""
        return self._of.get(number)

    def run(self, number: int) -> list[Reply]:
        """Go on with a partition as far as its logs are read."""
        reached(f"{self._role}.in_recovery")
        recovery = self._of[number]
        replies = recovery.run(self._app.producer.now_ms())
        self._waited[number] = 0
        self.recovered += len(replies)
        if recovery.done:
            del self._of[number]
        elif recovery.has_read_all and number not in self._asking:
            self._asking.add(number)
            self._app.add_future(self._ask(number, recovery))
        return replies

    async def _ask(self, number: int, recovery: Recovery) -> None:
        """How far its logs reach by now."""
        raw, scores = TP(self._topics.raw, number), TP(self._topics.scores, number)
        asked_ms = self._app.producer.now_ms()
        try:
            bounds = await self._app.consumer.bounds((raw, scores))
        except KafkaException as error:
            logger.warning("how far the logs reach is not known, what was read counts: %s", error.args[0])
            recovery.close()
        else:
            recovery.grown(bounds[raw][1], bounds[scores][1], asked_ms)
        finally:
            self._asking.discard(number)
        if self._of.get(number) is recovery:
            await self._answer(recovery.core, self.run(number))

    async def close_overdue(self) -> None:
        """End what has waited in vain: a transaction's last offsets are shown to no reader."""
        for number, recovery in list(self._of.items()):
            self._waited[number] = self._waited.get(number, 0) + 1
            if self._waited[number] > PATIENCE:
                recovery.close()
                await self._answer(recovery.core, self.run(number))
