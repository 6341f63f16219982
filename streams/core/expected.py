"""The accuracy to be expected of a day whose labels are not there yet: an estimate without labels, and called one.

Confidence-based performance estimation (CBPE, as NannyML's documentation describes it): where a score is calibrated,
it says itself how likely the answer is right, c for a yes and 1 - c for a no, and the mean of that is the expected
accuracy. Scores are calibrated here by the deciles of the model's own mature days: histogram binning (Zadrozny and
Elkan 2001), with lines between their means that are straight on the logit scale (as Platt's and beta calibration are
by and large): a threshold may lie within a decile, and scores near 0 and 1 are not all one.

It assumes that there is no concept drift: nothing has changed but how often each score comes, and of requests with
the same score as many are true as on the mature days. Where that is not so it is wrong, and no figure here says it:
only labels do. Scores beyond those of the mature days are counted (`outside`), for nothing is known of them. The 95 %
interval is by what the deciles' shares rest on and by chance of the day itself, or by how far each mature day was
from what the others made expect, whichever is wider: with few days it takes little account of days that are unlike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.intervals import Z95, Estimate, Floats
from streams.core.judged import Judge, Judged, day_name
from streams.core.measures import DECILES, Bin

FEWEST = 200
"""Labelled requests on mature days, below which nothing is estimated."""

LAST_DAYS = 30
"""So many mature days before a day are what it is expected by."""

SURE = 1e-6
"""No score is taken for surer than this."""

STEPS = 3.0
"""At either end the line does not rise or fall by more than so many times its last step."""

ENOUGH_DAYS = 3
"""Mature days from which on their distance from one another is told."""


class Expected(Struct, frozen=True, kw_only=True):
    """What is expected of one model on one day: `accuracy` is no measurement.

    It rests on `labelled` requests of `mature_days` earlier days. `outside` is the share of the day's `scored`
    requests whose score lies beyond all of theirs.
    """

    day: str
    model: str
    version: str
    scored: int
    threshold: float
    accuracy: Estimate
    mature_days: int
    labelled: int
    outside: float
    kind: Literal["estimate"] = "estimate"


@dataclass(frozen=True, slots=True)
class Calibration:
    """How likely yes is, by score: up to ten points, and the lines between them, all on the logit scale.

    `x` are scores, `y` shares that were true, `variance` is that of `y`. `low` and `high` are the lowest and the
    highest score they are taken from; so far the last line goes on at either end, and no further.
    """

    x: Floats
    y: Floats
    variance: Floats
    low: float
    high: float

    def at(self, scores: Matrix) -> Matrix:
        """How likely the truth is yes."""
        found: Matrix = 1 / (1 + np.exp(-self._line(scores, self.y)))
        return found

    def variance_of(self, scores: Matrix, counts: Matrix) -> float:
        """That of the mean of `counts` times the likelihood, for what the points rest on."""
        likely = self.at(scores)
        steep = counts * likely * (1 - likely)
        shares = [float((steep * self._line(scores, own)).mean()) for own in np.eye(len(self.y))]
        return float(np.square(shares) @ self.variance)

    def _line(self, scores: Matrix, y: Floats) -> Matrix:
        """Linear in y."""
        if len(self.x) < 2:
            return np.full(len(scores), y[0])
        x = self.x
        before = min((x[0] - self.low) / (x[1] - x[0]), STEPS)
        beyond = min((self.high - x[-1]) / (x[-1] - x[-2]), STEPS)
        ends = y[0] - (y[1] - y[0]) * before, y[-1] + (y[-1] - y[-2]) * beyond
        return np.interp(_logit(scores), [self.low, *x, self.high], [ends[0], *y, ends[1]])


def calibrated(bins: Sequence[Bin]) -> Calibration:
    """Put together the deciles of several days into up to ten with about equally many rows."""
    ordered = sorted((one for one in bins if one.truth.value is not None), key=lambda one: one.score)
    rows = np.array([one.rows for one in ordered], dtype=np.float64)
    score = np.clip([one.score for one in ordered], SURE, 1 - SURE)
    share = np.array([one.truth.value for one in ordered])
    width = np.array([(one.truth.high or 0.0) - (one.truth.low or 0.0) for one in ordered])
    middle = np.cumsum(rows) - rows / 2
    group = np.minimum((middle / rows.sum() * DECILES).astype(np.int64), DECILES - 1)
    _, first, same = np.unique(score, return_index=True, return_inverse=True)
    group = group[first][same]  # equal scores stay together
    points = []
    for number in np.unique(group):
        own = group == number
        part, total = rows[own] / rows[own].sum(), rows[own].sum()
        # Half a yes and half a no more: a share of 0 or 1 has no logit (Haldane and Anscombe).
        true = (total * (part @ share[own]) + 0.5) / (total + 1)
        variance = (part**2 * (width[own] / 2 / Z95) ** 2).sum() / (true * (1 - true)) ** 2
        points.append((part @ score[own], true, variance))
    x, y, variances = np.array(points, dtype=np.float64).T
    # A bin's mean is rounded, and may lie a hair beside its own scores.
    ends = [min(x[0], *(one.low for one in ordered)), max(x[-1], *(one.high for one in ordered))]
    low, high = _logit(np.array(ends)).tolist()
    return Calibration(_logit(x), _logit(y), variances, low, high)


def _logit(share: Floats) -> Floats:
    inside = np.clip(share, SURE, 1 - SURE)
    found: Floats = np.log(inside / (1 - inside))
    return found


def accuracy(scores: Matrix, threshold: float, days: Sequence[Sequence[Bin]]) -> Estimate:
    """The expected accuracy of at least one score, by the deciles of mature days."""
    by = calibrated([one for day in days for one in day])
    said = scores >= threshold
    sign = np.where(said, 1.0, -1.0)
    likely = by.at(scores)
    right = float(np.where(said, likely, 1 - likely).mean())
    of_shares = by.variance_of(scores, sign)
    of_chance = float((likely * (1 - likely)).mean()) / len(scores)
    half = Z95 * sqrt(max(of_shares + of_chance, _unlike(threshold, days)))
    return Estimate(round(right, 6), round(max(0.0, right - half), 6), round(min(1.0, right + half), 6))


def _unlike(threshold: float, days: Sequence[Sequence[Bin]]) -> float:
    """The mean square of how far each mature day's accuracy was from what the others made expect."""
    if len(days) < ENOUGH_DAYS:
        return 0.0
    gaps = []
    for place, day in enumerate(days):
        others = [one for other in (*days[:place], *days[place + 1 :]) for one in other]
        rows = np.array([one.rows for one in day], dtype=np.float64)
        score = np.array([one.score for one in day])
        true = np.array([one.truth.value or 0.0 for one in day])
        sign = np.where(score >= threshold, 1.0, -1.0)
        gaps.append(float((rows * sign * (true - calibrated(others).at(score))).sum() / rows.sum()))
    return float(np.mean(np.square(gaps)))


