"""Whether an owner that is not heard is silent: its standby asks where decisions end, and reads up to there.

A host that is short of processors makes the standby deaf as well as the owner slow, and both look alike from here.
It asks only while something waits and the owner was not heard for a while: not at all while all is well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from confluent_kafka import KafkaException
from faust.types import TP

from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)

QUIET_MS = 50.0
"""An owner that was heard this shortly ago is asked for nobody: it reads a batch of its answers each few ms."""

BETWEEN_S, AFTER_ERROR_S = 0.01, 1.0


class Looks:
    """Of one desk, over its partitions. Knows how far decisions were read, and where they end.

    `answer` says what may be said then.
    """

    _app: BatchApp

    def __init__(self, decisions: str, answer: Callable[[Rendezvous, Sequence[Reply]], Awaitable[None]]) -> None:
        self._decisions = decisions
        self._answer = answer
        self._cores: Mapping[int, Rendezvous] = {}
        self._next: dict[int, int] = {}
        self._ends: dict[int, tuple[int, float]] = {}
        self._looking = False

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app

    def begin(self, cores: Mapping[int, Rendezvous], starts: Mapping[TP, int]) -> None:
        """These partitions were taken over, and no others."""
        self._cores = cores
        self._next = {tp.partition: offset for tp, offset in starts.items() if tp.topic == self._decisions}
        self._ends = {}

    def read(self, number: int, next_offset: int) -> list[Reply]:
        """Decisions of a partition were read up to here; returns what may leave for that."""
        self._next[number] = next_offset
        end, as_of_ms = self._ends.get(number, (-1, 0.0))
        if not 0 <= end <= next_offset:
            return []
        del self._ends[number]
        return self._cores[number].read_to(as_of_ms, self._app.producer.now_ms())

    def look(self) -> None:
        """Begin to ask if there is a reason, and go on until there is none."""
        if not self._looking and self._doubtful():
            self._looking = True
            self._app.add_future(self._look())

    def _doubtful(self) -> list[int]:
        since_ms = self._app.producer.now_ms() - QUIET_MS
        return [n for n, core in self._cores.items() if core.undecided and core.heard_at_ms < since_ms]

    async def _look(self) -> None:
        try:
            while numbers := self._doubtful():
                await asyncio.sleep(BETWEEN_S if await self._ask(numbers) else AFTER_ERROR_S)
        finally:
            self._looking = False

    async def _ask(self, numbers: list[int]) -> bool:
        cores, as_of_ms = self._cores, self._app.producer.now_ms()
        try:
            bounds = await self._app.consumer.bounds([TP(self._decisions, number) for number in numbers])
        except KafkaException as error:
            logger.warning("where decisions end is not known: %s", error.args[0])
            return False
        if self._cores is not cores:
            return True  # let go meanwhile
        for tp, (_, end) in bounds.items():
            # The end that is asked for first is reached first, in spite of what is said meanwhile.
            self._ends.setdefault(tp.partition, (end, as_of_ms))
            replies = self.read(tp.partition, self._next[tp.partition])
            await self._answer(cores[tp.partition], replies)
        return True
