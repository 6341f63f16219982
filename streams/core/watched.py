"""One watch over a stream, where its events lie in the log, who sent them, and which models answered them."""

from collections import deque
from collections.abc import Mapping

from schemas.decisions import Ticket
from schemas.verdicts import Verdict
from streams.core.attendance import Attendance
from streams.core.gathering import Gathered
from streams.core.sources import Sources
from streams.core.verdicts.events import Event, Setting
from streams.core.verdicts.watch import ROWS, Watch

EVERY = 250
"""Events between two that are remembered with their tickets: the grain in which a change's beginning is known."""

REMEMBERED = 64


class Watched:
    """One watch and where its events lie in the log."""

    def __init__(self, setting: Setting, first: Gathered, source: str = "") -> None:
        self.name = f"{first.ticket}@{first.at_ms}"
        self.watch = Watch(setting)
        self.window_begins = first.ticket
        self.tickets: deque[tuple[int, Ticket]] = deque([(0, first.ticket)], maxlen=REMEMBERED)
        self.since: tuple[int, Ticket] | None = None
        self.attendance = Attendance()
        self.sources = Sources(source)
        self.slowest_ms = 0.0
        """The longest time that so many requests as are remembered together (`EVERY`) took in the reference."""
        self.began_ms = float(first.at_ms)

    def offer(self, one: Gathered, event: Event, quarantined: Mapping[str, str]) -> Verdict | None:
        """One event; the verdict that it completes. `quarantined` are versions by name."""
        watch = self.watch
        if one.probe is None:
            if watch.place % EVERY == 0:
                self.tickets.append((watch.place, one.ticket))
                if 0 < watch.place <= watch.setting.reference_rows:
                    self.slowest_ms = max(self.slowest_ms, one.at_ms - self.began_ms)
                self.began_ms = float(one.at_ms)
            self.attendance.take(one, watch.place, quarantined)
            self.sources.take(one.fields, watch.place, one.at_ms)
        verdict = watch.offer(event)
        if one.probe is None:
            if watch.place <= watch.setting.reference_rows and self._thousand():
                self.attendance.learn()
            if watch.place == watch.setting.reference_rows:
                self.sources.learn()
            if watch.bounds.event == watch.place - 1:
                self.window_begins = one.ticket
        return verdict

    def _thousand(self) -> bool:
        """Whether one is full, or the reference."""
        place = self.watch.place
        return place % ROWS == 0 or place == self.watch.setting.reference_rows

    def ticket_of(self, event: int | None) -> Ticket | None:
        """The request in whose neighbourhood an event of the watch lies, the last known one before it."""
        if event is None:
            return None
        if self.since is None or self.since[0] != event:  # what began long ago is not forgotten
            self.since = (event, self._near(event))
        return self.since[1]

    def _near(self, event: int) -> Ticket:
        return next((ticket for place, ticket in reversed(self.tickets) if place <= event), self.tickets[0][1])

    def expire(self, at_ms: float, span: str, last: Ticket) -> Verdict | None:
        """Close the window by time; `last` was the last request. What follows has to be said with `next_window`."""
        if self.watch.begins == self.watch.place:
            self.window_begins = last
        return self.watch.expire(at_ms, span)

    def next_window(self, began: int) -> None:
        """After one that was closed by time and `began` at that event: the next one has begun, perhaps."""
        if began != self.watch.begins < self.watch.place:
            self.window_begins = self._near(self.watch.begins)