def expected(judge: Judge, mature: Sequence[Judged]) -> list[Expected]:
    """Of every day without its labels and every model that has mature days before it; others are left out."""
    found = []
    for day in judge.days():
        if judge.state(day) == "mature":
            continue
        for (model, version), scores in judge.scored(day):
            days = _calibrations(mature, model, version, day_name(day))
            labelled = sum(one.rows for own in days for one in own)
            if labelled < FEWEST or not len(scores):
                continue
            low, high = min(one.low for own in days for one in own), max(one.high for own in days for one in own)
            found.append(
                Expected(
                    day=day_name(day),
                    model=model,
                    version=version,
                    scored=len(scores),
                    threshold=judge.settings.threshold,
                    accuracy=accuracy(scores, judge.settings.threshold, days),
                    mature_days=len(days),
                    labelled=labelled,
                    outside=round(float(((scores < low) | (scores > high)).mean()), 6),
                )
            )
    return found


def _calibrations(mature: Sequence[Judged], model: str, version: str, before: str) -> list[list[Bin]]:
    """The deciles of this very model on its last mature days before a day; a version may score otherwise."""
    own = [row for row in mature if (row.model, row.version, row.field) == (model, version, "") and row.day < before]
    own = sorted((row for row in own if row.measures.calibration), key=lambda row: row.day)
    return [row.measures.calibration for row in own[-LAST_DAYS:]]
