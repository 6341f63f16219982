"""What a running role knows of a log that is read whole: all of it when it begins, and each change as it comes."""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from schemas.pipeline import Pipeline
from schemas.probes import Tokens
from streams.core.entitlement import Entry, History, Spans
from streams.core.learned import Learned
from streams.core.mature_days import MatureDays
from streams.kafka.clients import Cluster
from streams.kafka.following import Folded
from streams.kafka.quality_log import QualityLog
from streams.kafka.roster_log import RosterLog
from streams.kafka.tally_log import TallyLog
from streams.kafka.token_log import TokenLog


class Grows(Protocol):
    """What is known of a log: the more was read, the more it is."""

    @property
    def read(self) -> int:
        """Records that were read."""


Growing = TypeVar("Growing", bound=Grows)


class LogWatch(Generic[Growing]):
    """Reads a log for one role. `told` is called on the event loop with all that is known.

    A thread of its own follows it: the topic belongs to no consumer group, since every member of a role has to read
    all of it.
    """

    def __init__(
        self,
        read: Callable[[], Growing],
        follow: Callable[[Callable[[Growing], None], threading.Event], None],
        told: Callable[[Growing], None],
        died: Callable[[Exception], None],
    ) -> None:
        self._read_all = read
        self._follow_on = follow
        self._told = told
        self._died = died
        self._read = -1
        self._following = False

    async def begin(self) -> None:
        """Read what there is now; from then on follow. What is to be decided next needs all of it."""
        self._take(await asyncio.to_thread(self._read_all))
        self.follow()

    def follow(self) -> None:
        """Follow, and wait for nothing: for a role that may go by what it began with until it is told."""
        if not self._following:
            self._following = True
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._follow, args=(loop,), daemon=True).start()

    def _take(self, known: Growing) -> None:
        """Take what is longer than what was known: the two readers are not equally far."""
        if known.read > self._read:
            self._read = known.read
            self._told(known)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        def heard(known: Growing) -> None:
            loop.call_soon_threadsafe(self._take, known)

        try:
            self._follow_on(heard, threading.Event())
        except Exception as error:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._died, error)


class RosterWatch(LogWatch[Spans]):
    """Told of all spans that are known."""

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        told: Callable[[Spans], None],
        died: Callable[[Exception], None],
    ) -> None:
        log = RosterLog(cluster, pipeline)

        def follow(heard: Callable[[Spans], None], stop: threading.Event) -> None:
            log.follow(lambda history: heard(history.spans), stop)

        super().__init__(lambda: log.read().spans, follow, told, died)


class Moves(Struct, frozen=True):
    """The roster's history: every record that counted, and the spans they come to."""

    entries: tuple[Entry, ...]
    spans: Spans

    @property
    def read(self) -> int:
        """Records that were read."""
        return self.spans.read


class MovesWatch(LogWatch[Moves]):
    """Told of every move that is known."""

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        told: Callable[[Moves], None],
        died: Callable[[Exception], None],
    ) -> None:
        log = RosterLog(cluster, pipeline)

        def follow(heard: Callable[[Moves], None], stop: threading.Event) -> None:
            log.follow(lambda history: heard(_moves(history)), stop)

        super().__init__(lambda: _moves(log.read()), follow, told, died)


def _moves(history: History) -> Moves:
    return Moves(tuple(history.entries), history.spans)


class FoldedWatch(LogWatch[Growing]):
    """Told of what a log of one pipeline comes to; `log` says which."""

    log: Callable[[Cluster, Pipeline], Folded[Growing]]

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        told: Callable[[Growing], None],
        died: Callable[[Exception], None],
    ) -> None:
        log = type(self).log(cluster, pipeline)
        super().__init__(log.read, log.follow, told, died)


class TokenWatch(FoldedWatch[Tokens]):
    """Told of every token that marks a probe."""

    log = TokenLog


class QualityWatch(FoldedWatch[MatureDays]):
    """Told of all that the labels of mature days say."""

    log = QualityLog


class TallyWatch(FoldedWatch[Learned]):
    """Told of all that the labels have taught."""

    log = TallyLog
