"""Rows -> scores: what one model is given, in which order, and what is made of what it returns."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from schemas.blocks import MAX_ROWS, RowError, Rows, ScoreBlock, score_block
from schemas.pipeline import LateRows, Model, Pipeline, Role
from streams.core.entitlement import PerSpan, Spans
from streams.core.given import Given, ScoreRows
from streams.core.suspects import Suspects

RECENT = 0.2
HASTE = 0.5
"""The share of the most urgent row's time left that one call may be expected to take."""
DOUBT = 0.25
"""The share of the budget that a row is expected to take at most: else one slow call would end all others untried."""
SPARE = 0.5
"""There is time for rows that are late when all that waits would be scored within this share of the budget."""


class Scoring:
    """One model at work: joins blocks, puts rows in order, leaves out what is too late, packs scores.

    Pure: times (ms, broker's clock) are arguments, and what a call costs is told by `took`.
    """

    def __init__(
        self,
        model: Model,
        width: int,
        score_rows: ScoreRows,
        *,
        budget_ms: int = 200,
        suspects: Suspects | None = None,
    ) -> None:
        self.skipped = 0
        self.scored = 0
        self.failed = 0
        self.model = model
        self.budget_ms = budget_ms
        self.row_ms = 0.0
        self.suspects = suspects or Suspects()
        self._width = width
        self._score_rows = score_rows
        self._by_role: PerSpan[LateRows] | None = None

    def entitle(self, spans: Spans) -> None:
        """More of the roster is known: its role, and with it what becomes of late rows, is that of the hour."""
        if self._by_role is None:
            self._by_role = PerSpan(spans, self._late_rows_in)
        self._by_role.follow(spans)

    def late_rows(self, now_ms: float) -> LateRows:
        """What becomes of late rows at this time; as the model began, until the roster is known."""
        return self._by_role.at(now_ms) if self._by_role else self.model.late_rows

    def _late_rows_in(self, pipeline: Pipeline) -> LateRows:
        """Who is not asked for its name (the version beside, one that is retired) only watches."""
        own = (self.model.name, self.model.version)
        roles = (model.role for model in pipeline.models if (model.name, model.version) == own)
        return replace(self.model, role=next(roles, Role.SHADOW)).late_rows

    def score(self, blocks: Sequence[Rows], now_ms: float) -> list[ScoreBlock]:
        """Score the rows of one partition together, as if it took no time."""
        work = self.work(blocks)
        found = list(work.refused)
        while (rows := work.take(now_ms)) is not None:
            found.append(self.block(rows, now_ms))
        return found

    def work(self, blocks: Sequence[Rows], partition: int = 0, waiting: int = 0) -> "Work":
        """The rows of one partition together: a model is cheap per row, dear per call. `waiting` rows follow."""
        fitting = [rows for rows in blocks if not self._misfit(rows)]
        refused = [self._refuse(rows, misfit) for rows in blocks if (misfit := self._misfit(rows))]
        return Work(self, _together(fitting, self.model.name, self._width), refused, partition, waiting)

    def block(self, rows: Rows, now_ms: float) -> ScoreBlock:
        """The scores of at most 256 rows.

        A row that is scored although it is late has a budget's time, as it had at first.
        """
        offsets = rows.offsets
        left_ms = float(rows.deadlines_ms.max()) - now_ms
        # A copy: what was decoded cannot be written to, and some models work in place.
        matrix = rows.matrix if rows.matrix.flags.writeable else rows.matrix.copy()
        given = Given(matrix, rows.events, left_ms if left_ms > 0 else float(self.budget_ms))
        scores, reasons = self._score_rows(given)
        self.scored += len(offsets) - len(reasons)
        if not reasons:
            return score_block(self.model.name, self.model.version, offsets, scores)
        self.failed += len(reasons)
        good = np.ones(len(offsets), dtype=bool)
        good[list(reasons)] = False
        errors = tuple(RowError(int(offsets[place]), reason) for place, reason in reasons.items())
        return score_block(self.model.name, self.model.version, offsets[good], scores[good], errors)

    def took(self, elapsed_ms: float, rows: int) -> None:
        """How long the scores of this many rows took: an average over the last few calls."""
        self.row_ms += RECENT * (elapsed_ms / rows - self.row_ms)

    def refusal(self, errors: Sequence[RowError]) -> ScoreBlock:
        """Rows that the model is not given."""
        self.failed += len(errors)
        return ScoreBlock(self.model.name, self.model.version, b"", b"", tuple(errors))

    def _misfit(self, rows: Rows) -> str:
        if rows.matrix.shape[1] != self._width:
            return f"a row of {rows.matrix.shape[1]} features; the model takes {self._width}"
        if self.model.takes == "events" and len(rows.events) != len(rows.offsets):
            return "a row without its event, which the model takes: start the router again with this pipeline file"
        return ""

    def _refuse(self, rows: Rows, reason: str) -> ScoreBlock:
        return self.refusal([RowError(int(offset), reason) for offset in rows.offsets])


