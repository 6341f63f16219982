"""A bet against a model that was just deployed: that it answers otherwise than the reference lets expect.

An e-process: capital that a fair game would multiply by no more than one on average, so that it reaches 1 / ALPHA
with probability ALPHA at most, however often one looks (Ville 1939). It is the e-detector of Shin, Ramdas & Rinaldo
("E-detectors: a nonparametric framework for sequential change detection", 2022) with one term: theirs adds up such
capitals over all moments at which a change may have begun, and bounds the mean time between false alarms. A deploy is
the moment at which a model's file changes, so there one capital is enough, and needs far less: it may be wrong once
in a thousand deploys, and need not last a thousand windows with their hundreds of statistics. Bets are on both
directions and of several sizes, and the mean of their capitals counts.

What is bet on are blocks' z of the model's own residuals and of those of its pairs, in units of the largest spread
that the reference's own blocks and windows show; a block's z is a mean of some hundred events, so the game is fair as
far as the reference goes. Where days differ from each other it is not, and nothing is bet.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.reference import Reference

ALPHA = 0.001
SIZES = (0.15, 0.3, 0.6, 1.2, 2.4)
BETS = np.array([sign * size for size in SIZES for sign in (1, -1)])[:, None]
ON = ("unexplained", "unexplained size")
ON_PAIRS = ("pair", "pair size")


class Wager(Struct):
    """The bets on one model since its deploy; `total` sums up what its blocks showed, in spreads."""

    statistics: NDArray[np.intp]
    spread: Matrix
    since: int  # the first event that the new version answered
    total: Matrix
    blocks: int = 0

    def take(self, z: Matrix) -> None:
        """One more block's z of every statistic."""
        self.total = self.total + z[self.statistics] / self.spread
        self.blocks += 1

    def ratios(self) -> Matrix:
        """(statistics,) signed; from 1 on the bets on it alone have won. The root is on the scale of z."""
        gains = BETS * self.total - self.blocks * BETS**2 / 2
        most = gains.max(0)
        capital = most + np.log(np.exp(gains - most).mean(0))
        needed = np.log(len(self.statistics) / ALPHA)
        found: Matrix = np.sign(self.total) * np.sqrt(np.maximum(capital, 0.0) / needed)
        return found


def wager_on(reference: Reference, model: int, since: int) -> Wager:
    """Bets on a model whose new version answers from this event on."""
    groups = reference.shifts.groups
    pairs = [place for place, pair in enumerate(reference.expected.pairs) if model in pair]
    own = [groups[name].start + model for name in ON]
    statistics = np.array([*own, *(groups[name].start + place for name in ON_PAIRS for place in pairs)])
    return Wager(statistics, reference.thresholds.widest[statistics], since, np.zeros(len(statistics)))
