"""The frozen reference: what fields, scores and their relations were, and how much they differ among themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.confined import Declared
from streams.core.verdicts.daytime import weights
from streams.core.verdicts.events import columns, matrix
from streams.core.verdicts.expected import Expected
from streams.core.verdicts.fields import NONE, Bins, Column
from streams.core.verdicts.intake import Rows
from streams.core.verdicts.order import Order
from streams.core.verdicts.ranks import Ranks
from streams.core.verdicts.shifts import Shifts
from streams.core.verdicts.sides import Usual
from streams.core.verdicts.sums import Block, Summing, Sums
from streams.core.verdicts.thresholds import Thresholds

BLOCK = 250
WINDOW = 4
SCALES = (1, WINDOW, 4 * WINDOW)
NOTHING = slice(0, 0)


class Reference(Struct, frozen=True):
    """Everything that live events are held against."""

    fields: list[Column]
    models: list[str]
    kept: list[int]  # their places among the setting's models
    canaries: list[bool]
    company: NDArray[np.intp]  # (fields,) the field that is most often missing together with each; itself: none
    score_columns: list[Column]
    ranks: Ranks
    expected: Expected
    order: Order
    summing: Summing
    shifts: Shifts
    vectors: Matrix  # (blocks, sums)
    total: Matrix  # (sums,) of all blocks
    usual: Usual  # the same, as windows are held against it
    daytimes: Matrix  # (blocks,) ms of the day at the middle of each block
    by_clock: NDArray[np.bool_]  # (statistics,) which are held against the same time of day
    thresholds: Thresholds
    latencies: list[str]
    notes: list[str]
    gap_ms: float
    declared: Declared

    def beside(self, daytimes: Sequence[float], without: slice = NOTHING) -> Sums:
        """The reference for blocks at these times of day, scaled to as many events as it is worth."""
        if not self.by_clock.any():
            return self.whole(without)
        allowed = np.ones(len(self.daytimes), bool)
        allowed[without] = False
        weight = weights(self.daytimes, np.asarray(daytimes), allowed)
        worth = weight.sum() / max(float(weight @ weight), 1e-12)
        return Sums(self.summing.layout, (weight * worth) @ self.vectors)

    def whole(self, without: slice = NOTHING) -> Sums:
        """The reference at all times of day."""
        return Sums(self.summing.layout, self.total - self.vectors[without].sum(0) if without.stop else self.total)

    def z(self, live: Sums, beside: Sums, without: slice = NOTHING) -> Matrix:
        """Every statistic of a window, each against the part of the reference that makes quiet days calmest.

        `beside` is the reference at the window's time of day.
        """
        side = self.shifts.side(live)
        if self.by_clock.all():
            return self.shifts.of(side, self.shifts.usual(beside))
        whole = self.shifts.usual(self.whole(without)) if without.stop else self.usual
        found = self.shifts.of(side, whole)
        if self.by_clock.any():
            found = np.where(self.by_clock, self.shifts.of(side, self.shifts.usual(beside)), found)
        return found

    def block(self, rows: Rows) -> Block:
        """A live block against the frozen columns."""
        given = [event.features for event in rows.events]
        bins = np.empty((len(given), len(self.fields) + len(self.models)), np.intp)
        counts = np.zeros((3, len(self.fields)))
        values = columns(given, [field.name for field in self.fields])
        for place, field in enumerate(self.fields):
            if field.kind == "category":
                bins[:, place], *counts[:, place] = field.encode(values[place])
        self._numbers(values, bins, counts)
        alone = missing_alone(bins[:, : len(self.fields)], self.company).sum(0).astype(float)
        left = residuals(self, bins, rows.scores)
        logs = latency_logs(rows, self.latencies)
        same = same_answers(rows.scores, self.expected.pairs)
        return Block(bins, left, counts[0], alone, counts[1], counts[2], rows.bad, same, rows.gaps, logs)

    def _numbers(self, values: list[tuple[Any, ...]], bins: Bins, counts: Matrix) -> None:
        """What `Column.encode` says of each field of numbers, whose values are read together."""
        places = [place for place, field in enumerate(self.fields) if field.kind == "number"]
        if not places:
            return
        found, counts[0, places] = matrix([values[place] for place in places])
        for place, mine in zip(places, found, strict=True):
            bins[:, place], *counts[1:, place] = self.fields[place].encode_numbers(mine)


def residuals(reference: Reference, bins: Bins, scores: Matrix) -> Matrix:
    """Fill the bins of scores, and say what the fields and the other models leave unexplained."""
    fields = len(reference.fields)
    for place, one in enumerate(reference.score_columns):
        bins[:, fields + place] = one.bins(scores[:, place])
    return reference.expected.residuals(bins[:, :fields], reference.ranks.of(scores))


def company_of(bins: Bins) -> NDArray[np.intp]:
    """Which field is missing together with each of (rows, fields), in more rows than one of the two alone."""
    gone = (bins == NONE).astype(float)
    together = gone.T @ gone
    alone = np.diag(together)
    differ = alone[:, None] + alone[None, :] - 2 * together
    np.fill_diagonal(differ, np.inf)
    best = differ.argmin(1) if len(alone) > 1 else np.zeros(len(alone), np.intp)
    own = np.arange(len(alone))
    return np.where(together[own, best] > differ[own, best], best, own)


def missing_alone(bins: Bins, company: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(rows, fields): missing though its company is there; a field without company never is."""
    gone = bins == NONE
    return gone & ~gone[:, company]


def same_answers(scores: Matrix, pairs: Sequence[tuple[int, int]]) -> Matrix:
    """(pairs,) how many rows of (rows, models) two models answer exactly alike."""
    return np.array([np.count_nonzero(scores[:, one] == scores[:, other]) for one, other in pairs], float)


def latency_logs(rows: Rows, names: Sequence[str]) -> Matrix:
    """(rows, names) logs of ms of the latencies that are watched."""
    none = np.full(len(rows.at_ms), np.nan)
    return np.stack([rows.latencies.get(name, none) for name in names], 1) if names else np.empty((len(none), 0))
