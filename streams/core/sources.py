"""Who sends requests, by a declared field of theirs: how often, at which gaps, and who has fallen silent.

A source is silent when it is missing for three times as long as ever in the reference, in time and in requests of
all, and so many of its own were to be expected meanwhile that chance does not leave them out. As gaps are counted in
requests of all, a pause of everybody is nobody's silence, and one who sends little is missed late. Pure; probes are
not counted.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from schemas.verdicts import SourceFigures
from streams.core.event_fields import OTHERS, as_segment

MOST = 50
"""Sources that are known; those that come later are `OTHERS` together, and never missed."""

LEAST = 50
"""Requests of a source in the reference, below which its gaps are not known."""

TIMES = 3.0
EXPECTED = 30.0
"""Requests that were to be expected of a silent source: independent ones stay away by chance once in e^30 times."""


class Arrivals(Struct):
    """One source's requests: the last one, its longest gaps in the reference, what came since the last verdict."""

    last_event: int
    last_ms: float
    usual: int = 0
    usual_events: int = 0
    usual_ms: float = 0.0
    requests: int = 0
    longest_ms: float = 0.0


class Silence(Struct, frozen=True):
    """A source that is missing since this event, while `events` came from others; `expected` should be its own."""

    source: str
    since_event: int
    since_ms: int
    events: int
    gap_ms: float
    expected: float
    usual_events: int
    usual_ms: float

    @property
    def of_threshold(self) -> float:
        """The gap as a multiple of what is allowed."""
        return round(self.events / max(TIMES * self.usual_events, EXPECTED * self.events / self.expected), 2)


class Sources:
    """Of one watch, by the values of one field; without a field nobody is known."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.known: dict[str, Arrivals] = {}
        self.others = 0
        self.rows = 0
        """Requests of the reference; 0 while it is learnt."""
        self.event = 0
        self.now_ms = 0.0
        self.told_ms: float | None = None
        self.resumes = False

    def take(self, fields: Mapping[str, Any], event: int, at_ms: float) -> None:
        """One request that is no probe, the `event`-th of the watch."""
        if not self.field:
            return
        if self.told_ms is None:
            self.told_ms = at_ms
        if self.resumes:  # what was learnt may be of another time: nobody is missing yet
            self.resumes, self.told_ms = False, at_ms
            for one in self.known.values():
                one.last_ms = at_ms
        self.event, self.now_ms = event, at_ms
        name = as_segment(fields.get(self.field))
        found = self.known.get(name)
        if found is None:
            if len(self.known) >= MOST:
                self.others += 1
                return
            found = self.known[name] = Arrivals(0, self.told_ms) if not self.rows else Arrivals(event, at_ms)
        found.longest_ms = max(found.longest_ms, at_ms - found.last_ms)
        if not self.rows:
            _usual(found, event, at_ms)
            found.usual += 1
        found.requests += 1
        found.last_event, found.last_ms = event, at_ms

    def learn(self) -> None:
        """What was taken is the reference."""
        self.rows = self.event + 1
        for one in self.known.values():
            _usual(one, self.event, self.now_ms)
            one.last_event, one.last_ms = self.event, self.now_ms
            one.requests, one.longest_ms = 0, 0.0
        self.others, self.told_ms, self.resumes = 0, self.now_ms, True

    def silent(self) -> list[Silence]:
        """Who is missing, whoever was to be expected most first."""
        found = [self._silence(name, one) for name, one in self.known.items() if one.usual >= LEAST]
        return sorted((one for one in found if one is not None), key=lambda one: (-one.expected, one.source))

    def _silence(self, name: str, one: Arrivals) -> Silence | None:
        if not self.rows or self.resumes:
            return None
        events, gap_ms = self.event - one.last_event, self.now_ms - one.last_ms
        expected = events * one.usual / self.rows
        if expected < EXPECTED or events < TIMES * one.usual_events or gap_ms < TIMES * one.usual_ms:
            return None
        return Silence(
            name, one.last_event, int(one.last_ms), events, gap_ms, expected, one.usual_events, one.usual_ms
        )

    def told(self) -> dict[str, SourceFigures]:
        """Rate and longest gap of each since the last verdict, the gap that is open too; and begin anew."""
        began_ms = self.now_ms if self.told_ms is None else self.told_ms
        took_s = max(self.now_ms - began_ms, 1.0) / 1e3
        found = {}
        for name, one in self.known.items():
            longest_ms = max(one.longest_ms, self.now_ms - one.last_ms)
            found[name] = _figures(one.requests, took_s, longest_ms)
            one.requests, one.longest_ms = 0, 0.0
        if self.others:
            found[OTHERS] = _figures(self.others, took_s, None)
        self.others, self.told_ms = 0, self.now_ms
        return dict(sorted(found.items(), key=lambda pair: -pair[1].requests))


def _usual(one: Arrivals, event: int, at_ms: float) -> None:
    one.usual_events = max(one.usual_events, event - one.last_event)
    one.usual_ms = max(one.usual_ms, at_ms - one.last_ms)


def _figures(requests: int, took_s: float, longest_ms: float | None) -> SourceFigures:
    gap_s = None if longest_ms is None else round(max(longest_ms, 0.0) / 1e3, 3)
    return SourceFigures(requests=requests, per_second=round(requests / took_s, 4), longest_gap_s=gap_s)
