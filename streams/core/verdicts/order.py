"""Whether a changed model still puts events into its old order: then it is only rescaled.

Its scores are compared by their rank among themselves with what the input and another model let expect. A monotone
recalibration leaves that correlation as it was, whatever it does to the scores.
"""

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.expected import Expected
from streams.core.verdicts.fields import Bins

LEAST = 200
SPREADS = 4.0
SLACK = 0.01


class Order(Struct, frozen=True):
    """The usual rank correlation of each model with its expectation, over the reference's windows."""

    targets: list[int]  # the expectation used for each model
    mean: Matrix
    spread: Matrix

    def kept(self, model: int, scores: Matrix, expectation: Matrix) -> bool:
        """Whether (n,) scores have the order that (n,) expectation of their rank lets expect."""
        there = ~(np.isnan(scores) | np.isnan(expectation))
        if there.sum() < LEAST or np.ptp(scores[there]) == 0:
            return False
        lowest = self.mean[model] - SPREADS * self.spread[model] - SLACK
        return bool(rank_correlation(scores[there], expectation[there]) >= lowest)


def usual_order(expected: Expected, scores: Matrix, ranks: Matrix, left: Matrix, size: int) -> Order:
    """From the reference: the target that explains each model best, and how its correlation varies by window."""
    models = ranks.shape[1]
    targets, means, spreads = [], [], []
    for model in range(models):
        mine = [model, *(models + number for number, pair in enumerate(expected.pairs) if pair[0] == model)]
        target = min(mine, key=lambda one: float(np.nanvar(left[:, one])))
        expectation = ranks[:, model] - left[:, target]
        there = ~(np.isnan(expectation) | np.isnan(scores[:, model]))
        found = []
        for start in range(0, len(scores) - size + 1, size):
            part = np.arange(start, start + size)[there[start : start + size]]
            if len(part) >= LEAST:
                found.append(rank_correlation(scores[part, model], expectation[part]))
        targets.append(target)
        means.append(float(np.mean(found)) if found else 1.0)
        spreads.append(float(np.std(found)) if found else 0.0)
    return Order(targets, np.array(means), np.array(spreads))


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
