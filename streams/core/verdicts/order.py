"""Whether a changed model still puts events into its old order: then it is only rescaled.

Its scores since the change are given, in the order that they have, the values that the input and another model let
expect of so many events (quantile matching). After a monotone recalibration that leaves as little unexplained as
ever, whatever became of the scores; after anything else it explains next to nothing. A model that was trained anew
has nearly its old order, so a rank correlation does not tell the two apart; how much of the change goes away does.
"""

from math import sqrt

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.expected import Expected
from streams.core.verdicts.fields import Bins

LEAST = 30
SHARE = 0.7
"""Of what a change left unexplained: when so much goes away by rescaling, a rescaling is what it was."""

SPREADS = 4.0
"""How far what is left after that may be from the usual, in spreads of the reference's windows."""

USUAL = 32
"""Quantiles of what is usually left: each event might have got any of these beside what is expected of it."""


class Order(Struct, frozen=True):
    """What the reference leaves unexplained of each model by the expectation that explains most of it."""

    targets: list[int]  # the expectation used for each model
    squares: Matrix  # (models,) the usual mean square of what is left
    spread: Matrix  # (models,) of that of one event, as a share: windows' own times the root of their length
    left: Matrix  # (models, USUAL) quantiles of it

    def kept(self, model: int, scores: Matrix, ranks: Matrix, expectation: Matrix) -> bool:
        """Whether (n,) scores, of these (n,) ranks in the reference, are what (n,) expectation says but rescaled."""
        there = ~(np.isnan(scores) | np.isnan(expectation))
        scores, ranks, known = scores[there], ranks[there], expectation[there]
        if len(scores) < LEAST or np.ptp(scores) == 0:
            return False
        every = np.sort((known[:, None] + self.left[model]).ravel())
        places = (_mean_ranks(scores) - 0.5) / len(scores) * len(every)
        matched = np.interp(places, np.arange(len(every)) + 0.5, every)
        was = float(((ranks - known) ** 2).mean() / self.squares[model]) - 1
        now = float(((matched - known) ** 2).mean() / self.squares[model]) - 1
        chance = SPREADS * float(self.spread[model]) / sqrt(len(scores))
        return was > 0 and now <= min((1 - SHARE) * was, chance)


def usual_order(expected: Expected, ranks: Matrix, left: Matrix, size: int) -> Order:
    """From the reference: the target that explains each model best, and what it leaves, by windows of this length."""
    models = ranks.shape[1]
    targets = []
    for model in range(models):
        mine = [model, *(models + number for number, pair in enumerate(expected.pairs) if pair[0] == model)]
        targets.append(min(mine, key=lambda one: float(np.nanvar(left[:, one]))))
    chosen = left[:, targets]
    at = (np.arange(USUAL) + 0.5) / USUAL
    squares = np.maximum(np.nanmean(chosen * chosen, 0), 1e-12)
    windows = chosen[: len(chosen) // size * size].reshape(-1, size, models) ** 2
    counts = (~np.isnan(windows)).sum(1)
    means = np.where(counts > 0, np.nansum(windows, 1) / np.maximum(counts, 1), np.nan)
    spread = np.nanstd(means / squares, 0) * sqrt(size)
    return Order(targets, squares, spread, np.nanquantile(chosen, at, 0).T)


def expectation(expected: Expected, bins: Bins, ranks: Matrix, target: int) -> Matrix:
    """(n,) what the rank of a target's model should be, whatever its own score is."""
    models = ranks.shape[1]
    model = target if target < models else expected.pairs[target - models][0]
    known = ranks.copy()
    known[:, model] = 0.0  # its own score has no part in it
    return -expected.residuals(bins, known)[:, target]


def rank_correlation(one: Matrix, other: Matrix) -> float:
    """Spearman's, with mean ranks for ties."""
    return float(np.corrcoef(_mean_ranks(one), _mean_ranks(other))[0, 1])


def _mean_ranks(values: Matrix) -> Matrix:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Matrix = (last - (counts - 1) / 2)[place]
    return found
