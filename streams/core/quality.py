"""Figures of answers: how many were answered how, how fast and how well, and how two ways of answering differ."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix, Offsets
from streams.core.answers import NOBODY, OUTCOMES, Answers, Names
from streams.core.intervals import auc, share

GRACE_MS = 10
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
DIFFERENCES = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)
DIGITS = 6

Truth = NDArray[np.int8]
"""1 and 0 where the label is known, -1 where it is not."""


class Quality(Struct, frozen=True, kw_only=True):
    """How well scores tell what became of it, over the rows that have score and label, by the labels' own weights."""

    labelled: int
    accuracy: float | None
    auc: float | None


class Figures(Struct, frozen=True, kw_only=True):
    """One way of answering, summed up. Shares are of the requests that have an answer."""

    answered: int
    outcomes: dict[str, float]
    winners: dict[str, float]
    on_time: float | None
    latency_ms: dict[str, float | None]
    quality: Quality


class Comparison(Struct, frozen=True, kw_only=True):
    """Two ways of answering, row by row. `agreement` is the share of scores on the same side of the threshold.

    A decision is `different` by its model, its outcome or its side, or several of these.
    """

    compared: int
    different: int
    other_winner: int
    other_outcome: int
    other_side: int
    agreement: float | None
    score_difference: dict[str, float | None]


def figures(
    answers: Answers, names: Names, budgets_ms: Offsets, truth: Truth, weight: Matrix, threshold: float
) -> Figures:
    """Sum up one way of answering; `budgets_ms` are those of its requests, `weight` what each label stands for."""
    answered = answers.outcome != NOBODY
    total = int(answered.sum())
    outcomes = {str(word): _share(answers.outcome == code, total) for code, word in enumerate(OUTCOMES)}
    winners = {
        names[code] or "": _share(answers.model == code, total)
        for code in sorted(range(len(names)), key=lambda code: str(names[code]))
        if (answers.model == code).any()
    }
    on_time = answers.used_ms[answered] <= budgets_ms[answered] + GRACE_MS
    return Figures(
        answered=total,
        outcomes=outcomes,
        winners=winners,
        on_time=_share(on_time, total) if total else None,
        latency_ms=quantiles(answers.used_ms[answered], QUANTILES),
        quality=quality(answers.score, truth, weight, threshold),
    )


def compare(one: Answers, other: Answers, threshold: float) -> Comparison:
    """How `other` differs from `one`; the score difference is other's minus one's."""
    both = (one.outcome != NOBODY) & (other.outcome != NOBODY)
    scored = both & ~np.isnan(one.score) & ~np.isnan(other.score)
    sides = (one.score >= threshold) == (other.score >= threshold)
    return Comparison(
        compared=int(both.sum()),
        different=int(different(one, other, threshold).sum()),
        other_winner=int((both & (one.model != other.model)).sum()),
        other_outcome=int((both & (one.outcome != other.outcome)).sum()),
        other_side=int((scored & ~sides).sum()),
        agreement=_share(sides[scored], int(scored.sum())) if scored.any() else None,
        score_difference=quantiles(other.score[scored] - one.score[scored], DIFFERENCES),
    )


def different(one: Answers, other: Answers, threshold: float) -> NDArray[np.bool_]:
    """Rows answered by another model, with another outcome, or on the other side of the threshold."""
    both = (one.outcome != NOBODY) & (other.outcome != NOBODY)
    sides = (one.score >= threshold) != (other.score >= threshold)
    return both & ((one.model != other.model) | (one.outcome != other.outcome) | sides)


def quality(scores: Matrix, truth: Truth, weight: Matrix, threshold: float) -> Quality:
    """Accuracy at the threshold, and AUC."""
    known = (truth >= 0) & ~np.isnan(scores)
    score, true, heavy = scores[known], truth[known] == 1, weight[known]
    return Quality(
        labelled=len(score),
        accuracy=share((score >= threshold) == true, heavy).value,
        auc=auc(score, true, heavy).value,
    )


def quantiles(values: np.ndarray, at: Sequence[float]) -> dict[str, float | None]:
    """Named quantiles: p50, p99, worst ...; None when there is nothing."""
    names = [{0.0: "least", 1.0: "most"}.get(share, f"p{share * 100:g}") for share in at]
    if not len(values):
        return dict.fromkeys(names)
    return {name: _rounded(float(value)) for name, value in zip(names, np.quantile(values, at), strict=True)}


def _share(true: NDArray[np.bool_], total: int) -> float:
    return round(int(true.sum()) / total, DIGITS) if total else 0.0


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, DIGITS) + 0.0
