"""A sketch of numbers of any size: how often each fell into which of the buckets that a float64's upper bits make.

A bucket is 1/128 of its lower edge wide, so a quantile is right to 0.4 %. Sketches of parts add up to the sketch of
the whole exactly, in any order, which quantile sketches with chance in them (KLL) do not; the same log makes the same
bytes after any restart, and numpy makes a thousand at once. What has too many buckets drops bits of their numbers,
each of which doubles the error, until it has few enough: never more than `MOST`. Pure.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix
from schemas.minutes import COARSEST, Buckets

BITS = COARSEST
"""Of a bucket's number: sign, 11 of the exponent, 7 of the mantissa."""

HALF = 1 << (BITS - 1)
SHIFT = 64 - BITS
MOST = 2_048
"""Buckets of one sketch. Values of one sign and within a factor of 65,000 never have as many."""

TOGETHER = 64
"""Sketches that are added at once: each alone costs several times as much."""

Integers = NDArray[np.int64]


def buckets_of(values: Matrix) -> Integers:
    """The buckets of finite numbers, numbered in their order.

    >>> buckets_of(np.array([-1.0, -0.0, 0.0, 1.0, 1.007, 1.008])).tolist()
    [131199, 262144, 262144, 393088, 393088, 393089]
    """
    top = ((np.asarray(values, np.float64) + 0.0).view(np.uint64) >> np.uint64(SHIFT)).astype(np.int64)
    return np.where(top < HALF, top + HALF, 2 * HALF - 1 - top)


def middles_of(numbers: Integers, coarser: int = 0) -> Matrix:
    """The middle of each of these buckets; of that of zero, zero."""
    half = HALF >> coarser
    top = np.where(numbers >= half, numbers - half, half - 1 - numbers)
    low = _edge(top << coarser)
    high = _edge((top + 1) << coarser)
    middle = np.where((top == 0) | ~np.isfinite(high), low, low + (np.where(np.isfinite(high), high, low) - low) / 2)
    return np.where(numbers >= half, middle, -middle)


def _edge(top: Integers) -> Matrix:
    return (top.astype(np.uint64) << np.uint64(SHIFT)).view(np.float64)


def summed(numbers: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Equal numbers are one, with the sum of their counts; ascending.

    >>> [found.tolist() for found in summed(np.array([5, 3, 5]), np.array([1, 1, 2]))]
    [[3, 5], [1, 3]]
    """
    if not len(numbers):
        return numbers, counts
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    first = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
    return numbers[first], np.add.reduceat(counts[order], first)


def packed(numbers: Integers, counts: Integers) -> Buckets:
    """As it is written: of ascending numbers that occur once."""
    coarser = 0
    while len(numbers) > MOST:
        numbers, counts = summed(numbers >> 1, counts)
        coarser += 1
    return Buckets(np.diff(numbers, prepend=0).tolist(), counts.tolist(), coarser)


class Sketch:
    """The sum of sketches: as coarse as the coarsest of them.

    >>> held = Sketch()
    >>> for part in ([1.0, 2.0], [3.0]):
    ...     held.merge(packed(*summed(buckets_of(np.array(part)), np.ones(len(part), np.int64))))
    >>> held.total, [round(value, 1) for value in held.quantiles([0.5])]
    (3, [2.0])
    """

    def __init__(self) -> None:
        self.coarser = 0
        self._sum: tuple[Integers, Integers] = (np.empty(0, np.int64), np.empty(0, np.int64))
        self._sum_coarser = 0
        self._more: list[Buckets] = []

    def merge(self, other: Buckets) -> None:
        """Those of another."""
        self.coarser = max(self.coarser, other.coarser)
        self._more.append(other)
        if len(self._more) >= TOGETHER:
            self.summed()

    def summed(self) -> tuple[Integers, Integers]:
        """Its buckets, ascending, and their counts."""
        if self._more:
            numbers = [self._sum[0] >> (self.coarser - self._sum_coarser)]
            numbers += [np.cumsum(np.array(one.at, np.int64)) >> (self.coarser - one.coarser) for one in self._more]
            counts = [self._sum[1], *(np.array(one.of, np.int64) for one in self._more)]
            self._sum = summed(np.concatenate(numbers), np.concatenate(counts))
            self._sum_coarser, self._more = self.coarser, []
        return self._sum

    @property
    def total(self) -> int:
        """How many values."""
        return int(self.summed()[1].sum())

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """For each share the middle of the bucket that it of the values lies in or below; none without any."""
        numbers, counts = self.summed()
        if not len(numbers):
            return []
        upto = np.cumsum(counts)
        places = np.searchsorted(upto, [max(1, ceil(share * int(upto[-1]))) for share in shares])
        found: list[float] = middles_of(numbers[places], self.coarser).tolist()
        return found
