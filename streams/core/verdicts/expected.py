"""What each score should be, given the raw fields, and given another model's score as well.

A model is a function of its input. An additive model of the reference (ridge regression of a score's rank on the bins
of every raw field) explains most of it; what is left moves when the *model* changes and hardly when the input does.
With another model's rank among the regressors, what is left of a pair is smaller still, and cancels what both share.
Residuals of the reference itself are cross-fitted: each fold by what the others say.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.fields import BINS, Bins

FOLDS = 5
RIDGE = 3.0
RANKS = 1000
RANK_BINS = 20
CHUNK = 2_000

class Coarse(Struct, frozen=True):
    """Regressors of raw fields: bins merged, so that a fit stays small, and one for what fits no bin."""

    fields: int

    @property
    def shift(self) -> int:
        """How many times bins are halved."""
        return 1 if self.fields <= 20 else 2 if self.fields <= 40 else 3

    @property
    def width(self) -> int:
        """Regressors of one field."""
        return (BINS >> self.shift) + 1

    def places(self, bins: Bins) -> Bins:
        """(rows, fields) bins to (rows, fields) regressors; NONE, being 32, falls into the last."""
        return (bins >> self.shift) + np.arange(self.fields) * self.width

class Expected(Struct, frozen=True):
    """The fitted expectation of `targets`: every model by itself, then each ordered pair (model, given other)."""

    coarse: Coarse
    pairs: tuple[tuple[int, int], ...]
    means: Matrix  # (targets,)
    weights: Matrix  # (regressors, targets)
    given: Matrix  # (pairs, RANK_BINS)

    def residuals(self, places: Bins, ranks: Matrix) -> Matrix:
        """What is left of `ranks` (rows, models): (rows, targets), NaN where a score is missing."""
        models = ranks.shape[1]
        base = self.weights[places].sum(1) + self.means if places.shape[1] else np.tile(self.means, (len(ranks), 1))
        left = np.empty_like(base)
        left[:, :models] = ranks - base[:, :models]
        bins = rank_bins(ranks)
        for number, (model, other) in enumerate(self.pairs):
            target = models + number
            left[:, target] = ranks[:, model] - base[:, target] - self.given[number][bins[:, other]]
            left[np.isnan(ranks[:, other]), target] = np.nan
        return left

def rank_bins(ranks: Matrix) -> Bins:
    """Ranks in 0..1 to RANK_BINS bins; NaN to the first."""
    return np.minimum((np.nan_to_num(ranks) * RANK_BINS).astype(np.intp), RANK_BINS - 1)

def all_pairs(models: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """Ordered pairs of models; with more than six only those with a canary. `models` says who is one."""
    every = [(one, other) for one in range(len(models)) for other in range(len(models)) if one != other]
    if len(models) <= 6:
        return tuple(every)
    return tuple((one, other) for one, other in every if models[one] or models[other] or 0 in (one, other))

def fit(coarse: Coarse, places: Bins, ranks: Matrix, pairs: tuple[tuple[int, int], ...]) -> tuple[Expected, Matrix]:
    """Fit on the rows in which every model scored; also the cross-fitted residuals of all rows."""
    rows, models = ranks.shape
    whole = ~np.isnan(ranks).any(1)
    fold = np.arange(rows) * FOLDS // max(rows, 1)
    wide = coarse.fields * coarse.width
    means = ranks[whole].mean(0)
    grams, sides = [], []
    for number in range(FOLDS):
        part = whole & (fold == number)
        gram, side = _normal_equations(places[part], ranks[part], means, wide)
        grams.append(gram)
        sides.append(side)
    total, right = sum(grams), sum(sides)
    residuals = np.empty((rows, models + len(pairs)))
    for number in range(FOLDS):
        part = fold == number
        held = _solved(coarse, total - grams[number], right - sides[number], pairs, means)
        residuals[part] = held.residuals(places[part], ranks[part])
    return _solved(coarse, total, right, pairs, means), residuals

def _normal_equations(
    places: Bins, ranks: Matrix, means: Matrix, wide: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gram matrix of all regressors, those of ranks behind those of fields; and their sums with each rank."""
    models = ranks.shape[1]
    size = wide + models * RANK_BINS
    gram, side = np.zeros((size, size)), np.zeros((size, models))
    bins = rank_bins(ranks) + wide + np.arange(models) * RANK_BINS
    for start in range(0, len(places), CHUNK):
        part = slice(start, start + CHUNK)
        ones = np.zeros((len(places[part]), size), np.float32)
        row = np.arange(len(ones))[:, None]
        ones[row, places[part]] = 1
        ones[row, bins[part]] = 1
        gram += ones.T @ ones
        side += ones.T.astype(np.float64) @ (ranks[part] - means)
    return gram, side

def _solved(
    coarse: Coarse,
    gram: NDArray[np.float64],
    side: NDArray[np.float64],
    pairs: tuple[tuple[int, int], ...],
    means: Matrix,
) -> Expected:
    """Both kinds of targets from one factorisation of the fields' part: the rank bins enter by its Schur complement."""
    wide, models = coarse.fields * coarse.width, side.shape[1]
    weights = np.zeros((wide, models + len(pairs)))
    given = np.zeros((len(pairs), RANK_BINS))
    both = np.concatenate([side[:wide], gram[:wide, wide:]], 1)
    solved = np.linalg.solve(gram[:wide, :wide] + RIDGE * np.eye(wide), both) if wide else both
    weights[:, :models] = solved[:, :models]
    for number, (model, other) in enumerate(pairs):
        mine = slice(wide + other * RANK_BINS, wide + (other + 1) * RANK_BINS)
        cross = solved[:, models + other * RANK_BINS : models + (other + 1) * RANK_BINS]
        rest = gram[mine, mine] - gram[mine, :wide] @ cross + RIDGE * np.eye(RANK_BINS)
        given[number] = np.linalg.solve(rest, side[mine, model] - gram[mine, :wide] @ solved[:, model])
        weights[:, models + number] = solved[:, model] - cross @ given[number]
    every = np.concatenate([means, means[[model for model, _ in pairs]]]) if pairs else means
    return Expected(coarse, pairs, every, weights, given)


class Ranks(Struct, frozen=True):
    """Each model's scores through its own reference quantiles: uncalibrated scores need no calibration."""

    quantiles: Matrix  # (models, RANKS + 1)

    def of(self, scores: Matrix) -> Matrix:
        """(rows, models) scores to the middle of their rank in the reference, 0..1; NaN stays NaN."""
        found = np.empty_like(scores)
        for model, table in enumerate(self.quantiles):
            mine = scores[:, model]
            place = np.searchsorted(table, mine, "left") + np.searchsorted(table, mine, "right")
            found[:, model] = np.minimum(place / (2 * RANKS + 1), 1.0)
        found[np.isnan(scores)] = np.nan
        return found

def ranks_of(scores: Matrix) -> Ranks:
    """The reference's quantiles of each model."""
    at = np.linspace(0, 1, RANKS + 1)
    return Ranks(np.array([np.nanquantile(scores[:, model], at, method="higher") for model in range(scores.shape[1])]))
