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
from streams.core.verdicts.fields import Bins
from streams.core.verdicts.inputs import BENDS, Inputs
from streams.core.verdicts.ranks import RANK_BINS, rank_bins

FOLDS = 5
RIDGE = 3.0
RIDGES = ((3.0, 3.0), (100.0, 100.0), (100.0, 100_000.0), (3_000.0, 100_000.0))
CHUNK = 2_000
WINDOW_ROWS = 1_000


class Expected(Struct, frozen=True):
    """The fitted expectation of `targets`: every model by itself, then each ordered pair (model, given other)."""

    inputs: Inputs
    pairs: tuple[tuple[int, int], ...]
    means: Matrix  # (targets,)
    weights: Matrix  # (regressors, targets)
    given: Matrix  # (pairs, RANK_BINS)

    def residuals(self, bins: Bins, ranks: Matrix) -> Matrix:
        """What is left of `ranks` (rows, models): (rows, targets), NaN where a score is missing.

        `bins` (rows, fields) are those of the raw fields.
        """
        models = ranks.shape[1]
        places, bends = self.inputs.regressors(bins)
        ones = len(self.weights) - bends.shape[1]
        base = np.zeros((len(places), len(self.means)))
        # A field at a time: all of them at once would be a table of rows by fields by targets.
        for column in places.T:
            base += self.weights.take(column, 0)
        base += self.means
        base += bends @ self.weights[ones:]
        left = np.empty_like(base)
        left[:, :models] = ranks - base[:, :models]
        if self.pairs:
            model, other = np.array(self.pairs).T
            given = self.given[np.arange(len(self.pairs)), rank_bins(ranks)[:, other]]
            left[:, models:] = ranks[:, model] - base[:, models:] - given
            left[:, models:][np.isnan(ranks)[:, other]] = np.nan
        return left


