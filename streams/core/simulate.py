"""A schedule over archived scores, all requests at once: what `streams.core.past` answers one by one, in columns.

The same events in the same order: a request's timers before what is appended at the same millisecond, scores in the
order of their log. All requests take their first event together, then their second; who is decided drops out. That
it gives the core's answers is tested, not believed (tests/unit/test_simulate.py). Requests that columns cannot do are
answered one by one (`streams.core.one_by_one`); a pipeline that they cannot do is refused, and then the core does it.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Offsets
from schemas.decisions import Outcome
from schemas.pipeline import Pipeline, Role
from streams.core.answers import NOBODY, OUTCOMES, Answered, Answers, Names
from streams.core.column_limits import REJECTED, Bools, alone, own_budgets
from streams.core.lead import leads_of
from streams.core.one_by_one import one_by_one
from streams.core.pending import HAIR_MS
from streams.core.policy import Schedule, schedule_of
from streams.core.recorded import Table

SLICE = 100_000
NEVER = np.inf
PREFERRED, FALLBACK, DEFAULT = (OUTCOMES.index(one) for one in (Outcome.PREFERRED, Outcome.FALLBACK, Outcome.DEFAULT))


def answers(pipeline: Pipeline, base: Pipeline, table: Table, lead_ms: float, names: Names) -> Answers:
    """What the pipeline's schedule answers every request of the table."""
    budgets = own_budgets(table, pipeline, base)
    parts = []
    for start in range(0, len(table.offsets), SLICE):
        rows = slice(start, start + SLICE)
        parts.append(_Slice(pipeline, table, rows, budgets[rows], lead_ms).run(names))
    found = Answers.joined(parts) if parts else Answered(names).rows(table.offsets)
    if len(single := alone(table)):
        own = one_by_one(pipeline, table, single, budgets, lead_ms, names)
        _put(found, single, own.outcome, own.model, own.score, own.used_ms)
    rejected = table.happened.outcome == REJECTED
    _put(found, rejected & (table.repeats == NOBODY), REJECTED, NOBODY, np.nan, 0.0)
    again = np.flatnonzero(table.repeats != NOBODY)
    first = table.repeats[again]
    wait_ms = np.maximum(0.0, table.at_ms[first] + found.used_ms[first] - table.at_ms[again])
    _put(found, again, found.outcome[first], found.model[first], found.score[first], _rounded(wait_ms))
    return found


def _put(
    found: Answers,
    rows: "Bools | Offsets",
    outcome: "int | NDArray[np.int16]",
    model: "int | NDArray[np.int16]",
    score: "float | NDArray[np.float64]",
    used_ms: "float | NDArray[np.float64]",
) -> None:
    found.outcome[rows] = outcome
    found.model[rows] = model
    found.score[rows] = score
    found.used_ms[rows] = used_ms


