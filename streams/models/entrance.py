"""A model at the door: its file is held against what is said of it, a child loads it, and it scores real rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.blocks import Matrix
from schemas.pipeline import Model, Pipeline
from streams.core.given import Given
from streams.models.artifact import ModelRefused
from streams.models.candidate import scoring_of

PRACTICE = (0.0, 1.0)
"""What every feature is in the rows that are scored where there are no real ones yet."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a model made of the rows it was tried on."""

    rows: int
    least: float
    most: float


def tried(folder: Path, pipeline: Pipeline, model: Model, rows: Matrix) -> Tried:
    """Load a model as a scorer would, and score these n x F rows of the pipeline's features and the scores it needs.

    Raises ModelRefused: another file than its sha256 says, no regular file, too large, damaged, other features, a
    number of scores that is not that of the rows, a score that is not finite or not in `[promotion]`'s range.
    """
    score, columns = scoring_of(folder, pipeline, model)
    if not len(rows):
        rows = np.vstack([np.full(len(pipeline.features) + len(model.needs), value) for value in PRACTICE])
    scores, errors = score(Given(rows[:, list(columns)]))
    if errors:
        row, reason = next(iter(errors.items()))
        raise ModelRefused(
            f"model {model.name}: {len(errors)} of {len(rows)} rows have no score, row {row}: {reason}"
        )
    least, most = float(scores.min()), float(scores.max())
    low, high = pipeline.promotion.min, pipeline.promotion.max
    if (low is not None and least < low) or (high is not None and most > high):
        allowed = f"{_bound(low)} to {_bound(high)}"
        raise ModelRefused(
            f"model {model.name}: it scores {least:g} to {most:g}, and [promotion] allows {allowed}; mend either"
        )
    return Tried(len(rows), least, most)


def _bound(bound: float | None) -> str:
    return "anything" if bound is None else f"{bound:g}"
