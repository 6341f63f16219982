"""A model in plain Python: what a person at the airport would say."""

from schemas.blocks import Matrix


def late(matrix: Matrix) -> Matrix:
    """Scores of n flights, from scheduled hour, precipitation (inches) and visibility (miles).

    Delays build up over the day; rain and fog make them worse.
    """
    hour, precip, visib = matrix.T
    scores: Matrix = 0.08 + 0.015 * (hour - 5) + 0.25 * (precip > 0.02) + 0.15 * (visib < 5)
    return scores.clip(0.0, 1.0)
