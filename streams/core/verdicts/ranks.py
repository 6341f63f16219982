"""Scores as ranks, each model's through its own reference quantiles: so no calibration is needed to compare them."""

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.fields import Bins

RANKS = 1000
RANK_BINS = 20


class Ranks(Struct, frozen=True):
    """Reference quantiles of each model."""

    quantiles: Matrix  # (models, RANKS + 1)

    def of(self, scores: Matrix) -> Matrix:
        """(rows, models) scores to the middle of their rank in the reference, 0..1; NaN stays NaN."""
        found = np.empty_like(scores)
        for model, table in enumerate(self.quantiles):
            mine = scores[:, model]
            order = mine.argsort()  # in order each is found near the one before
            rising = mine[order]
            place = table.searchsorted(rising) + table.searchsorted(rising, "right")
            found[order, model] = np.minimum(place / (2 * RANKS + 1), 1.0)
        found[np.isnan(scores)] = np.nan
        return found


def ranks_of(scores: Matrix) -> Ranks:
    """The reference's quantiles of each model."""
    at = np.linspace(0, 1, RANKS + 1)
    return Ranks(
        np.array([np.nanquantile(scores[:, model], at, method="higher") for model in range(scores.shape[1])])
    )


def rank_bins(ranks: Matrix) -> Bins:
    """Ranks in 0..1 to RANK_BINS bins; NaN to the first."""
    return np.minimum((np.nan_to_num(ranks) * RANK_BINS).astype(np.intp), RANK_BINS - 1)
