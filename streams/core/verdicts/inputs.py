"""What raw fields look like to a regression: their bins one by one, and random bends of a few of them together."""

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.fields import BINS, Bins

BENDS = 96
TOGETHER = 3


class Coarse(Struct, frozen=True):
    """Regressors of raw fields: bins merged, so that a fit stays small, and one for what fits no bin."""

    fields: int

    @property
    def shift(self) -> int:
        """How many times bins are halved."""
        return 1 if self.fields <= 20 else 2 if self.fields <= 40 else 3

    @property
    def width(self) -> int:
        """Regressors of one field."""
        return (BINS >> self.shift) + 1

    def places(self, bins: Bins) -> Bins:
        """(rows, fields) bins to (rows, fields) regressors; NONE, being 32, falls into the last."""
        return (bins >> self.shift) + np.arange(self.fields) * self.width


class Inputs(Struct, frozen=True):
    """The regressors of raw fields.

    Bends (after Rahimi and Recht's random features: tanh of a weighted sum of three fields) stand for interactions.
    They are drawn from a fixed seed: the same reference always gives the same expectation.
    """

    coarse: Coarse
    table: Matrix  # (fields, bins and NONE, 2) the normal scores of each bin
    slopes: Matrix  # (2 fields, bends)
    offsets: Matrix  # (bends,)

    def regressors(self, bins: Bins) -> tuple[Bins, Matrix]:
        """(rows, fields) places among the ones-and-zeros, (rows, bends) values."""
        fields = bins.shape[1]
        normal = (
            self.table.reshape(-1, 2).take(bins + np.arange(fields) * (BINS + 1), 0).reshape(len(bins), 2 * fields)
        )
        return self.coarse.places(bins), np.tanh(normal @ self.slopes + self.offsets)


def inputs_of(table: Matrix) -> Inputs:
    """Regressors for fields with these normal scores."""
    fields = len(table)
    chance = np.random.default_rng(BENDS)
    slopes = np.zeros((fields, 2, BENDS))
    if fields:
        for bend in range(BENDS):
            few = chance.choice(fields, min(TOGETHER, fields), replace=False)
            slopes[few, :, bend] = chance.normal(size=(len(few), 2)) * (1.0, 0.3)
    offsets = chance.normal(size=BENDS)
    return Inputs(Coarse(fields), table, slopes.reshape(2 * fields, BENDS), offsets)