def all_pairs(models: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """Ordered pairs of models; with more than six only those with a canary. `models` says who is one."""
    every = [(one, other) for one in range(len(models)) for other in range(len(models)) if one != other]
    if len(models) <= 6:
        return tuple(every)
    return tuple((one, other) for one, other in every if models[one] or models[other] or 0 in (one, other))


def fit(inputs: Inputs, bins: Bins, ranks: Matrix, pairs: tuple[tuple[int, int], ...]) -> tuple[Expected, Matrix]:
    """Fit on the rows in which every model scored; also the cross-fitted residuals of all rows."""
    rows, models = ranks.shape
    whole = ~np.isnan(ranks).any(1)
    fold = np.arange(rows) * FOLDS // max(rows, 1)
    means = ranks[whole].mean(0)
    grams, sides = [], []
    for number in range(FOLDS):
        part = whole & (fold == number)
        gram, side = _normal_equations(inputs, bins[part], ranks[part], means)
        grams.append(gram)
        sides.append(side)
    total, right = np.sum(grams, axis=0), np.sum(sides, axis=0)
    penalty = _penalty(inputs, grams, sides)
    residuals = np.empty((rows, models + len(pairs)))
    for number in range(FOLDS):
        part = fold == number
        held = _solved(inputs, total - grams[number], right - sides[number], pairs, means, penalty)
        residuals[part] = held.residuals(bins[part], ranks[part])
    fitted = _solved(inputs, total, right, pairs, means, penalty)
    for number in range(len(pairs)):
        _plain_if_steadier(fitted, ranks, residuals, number, fold)
    return fitted, residuals


def _plain_if_steadier(fitted: Expected, ranks: Matrix, residuals: Matrix, number: int, fold: Bins) -> None:
    """Leave the fields out of a pair whose mean wanders less without them, as where a few days are all there is."""
    models = ranks.shape[1]
    model, other = fitted.pairs[number]
    bins = rank_bins(ranks)[:, other]
    centred = ranks[:, model] - fitted.means[models + number]
    whole = ~np.isnan(centred) & ~np.isnan(ranks[:, other])

    def means_of(rows: NDArray[np.bool_]) -> Matrix:
        counts = np.bincount(bins[rows], minlength=RANK_BINS)
        return np.bincount(bins[rows], centred[rows], RANK_BINS) / (counts + RIDGE)

    plain = np.where(whole, centred, np.nan)
    for held in range(FOLDS):
        part = fold == held
        plain[part] -= means_of(whole & ~part)[bins[part]]
    if _wandering(plain) < _wandering(residuals[:, models + number]):
        residuals[:, models + number] = plain
        fitted.weights[:, models + number] = 0.0
        fitted.given[number] = means_of(whole)


def _wandering(left: Matrix) -> float:
    """Spread of the means of a thousand rows each."""
    count = len(left) // WINDOW_ROWS
    return float(np.std(np.nanmean(left[: count * WINDOW_ROWS].reshape(count, -1), 1))) if count > 1 else 0.0


def _penalty(inputs: Inputs, grams: list[NDArray[np.float64]], sides: list[NDArray[np.float64]]) -> Matrix:
    """Ridge of each regressor of fields: the pair of sizes, for bins and for bends, that predicts held folds best.

    Folds are stretches of time, so a reference of few different days is not believed in more detail than it has.
    """
    ones = inputs.coarse.fields * inputs.coarse.width
    wide = ones + BENDS
    total, right = np.sum(grams, axis=0), np.sum(sides, axis=0)
    best, least = np.empty(0), np.inf
    for of_bins, of_bends in RIDGES:
        penalty = np.r_[np.full(ones, of_bins), np.full(BENDS, of_bends)]
        lost = 0.0
        for gram, side in zip(grams, sides, strict=True):
            rest = (total - gram)[:wide, :wide] + np.diag(penalty)
            found = np.linalg.solve(rest, (right - side)[:wide])
            lost += float((found * (gram[:wide, :wide] @ found - 2 * side[:wide])).sum())
        if lost < least:
            best, least = penalty, lost
    return best


def _normal_equations(
    inputs: Inputs, bins: Bins, ranks: Matrix, means: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gram matrix of all regressors, those of ranks behind those of fields; and their sums with each rank."""
    models = ranks.shape[1]
    ones = inputs.coarse.fields * inputs.coarse.width
    wide = ones + BENDS
    size = wide + models * RANK_BINS
    gram, side = np.zeros((size, size)), np.zeros((size, models))
    ranked = rank_bins(ranks) + wide + np.arange(models) * RANK_BINS
    for start in range(0, len(bins), CHUNK):
        part = slice(start, start + CHUNK)
        places, bends = inputs.regressors(bins[part])
        row = np.arange(len(places))[:, None]
        values = np.zeros((len(places), size), np.float32)
        values[row, places] = 1
        values[:, ones:wide] = bends
        values[row, ranked[part]] = 1
        gram += values.T @ values
        side += values.T.astype(np.float64) @ (ranks[part] - means)
    return gram, side


def _solved(
    inputs: Inputs,
    gram: NDArray[np.float64],
    side: NDArray[np.float64],
    pairs: tuple[tuple[int, int], ...],
    means: Matrix,
    penalty: Matrix,
) -> Expected:
    """Both kinds of targets from one factorisation of the fields' part; rank bins enter by its Schur complement."""
    models = side.shape[1]
    wide = len(gram) - models * RANK_BINS
    weights = np.zeros((wide, models + len(pairs)))
    given = np.zeros((len(pairs), RANK_BINS))
    both = np.concatenate([side[:wide], gram[:wide, wide:]], 1)
    solved = np.linalg.solve(gram[:wide, :wide] + np.diag(penalty), both) if wide else both
    weights[:, :models] = solved[:, :models]
    for number, (model, other) in enumerate(pairs):
        mine = slice(wide + other * RANK_BINS, wide + (other + 1) * RANK_BINS)
        cross = solved[:, models + other * RANK_BINS : models + (other + 1) * RANK_BINS]
        rest = gram[mine, mine] - gram[mine, :wide] @ cross + RIDGE * np.eye(RANK_BINS)
        given[number] = np.linalg.solve(rest, side[mine, model] - gram[mine, :wide] @ solved[:, model])
        weights[:, models + number] = solved[:, model] - cross @ given[number]
    every = np.concatenate([means, means[[model for model, _ in pairs]]]) if pairs else means
    return Expected(inputs, pairs, every, weights, given)
