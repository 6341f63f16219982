"""How far a window is from a reference: every statistic as a z, from the sums of the two.

Sources: Kolmogorov and Smirnov's bound for quantiles; the binomial deviance for counts; Wilson and Hilferty's for
chi-square; Fisher's z for correlations of normal scores. Where events are not independent, z is too large: thresholds
come from the reference's own windows (`thresholds.py`), never from here.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.fields import BINS
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
        self.categories = categories
        self.first, self.second = scores
        joint = len(Sums(layout)["cross"])
        self.upper = np.triu_indices(joint, 1)
        other_field = self.upper[0] // 2 != self.upper[1] // 2
        self.upper = (self.upper[0][other_field], self.upper[1][other_field])
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

    def of(self, live: Sums, reference: Sums) -> Matrix:
        """Every statistic's z, signed where a direction has a meaning."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (
                *self._margins(live, reference),
                self._joint(live, reference),
                *self._left(live, reference),
                *self._traffic(live, reference),
            )
        fields = self.layout.fields
        quantiles, place, spread, mix, *counts, joint, mean, size, profile, rate, latency = parts
        models = self.layout.models
        z = np.concatenate([
            quantiles[:fields], place[:fields], spread[:fields], mix, *counts, joint,
            quantiles[fields:], place[fields:], spread[fields:],
            mean[:models], size[:models], profile, mean[models:], size[models:], self._same(live, reference),
            rate, latency,
        ])  # fmt: skip
        return np.clip(np.nan_to_num(z, nan=0.0, posinf=HIGHEST, neginf=-HIGHEST), -HIGHEST, HIGHEST)

    def _margins(self, live: Sums, reference: Sums) -> tuple[Matrix, ...]:
        fields = self.layout.fields
        mine, theirs = live["bins"][:, :BINS], reference["bins"][:, :BINS]
        n, m = np.maximum(mine.sum(1), 1), np.maximum(theirs.sum(1), 1)
        fresh = 1 / n + 1 / m
        distance = np.abs(np.cumsum(mine, 1) / n[:, None] - np.cumsum(theirs, 1) / m[:, None]).max(1)
        quantiles = z_of_log_tail(np.log(2) - 2 * distance**2 / fresh)
        quantiles[:fields] *= self.numbers
        place = self._mean(self.first, mine, theirs, fresh)
        spread = self._mean(self.second, mine, theirs, fresh)
        share = live["rows"][0] / max(reference["rows"][0], 1.0)
        counted = z_of_count(_counts(live, fields), _counts(reference, fields), share)
        return (
            quantiles,
            place,
            spread,
            self._mix(mine[:fields], theirs[:fields]),
            *counted,
        )

    def _mean(self, score: Matrix, mine: Matrix, theirs: Matrix, fresh: Matrix) -> Matrix:
        n, m = np.maximum(mine.sum(1), 1), np.maximum(theirs.sum(1), 1)
        mean = (score * theirs).sum(1) / m
        variance = (score * score * theirs).sum(1) / m - mean**2
        difference = (score * mine).sum(1) / n - mean
        return np.where(variance > 1e-6, difference / np.sqrt(np.maximum(variance, 0.05) * fresh), 0.0)

    def _mix(self, mine: Matrix, theirs: Matrix) -> Matrix:
        """Categories: chi-square over the bins that are expected five times, the rest as one."""
        found = np.zeros(len(mine))
        which = np.flatnonzero(self.categories)
        mine, theirs = mine[which], theirs[which]
        n, m = np.maximum(mine.sum(1, keepdims=True), 1), np.maximum(theirs.sum(1, keepdims=True), 1)
        expected = theirs * n / m
        enough = expected >= 5
        rest = np.where(enough, 0, mine).sum(1), np.where(enough, 0, expected).sum(1)
        square = np.where(enough, (mine - expected) ** 2 / np.maximum(expected, 1), 0).sum(1)
        square += np.where(rest[1] >= 5, (rest[0] - rest[1]) ** 2 / np.maximum(rest[1], 1), 0)
        degrees = enough.sum(1) + (rest[1] >= 5) - 1
        found[which] = np.where(degrees > 0, z_of_chi_square(square / (1 + n / m)[:, 0], degrees), 0.0)
        return found

    def _joint(self, live: Sums, reference: Sums) -> Matrix:
        n, m = live["rows"][0], max(reference["rows"][0], 1.0)
        return (self.fisher(live) - self.fisher(reference)) / np.sqrt(1 / n + 1 / m)

    def fisher(self, sums: Sums) -> Matrix:
        """Correlations of all pairs of normal scores, on Fisher's scale."""
        joint = len(sums["cross"]) // 2
        rows = max(sums["rows"][0], 1.0)
        counts = sums["bins"][:joint, :BINS]
        means = (
            np.stack([(self.first[:joint] * counts).sum(1), (self.second[:joint] * counts).sum(1)], 1).ravel() / rows
        )
        spread = np.sqrt(np.maximum(np.diag(sums["cross"]) / rows - means**2, 1e-9))
        one, other = self.upper
        covariance = sums["cross"][one, other] / rows - means[one] * means[other]
        usable = (spread[one] > 0.1) & (spread[other] > 0.1)
        return np.where(usable, np.arctanh(np.clip(covariance / (spread[one] * spread[other]), -0.995, 0.995)), 0.0)

    def _left(self, live: Sums, reference: Sums) -> tuple[Matrix, Matrix, Matrix]:
        n, total, squares = live["left"]
        m, usual, usual_squares = reference["left"]
        n, m = np.maximum(n, 1), np.maximum(m, 1)
        fresh = 1 / n + 1 / m
        variance = np.maximum(usual_squares / m - (usual / m) ** 2, 1e-12)
        mean = (total / n - usual / m) / np.sqrt(variance * fresh)
        of_squares = np.maximum(reference["fourth"] / m - (usual_squares / m) ** 2, 1e-14)
        size = (squares / n - usual_squares / m) / np.sqrt(of_squares * fresh)
        enough = live["left"][0] >= LEAST_LIVE
        return mean * enough, size * enough, self.segments(live, reference)[0]

    def _same(self, live: Sums, reference: Sums) -> Matrix:
        """Rows that two models answer alike: one of them may have been given the other's file."""
        share = live["rows"][0] / max(reference["rows"][0], 1.0)
        return z_of_count(live["same"], reference["same"], share)

    def segments(self, live: Sums, reference: Sums) -> tuple[Matrix, Matrix]:
        """Per model the z of its most moved segment, and all of them: (models, fields, coarse bins)."""
        models, fields, width = live["profile"].shape
        if not fields:
            return np.zeros(models), np.zeros((models, 0, width))
        n, m = (_coarse(sums["bins"][:fields], width) for sums in (live, reference))
        mean = reference["profile"] / np.maximum(m, 1)
        whole = reference["left"][2][:models] / np.maximum(reference["left"][0][:models], 1)
        variance = np.maximum(reference["profile_squares"] / np.maximum(m, 1) - mean**2, 0.3 * whole[:, None, None])
        z = (live["profile"] / np.maximum(n, 1) - mean) / np.sqrt(
            np.maximum(variance, 1e-12) * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))
        )
        enough = (n >= LEAST_LIVE) & (m >= LEAST_REFERENCE)
        z = np.where(enough, z, 0.0)
        return z_of_largest(np.abs(z).max((1, 2)), enough.sum()), z

    def _traffic(self, live: Sums, reference: Sums) -> tuple[Matrix, Matrix]:
        gaps, _, logs, _ = live["gaps"]
        usual_gaps, _, usual, squares = reference["gaps"]
        gaps, usual_gaps = max(gaps, 1.0), max(usual_gaps, 1.0)
        spread = max(squares / usual_gaps - (usual / usual_gaps) ** 2, 0.1)
        rate = (usual / usual_gaps - logs / gaps) / np.sqrt(spread * (1 / gaps + 1 / usual_gaps))
        n, total, _ = live["latency"]
        m, logs, squares = reference["latency"]
        variance = np.maximum(squares / np.maximum(m, 1) - (logs / np.maximum(m, 1)) ** 2, 1e-4)
        slower = (total / np.maximum(n, 1) - logs / np.maximum(m, 1)) / np.sqrt(
            variance * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))
        )
        enough = (n >= LEAST_LIVE) & (m >= LEAST_REFERENCE)
        return np.array([rate if min(gaps, usual_gaps) >= LEAST_LIVE else 0.0]), slower * enough


def _counts(sums: Sums, fields: int) -> Matrix:
    """(5, fields) how many values are null, null alone, of another type, new, outside."""
    null = sums["bins"][:fields, BINS] - sums["odd"]
    return np.stack([null, sums["alone"], sums["odd"], sums["unseen"], sums["outside"]])


def _coarse(bins: Matrix, width: int) -> Matrix:
    """Counts by the regressors' bins: (fields, WIDE) to (fields, width)."""
    each = BINS // (width - 1)
    merged = bins[:, :BINS].reshape(len(bins), width - 1, each).sum(2)
    return np.concatenate([merged, bins[:, BINS:]], 1)
