"""Then and now: how far the first part of a range and its last are apart, in fields and in scores.

Effects are in shares of requests, so that fields compare: for numbers the largest difference of the two distributions
(Kolmogorov and Smirnov), for words the total variation, half the sum of the differences of their shares. What chance
alone gives at 1 in 100 is told beside it: `1.628 sqrt(1/n + 1/m)` for KS; for words the mean of independent draws and
2.33 of their standard deviations. It takes requests as independent; real days are clustered, so that little above
it means little.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streams.core.quality import quantiles

FEWEST = 100
"""Requests of a part under which nothing is compared."""

LEVELS = np.linspace(0.01, 0.99, 99)
Floats = NDArray[np.float64]


class Shift(Struct, frozen=True, kw_only=True):
    """One field or one model's score, then and now.

    `then` and `now` are the medians of numbers, or the shares of `word`, whose share changed most. `absent_*` are the
    shares of requests without a value; `effect` is the larger of the distributions' and the absence's.
    """

    name: str
    kind: str
    effect: float
    chance: float
    word: str
    then: float | None
    now: float | None
    absent_then: float
    absent_now: float

    @property
    def beyond_chance(self) -> bool:
        """Whether it is more than chance gives at 1 in 100."""
        return self.effect > self.chance


def of_numbers(name: str, then: Floats, now: Floats) -> Shift:
    """A number's shift; NaN is a request without one."""
    one, other = then[~np.isnan(then)], now[~np.isnan(now)]
    absent = _absence(len(then) - len(one), len(then)), _absence(len(now) - len(other), len(now))
    gap = abs(absent[0] - absent[1])
    distance = largest_difference(one, other)
    return Shift(
        name=name,
        kind="number",
        effect=round(max(distance, gap), 6),
        chance=round(chance_of_numbers(len(one), len(other)), 6),
        word="",
        then=quantiles(one, (0.5,))["p50"],
        now=quantiles(other, (0.5,))["p50"],
        absent_then=absent[0],
        absent_now=absent[1],
    )


def of_words(name: str, then: Sequence[str | None], now: Sequence[str | None]) -> Shift:
    """A word's shift; None is a request without one."""
    one, other = (Counter(word for word in words if word is not None) for words in (then, now))
    return of_counts(name, one, other, (len(then), len(now)))


def of_counts(name: str, one: Counter[str], other: Counter[str], rows: tuple[int, int]) -> Shift:
    """The same from how often each word stands in either part, and how many requests the parts have."""
    n, m = one.total(), other.total()
    shares = {word: (one[word] / n if n else 0.0, other[word] / m if m else 0.0) for word in {*one, *other}}
    distance = sum(abs(b - a) for a, b in shares.values()) / 2 if n and m else float(n != m)
    absent = _absence(rows[0] - n, rows[0]), _absence(rows[1] - m, rows[1])
    word = max(shares, key=lambda word: (abs(shares[word][1] - shares[word][0]), word), default="")
    before, after = shares.get(word, (None, None))
    return Shift(
        name=name,
        kind="word",
        effect=round(max(distance, abs(absent[0] - absent[1])), 6),
        chance=round(chance_of_words([a + b for a, b in ((one[w], other[w]) for w in shares)], n, m), 6),
        word=word,
        then=None if before is None else round(before, 6),
        now=None if after is None else round(after, 6),
        absent_then=absent[0],
        absent_now=absent[1],
    )


def largest_difference(one: Floats, other: Floats) -> float:
    """The largest difference of two distribution functions (two-sample Kolmogorov-Smirnov).

    >>> largest_difference(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    0.5
    """
    if not len(one) or not len(other):
        return float(len(one) != len(other))
    one, other = np.sort(one), np.sort(other)
    every = np.concatenate([one, other])
    below, under = (np.searchsorted(part, every, "right") / len(part) for part in (one, other))
    return float(np.abs(below - under).max())


def chance_of_numbers(n: int, m: int) -> float:
    """What chance gives at 1 in 100; 1 when there is nothing to compare."""
    return min(1.0, 1.628 * float(np.sqrt(1 / n + 1 / m))) if n and m else 1.0


def chance_of_words(counts: Sequence[int], n: int, m: int) -> float:
    """The same for the total variation of words that stand so often in both parts together."""
    if not n or not m:
        return 1.0
    shares = np.array(counts) / (n + m)
    spread = np.sqrt(shares * (1 - shares) * (1 / n + 1 / m))
    middle = np.sqrt(2 / np.pi) * spread.sum() / 2
    deviation = np.sqrt((1 - 2 / np.pi) * (spread**2).sum()) / 2
    return min(1.0, float(middle + 2.33 * deviation))


def _absence(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0
