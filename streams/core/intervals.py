"""Estimates with their 95 % intervals: shares, means, and the area under the ROC curve; weighted or not.

Weights are those of a draw with unequal chances (one over the chance): then a share or a mean is Hájek's ratio of
sums, and without weights it is the plain one. Methods and sources:

- share: Wilson's score interval (1927; recommended by Brown, Cai & DasGupta 2001), with weights at Kish's effective
  number of rows, (sum w)^2 / sum w^2 (1965);
- mean (log loss, Brier, cost): the central limit theorem, with the linearised variance of the ratio (Särndal,
  Swensson & Wretman 1992, 5.6); too narrow below some 30 rows and for very skewed losses;
- AUC: DeLong, DeLong & Clarke-Pearson (1988) on the logit scale (Pepe 2003), so that it stays within 0 and 1;
- a mean of absolute gaps (the calibration error): Scheffé's simultaneous interval (1959) over all gaps at once. The
  figure itself is too large by chance, for chance gaps do not cancel; a bootstrap repeats that, and its interval then
  leaves out the zero of a calibrated model. This one holds whatever the signs are, and so is wide rather than wrong.

All take rows as independent. Days of weather, or of one customer, are not: there the truth is wider.
"""

from math import exp, inf, log, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streams.core.verdicts.tails import chi_square_quantile

Z95 = 1.959963984540054
"""Of a standard normal variable, 95 % lie within plus and minus this."""


class Estimate(Struct, frozen=True):
    """A figure and its 95 % interval; None where there is none to be had."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


NOTHING = Estimate()
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def share(true: Bools, weight: Floats) -> Estimate:
    """The share of rows that are true, by Wilson.

    >>> share(np.array([True] * 8 + [False] * 2), np.ones(10))
    Estimate(value=0.8, low=0.490162, high=0.943318)
    """
    if not len(true):
        return NOTHING
    total = float(weight.sum())
    return share_of(float(weight[true].sum()) / total, total**2 / float((weight**2).sum()))


def share_of(found: float, rows: float) -> Estimate:
    """A share that was found of so many rows, by Wilson.

    >>> share_of(0.8, 10)
    Estimate(value=0.8, low=0.490162, high=0.943318)
    """
    middle = (found + Z95**2 / (2 * rows)) / (1 + Z95**2 / rows)
    half = Z95 / (1 + Z95**2 / rows) * sqrt(found * (1 - found) / rows + (Z95 / (2 * rows)) ** 2)
    return _estimate(found, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: Floats, weight: Floats) -> Estimate:
    """The mean of n values; without an interval when there is one value only.

    >>> mean(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4))
    Estimate(value=2.5, low=1.234849, high=3.765151)
    """
    count = len(values)
    if not count:
        return NOTHING
    total = float(weight.sum())
    found = float((weight * values).sum()) / total
    if count == 1:
        return _estimate(found)
    variance = float((weight**2 * (values - found) ** 2).sum()) / total**2 * count / (count - 1)
    half = Z95 * sqrt(variance)
    return _estimate(found, found - half, found + half)


def auc(scores: Floats, truth: Bools, weight: Floats) -> Estimate:
    """How often a true row scores above a false one, ties half; without an interval at 0, at 1 and for one row."""
    above, below = _places(scores, truth, weight)
    if not len(above) or not len(below):
        return NOTHING
    of_true, of_false = weight[truth], weight[~truth]
    area = float((of_true * above).sum() / of_true.sum())
    if len(above) < 2 or len(below) < 2 or not 0 < area < 1:
        return _estimate(area)
    variance = _spread(above - area, of_true) + _spread(below - area, of_false)
    if not variance:
        return _estimate(area)
    logit, half = log(area / (1 - area)), Z95 * sqrt(variance) / (area * (1 - area))
    return _estimate(area, 1 / (1 + _exp(half - logit)), 1 / (1 + _exp(-logit - half)))


def mean_gap(gaps: Floats, halves: Floats, weight: Floats) -> Estimate:
    """The weighted mean of the sizes of k gaps, each of which is known within plus and minus its half (95 %).

    >>> mean_gap(np.array([0.1, -0.1]), np.array([0.03, 0.04]), np.ones(2))
    Estimate(value=0.1, low=0.068921, high=0.131079)
    """
    if not len(gaps):
        return NOTHING
    part = weight / weight.sum()
    found = float((part * np.abs(gaps)).sum())
    beyond = max(chi_square_quantile(0.95, len(gaps)), Z95**2)  # the approximation is a hair too small for one gap
    every = sqrt(beyond * float((part**2 * halves**2).sum())) / Z95
    return _estimate(found, max(0.0, found - every), min(1.0, found + every))


def _exp(power: float) -> float:
    return exp(power) if power < 700 else inf


def _places(scores: Floats, truth: Bools, weight: Floats) -> tuple[Floats, Floats]:
    """For each true row the weight of false ones below it, for each false one that of true ones above; as shares."""

    def below(values: Floats, others: Floats, of_others: Floats) -> Floats:
        order = np.argsort(others, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(of_others[order])])
        ordered = others[order]
        less, as_much = (sums[np.searchsorted(ordered, values, side)] for side in ("left", "right"))
        return (less + as_much) / (2 * sums[-1]) if sums[-1] else np.zeros(0)

    yes, no = scores[truth], scores[~truth]
    return below(yes, no, weight[~truth]), 1 - below(no, yes, weight[truth])


def _spread(gaps: Floats, weight: Floats) -> float:
    count = len(gaps)
    return float((weight**2 * gaps**2).sum()) / float(weight.sum()) ** 2 * count / (count - 1)


def _estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(*(None if one is None else round(one, 6) + 0.0 for one in (value, low, high)))
