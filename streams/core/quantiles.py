"""Seven quantiles of values that are all there: each is one of the values."""

import numpy as np

from schemas.blocks import Matrix

SHARES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


def quantiles_of(values: Matrix) -> dict[str, float]:
    """By name, each the smallest value that no less than its share do not exceed; none of none.

    >>> quantiles_of(np.arange(1.0, 201.0))["p95"]
    190.0
    """
    if not len(values):
        return {}
    ordered = np.sort(values)
    places = np.ceil(np.array([*SHARES.values()]) * len(ordered)).astype(int) - 1
    return dict(zip(SHARES, ordered[places].tolist(), strict=True))
