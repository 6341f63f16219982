"""Where a change lies: in the requests with one value of a declared field, and in no others.

It explains a verdict and never makes one: it is asked only when something has moved anyway. A value is named when its
own requests differ from its own in the reference beyond chance, and all others differ little or not at all; so what
moved for two values, or for all, is confined to none.
"""

from collections.abc import Iterator, Sequence
from math import log
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.shifts import chance_of_numbers, chance_of_words
from streams.core.verdicts.events import Event
from streams.core.verdicts.fields import NONE, Bins, Column, quantile_edges
from streams.core.verdicts.shifts import STRANGE
from streams.core.verdicts.sums import WIDE

LEAST_LIVE, LEAST_REFERENCE = 30, 40
BEYOND = 1.5  # times what chance makes of so few requests
LEAST_SIZE = 0.1
LITTLE = 0.25  # of the size among the value's own: what the others may have moved, and what chance makes of them
NEARLY_ALL = 0.9
BY_CHANCE = 7.0  # e^-7: so seldom do strange values, strewn at random, all fall to one value

Counts = NDArray[np.int32]


class Declared(Struct, frozen=True):
    """The declared fields in the reference: how each watched field, and what is left of each score, lies by value."""

    places: list[int]  # which of the watched fields are declared
    edges: list[Matrix]  # of each model's residuals: equal shares of the reference
    counts: Counts  # (declared, fields + models, bins of the declared field, bins)


class Moved(Struct, frozen=True):
    """What is looked at: a column, and by which of a field's statistics. Of `ordered` columns the bins rise.

    Columns are the watched fields, and behind them what is left of each model's scores.
    """

    column: int
    ordered: bool
    what: str = ""


def declared_in(names: Sequence[str], fields: Sequence[Column], bins: Bins, left: Matrix) -> Declared:
    """What the reference says. `bins` are (rows, fields at least), `left` (rows, models) with NaN for no score."""
    places = [place for place, one in enumerate(fields) if one.name in names]
    edges = [quantile_edges(column[~np.isnan(column)]) for column in left.T]
    found = Declared(places, edges, np.zeros((len(places), len(fields) + len(edges), WIDE, WIDE), np.int32))
    columns = columns_of(found, bins[:, : len(fields)], left)
    for number, place in enumerate(places):
        for column in range(columns.shape[1]):
            flat = bins[:, place] * WIDE + columns[:, column]
            found.counts[number, column] = np.bincount(flat, minlength=WIDE * WIDE).reshape(WIDE, WIDE)
    return found


def columns_of(declared: Declared, bins: Bins, left: Matrix) -> Bins:
    """(rows, fields + models): the fields' bins, then those of what is left of each score."""
    found = [np.searchsorted(edges, column, "right") for edges, column in zip(declared.edges, left.T, strict=True)]
    for place, column in enumerate(left.T):
        found[place][np.isnan(column)] = NONE
    return np.concatenate([bins, np.array(found, np.intp).reshape(len(found), len(bins)).T], 1)


def confined(
    declared: Declared, fields: Sequence[Column], columns: Bins, moved: Moved, events: Sequence[Event]
) -> str | None:
    """The one value that this lies in, as a person reads it; None when it lies in several, or nobody knows.

    `columns` are those of recent `events`. Of what the reference hardly ever has nearly all has to lie there; else
    distributions are compared.
    """
    found: list[tuple[float, str]] = []
    for number, place in enumerate(declared.places):
        if place == moved.column:  # that its own values changed says nothing of a place
            continue
        values = columns[:, place]
        if moved.what in STRANGE:
            best = _of_strange(fields[moved.column], moved.what, events, values)
        else:
            best = _of_moved(declared.counts[number, moved.column], columns[:, moved.column], values, moved)
        for value, size in best:
            if not _is_others(fields[place], value):
                found.append((size, fields[place].coarse_label(value, 1)))
    return max(found)[1] if found else None


def _is_others(field: Column, value: int) -> bool:
    """Whether this is the bin of the many rare words."""
    return field.kind == "category" and len(field.labels) - 1 <= value < NONE


def _frequent(values: Bins) -> list[int]:
    return [int(value) for value in np.flatnonzero(np.bincount(values, minlength=WIDE) >= LEAST_LIVE)]


def _of_moved(usual: Counts, bins: Bins, values: Bins, moved: Moved) -> Iterator[tuple[int, float]]:
    """The value whose own rows moved far beyond chance while no other value's did, nor all others together."""
    live = np.bincount(values * WIDE + bins, minlength=WIDE * WIDE).reshape(WIDE, WIDE)
    apart = {value: _distance(live[value], usual[value], ordered=moved.ordered) for value in _frequent(values)}
    for value, (own, chance) in apart.items():
        if usual[value].sum() < LEAST_REFERENCE or own < max(LEAST_SIZE, BEYOND * chance):
            continue
        if any(size > max(own / 2, by_chance) for other, (size, by_chance) in apart.items() if other != value):
            continue
        others = (np.delete(live, value, 0).sum(0), np.delete(usual, value, 0).sum(0))
        if max(_distance(*others, ordered=moved.ordered)) <= LITTLE * own:  # they are still, and it would show
            yield value, own / chance


def _of_strange(field: Column, what: str, events: Sequence[Event], values: Bins) -> Iterator[tuple[int, float]]:
    """The value among whose own rows nearly all strange ones lie, though chance would hardly have put them there."""
    given = [event.features.get(field.name) for event in events]
    total = _strange(field, what, given)
    for value in _frequent(values):
        mine = values == value
        share = float(mine.mean())
        count = _strange(field, what, [one for one, here in zip(given, mine.tolist(), strict=True) if here])
        if nearly_all(count, total, share):
            yield value, count * log(1 / share)


def _strange(field: Column, what: str, values: Sequence[Any]) -> int:
    """How many of these values are of another type, new, or outside."""
    _, *counts = field.encode(values)
    return dict(zip(STRANGE, counts, strict=True))[what]


def nearly_all(count: int, total: int, share: float) -> bool:
    """Whether so many of all lie in this share of the events, which chance would hardly bring about.

    >>> nearly_all(20, 21, 0.3), nearly_all(20, 30, 0.3), nearly_all(5, 5, 0.3), nearly_all(90, 90, 0.95)
    (True, False, False, False)
    """
    return 0 < share < 1 and count >= NEARLY_ALL * total and count * log(1 / share) >= BY_CHANCE


def _distance(live: NDArray[np.intp], usual: Counts, *, ordered: bool) -> tuple[float, float]:
    """How far two rows of counts are apart (0..1), and what chance makes of it at 1 in 100."""
    n, m = int(live.sum()), int(usual.sum())
    if not n or not m:
        return 0.0, 1.0
    difference = live / n - usual / m
    if ordered:
        return float(np.abs(np.cumsum(difference)).max()), chance_of_numbers(n, m)
    return float(np.abs(difference).sum()) / 2, chance_of_words((live + usual).tolist(), n, m)
