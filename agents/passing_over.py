"""A desk's eye on the champion: passed over while it is not well, by a move on the roster that every role reads.

When, and why, is `streams.core.breaker`. Of several rendezvous that say so at once the first one's move counts.
"""

import asyncio
import logging
import time
from collections.abc import Iterable

from confluent_kafka import KafkaException

from schemas.blocks import ScoresBlock
from schemas.errors import RendezvousError
from schemas.pipeline import BreakerSettings, Pipeline
from schemas.requests import Rejection, Request
from schemas.roster import State, move_of
from streams.core.breaker import Breaker, Turn
from streams.core.entitlement import Spans
from streams.core.policy import champion_of
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog

logger = logging.getLogger(__name__)

AGAIN_S = 5.0
"""A move that was not read within this time was refused, or its record is lost: it is made again."""


class PassingOver:
    """Watches one model: the champion that the roster names now."""

    def __init__(self, pipeline: Pipeline, settings: BreakerSettings, cluster: Cluster) -> None:
        self._settings = settings
        self._guards = pipeline.policy.guards
        self._log = RosterLog(cluster, pipeline)
        self._breaker: Breaker | None = None
        self._moved_s = -AGAIN_S

    def entitle(self, spans: Spans, now_ms: float) -> None:
        """More of the roster is known: another champion, or the same in another state, is watched from the start."""
        last, known = spans.spans[-1], self._breaker
        name, over = last.passed_over or champion_of(last.pipeline), bool(last.passed_over)
        version = last.pipeline.model(name).version
        if known is None or (known.model, known.version, known.over) != (name, version, over):
            self._breaker = Breaker(self._settings, self._guards, name, version, over=over, now_ms=now_ms)

    def asked(self, partition: int, requests: Iterable[Request | Rejection]) -> None:
        """They were read from raw, live."""
        if self._breaker:
            self._breaker.asked(partition, requests)

    def offered(self, partition: int, block: ScoresBlock, log_ms: float) -> None:
        """It was read from scores, live."""
        if self._breaker:
            self._breaker.offered(partition, block, log_ms)

    async def look(self, now_ms: float) -> None:
        """Move it if it is time to."""
        turn = self._breaker.turn(now_ms) if self._breaker else None
        if turn is not None and time.monotonic() - self._moved_s > AGAIN_S:
            self._moved_s = time.monotonic()
            await asyncio.to_thread(self._move, turn, self._breaker.version if self._breaker else "")

    def _move(self, turn: Turn, version: str) -> None:
        before, after = State.CHAMPION, State.PASSED_OVER
        if not turn.over:
            before, after = after, before
        try:
            model = self._log.read().roster.members[turn.model].model
            if model.version != version:
                return  # another has taken over meanwhile, and is not to blame
            self._log.move(move_of(model, before, after, "rendezvous", turn.why, int(time.time() * 1e3)))
        except (RendezvousError, KafkaException) as error:  # another was first, or the broker is away for a moment
            logger.warning("%s was not moved to %s: %s", turn.model, after, error)
        else:
            logger.warning("%s is %s now: %s", turn.model, after, turn.why)
