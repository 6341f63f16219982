"""What a model returns is checked before anyone believes it: one finite number per row, or an error of that row."""

from collections.abc import Callable, Sequence
from numbers import Real
from reprlib import repr as short
from time import monotonic
from typing import Any

import numpy as np

from schemas.blocks import Matrix
from streams.core.given import Given

NUMBERS = "fiub"
"""Kinds of numpy types that hold a score. Text is none, even if it reads like a number."""

Score = Callable[[Given], Any]
"""n rows -> n scores, or whatever a model makes of them."""


class Unanswered(Exception):
    """A call that no row is to blame for: asking again in halves would only take time. The message is the reason."""


class RowsRefused(Exception):
    """These rows were refused; each half may be welcome. The message is the reason."""


def score_rows(score: Score, given: Given) -> tuple[Matrix, dict[int, str]]:
    """Scores of n rows, and the reason of each row that has none.

    A model that raises on a block is asked again in halves, so that one bad row costs that row only.
    """
    started_s = monotonic()
    try:
        found = score(given)
    except Unanswered as error:
        return _none(len(given.matrix), str(error))
    except Exception as error:
        return _halves(score, given, error, (monotonic() - started_s) * 1e3)
    return believed(found, len(given.matrix))


def believed(found: Any, rows: int) -> tuple[Matrix, dict[int, str]]:
    """What may be called scores in what a model returned for so many rows."""
    try:
        array = np.asarray(found)
    except Exception as error:  # lists of unequal length, and objects that only look like arrays
        return _none(rows, f"returned {short(found)}, no list of numbers: {error!r}")
    if array.shape != (rows,):
        return _none(rows, f"returned {array.shape} for {rows} rows: one score per row is needed")
    if array.dtype.kind not in NUMBERS:
        # A list of a number and a word is an array of words: look at the list.
        return _one_by_one(found if isinstance(found, list | tuple) else array.tolist())
    scores = array.astype(np.float64)
    finite = np.isfinite(scores)
    if finite.all():
        return scores, {}
    return scores, {int(row): f"returned {scores[row]}" for row in np.flatnonzero(~finite)}


def _one_by_one(values: Sequence[Any]) -> tuple[Matrix, dict[int, str]]:
    scores, reasons = np.zeros(len(values)), {}
    for row, value in enumerate(values):
        if not isinstance(value, Real):
            reasons[row] = f"returned {short(value)}: a number is needed"
            continue
        try:
            scores[row] = float(value)
        except OverflowError:
            scores[row] = np.inf
        if not np.isfinite(scores[row]):
            reasons[row] = f"returned {scores[row]}"
    return scores, reasons


def _none(rows: int, reason: str) -> tuple[Matrix, dict[int, str]]:
    return np.zeros(rows), dict.fromkeys(range(rows), reason)


def _halves(score: Score, given: Given, error: Exception, elapsed_ms: float) -> tuple[Matrix, dict[int, str]]:
    rows = len(given.matrix)
    if rows == 1:
        return _none(1, str(error) if isinstance(error, RowsRefused) else f"raised {error!r}")
    half = rows // 2
    started_s = monotonic()
    first, first_errors = score_rows(score, given.part(0, half, elapsed_ms))
    elapsed_ms += (monotonic() - started_s) * 1e3
    second, second_errors = score_rows(score, given.part(half, rows, elapsed_ms))
    shifted = {row + half: reason for row, reason in second_errors.items()}
    return np.concatenate([first, second]), first_errors | shifted
