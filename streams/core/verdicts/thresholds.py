"""How much of each statistic the reference itself shows, window against the rest: that is the yardstick, no table.

Real days are clustered, so textbook thresholds alarm on most quiet windows. A statistic whose spread over the
reference's windows is more than chance gets Student's quantile times that spread; the others the normal one.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.shifts import PAIRED, Shifts
from streams.core.verdicts.tails import chi_square_quantile, student, two_sided

ALPHA = 0.001
SCALES = 3
LOOKS = 2
CERTAIN = 0.98
WIDE_SPREAD = 1.5
CLUSTERED_SHARE = 0.4
MARGINS = ("place", "quantiles", "mix")
CLUMPED = ("nulls", "nulls alone", "new values")  # come together, by the hour: rare in a reference, and no chance
RESTLESS = 1.5
TOGETHER = 1.3  # products of normal scores have longer tails than Fisher's z allows for
CLOCKED = 1.1  # the same time of day is known from few days
HEAVY = (
    2.0  # at least so many times the largest that the reference showed, where its windows differ by more than chance
)


class Thresholds(Struct, frozen=True):
    """|z| from which a statistic has moved, by how many blocks the window has; and whether days are clustered."""

    of: dict[int, Matrix]
    clustered: bool
    spread: Matrix
    widest: Matrix  # the largest spread that blocks or windows show, 1 at least

    def spreads_of_threshold(self) -> Matrix:
        """How many of its own spreads in the reference each threshold is."""
        of = self.of[sorted(self.of)[1]]
        found: Matrix = of / np.maximum(self.spread, 1.0)
        return found

    def restless(self, shifts: Shifts) -> NDArray[np.bool_]:
        """(fields,) whether its values differ from one window of the reference to the next by more than chance."""
        found: NDArray[np.bool_] = margins(shifts, self.spread) > WIDE_SPREAD
        return found

    def ratios(self, z: Matrix, blocks: int) -> Matrix:
        """Z as multiples of the threshold, signed."""
        return z / self.of[blocks]


def thresholds(
    shifts: Shifts, seen: dict[int, Matrix], count: int, by_clock: NDArray[np.bool_] | None = None
) -> Thresholds:
    """From z of the reference's own windows, {blocks in a window: (windows, statistics)}; it has `count` blocks.

    `by_clock` are the statistics that are held against the same time of day. Windows may overlap; they tell as much
    as those that do not.
    """
    alpha = ALPHA / (shifts.size * SCALES * LOOKS)
    found: dict[int, Matrix] = {}
    spreads: dict[int, Matrix] = {}
    degrees: dict[int, int] = {}
    for blocks, z in seen.items():
        degrees[blocks] = max(count // blocks, 1)
        spreads[blocks] = np.sqrt((z * z).mean(0)) if len(z) else np.ones(shifts.size)
    wide = {blocks: _more_than_chance(spreads[blocks], degrees[blocks]) for blocks in seen}
    largest = {blocks: np.abs(z).max(0, initial=0.0) for blocks, z in seen.items()}
    scales = sorted(seen)
    for place, blocks in enumerate(scales):
        spread = np.where(wide[blocks], np.maximum(spreads[blocks], 1.0), 1.0)
        base = np.where(wide[blocks], student(alpha, degrees[blocks]), two_sided(alpha))
        if degrees[blocks] < 12 and place:  # too few windows of this length: what a shorter one shows, and more
            shorter = scales[place - 1]
            spread = np.where(wide[shorter], np.maximum(spread, spreads[shorter]), 1.0)
            base = np.where(wide[shorter], student(alpha, degrees[shorter]), two_sided(alpha))
        heavy = wide[blocks] | _of(shifts, CLUMPED)
        found[blocks] = np.maximum(base * spread, HEAVY * largest[blocks] * heavy)
    middle = scales[min(1, len(scales) - 1)]
    own = np.r_[tuple(shifts.groups[name] for name in MARGINS)]
    there = spreads[middle][own] > 0
    wide_days = spreads[middle][own] > WIDE_SPREAD
    if by_clock is not None:  # what the time of day explains comes again every day
        wide_days &= ~by_clock[own]
    clustered = bool(there.any()) and bool(wide_days[there].mean() > CLUSTERED_SHARE)
    for blocks, of in found.items():
        of[shifts.groups["joint"]] *= _wandering(shifts, spreads[blocks])
        for name in ("spread", "joint", "unexplained by segment", *(PAIRED if clustered else ())):
            part = shifts.groups[name]
            of[part] *= np.where(wide[blocks][part] | clustered, RESTLESS, 1.0)
        joint = shifts.groups["joint"]
        of[joint] *= np.where(wide[blocks][joint] | clustered, 1.0, TOGETHER)
        if by_clock is not None:
            of[by_clock] *= CLOCKED
    widest = np.max([np.ones(shifts.size), *(spreads[blocks] for blocks in scales if blocks <= middle)], axis=0)
    return Thresholds(found, clustered, spreads[middle], widest)


def _of(shifts: Shifts, names: tuple[str, ...]) -> NDArray[np.bool_]:
    found = np.zeros(shifts.size, bool)
    for name in names:
        found[shifts.groups[name]] = True
    return found


def margins(shifts: Shifts, spread: Matrix) -> Matrix:
    """(fields,) the largest of these spreads of a field's own values."""
    found: Matrix = np.max([spread[shifts.groups[name]] for name in MARGINS], axis=0)
    return found


def _wandering(shifts: Shifts, spread: Matrix) -> Matrix:
    """How restless the more restless of two fields is by itself: its company says as little as it does."""
    fields = margins(shifts, spread)
    one, other = (upper // 2 for upper in shifts.upper)
    found = np.maximum(fields[one], fields[other]) if len(one) else np.empty(0)
    return np.where(found > WIDE_SPREAD, found, 1.0)


def _more_than_chance(spread: Matrix, degrees: int) -> NDArray[np.bool_]:
    return degrees * spread**2 > chi_square_quantile(CERTAIN, degrees)
