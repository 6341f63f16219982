"""One scale for all statistics: the z whose two-sided tail is as unlikely; and the quantiles that thresholds need."""

from math import expm1, sqrt
from statistics import NormalDist

import numpy as np

from schemas.blocks import Matrix

NORMAL = NormalDist()
HIGHEST = 60.0


def z_of_log_tail(log_p: Matrix) -> Matrix:
    """The z with this log of a two-sided tail, from Mills' ratio; zero where the tail is no evidence.

    >>> z_of_log_tail(np.log(np.array([0.05, 1e-6]))).round(2).tolist()
    [2.03, 4.9]
    """
    square = np.maximum(-2 * log_p - 0.4516, 0.0)
    z = np.sqrt(square)
    for _ in range(3):
        z = np.sqrt(np.maximum(square - 2 * np.log(np.maximum(z, 0.5)), 0.0))
    return np.where(log_p > -0.7, 0.0, np.minimum(z, HIGHEST))


def z_of_largest(z: Matrix, among: Matrix) -> Matrix:
    """What the largest of `among` independent z amounts to (Bonferroni, in the exponential part of the tail)."""
    return np.sqrt(np.maximum(z * z - 2 * np.log(np.maximum(among, 1)), 0.0))


def z_of_chi_square(value: Matrix, degrees: Matrix) -> Matrix:
    """Wilson and Hilferty's cube root."""
    degrees = np.maximum(degrees, 1)
    spread = 2 / (9 * degrees)
    return (np.cbrt(value / degrees) - (1 - spread)) / np.sqrt(spread)


def z_of_count(count: Matrix, before: Matrix, share: float) -> Matrix:
    """Signed root of the binomial deviance of a count against one from `1 / share` times as many events.

    Right for a handful of events that never occurred before, where roots of counts are far too calm. Half an event is
    granted to the past.
    """
    past = before + 0.5
    total = count + past
    part = share / (1 + share)
    with np.errstate(divide="ignore", invalid="ignore"):
        mine = np.where(count > 0, count * np.log(count / (total * part)), 0.0)
        square = 2 * (mine + past * np.log(past / (total * (1 - part))))
    return np.sign(count - past * share) * np.sqrt(np.maximum(square, 0.0))


def two_sided(alpha: float) -> float:
    """The z that chance exceeds, on either side, with this probability."""
    return -NORMAL.inv_cdf(alpha / 2)


def student(alpha: float, degrees: int) -> float:
    """Student's two-sided quantile, from the normal one (Wallace 1959).

    >>> [round(student(0.001, n), 2) for n in (10, 20, 80)]
    [4.6, 3.85, 3.42]
    """
    z = two_sided(alpha) * (8 * degrees + 3) / (8 * degrees + 1)
    return sqrt(degrees * expm1(min(z * z / degrees, 50.0)))


def chi_square_quantile(share: float, degrees: int) -> float:
    """The value that a chi-square of so many degrees stays under with probability `share`."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NORMAL.inv_cdf(share) * sqrt(spread)) ** 3
