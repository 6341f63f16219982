"""Rows -> scores: what one model is given, and what is made of what it returns."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np
from msgspec import Struct

from schemas.blocks import MAX_ROWS, Matrix, RowError, Rows, ScoreBlock, score_block
from schemas.pipeline import Model


class Given(Struct, frozen=True):
    """What a model is given at once: an n x width matrix, and the n events (JSON) if it takes them.

    `left_ms` is what the last of these rows has left of its budget. A model in this process has no use for it; one
    that waits for somebody else waits no longer.
    """

    matrix: Matrix
    events: tuple[bytes, ...] = ()
    left_ms: float = inf

    def part(self, start: int, end: int, elapsed_ms: float = 0.0) -> "Given":
        """Some of the rows, so many ms later."""
        return Given(self.matrix[start:end], self.events[start:end], self.left_ms - elapsed_ms)


ScoreRows = Callable[[Given], tuple[Matrix, Mapping[int, str]]]
"""n rows -> n scores, and the reasons of rows that have none, by their place."""


class Scoring:
    """One model at work: joins blocks, skips what is too late, packs scores."""

    def __init__(self, model: Model, width: int, score_rows: ScoreRows) -> None:
        self.skipped = 0
        self.scored = 0
        self.failed = 0
        self._model = model
        self._width = width
        self._score_rows = score_rows

    def calls(self, blocks: Sequence[Rows]) -> list[Rows]:
        """The rows of one partition, joined into at most 256 for a call: a model is cheap per row, dear per call.

        A block that does not fit the model is alone: it is refused when it is scored.
        """
        if len(blocks) == 1 and len(blocks[0].offsets) <= MAX_ROWS:
            return list(blocks)
        fitting = [rows for rows in blocks if not self._misfit(rows)]
        others = [rows for rows in blocks if self._misfit(rows)]
        if not fitting:
            return others
        joined = Rows(
            self._model.name,
            np.concatenate([rows.offsets for rows in fitting]),
            np.concatenate([rows.deadlines_ms for rows in fitting]),
            np.concatenate([rows.matrix for rows in fitting]),
            tuple(event for rows in fitting for event in rows.events),
        )
        return others + [joined.part(slice(at, at + MAX_ROWS)) for at in range(0, len(joined.offsets), MAX_ROWS)]

    def score(self, rows: Rows, now_ms: float) -> ScoreBlock | None:
        """The scores of one call; None when no row is worth scoring any more."""
        if reason := self._misfit(rows):
            self.failed += len(rows.offsets)
            errors = tuple(RowError(int(offset), reason) for offset in rows.offsets)
            return ScoreBlock(self._model.name, self._model.version, b"", b"", errors)
        rows = self._live(rows, now_ms)
        if not len(rows.offsets):
            return None
        left_ms = float(rows.deadlines_ms.max()) - now_ms
        # A copy: what was decoded cannot be written to, and some models work in place.
        matrix = rows.matrix if rows.matrix.flags.writeable else rows.matrix.copy()
        return self._block(rows.offsets, Given(matrix, rows.events, left_ms))

    def _misfit(self, rows: Rows) -> str:
        width = rows.matrix.shape[1]
        if width != self._width:
            return f"a row of {width} features; the model takes {self._width}"
        if self._model.takes == "events" and len(rows.events) != len(rows.offsets):
            return "a row without its event, which the model takes: start the router again with this pipeline file"
        return ""

    def _live(self, rows: Rows, now_ms: float) -> Rows:
        alive = rows.deadlines_ms > now_ms
        if self._model.expired == "score" or alive.all():
            return rows
        self.skipped += int(len(alive) - alive.sum())
        return rows.part(alive)

    def _block(self, offsets: np.ndarray, given: Given) -> ScoreBlock:
        scores, reasons = self._score_rows(given)
        self.scored += len(offsets) - len(reasons)
        if not reasons:
            return score_block(self._model.name, self._model.version, offsets, scores)
        self.failed += len(reasons)
        good = np.ones(len(offsets), dtype=bool)
        good[list(reasons)] = False
        errors = tuple(RowError(int(offsets[place]), reason) for place, reason in reasons.items())
        return score_block(self._model.name, self._model.version, offsets[good], scores[good], errors)
