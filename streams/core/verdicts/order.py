"""Whether a changed model still puts events into its old order: then it is only rescaled.

Its scores since the change are given, in the order that they have, the values that the input and another model let
expect of so many events (quantile matching). After a monotone recalibration that leaves as little unexplained as
ever, whatever became of the scores; after anything else it explains next to nothing. A model that was trained anew
has nearly its old order, so a rank correlation does not tell the two apart; how much of the change goes away does.
Where input and other models explain so little of a model that the same scores in any order would leave no more, none
of this says anything of its order, and nothing is said.
"""

from math import sqrt

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.expected import Expected
from streams.core.verdicts.fields import Bins

LEAST = 30
SHARE = 0.75
"""Of what a change left unexplained: when so much goes away by rescaling, a rescaling is what it was."""

SPREADS = 3.0
"""How far what is left after that may be from the usual, in spreads of the reference's windows."""

FAR = 9.0
"""In variances: what is left of one event counts for no more, so that a few far ones do not hide the others."""

USUAL = 32
"""Quantiles of what is usually left: each event might have got any of these beside what is expected of it."""


class Order(Struct, frozen=True):
    """What the reference leaves unexplained of each model by the expectation that explains most of it."""

    targets: list[int]  # the expectation used for each model
    variances: Matrix  # (models,) of what is left
    usual: Matrix  # (models,) the mean of its squares in variances, none beyond FAR
    between: Matrix  # (models,) the variance of that between windows, beyond what events by chance make of it
    within: Matrix  # (models,) its variance from event to event
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
        lost = np.random.default_rng(0).permutation(matched)
        was, now, without = (
            float(np.minimum((found - known) ** 2 / self.variances[model], FAR).mean() - self.usual[model])
            for found in (ranks, matched, lost)
        )
        chance = SPREADS * sqrt(float(self.between[model] + self.within[model] / len(scores)))
        if without <= chance:  # nobody would see it if the order were lost
            return False
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
    variances = np.maximum(np.nanmean(chosen * chosen, 0), 1e-12)
    sizes = np.minimum(chosen * chosen / variances, FAR)
    windows = sizes[: len(sizes) // size * size].reshape(-1, size, models)
    counts = (~np.isnan(windows)).sum(1)
    means = np.where(counts > 0, np.nansum(windows, 1) / np.maximum(counts, 1), np.nan)
    within = np.nanvar(sizes, 0)
    between = np.maximum(np.nanvar(means, 0) - within / size, 0.0)
    return Order(targets, variances, np.nanmean(sizes, 0), between, within, np.nanquantile(chosen, at, 0).T)


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
