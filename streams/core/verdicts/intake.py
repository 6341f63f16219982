"""A block of events becomes arrays: scores, gaps, latencies; what is no number is counted by name."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.events import Event, columns, matrix, numbers

BACKWARDS_MS = 60_000.0
LONGEST_GAP_MS = 24 * 3_600_000.0
SHORTEST_GAP_MS = 0.1
EVERY = "all"


class Rows(Struct):
    """A block of n events as arrays. `latencies` are ms by model, or by `EVERY` when one is given for the event."""

    events: list[Event]
    at_ms: Matrix  # (n,)
    scores: Matrix  # (n, models)
    bad: Matrix  # (models,) scores that are there and no finite number
    gaps: tuple[float, float, float, float]  # how many, sum, sum of logs, sum of their squares
    latencies: dict[str, Matrix]


class Intake:
    """Turns events into rows; remembers the last time, and what it had to count."""

    def __init__(self, models: Sequence[str], counts: Counter[str]) -> None:
        self.models = list(models)
        self.counts = counts
        self.last_ms = float("nan")
        self.longest_ms = LONGEST_GAP_MS

    def rows(self, events: list[Event]) -> Rows:
        """Arrays of these events."""
        at_ms = np.array([event.ts_ms for event in events])
        gaps = self._gaps(at_ms)
        found, odd = matrix(columns([event.scores for event in events], self.models))
        scores = np.ascontiguousarray(found.T).reshape(len(events), len(self.models))
        return Rows(events, self._filled(at_ms), scores, np.array(odd, float), gaps, self._latencies(events))

    def _filled(self, at_ms: Matrix) -> Matrix:
        """Event times; one that is missing is the one before."""
        missing = np.isnan(at_ms)
        if missing.any():
            self.counts["events without a time"] += int(missing.sum())
            before = self.last_ms if np.isfinite(self.last_ms) else 0.0
            for place in np.flatnonzero(missing):
                at_ms[place] = at_ms[place - 1] if place else before
        self.last_ms = float(at_ms[-1])
        return at_ms

    def _gaps(self, at_ms: Matrix) -> tuple[float, float, float, float]:
        """Time between events that both have one, without the jumps of a clock."""
        gaps = np.diff(at_ms, prepend=self.last_ms)
        gaps = gaps[np.isfinite(gaps)]
        jumps = (gaps < -BACKWARDS_MS) | (gaps > self.longest_ms)
        if jumps.any():
            self.counts["jumps of the clock"] += int(jumps.sum())
        kept = np.maximum(gaps[~jumps], 0.0)
        logs = np.log(np.maximum(kept, SHORTEST_GAP_MS))  # a night between two days is one long gap, not the rate
        return len(kept), float(kept.sum()), float(logs.sum()), float((logs * logs).sum())

    def _latencies(self, events: list[Event]) -> dict[str, Matrix]:
        given = [event.latency_ms for event in events]
        if all(value is None for value in given):
            return {}
        if not any(isinstance(value, dict) for value in given):
            return {EVERY: self._logs(given)}
        tables = [value if isinstance(value, dict) else {} for value in given]
        names = sorted({str(name) for name in set[object]().union(*tables)})
        found, odd = matrix(columns(tables, names[:50]))
        return dict(zip(names, self._as_logs(found, sum(odd)), strict=False))

    def _logs(self, values: list[object]) -> Matrix:
        return self._as_logs(*numbers(values))

    def _as_logs(self, found: Matrix, odd: int) -> Matrix:
        negative = found < 0
        found[negative] = np.nan
        if odd or negative.any():
            self.counts["latencies that are no time"] += odd + int(negative.sum())
        return np.log(np.maximum(found, 1e-3))
