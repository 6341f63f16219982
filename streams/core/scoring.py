"""Rows -> scores: what one model is given, and what is made of what it returns."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from schemas.blocks import MAX_ROWS, Matrix, RowError, Rows, ScoreBlock, score_block
from schemas.pipeline import Model

ScoreRows = Callable[[Matrix], tuple[Matrix, Mapping[int, str]]]
"""A matrix of n rows -> n scores, and the reasons of rows that have none, by their place."""


class Scoring:
    """One model at work: joins blocks, skips what is too late, packs scores."""

    def __init__(self, model: Model, width: int, score_rows: ScoreRows) -> None:
        self.skipped = 0
        self.scored = 0
        self.failed = 0
        self._model = model
        self._width = width
        self._score_rows = score_rows

    def score(self, blocks: Sequence[Rows], now_ms: float) -> list[ScoreBlock]:
        """Score the rows of one partition together: a model is cheap per row, dear per call."""
        fitting = [rows for rows in blocks if rows.matrix.shape[1] == self._width]
        refused = [self._refuse(rows) for rows in blocks if rows.matrix.shape[1] != self._width]
        live = [rows for rows in map(self._live(now_ms), fitting) if len(rows.offsets)]
        if not live:
            return refused
        offsets = np.concatenate([rows.offsets for rows in live])
        matrix = np.concatenate([rows.matrix for rows in live])
        return refused + [
            self._block(offsets[at : at + MAX_ROWS], matrix[at : at + MAX_ROWS])
            for at in range(0, len(offsets), MAX_ROWS)
        ]

    def _live(self, now_ms: float) -> Callable[[Rows], Rows]:
        if self._model.expired == "score":
            return lambda rows: rows

        def live(rows: Rows) -> Rows:
            alive = rows.deadlines_ms > now_ms
            if alive.all():
                return rows
            self.skipped += int(len(alive) - alive.sum())
            return Rows(rows.model, rows.offsets[alive], rows.deadlines_ms[alive], rows.matrix[alive])

        return live

    def _block(self, offsets: np.ndarray, matrix: Matrix) -> ScoreBlock:
        scores, reasons = self._score_rows(matrix)
        self.scored += len(offsets) - len(reasons)
        if not reasons:
            return score_block(self._model.name, self._model.version, offsets, scores)
        self.failed += len(reasons)
        good = np.ones(len(offsets), dtype=bool)
        good[list(reasons)] = False
        errors = tuple(RowError(int(offsets[place]), reason) for place, reason in reasons.items())
        return score_block(self._model.name, self._model.version, offsets[good], scores[good], errors)

    def _refuse(self, rows: Rows) -> ScoreBlock:
        self.failed += len(rows.offsets)
        reason = f"a row of {rows.matrix.shape[1]} features; the model takes {self._width}"
        errors = tuple(RowError(int(offset), reason) for offset in rows.offsets)
        return ScoreBlock(self._model.name, self._model.version, b"", b"", errors)
