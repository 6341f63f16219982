"""The same input through two models: where the scores differ, it is code."""

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.quality import quantiles
from streams.core.verdicts.order import rank_correlation

WITHIN = 1e-9
LEAST = 2


class SameInput(Struct, frozen=True, kw_only=True):
    """Two models' scores of the same rows. `differ` counts rows; `refused` those that only one of the two scores.

    `order` is the rank correlation of the two: 1 when one is a rescaling of the other; None when it has no meaning.
    """

    rows: int
    differ: int
    refused: int
    largest: float
    difference: dict[str, float | None]
    order: float | None

    @property
    def same(self) -> bool:
        """Whether the code is acquitted on this input."""
        return not self.differ and not self.refused


def compare(old: Matrix, new: Matrix, within: float = WITHIN) -> SameInput:
    """Scores of the same n rows by two models, NaN where one refused a row; equal when they are that close."""
    both = ~(np.isnan(old) | np.isnan(new))
    difference = (new - old)[both]
    largest = float(np.abs(difference).max(initial=0.0))
    varied = both.sum() >= LEAST and np.ptp(old[both]) > 0 and np.ptp(new[both]) > 0
    return SameInput(
        rows=len(old),
        differ=int((np.abs(difference) > within).sum()),
        refused=int((np.isnan(old) != np.isnan(new)).sum()),
        largest=largest,
        difference=quantiles(difference, (0.05, 0.5, 0.95)),
        order=round(rank_correlation(old[both], new[both]), 6) if varied else None,
    )


def most_apart(old: Matrix, new: Matrix, within: float = WITHIN) -> list[int]:
    """The rows that differ, those that only one of the two scores first, then the largest difference first."""
    apart = np.abs(new - old)
    apart[np.isnan(old) != np.isnan(new)] = np.inf
    apart = np.nan_to_num(apart, nan=0.0, posinf=np.inf)
    order = np.argsort(-apart, kind="stable")
    return [int(row) for row in order if apart[row] > within]
