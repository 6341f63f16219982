"""How far a window is from a reference: every statistic as a z, from the sums of the two.

Sources: Kolmogorov and Smirnov's bound for quantiles; the binomial deviance for counts; Wilson and Hilferty's for
chi-square; Fisher's z for correlations of normal scores. Where events are not independent, z is too large: thresholds
come from the reference's own windows (`thresholds.py`), never from here.
"""

from collections.abc import Iterator
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.sides import Scores, Side, Usual
from streams.core.verdicts.sums import Layout, Sums
from streams.core.verdicts.tails import HIGHEST, z_of_chi_square, z_of_count, z_of_largest, z_of_log_tail

RAW = ("quantiles", "place", "spread", "mix", "nulls", "nulls alone", "types", "new values", "range")
STRANGE = ("types", "new values", "range")
"""Statistics that count what the reference hardly ever has."""

SCORES = ("score quantiles", "score place", "score spread")
OWN = ("unexplained", "unexplained size", "unexplained by segment")
PAIRED = ("pair", "pair size", "same answers")
LEAST_LIVE, LEAST_REFERENCE = 8, 40


class Shifts:
    """The statistics of one setting, in one order: `groups` says where which lie."""

    def __init__(self, layout: Layout, categories: NDArray[np.bool_], scores: tuple[Matrix, Matrix]) -> None:
        """`categories` (fields,) says which fields have no order; `scores` (columns, BINS) are two for each bin."""
        self.layout = layout
        self.numbers = ~categories
        self.categories = np.flatnonzero(categories)
        self.scores = Scores(scores, len(Sums(layout)["cross"]))
        self.upper = self.scores.upper
        pairs = layout.targets - layout.models
        sizes = (
            [(name, layout.fields) for name in RAW]
            + [("joint", len(self.upper[0]))]
            + [(name, layout.models) for name in (*SCORES, *OWN)]
            + [(name, pairs) for name in PAIRED]
            + [("rate", 1), ("latency", layout.latencies)]
        )
        self.groups: dict[str, slice] = {}
        start = 0
        for name, size in sizes:
            self.groups[name] = slice(start, start + size)
            start += size
        self.size = start

    def largest(self, sizes: Matrix, names: tuple[str, ...]) -> Matrix:
        """Of groups that follow each other and are equally long, the largest of each place: (fields,) of `RAW`."""
        return sizes[self.groups[names[0]].start : self.groups[names[-1]].stop].reshape(len(names), -1).max(0)

    def side(self, sums: Sums) -> Side:
        """A window's side of a comparison."""
        return Side(self.layout, self.scores, sums)

    def usual(self, sums: Sums) -> Usual:
        """A reference's side of a comparison."""
        return Usual(self.layout, self.scores, sums)

    def of(self, live: Side, usual: Usual) -> Matrix:
        """Every statistic's z, signed where a direction has a meaning."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (
                *self._margins(live, usual),
                (live.fisher - usual.fisher) / np.sqrt(1 / live.rows + 1 / max(usual.rows, 1.0)),
                *self._left(live, usual),
                *self._traffic(live.sums, usual.sums),
            )
        fields = self.layout.fields
        quantiles, place, spread, mix, *counts, same, joint, mean, size, profile, rate, latency = parts
        models = self.layout.models
        z = np.concatenate([
            quantiles[:fields], place[:fields], spread[:fields], mix, *counts, joint,
            quantiles[fields:], place[fields:], spread[fields:],
            mean[:models], size[:models], profile, mean[models:], size[models:], same,
            rate, latency,
        ])  # fmt: skip
        if not np.isfinite(z).all():
            z = np.nan_to_num(z, nan=0.0, posinf=HIGHEST, neginf=-HIGHEST)
        return z.clip(-HIGHEST, HIGHEST)

    def _margins(self, live: Side, usual: Usual) -> tuple[Matrix, ...]:
        fields = self.layout.fields
        fresh = 1 / live.there + 1 / usual.there
        distance = np.abs(live.cumulative - usual.cumulative).max(1)
        quantiles = z_of_log_tail(np.log(2) - 2 * distance**2 / fresh)
        quantiles[:fields] *= self.numbers
        return (
            quantiles,
            _moved(live.place - usual.place, usual.place_variance, fresh),
            _moved(live.spread - usual.spread, usual.spread_variance, fresh),
            self._mix(live.bins, usual.bins),
            *self._counts(live, usual),
        )

    def _counts(self, live: Side, usual: Side) -> Iterator[Matrix]:
        """Of what is counted: by field null, null alone, of another type, new, outside; and pairs that answer alike.

        Of two models that answer alike one may have been given the other's file. All counts are held against the
        reference's at once: they are few, and a call costs more than they do.
        """
        mine, theirs = (np.concatenate([side.counts.ravel(), side.sums["same"]]) for side in (live, usual))
        found = z_of_count(mine, theirs, live.rows / max(usual.rows, 1.0))
        fields = live.counts.size
        yield from found[:fields].reshape(live.counts.shape)
        yield found[fields:]

    def _mix(self, mine: Matrix, theirs: Matrix) -> Matrix:
        """Categories: chi-square over the bins that are expected five times, the rest as one."""
        found = np.zeros(self.layout.fields)
        mine, theirs = mine[self.categories], theirs[self.categories]
        n, m = np.maximum(mine.sum(1, keepdims=True), 1), np.maximum(theirs.sum(1, keepdims=True), 1)
        expected = theirs * n / m
        enough = expected >= 5
        rest = np.where(enough, 0, mine).sum(1), np.where(enough, 0, expected).sum(1)
        square = np.where(enough, (mine - expected) ** 2 / np.maximum(expected, 1), 0).sum(1)
        square += np.where(rest[1] >= 5, (rest[0] - rest[1]) ** 2 / np.maximum(rest[1], 1), 0)
        degrees = enough.sum(1) + (rest[1] >= 5) - 1
        found[self.categories] = np.where(degrees > 0, z_of_chi_square(square / (1 + n / m)[:, 0], degrees), 0.0)
        return found

    def _left(self, live: Side, usual: Usual) -> tuple[Matrix, Matrix, Matrix]:
        fresh = 1 / live.left + 1 / usual.left
        mean = (live.mean - usual.mean) / np.sqrt(usual.variance * fresh)
        size = (live.square - usual.square) / np.sqrt(usual.square_variance * fresh)
        enough = live.left_count >= LEAST_LIVE
        return mean * enough, size * enough, self.segments(live, usual)[0]

    def segments(self, live: Side, usual: Usual) -> tuple[Matrix, Matrix]:
        """Per model the z of its most moved segment, and all of them: (models, fields, coarse bins)."""
        if not self.layout.fields:
            return np.zeros(self.layout.models), np.zeros(live.profile.shape)
        z = (live.profile - usual.profile) / np.sqrt(usual.profile_variance * (1 / live.each + 1 / usual.each))
        enough = (live.coarse >= LEAST_LIVE) & (usual.coarse >= LEAST_REFERENCE)
        z = np.where(enough, z, 0.0)
        return z_of_largest(np.abs(z).max((1, 2)), enough.sum()), z

    def _traffic(self, live: Sums, reference: Sums) -> tuple[Matrix, Matrix]:
        gaps, _, logs, _ = live["gaps"].tolist()
        usual_gaps, _, usual, squares = reference["gaps"].tolist()
        gaps, usual_gaps = max(gaps, 1.0), max(usual_gaps, 1.0)
        spread = max(squares / usual_gaps - (usual / usual_gaps) ** 2, 0.1)
        rate = (usual / usual_gaps - logs / gaps) / sqrt(spread * (1 / gaps + 1 / usual_gaps))
        n, total, _ = live["latency"]
        m, logs, squares = reference["latency"]
        enough = (n >= LEAST_LIVE) & (m >= LEAST_REFERENCE)
        n, m = np.maximum(n, 1), np.maximum(m, 1)
        mean = logs / m
        variance = np.maximum(squares / m - mean**2, 1e-4)
        slower = (total / n - mean) / np.sqrt(variance * (1 / n + 1 / m))
        return np.array([rate if min(gaps, usual_gaps) >= LEAST_LIVE else 0.0]), slower * enough


def _moved(difference: Matrix, variance: Matrix, fresh: Matrix) -> Matrix:
    """Z of a mean of scores; of one that hardly varies, none."""
    return np.where(variance > 1e-6, difference / np.sqrt(np.maximum(variance, 0.05) * fresh), 0.0)
