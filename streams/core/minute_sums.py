"""Minutes put together over any span: counts are added, and sketches, so a quantile is that of the whole span.

Of records of the same minute, model, version and field the fullest counts: some are written again after a restart.
Pure.
"""

from collections.abc import Iterator

from msgspec import Struct

from schemas.minutes import MINUTE_MS, Minute, MinuteFigures, decode_minute, encode_minute, key_of
from streams.core.buckets import Sketch

SCORE_SHARES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
TIME_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
EVERY_MS = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS, "day": 1_440 * MINUTE_MS, "all": 0}
"""How long a span is; 0: all of it is one."""


class Summed(Struct, frozen=True, kw_only=True):
    """One version of a model in a span, from its first minute (`from_ms`) to the end of its last one (`to_ms`).

    Of these `minutes` had requests for it. `field` and `value` are empty for all of them. Counts as in a minute
    (`schemas.minutes`); `scores` and `latency_ms` are quantiles, right to 0.4 % unless `coarser` is more than 0: each
    of these doubles the error.
    """

    from_ms: int
    to_ms: int
    minutes: int
    model: str
    version: str
    field: str
    value: str
    asked: int
    scored: int
    failed: int
    skipped: int
    late: int
    won: int
    scores: dict[str, float]
    latency_ms: dict[str, float]
    coarser: int


class Fullest:
    """The records that count. They are kept as they are written: a fifth of what they are as objects."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[int, int, bytes]] = {}

    def take(self, minute: Minute) -> None:
        """One record, in the order of the topic."""
        key, asked = key_of(minute), minute.asked
        if asked >= self._kept.get(key, (0, 0, b""))[1]:
            self._kept[key] = minute.at_ms, asked, encode_minute(minute)

    def __iter__(self) -> Iterator[Minute]:
        """By time."""
        found = sorted(self._kept.values(), key=lambda kept: kept[0])
        return (decode_minute(value) for _, _, value in found)


class _Total:
    def __init__(self) -> None:
        self.minutes = self.asked = self.scored = self.failed = self.skipped = self.late = self.won = 0
        self.scores, self.took_ms = Sketch(), Sketch()

    def add(self, one: MinuteFigures) -> None:
        self.minutes += 1
        self.asked += one.asked
        self.scored += one.scored
        self.failed += one.failed
        self.skipped += one.skipped
        self.late += one.late
        self.won += one.won
        self.scores.merge(one.scores)
        self.took_ms.merge(one.took_ms)


def summed_up(minutes: Fullest, every_ms: int) -> list[Summed]:
    """By span, model, version and value; within a span and model the most frequent value first."""
    totals: dict[tuple[int, str, str, str, str], _Total] = {}
    bounds: dict[int, tuple[int, int]] = {}
    for minute in minutes:
        span = minute.at_ms // every_ms if every_ms else 0
        bounds[span] = bounds.get(span, (minute.at_ms, 0))[0], minute.at_ms + MINUTE_MS
        for value, figures in minute.values.items():
            totals.setdefault((span, minute.model, minute.version, minute.field, value), _Total()).add(figures)
    found = sorted(totals.items(), key=lambda pair: (pair[0][:3], -pair[1].asked, pair[0][4]))
    return [_summed(bounds[key[0]], *key[1:], one) for key, one in found]


def _summed(bounds: tuple[int, int], model: str, version: str, field: str, value: str, one: _Total) -> Summed:
    return Summed(
        from_ms=bounds[0],
        to_ms=bounds[1],
        minutes=one.minutes,
        model=model,
        version=version,
        field=field,
        value=value,
        asked=one.asked,
        scored=one.scored,
        failed=one.failed,
        skipped=one.skipped,
        late=one.late,
        won=one.won,
        scores=_quantiles(one.scores, SCORE_SHARES),
        latency_ms=_quantiles(one.took_ms, TIME_SHARES),
        coarser=max(one.scores.coarser, one.took_ms.coarser),
    )


def _quantiles(sketch: Sketch, shares: dict[str, float]) -> dict[str, float]:
    found = sketch.quantiles([*shares.values()])
    return {name: float(f"{value:.6g}") for name, value in zip(shares, found, strict=False)}