class Work:
    """Rows of one partition that wait for one model: who can make it first, by deadline; late ones as it wants them.

    `refused` are answers that need no model; `condemned` the rows, one at a time, that have ended too many processes.
    """

    def __init__(self, scoring: Scoring, rows: Rows, refused: list[ScoreBlock], partition: int, waiting: int) -> None:
        self.refused = refused
        self.condemned: list[tuple[Rows, str]] = []
        self._scoring = scoring
        self._waiting = waiting
        self._all = scoring.model.late_rows == "score"  # in every role
        self._at = 0
        self._alone: frozenset[int] = frozenset()
        if scoring.suspects:
            rows = self._without_condemned(rows, partition)
        self._rows = rows if self._all else _by_deadline(rows)
        self._count = len(self._rows.offsets)
        self._late: list[Rows] = []
        if scoring.suspects:
            self._alone = frozenset(scoring.suspects.of(partition, self._rows.offsets.tolist()))

    def take(self, now_ms: float) -> Rows | None:
        """The rows to score next, at once; None when nothing is left to do."""
        if not self._all and self._at < self._count:
            self._put_late_ones_aside(now_ms)
        if self._at < self._count:
            return self._next(self._fitting(now_ms))
        return self._next_late()

    def _put_late_ones_aside(self, now_ms: float) -> None:
        """They stand in front: the rows are in the order of their deadlines."""
        scoring = self._scoring
        ready_ms = now_ms + min(scoring.row_ms, DOUBT * scoring.budget_ms)
        if self._rows.deadlines_ms[self._at] > ready_ms:
            return
        end = int(np.searchsorted(self._rows.deadlines_ms, ready_ms, side="right"))
        if scoring.late_rows(now_ms) == "skip":
            scoring.skipped += end - self._at
        else:
            while self._at < end:
                self._late.append(self._next(end - self._at))
        self._at = end

    def _fitting(self, now_ms: float) -> int:
        """How many rows one call may take, so that the most urgent one is in time."""
        if self._all:
            return MAX_ROWS
        time_ms = HASTE * (float(self._rows.deadlines_ms[self._at]) - now_ms)
        if time_ms >= MAX_ROWS * self._scoring.row_ms:
            return MAX_ROWS
        return max(1, int(time_ms / self._scoring.row_ms))

    def _next(self, most: int) -> Rows:
        """The rows from here on; a suspect comes alone."""
        start = self._at
        end = min(start + min(most, MAX_ROWS), self._count)
        if end - start == self._count and not self._alone:
            self._at = end
            return self._rows
        if self._alone:
            others = (place for place in range(start, end) if place in self._alone)
            end = start + 1 if start in self._alone else min(others, default=end)
        self._at = end
        return self._rows.part(slice(start, end))

    def _next_late(self) -> Rows | None:
        scoring = self._scoring
        if not self._late:
            return None
        late = sum(len(rows.offsets) for rows in self._late)
        if (late + self._waiting) * scoring.row_ms > SPARE * scoring.budget_ms:
            scoring.skipped += late
            self._late.clear()
        return self._late.pop(0) if self._late else None

    def _without_condemned(self, rows: Rows, partition: int) -> Rows:
        found = self._scoring.suspects.of(partition, rows.offsets.tolist())
        condemned = {place: suspect for place, suspect in found.items() if suspect.condemned}
        if not condemned:
            return rows
        self.condemned = [(rows.part([place]), str(suspect)) for place, suspect in condemned.items()]
        errors = [RowError(suspect.offset, str(suspect)) for suspect in condemned.values()]
        self.refused.append(self._scoring.refusal(errors))
        good = np.ones(len(rows.offsets), dtype=bool)
        good[list(condemned)] = False
        return rows.part(good)


def _together(blocks: Sequence[Rows], model: str, width: int) -> Rows:
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        return Rows(model, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, width)))
    return Rows(
        model,
        np.concatenate([rows.offsets for rows in blocks]),
        np.concatenate([rows.deadlines_ms for rows in blocks]),
        np.concatenate([rows.matrix for rows in blocks]),
        tuple(event for rows in blocks for event in rows.events),
    )


def _by_deadline(rows: Rows) -> Rows:
    """The most urgent first; equals as they are in the log."""
    deadlines = rows.deadlines_ms
    if len(deadlines) < 2 or (deadlines[1:] >= deadlines[:-1]).all():
        return rows
    return rows.part(np.argsort(deadlines, kind="stable"))
