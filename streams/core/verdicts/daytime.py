"""The same time of day: which blocks of the reference a live one is held against.

A window of 2.4 hours always looks shifted against a whole day. Blocks of the reference count the more, the nearer
their time of day; the nearest tenth of them, three at least, counts at all.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix

DAY_MS = 86_400_000.0
COVERED_DAYS = 1.5
LEAST_BLOCKS = 3
SHARE = 0.1


def time_of_day(at_ms: Matrix) -> float:
    """The time of day, in ms, of these times: of their median.

    >>> time_of_day(np.array([DAY_MS + 4.0, DAY_MS + 1.0, DAY_MS + 2.0, DAY_MS + 9.0]))
    3.0
    """
    ordered = np.sort(at_ms)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2) % DAY_MS


def weights(reference: Matrix, live: Matrix, allowed: NDArray[np.bool_]) -> Matrix:
    """Weight of each reference block for live blocks at these times: a triangle around each, summed."""
    apart = np.abs(reference[None, :] - live[:, None])
    apart = np.minimum(apart, DAY_MS - apart)
    apart[:, ~allowed] = np.inf
    count = int(allowed.sum())
    nearest = min(max(LEAST_BLOCKS, round(SHARE * count)), count - 1)
    reach = np.partition(apart, nearest, 1)[:, nearest][:, None]
    near = np.maximum(1 - apart / np.maximum(reach, 1.0), 0.0)
    found: Matrix = (near / np.maximum(near.sum(1, keepdims=True), 1e-12)).sum(0)
    return found
