"""One timer for all partitions of an actor: it fires at the earliest moment at which time alone decides.

Later when this process was not given a processor. Then scores lie in the log that it has not read, and it listens for
a moment before time decides: what is late already is answered better for it, and its twin says the same.
"""

import asyncio
from collections.abc import Callable, Iterable

STALL_S, LISTEN_S = 0.02, 0.005
"""So late means a stall, and is listened for so long after it. Not longer: deadlines fall into that moment, too."""

TOGETHER_S = 0.002
"""Timers wait this long for others: while nobody scores, each request has one, and each alone would be a request to
the broker of its own."""


class Timer:
    """Calls `fire` on the event loop, once for each time it was armed and came due."""

    def __init__(self, fire: Callable[[], object]) -> None:
        self._fire = fire
        self._next: asyncio.TimerHandle | None = None
        self._fired_s = 0.0
        self._listens_until_s = 0.0

    def arm(self, due_ms: Iterable[float | None], now_ms: float) -> None:
        """Fire at the earliest of these moments, or before; where there is none, not at all.

        One that fires sooner is left alone: it is armed anew then, and not at each record.
        """
        earliest_ms = min((due for due in due_ms if due is not None), default=None)
        if earliest_ms is None:
            self._cancel()
            return
        loop = asyncio.get_running_loop()
        due_s = loop.time() + max(0.0, earliest_ms - now_ms) / 1e3
        at_s = max(due_s, self._fired_s + TOGETHER_S, self._listens_until_s)
        if self._next is None or self._next.when() > at_s:
            self._cancel()
            self._next = loop.call_at(at_s, self._due, at_s)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _due(self, at_s: float) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if now_s - at_s > STALL_S and at_s > self._listens_until_s:
            self._listens_until_s = now_s + LISTEN_S
            self._next = loop.call_at(self._listens_until_s, self._due, self._listens_until_s)
            return
        self._next = None
        self._fired_s = now_s
        self._fire()
