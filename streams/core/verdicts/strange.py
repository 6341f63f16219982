"""Values that the rest of a reference never had: what a live window's new values are held against.

Against the whole reference none of its own values is new. Each window of it is judged by the others instead, and not
by its neighbours: what comes on one strange day lies in two windows, and is no less strange for that.
"""

import numpy as np
from numpy.typing import NDArray

from streams.core.verdicts.fields import MARGIN, Coded, Column

NEAR, ENOUGH = 1, 8
"""Windows that one day may lie in are so far apart at most; in a reference of fewer than ENOUGH each stands alone."""

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


def foreign(field: Column, coded: Coded, size: int) -> NDArray[np.int64]:
    """Values of another type than the field's, in each block of `size` rows."""
    other = coded.words >= 0 if field.kind == "number" else ~np.isnan(coded.numbers)
    found: NDArray[np.int64] = other.reshape(-1, size).sum(1) + coded.odd
    return found


def never_elsewhere(field: Column, coded: Coded, window: Rows) -> Flags:
    """Rows whose value occurs in no other window but the next one: categories, and numbers of few values."""
    if field.kind == "number" and not len(field.known):
        return np.zeros(len(window), bool)
    there = coded.words >= 0 if field.kind == "category" else ~np.isnan(coded.numbers)
    values = coded.words[there] if field.kind == "category" else coded.numbers[there]
    _, place = np.unique(values, return_inverse=True)
    first = np.full(int(place.max(initial=0)) + 1, len(window))
    last = np.zeros_like(first)
    np.minimum.at(first, place, window[there])
    np.maximum.at(last, place, window[there])
    found = np.zeros(len(window), bool)
    found[there] = (last - first <= _near(window))[place]
    return found


def outside_elsewhere(field: Column, coded: Coded, window: Rows) -> Flags:
    """Rows whose number lies outside the range of all windows but its neighbours, by a quarter of it."""
    found = np.zeros(len(window), bool)
    if field.kind != "number":
        return found
    there = ~np.isnan(coded.numbers)
    values, inside = coded.numbers[there], window[there]
    numbers, place = np.unique(inside, return_inverse=True)
    rest = np.abs(numbers[:, None] - numbers) > _near(window)
    if not len(numbers) or not rest.any(1).all():  # all that is there lies close together
        return found
    low = np.array([values[inside == number].min() for number in numbers])
    high = np.array([values[inside == number].max() for number in numbers])
    least = np.where(rest, low, np.inf).min(1)[place]
    most = np.where(rest, high, -np.inf).max(1)[place]
    margin = MARGIN * (most - least)
    found[there] = (values < least - margin) | (values > most + margin)
    return found


def _near(window: Rows) -> int:
    """How far apart two windows may be that are not held against each other."""
    return NEAR if window.max(initial=0) + 1 >= ENOUGH else 0
