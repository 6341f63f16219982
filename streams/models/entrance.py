"""A model at the door: its file is held against what is said of it, and a child loads it and scores real rows.

Whatever its kind: this process is the operator's, whose words and whose end are not the model's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.pipeline import Kind, Model, Pipeline
from streams.core.given import Given
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.attempt import TRIAL_S, Attempt
from streams.models.candidate import columns_of
from streams.models.trees import LISTED
from streams.models.trying import try_in_child

PRACTICE = (0.0, 1.0)
"""What every feature is in the rows that are scored where there are no real ones yet."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a model made of the rows it was tried on; it has no least and no most score where there were none."""

    rows: int = 0
    least: float | None = None
    most: float | None = None


def tried(
    folder: Path,
    pipeline: Pipeline,
    model: Model,
    given: Given,
    within_s: float = TRIAL_S,
    *,
    way_out: str = LISTED,
) -> Tried:
    """Load a model in a child, and score these n x F rows of the pipeline's features and the scores it needs.

    Where there are none two are made up, but no events: a model that takes those is loaded only. One that another
    program scores is not even that.

    Raises ModelRefused: another file than its sha256 says, no regular file, too large, damaged, other features, a
    number of scores that is not that of the rows, a score that is not finite or not in `[promotion]`'s range; and
    one that dies of it, or takes longer than `within_s`. `way_out` is what the caller may do about other features.
    """
    if model.kind is Kind.EXTERNAL:
        return Tried()
    columns = columns_of(folder, pipeline, model, way_out)
    rows, takes_events = given.matrix, model.takes == "events"
    sums = (sum_of(open_artifact(folder, model)),) if model.artifact else ()
    if not len(rows) and not takes_events:
        rows = np.vstack([np.full(len(pipeline.features) + len(model.needs), value) for value in PRACTICE])
    matrix = np.ascontiguousarray(rows[:, list(columns)], dtype=np.float64).tobytes()
    events = given.events if takes_events else ()
    found = try_in_child(Attempt(str(folder), model, pipeline.features_of(model), sums, matrix, events, within_s))
    scores = [score for score in found.scores if score is not None]
    if found.errors:
        row, reason = next(iter(found.errors.items()))
        raise ModelRefused(
            f"model {model.name}: {len(found.errors)} of {len(rows)} rows have no score, row {row}: {reason}"
        )
    if not scores:
        return Tried()
    least, most = min(scores), max(scores)
    low, high = pipeline.promotion.min, pipeline.promotion.max
    if (low is not None and least < low) or (high is not None and most > high):
        allowed = f"{_bound(low)} to {_bound(high)}"
        raise ModelRefused(
            f"model {model.name}: it scores {least:g} to {most:g}, and [promotion] allows {allowed}; mend either"
        )
    return Tried(len(rows), least, most)


def _bound(bound: float | None) -> str:
    return "anything" if bound is None else f"{bound:g}"
