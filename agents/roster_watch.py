"""What a running role knows of the roster: all of it when it begins, and every move as it comes."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from schemas.pipeline import Pipeline
from streams.core.entitlement import Entry, History, Spans
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog


class RosterWatch:
    """Reads the roster for one role. `told` is called on the event loop with all spans that are known.

    `entries` are the moves they come from.
    A thread of its own follows the history: its topic belongs to no consumer group, since every member of a role has
    to read all of it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        told: Callable[[Spans], None],
        died: Callable[[Exception], None],
    ) -> None:
        self.entries: Sequence[Entry] = ()
        self._log = RosterLog(cluster, pipeline)
        self._told = told
        self._died = died
        self._read = -1
        self._following = False

    async def begin(self) -> None:
        """Read what there is now; from then on follow. What is to be decided next needs all of it."""
        history = await asyncio.to_thread(self._log.read)
        self._take(history.spans, tuple(history.entries))
        if not self._following:
            self._following = True
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._follow, args=(loop,), daemon=True).start()

    def _take(self, spans: Spans, entries: Sequence[Entry]) -> None:
        """Take what is longer than what was known: the two readers are not equally far."""
        if spans.read > self._read:
            self._read = spans.read
            self.entries = entries
            self._told(spans)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        def heard(history: History) -> None:
            loop.call_soon_threadsafe(self._take, history.spans, tuple(history.entries))

        try:
            self._log.follow(heard, threading.Event())
        except Exception as error:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._died, error)
