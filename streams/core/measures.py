"""How well one model's scores told what became of the requests: every measure with its interval, and calibration."""

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from schemas.pipeline import Costs
from streams.core.intervals import NOTHING, Bools, Estimate, auc, mean, mean_gap, share
from streams.core.quality import Truth

DECILES = 10
CLIP = 1e-15
"""Log loss takes no score nearer to 0 and 1: a model that was sure and wrong costs 34.5, not infinity."""

NO_PROBABILITIES = "scores outside 0 to 1 are no probabilities: no log loss, Brier score or calibration"


class Bin(Struct, frozen=True):
    """Labelled requests between two deciles of a model's scores: what it said on average, and what was true."""

    low: float
    high: float
    rows: int
    score: float
    truth: Estimate


class Measures(Struct, frozen=True, kw_only=True):
    """Over the requests that have both a score of this model and a label; `scored` have a score.

    `coverage` is the labelled share of those scored; `base` the share that was true. `calibration_error` is the mean
    distance of `calibration`'s bins from the diagonal, by rows (Naeini, Cooper & Hauskrecht 2015, with bins of equal
    numbers): chance alone makes it more than zero, so look at its interval, which holds zero where a model may be
    calibrated. `cost` is by the pipeline's matrix, per request. Weighted by the labels' own weights.
    """

    scored: int
    labelled: int
    coverage: float | None
    base: Estimate
    accuracy: Estimate
    auc: Estimate
    log_loss: Estimate
    brier: Estimate
    cost: Estimate
    calibration: list[Bin]
    calibration_error: Estimate
    note: str = ""


def measures(scores: Matrix, truth: Truth, weight: Matrix, threshold: float, costs: Costs | None) -> Measures:
    """Measure n scores (NaN: none) against n labels (-1: none) with their weights."""
    scored = ~np.isnan(scores)
    rows = scored & (truth >= 0)
    score, true, heavy = scores[rows], truth[rows] == 1, weight[rows]
    probable = not len(score) or bool(((score >= 0) & (score <= 1)).all())
    said = score >= threshold
    bins = calibration(score, true, heavy) if probable else []
    labelled = len(score)
    return Measures(
        scored=int(scored.sum()),
        labelled=labelled,
        coverage=round(labelled / int(scored.sum()), 6) if scored.any() else None,
        base=share(true, heavy),
        accuracy=share(said == true, heavy),
        auc=auc(score, true, heavy),
        log_loss=mean(_log_loss(score, true), heavy) if probable else NOTHING,
        brier=mean((score - true) ** 2, heavy) if probable else NOTHING,
        cost=NOTHING if costs is None else mean(_costs(said, true, costs), heavy),
        calibration=bins,
        calibration_error=_error(bins),
        note="" if probable else NO_PROBABILITIES,
    )


def calibration(score: Matrix, true: Bools, weight: Matrix) -> list[Bin]:
    """Up to ten bins with equally many rows, by score; equal scores stay together."""
    if not len(score):
        return []
    edges = np.unique(np.quantile(score, np.linspace(0, 1, DECILES + 1)))
    place = np.clip(np.searchsorted(edges, score, "right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for number in np.unique(place).tolist():
        rows = place == number
        said = mean(score[rows], weight[rows]).value
        low, high = float(score[rows].min()), float(score[rows].max())
        found.append(Bin(low, high, int(rows.sum()), said or 0.0, share(true[rows], weight[rows])))
    return found


def _error(bins: list[Bin]) -> Estimate:
    """Each bin's gap is known as well as its share is; bins are given, and only what was true is chance."""
    gaps = np.array([(one.truth.value or 0.0) - one.score for one in bins])
    halves = np.array([((one.truth.high or 0.0) - (one.truth.low or 0.0)) / 2 for one in bins])
    return mean_gap(gaps, halves, np.array([one.rows for one in bins], np.float64))


def _log_loss(score: Matrix, true: Bools) -> Matrix:
    found: Matrix = -np.log(np.clip(np.where(true, score, 1 - score), CLIP, 1.0))
    return found


def _costs(said: Bools, true: Bools, costs: Costs) -> Matrix:
    of_yes = np.where(true, costs.true_yes, costs.false_yes)
    return np.where(said, of_yes, np.where(true, costs.false_no, costs.true_no)).astype(np.float64)
