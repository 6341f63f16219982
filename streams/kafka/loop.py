"""The event loop of a role: it sleeps in librdkafka, so that a record wakes the one thread that handles it.

A thread that reads and hands over costs a second wake-up for every pass, and waking up is what is dear: 0.2 ms of CPU
after a sleep of 3 ms, for 20 µs of work (measured; it is the processor that has to come back). asyncio asks a
selector where to sleep and takes any; this one waits for files only as long as the reader wants to leave the broker
alone, and else in the consumer's own queue.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, Protocol

IDLE_S = 0.1
"""What wakes nobody in librdkafka (a signal, another thread) is noticed after this long at most."""

EXACT_S = 0.01
"""Shorter pauses are kept to the microsecond; what else happens meanwhile can wait so long."""

SHORT_S = 0.001
"""librdkafka counts in whole milliseconds."""


class Source(Protocol):
    """Where records come from."""

    def pause_s(self) -> float:
        """How long to leave it alone now."""

    def read(self, wait_s: float) -> None:
        """Take what is there, or wait so long for the first. Never raises."""


class RecordSelector(selectors.DefaultSelector):
    """Waits for files and for records."""

    source: Source | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The files that are ready, at once when a record came, at the latest after `timeout` seconds."""
        source = self.source
        if source is None:
            return super().select(timeout)
        wait_s = IDLE_S if timeout is None else min(timeout, IDLE_S)
        pause_s = source.pause_s()
        if pause_s > 0 or 0 < wait_s < SHORT_S:
            events = self._files(min(pause_s, wait_s) if pause_s > 0 else wait_s)
            if source.pause_s() <= 0:
                source.read(0)
            return events
        events = super().select(0)
        source.read(0 if events else wait_s)
        return events

    def _files(self, wait_s: float) -> list[tuple[selectors.SelectorKey, int]]:
        """What epoll says after a while; it would round a short one up to whole milliseconds, felt at every stage."""
        if 0 < wait_s < EXACT_S:
            time.sleep(wait_s)
            wait_s = 0
        return super().select(wait_s)


class RecordLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with one source of records."""

    def __init__(self) -> None:
        self._records = RecordSelector()
        super().__init__(self._records)

    def read_from(self, source: Source) -> None:
        """Sleep in this source from now on."""
        self._records.source = source

    def leave(self) -> None:
        """Sleep as any loop does."""
        self._records.source = None

    def run_within(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end from inside `Source.read`: librdkafka's callbacks may not return before.

        No handle is running then, so the loop may go on turning. `_run_once` is asyncio's own and a test holds us to
        it.
        """
        source, self._records.source = self._records.source, None
        try:
            task = self.create_task(work)
            while not task.done():
                self._run_once()  # type: ignore[attr-defined]
            return task.result()
        finally:
            self._records.source = source


def running_loop() -> RecordLoop:
    """The loop this runs on; raises TypeError when it is another kind."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, RecordLoop):
        raise TypeError(f"{loop!r} does not sleep in librdkafka: run the app on a streams.kafka.loop.RecordLoop")
    return loop
