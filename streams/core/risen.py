"""When a share of requests has risen by far: five points above what is usual, and beyond what chance makes of that.

Requests that fail independently, as often as is usual and half a point more, come to so many in at most one window of
a million (Chernoff's bound). Failures that come in bursts come oftener: so what is held to be usual should be the
worst that was seen, not the mean.
"""

from math import exp, log

LEAST = 200
"""Requests of which a share is taken at all."""

RISE = 0.05
BOUND = 1e-6
CAUTION = 0.005
"""Added to a usual share: what some thousands of requests have not shown may still be usual."""


def risen(count: int, asked: int, usual: float) -> bool:
    """Whether so many of those that were asked are beyond what chance makes of a usual share.

    >>> risen(60, 1_000, 0.0), risen(49, 1_000, 0.0), risen(360, 1_000, 0.3), risen(420, 1_000, 0.3)
    (True, False, False, True)
    """
    if asked < LEAST or count < (usual + RISE) * asked:
        return False
    share, allowed = count / asked, usual + CAUTION
    return share > allowed and exp(-asked * _divergence(share, allowed)) <= BOUND


def _divergence(share: float, usual: float) -> float:
    """Kullback and Leibler's, of two coins, in nats."""
    rest = (1 - share) * log((1 - share) / (1 - usual)) if share < 1 else 0.0
    return share * log(share / usual) + rest
