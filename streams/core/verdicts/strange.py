"""Values that the rest of a reference never had: what a live window's new values are held against.

Against the whole reference none of its own values is new. Each window of it is judged by the others instead.
"""

import numpy as np
from numpy.typing import NDArray

from streams.core.verdicts.fields import MARGIN, Coded, Column

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


def foreign(field: Column, coded: Coded, size: int) -> NDArray[np.int64]:
    """Values of another type than the field's, in each block of `size` rows."""
    other = coded.words >= 0 if field.kind == "number" else ~np.isnan(coded.numbers)
    found: NDArray[np.int64] = other.reshape(-1, size).sum(1) + coded.odd
    return found


def never_elsewhere(field: Column, coded: Coded, window: Rows) -> Flags:
    """Rows whose value occurs in no other window: categories, and numbers of few values."""
    if field.kind == "number" and not len(field.known):
        return np.zeros(len(window), bool)
    there = coded.words >= 0 if field.kind == "category" else ~np.isnan(coded.numbers)
    values = coded.words[there] if field.kind == "category" else coded.numbers[there]
    _, place = np.unique(values, return_inverse=True)
    both = np.unique(np.stack([place, window[there]]), axis=1)
    windows = np.bincount(both[0], minlength=int(place.max()) + 1)
    found = np.zeros(len(window), bool)
    found[there] = windows[place] == 1
    return found


def outside_elsewhere(field: Column, coded: Coded, window: Rows) -> Flags:
    """Rows whose number lies outside the range of all other windows, by a quarter of it."""
    found = np.zeros(len(window), bool)
    if field.kind != "number":
        return found
    there = ~np.isnan(coded.numbers)
    values, inside = coded.numbers[there], window[there]
    numbers = np.unique(inside)
    if len(numbers) < 2:
        return found
    low = np.array([values[inside == number].min() for number in numbers])
    high = np.array([values[inside == number].max() for number in numbers])
    place = np.searchsorted(numbers, inside)
    lowest, highest = np.argsort(low)[:2], np.argsort(-high)[:2]
    least = np.where(place == lowest[0], low[lowest[1]], low[lowest[0]])
    most = np.where(place == highest[0], high[highest[1]], high[highest[0]])
    margin = MARGIN * (most - least)
    found[there] = (values < least - margin) | (values > most + margin)
    return found
