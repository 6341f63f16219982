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
far as the reference goes. Its tails are longer than a normal one's all the same, those of a mean of squares most of
all: no block counts for more than FARTHEST spreads, so that no block wins alone. Where days differ from each other
the game is not fair, and nothing is bet.
"""

from math import log

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.reference import SCALES, Reference

ALPHA = 0.001
LONGEST = SCALES[-1]  # blocks: for longer than that the reference is not known well enough
FARTHEST = 4.0  # spreads: what is bet on one block wins no more than that brings
SIZES = (0.15, 0.3, 0.6, 1.2, 2.4)
BETS = np.array([sign * size for size in SIZES for sign in (1, -1)])[:, None]
COSTS = BETS**2 / 2
ON = ("unexplained", "unexplained size")
ON_PAIRS = ("pair", "pair size")


class Wager(Struct):
    """The bets on one model since its deploy; `total` sums up what its blocks showed, in spreads.

    Capitals are logarithms. What was won may be lost again: a verdict is said when it is won, and goes on as long.
    """

    statistics: NDArray[np.intp]
    spread: Matrix
    since: int  # the first event that the new version answered
    needed: float
    total: Matrix
    capital: Matrix
    blocks: int = 0

    def take(self, z: Matrix) -> None:
        """One more block's z of every statistic."""
        self.total = self.total + (z[self.statistics] / self.spread).clip(-FARTHEST, FARTHEST)
        self.blocks += 1
        gains = BETS * self.total - self.blocks * COSTS
        most = gains.max(0)
        self.capital = most + np.log(np.exp(gains - most).mean(0))

    def ratios(self) -> Matrix:
        """(statistics,) signed; from 1 on the bets on it alone have won. The root is on the scale of z."""
        found: Matrix = np.where(self.total < 0, -1.0, 1.0) * np.sqrt(self.capital.clip(0.0) / self.needed)
        return found

    def over(self) -> bool:
        """Whether the time for bets is up; those that are winning then may go on."""
        return self.blocks >= LONGEST


def wager_on(reference: Reference, model: int, since: int) -> Wager:
    """Bets on a model whose new version answers from this event on."""
    groups = reference.shifts.groups
    pairs = [place for place, pair in enumerate(reference.expected.pairs) if model in pair]
    own = [groups[name].start + model for name in ON]
    statistics = np.array([*own, *(groups[name].start + place for name in ON_PAIRS for place in pairs)])
    nothing = np.zeros(len(statistics))
    needed = log(len(statistics) / ALPHA)
    return Wager(statistics, reference.thresholds.widest[statistics], since, needed, nothing, nothing)