def _rounded(used_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """As a decision rounds it: numpy's own rounding differs in the last place."""
    values, place = np.unique(used_ms, return_inverse=True)
    return np.array([round(value, 1) for value in values.tolist()])[place] if len(values) else used_ms


class _Slice:
    """Some rows on their way through their events."""

    def __init__(self, pipeline: Pipeline, table: Table, rows: slice, budgets: Offsets, lead_ms: float) -> None:
        self._pipeline = pipeline
        self._schedule: Schedule = schedule_of(pipeline)
        self._models = [model.name for model in pipeline.models if model.role is not Role.DECOY]
        self._at_ms = table.at_ms[rows].astype(np.float64)
        self._budgets = budgets.astype(np.float64)
        self._leads_ms = leads_of(lead_ms, self._budgets)
        self._table = table
        self._rows = rows

    def run(self, names: Names) -> Answers:
        """Every row decided."""
        count = len(self._at_ms)
        kinds, models, times = self._events()
        shape = (count, len(self._models))
        scored, out = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        winner = np.full(count, NOBODY, dtype=np.int64)
        decided_ms = np.full(count, np.nan)
        active = np.arange(count)
        for turn in range(len(kinds) + 1):
            now = np.zeros(len(active)) if not turn else times.at(active, turn - 1)
            live = now < NEVER
            active, now = active[live], now[live]
            if turn:
                event = times.order[active, turn - 1]
                for column, (kind, model) in enumerate(zip(kinds, models, strict=True)):
                    hit = active[event == column]
                    if kind == "score":
                        scored[hit, model] = True
                    elif kind == "out":
                        out[hit, model] |= ~scored[hit, model] | (column >= times.not_asked_from)
            chosen, done = self._choose(active, now, scored[active], out[active])
            winner[active[done]] = chosen[done]
            decided_ms[active[done]] = now[done]
            active = active[~done]
            if not len(active):
                break
        return self._answers(winner, decided_ms, names)

    def _choose(self, rows: Offsets, now: NDArray[np.float64], scored: Bools, out: Bools) -> tuple[Offsets, Bools]:
        budgets = self._budgets[rows]
        share = np.where(now >= budgets - self._leads_ms[rows], 1.0, (now + HAIR_MS) / budgets)
        chosen = np.full(len(rows), NOBODY, dtype=np.int64)
        open_ = np.ones(len(rows), dtype=bool)
        place = {model: number for number, model in enumerate(self._models)}
        for step in self._schedule.steps:
            order = [place[model] for model in step.order]
            for model in order:
                chosen[open_ & (chosen == NOBODY) & scored[:, model]] = model
            open_ &= (share >= step.until) | out[:, order].all(axis=1)
        every = sorted({place[model] for step in self._schedule.steps for model in step.order})
        hopeless = out[:, every].all(axis=1) & out.any(axis=1)
        return chosen, (chosen != NOBODY) | (share >= 1) | hopeless

    def _events(self) -> tuple[list[str], list[int], "_Times"]:
        """Columns of events: timers first, so that they go first at the same time."""
        kinds: list[str] = []
        models: list[int] = []
        columns: list[NDArray[np.float64]] = []
        positions: list[Offsets] = []
        for step in self._schedule.steps:
            if step.until < 1:
                kinds.append("timer")
                columns.append(self._at_ms + step.until * self._budgets - self._at_ms)
        kinds.append("timer")
        deadline_ms = self._at_ms + self._budgets - self._leads_ms - self._at_ms
        columns.append(deadline_ms)
        models += [NOBODY] * len(kinds)
        positions += [np.full(len(self._at_ms), NOBODY, dtype=np.int64)] * len(kinds)
        not_asked_from = len(kinds)
        for kind, source in (
            ("score", self._table.scores),
            ("out", self._table.failed),
            ("out", self._table.not_asked),
        ):
            not_asked_from = len(kinds)
            for number, model in enumerate(self._models):
                if model in source:
                    score, log_ms, position = source[model]
                    kinds.append(kind)
                    models.append(number)
                    columns.append(np.where(np.isnan(score[self._rows]), NEVER, log_ms[self._rows] - self._at_ms))
                    positions.append(position[self._rows])
        return kinds, models, _Times(np.stack(columns, axis=1), np.stack(positions, axis=1), not_asked_from)

    def _answers(self, winner: Offsets, decided_ms: NDArray[np.float64], names: Names) -> Answers:
        champions = [model.name for model in self._pipeline.models if model.role is Role.CHAMPION]
        default = self._pipeline.default.score
        found = Answers(
            np.full(len(winner), DEFAULT, dtype=np.int16),
            np.full(len(winner), NOBODY, dtype=np.int16),
            np.full(len(winner), np.nan if default is None else default),
            _rounded(decided_ms),
        )
        for number, model in enumerate(self._models):
            rows = winner == number
            if rows.any():
                found.outcome[rows] = PREFERRED if model in champions else FALLBACK
                found.model[rows] = names.code(model)
                found.score[rows] = self._table.scores[model][0][self._rows][rows]
        return found


class _Times:
    """Events of every row, in their order."""

    def __init__(self, times: NDArray[np.float64], positions: Offsets, not_asked_from: int) -> None:
        by_position = positions.argsort(axis=1, kind="stable")
        in_log = np.take_along_axis(times, by_position, axis=1)
        by_time = in_log.argsort(axis=1, kind="stable")
        self.order = np.take_along_axis(by_position, by_time, axis=1)
        self.not_asked_from = not_asked_from
        self._sorted = np.take_along_axis(times, self.order, axis=1)

    def at(self, rows: Offsets, turn: int) -> NDArray[np.float64]:
        """When these rows' next event is."""
        found: NDArray[np.float64] = self._sorted[rows, turn]
        return found
