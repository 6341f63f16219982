"""Which requests to label next: where models differ most, drawn by chance, so that labels tell about all of them.

Where all models say the same, a label tells little about which of them is better (query by committee: Seung, Opper &
Sompolinsky 1992; for measuring instead of training: Kossen et al., *Active Testing*, 2021). Labelling only the most
disputed requests would make every model look bad, so they are drawn: half of the chance is equal for all (a
defensive mixture, Hesterberg 1995, so that no weight is beyond twice the plain one), half goes by the spread. Each
request stands for one over its chance (Horvitz & Thompson 1952). The draw is systematic (Madow 1949): the chances
laid end to end, one request taken per unit, so that exactly as many come as were asked for, spread over time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix, Offsets

EQUAL_SHARE = 0.5
HAIR = 1e-9


def spread(scores: Sequence[Matrix]) -> Matrix:
    """How far apart models rank each of n requests, 0 to 1; 0 where fewer than two have scored it (NaN: none).

    Each model's scores are taken as ranks among its own, for they are not on one scale; equal scores share a rank.

    >>> spread([np.array([0.1, 0.5, 0.9]), np.array([70.0, 80.0, 75.0])]).tolist()
    [0.0, 0.5, 0.5]
    """
    ranks = np.array([_ranks(one) for one in scores]) if scores else np.zeros((0, 0))
    if len(ranks) < 2:
        return np.zeros(len(scores[0]) if scores else 0)
    several = (~np.isnan(ranks)).sum(axis=0) >= 2
    found: Matrix = np.zeros(ranks.shape[1])
    found[several] = np.nanmax(ranks[:, several], axis=0) - np.nanmin(ranks[:, several], axis=0)
    return found


def _ranks(scores: Matrix) -> Matrix:
    found: Matrix = np.full(len(scores), np.nan)
    there = ~np.isnan(scores)
    if not there.any():
        return found
    _, place, counts = np.unique(scores[there], return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    found[there] = middle[place] / max(1, int(there.sum()) - 1)
    return found


def chances(spreads: Matrix, count: int) -> Matrix:
    """The chance of each of n requests to be among `count`; they sum to it (to n when that is less)."""
    total = len(spreads)
    if count >= total:
        return np.ones(total)
    share = np.full(total, 1 / total)
    if spreads.sum() > 0:
        share = EQUAL_SHARE * share + (1 - EQUAL_SHARE) * spreads / spreads.sum()
    certain = np.zeros(total, dtype=bool)
    while True:  # nobody's chance is above one: what is over goes to the others, by their shares
        left = count - int(certain.sum())
        found = np.where(certain, 1.0, share * left / share[~certain].sum())
        if not (more := (found > 1) & ~certain).any():
            return np.asarray(found, dtype=np.float64)
        certain |= more


def draw(chance: Matrix, start: float) -> Offsets:
    """Rows drawn with these chances, which sum to a whole number, rising; `start` is a uniform number in [0, 1)."""
    certain = chance > 1 - HAIR  # laid apart: by rounding, two of the units could meet in one of them
    others = np.flatnonzero(~certain)
    ends = np.cumsum(chance[others])
    count = round(float(ends[-1])) if len(ends) else 0
    drawn = others[np.searchsorted(ends[:-1], np.arange(count) + start, "right")]
    rows: NDArray[np.int64] = np.sort(np.concatenate([np.flatnonzero(certain), drawn])).astype(np.int64)
    return rows
