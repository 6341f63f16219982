"""Models two by two over the same requests: quantile against quantile, ranks, and the side of the threshold."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streams.core.shifts import FEWEST

LEVELS = (0.001, 0.005, *(round(0.01 * step, 2) for step in range(1, 100)), 0.995, 0.999)
Floats = NDArray[np.float64]


class Pair(Struct, frozen=True, kw_only=True):
    """`model` against `other` over the `rows` that both have scored; the quantiles are at `LEVELS`.

    `rank_correlation` is Spearman's; `agreement` the share of requests that both put on the same side of the
    threshold; `difference` the mean of model's score minus the other's.
    """

    model: str
    other: str
    rows: int
    agreement: float
    rank_correlation: float | None
    difference: float
    quantiles: list[float]
    other_quantiles: list[float]


def pair(model: str, scores: Floats, other: str, others: Floats, threshold: float) -> Pair | None:
    """Compare (NaN: no score); None when fewer than a hundred requests have both."""
    both = ~np.isnan(scores) & ~np.isnan(others)
    one, two = scores[both], others[both]
    if len(one) < FEWEST:
        return None
    return Pair(
        model=model,
        other=other,
        rows=len(one),
        agreement=round(float(((one >= threshold) == (two >= threshold)).mean()), 6),
        rank_correlation=rank_correlation(one, two),
        difference=round(float((one - two).mean()), 6),
        quantiles=[round(float(value), 6) for value in np.quantile(one, LEVELS)],
        other_quantiles=[round(float(value), 6) for value in np.quantile(two, LEVELS)],
    )


def rank_correlation(one: Floats, two: Floats) -> float | None:
    """Spearman's rho, equal scores sharing their middle rank; None when one side is all equal.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    first, second = _ranks(one), _ranks(two)
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return round(float((first * second).sum()) / scale, 6) if scale else None


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    found: Floats = middle[place]
    return found
