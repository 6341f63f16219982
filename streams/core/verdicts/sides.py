"""The two sides of a comparison: what sums bring to every statistic, worked out once however often it is compared.

A live window is held against the whole reference and against its time of day; the whole reference is held against
every window. What one side contributes depends on no other, so neither is worked out twice.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.fields import BINS
from streams.core.verdicts.sums import Layout, Sums

LEAST_SPREAD = 0.3  # of a model's whole unexplained variance: no segment is taken for quieter than that


class Scores:
    """Two scores of each bin of each column, (columns, BINS): where a value lies, and how far out; and their squares.

    `upper` are the pairs of scores whose correlations are looked at.
    """

    __slots__ = ("first", "first_squares", "joint", "second", "second_squares", "upper")

    def __init__(self, scores: tuple[Matrix, Matrix], joint: int) -> None:
        """`joint` is how many scores of fields are held against each other, two of each field."""
        self.first, self.second = scores
        self.first_squares, self.second_squares = self.first * self.first, self.second * self.second
        self.joint = joint // 2
        one, other = np.triu_indices(joint, 1)
        other_field = one // 2 != other // 2
        self.upper = (one[other_field], other[other_field])


class Side:
    """A window, or a reference, as the statistics look at it."""

    def __init__(self, layout: Layout, scores: Scores, sums: Sums) -> None:
        fields = layout.fields
        self.sums = sums
        self.rows = sums["rows"][0]
        self.bins: Matrix = sums["bins"][:, :BINS]
        self.there: Matrix = np.maximum(self.bins.sum(1), 1)  # (columns,) values that fall into a bin
        self.cumulative: Matrix = np.cumsum(self.bins, 1) / self.there[:, None]
        first, second = (scores.first * self.bins).sum(1), (scores.second * self.bins).sum(1)
        self.place: Matrix = first / self.there
        self.spread: Matrix = second / self.there
        self.counts = _counts(sums, fields)
        self.fisher = _fisher(scores, sums, first, second)
        count, total, squares = sums["left"]
        self.left_count: Matrix = count
        self.left: Matrix = np.maximum(count, 1)
        self.mean: Matrix = total / self.left
        self.square: Matrix = squares / self.left
        width = sums["profile"].shape[2]
        self.coarse = _coarse(sums["bins"][:fields], width) if fields else np.zeros((0, width))
        self.each: Matrix = np.maximum(self.coarse, 1)
        self.profile: Matrix = sums["profile"] / self.each


class Usual(Side):
    """A reference: it says as well how much each statistic varies from event to event."""

    def __init__(self, layout: Layout, scores: Scores, sums: Sums) -> None:
        super().__init__(layout, scores, sums)
        self.place_variance: Matrix = (scores.first_squares * self.bins).sum(1) / self.there - self.place**2
        self.spread_variance: Matrix = (scores.second_squares * self.bins).sum(1) / self.there - self.spread**2
        self.variance: Matrix = np.maximum(self.square - self.mean**2, 1e-12)
        self.square_variance: Matrix = np.maximum(sums["fourth"] / self.left - self.square**2, 1e-14)
        models = layout.models
        least = LEAST_SPREAD * (sums["left"][2][:models] / self.left[:models])
        self.profile_variance: Matrix = np.maximum(
            np.maximum(sums["profile_squares"] / self.each - self.profile**2, least[:, None, None]), 1e-12
        )


def _counts(sums: Sums, fields: int) -> Matrix:
    """(5, fields) how many values are null, null alone, of another type, new, outside."""
    null = sums["bins"][:fields, BINS] - sums["odd"]
    return np.stack([null, sums["alone"], sums["odd"], sums["unseen"], sums["outside"]])


def _fisher(scores: Scores, sums: Sums, first: Matrix, second: Matrix) -> Matrix:
    """Correlations of all pairs of normal scores, on Fisher's scale; `first` and `second` are sums of these."""
    joint = scores.joint
    rows = max(sums["rows"][0], 1.0)
    means = np.stack([first[:joint], second[:joint]], 1).ravel() / rows
    cross = sums["cross"]
    spread = np.sqrt(np.maximum(cross.diagonal() / rows - means**2, 1e-9))
    one, other = scores.upper
    covariance = cross[one, other] / rows - means[one] * means[other]
    usable: NDArray[np.bool_] = (spread[one] > 0.1) & (spread[other] > 0.1)
    return np.where(usable, np.arctanh(np.clip(covariance / (spread[one] * spread[other]), -0.995, 0.995)), 0.0)


def _coarse(bins: Matrix, width: int) -> Matrix:
    """Counts by the regressors' bins: (fields, WIDE) to (fields, width)."""
    each = BINS // (width - 1)
    merged = bins[:, :BINS].reshape(len(bins), width - 1, each).sum(2)
    return np.concatenate([merged, bins[:, BINS:]], 1)
