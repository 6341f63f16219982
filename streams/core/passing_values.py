"""The values of one field as they pass by, none of them kept for ever: what is told of them takes bounded memory.

Up to the bounds everything is exact. Beyond, of numbers every second is let go of, again and again, so that those
that are kept lie evenly over all; of words those that are rare by then.
"""

from array import array
from collections import Counter

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 1 << 20
"""Kept, and even: chance moves the distribution function of half as many by 1 in 500, once in a hundred times."""

MOST_APART = 100_000
"""Words that are told apart meanwhile; what is let go of has been rarer than half of them."""


class Numbers:
    """Finite numbers.

    >>> held = Numbers(most=4)
    >>> for value in range(9): held.take(float(value))
    >>> held.count, list(held.kept), held.levels(3)
    (9, [0.0, 4.0, 8.0], [0.0, 4.0, 8.0])
    """

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self.count = 0
        self.kept = array("d")
        self._most = most
        self._every = 1
        self._low, self._high = np.inf, -np.inf

    def take(self, value: float) -> None:
        """One more."""
        if self.count % self._every == 0:
            if len(self.kept) == self._most:
                self.kept, self._every = self.kept[::2], 2 * self._every
            self.kept.append(value)
        self.count += 1
        self._low = min(self._low, value)
        self._high = max(self._high, value)

    def levels(self, count: int) -> list[float]:
        """So many quantiles, the least and the greatest of all among them; none without a number."""
        if not self.count:
            return []
        found: NDArray[np.float64] = np.quantile(np.array(self.kept), np.linspace(0, 1, count))
        found[0], found[-1] = self._low, self._high
        return found.tolist()


class Words:
    """Words, and how often each came.

    >>> held = Words(most=2)
    >>> for word in "aaabcd": held.take(word)
    >>> held.count, held.frequent(1)
    (6, ({'a': 3}, 3))
    """

    def __init__(self, most: int = MOST_APART) -> None:
        self.count = 0
        self._most = most
        self._counts: Counter[str] = Counter()

    def take(self, word: str) -> None:
        """One more."""
        self.count += 1
        self._counts[word] += 1
        if len(self._counts) > self._most:
            self._counts = Counter(dict(self._counts.most_common(self._most // 2)))

    def frequent(self, most: int) -> tuple[dict[str, int], int]:
        """The most frequent ones, at most so many; and how many of all are none of them."""
        found = dict(self._counts.most_common(most))
        return found, self.count - sum(found.values())
