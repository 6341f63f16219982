"""What a model returns is checked before anyone believes it: one finite score per row, or an error of that row."""

import numpy as np

from schemas.blocks import Matrix
from streams.models.loading import Score

REASON_CHARS = 300


def score_rows(score: Score, matrix: Matrix) -> tuple[Matrix, dict[int, str]]:
    """Scores of n rows, and the reason of each row that has none.

    A model that raises on a block is asked again in halves, so that one bad row costs that row only.
    """
    try:
        scores = score(matrix)
    except Exception as error:
        return _halves(score, matrix, error)
    if scores.shape != (len(matrix),):
        reason = f"returned {scores.shape} for {len(matrix)} rows: one score per row is needed"
        return np.zeros(len(matrix)), dict.fromkeys(range(len(matrix)), reason)
    finite = np.isfinite(scores)
    if finite.all():
        return scores, {}
    return scores, {int(row): f"returned {scores[row]}" for row in np.flatnonzero(~finite)}


def _halves(score: Score, matrix: Matrix, error: Exception) -> tuple[Matrix, dict[int, str]]:
    if len(matrix) == 1:
        return np.zeros(1), {0: f"raised {error!r}"[:REASON_CHARS]}
    half = len(matrix) // 2
    first, first_errors = score_rows(score, matrix[:half])
    second, second_errors = score_rows(score, matrix[half:])
    shifted = {row + half: reason for row, reason in second_errors.items()}
    return np.concatenate([first, second]), first_errors | shifted
