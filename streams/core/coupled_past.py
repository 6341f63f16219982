"""Models that are scored here and need others' scores, in a past that is run again.

Joined by the live coupling: what the archive says of the needed model, or what is scored here for it, goes into the
row. Such a model answers after its stated latency, and not before what it needs was in the log. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from schemas.blocks import Matrix, Offsets, RowError, Rows, ScoreBlock, ScoresBlock, offsets_of, score_block
from schemas.needs import Needing
from schemas.pipeline import Pipeline
from streams.core.coupling import Coupling, Sent
from streams.core.given import Given
from streams.core.scored_past import Scored, by_log_time, scored_block

Made = tuple[str, ScoreBlock, list[tuple[int, ScoreBlock]]]
"""Whose, all of them in one block, and by log time."""


class CoupledPast:
    """Of one way, on one partition; `scored` are all models that are scored here, by name."""

    def __init__(self, pipeline: Pipeline, scored: Mapping[str, Scored]) -> None:
        self._own = _needed_first(pipeline, scored)
        self._columns = {name: _columns(pipeline, name) for name in self._own}
        self._pairs = {
            name: tuple((one, pipeline.model(one).version) for one in pipeline.model(name).needs)
            for name in self._own
        }
        self._couplings = {name: Coupling(pipeline, pipeline.model(name)) for name in self._own}
        self._sent: dict[str, Sent] = {name: Sent() for name in self._own}
        self._needed_ms: dict[str, dict[int, int]] = {name: {} for name in self._own}
        self._asked: dict[int, tuple[int, int]] = {}
        self._settled = 0
        self._chunks = 0

    def __contains__(self, name: str) -> bool:
        """Whether this model waits for others here."""
        return name in self._own

    def requests_seen(
        self, offsets: Offsets, at_ms: Offsets, deadlines_ms: Offsets, matrix: Matrix, events: tuple[bytes, ...]
    ) -> None:
        """Requests with all of the pipeline's columns, in offset order."""
        if not self._own:
            return
        times = zip(at_ms.tolist(), deadlines_ms.tolist(), strict=True)
        self._asked.update(zip(offsets.tolist(), times, strict=True))
        for name, coupling in self._couplings.items():
            rows = Rows(name, offsets, deadlines_ms, matrix[:, self._columns[name]], events)
            needing = Needing(self._own[name].version, self._pairs[name], rows)
            self._keep(name, coupling.rows_offered(needing, self._chunks, float("-inf")))
        self._chunks += 1

    def offered(self, block: ScoresBlock, log_ms: int) -> None:
        """What lies on archived `scores`, or was scored here, and its log time."""
        for name, coupling in self._couplings.items():
            if isinstance(block, ScoreBlock) and block.model in dict(self._pairs[name]):
                needed_ms = self._needed_ms[name]
                for offset in (*offsets_of(block.offsets), *(error.offset for error in block.errors)):
                    if offset >= self._settled:
                        needed_ms[offset] = max(needed_ms.get(offset, 0), log_ms)
            self._keep(name, coupling.scores_offered(block))

    def made(self, known_ms: float) -> Iterator[Made]:
        """Scores of all rows that are whole, and errors of those that waited in vain up to this log time."""
        for name, coupling in self._couplings.items():
            self._keep(name, coupling.due(known_ms))
            sent, self._sent[name] = self._sent[name], Sent()
            if sent.rows or sent.errors:
                block, parts = self._score(name, sent)
                for log_ms, part in parts:
                    self.offered(part, log_ms)
                yield name, block, parts
        self._let_go(known_ms)

    @property
    def remembered(self) -> int:
        """Requests that are not let go of."""
        return len(self._asked)

    def _let_go(self, known_ms: float) -> None:
        """Of requests up to the first whose deadline is still to come every row was sent on or given up."""
        for offset in list(takewhile(lambda offset: self._asked[offset][1] <= known_ms, self._asked)):
            del self._asked[offset]
            for needed_ms in self._needed_ms.values():
                needed_ms.pop(offset, None)
            self._settled = offset + 1

    def _keep(self, name: str, sent: Sent) -> None:
        self._sent[name].rows += sent.rows
        self._sent[name].errors += sent.errors

    def _score(self, name: str, sent: Sent) -> tuple[ScoreBlock, list[tuple[int, ScoreBlock]]]:
        scored, needed_ms = self._own[name], self._needed_ms[name]
        errors = {error.offset: error.reason for block in sent.errors for error in block.errors}
        times = {offset: min(needed_ms.get(offset, 1 << 62), self._asked[offset][1]) for offset in errors}
        block = score_block(name, scored.version, np.zeros(0, np.int64), np.zeros(0))
        parts: list[tuple[int, ScoreBlock]] = []
        if sent.rows:
            offsets, matrix, events = _together(sent.rows)
            for offset in offsets.tolist():
                at_ms, deadline_ms = self._asked[offset]
                times[offset] = max(at_ms + scored.latency_ms, needed_ms.get(offset, 0))
                if needed_ms.get(offset, 0) > deadline_ms:  # the coupler had given it up
                    errors[offset], times[offset] = "what it needs came too late", deadline_ms
            whole = np.array([offset not in errors for offset in offsets.tolist()], dtype=bool)
            given = Given(matrix[whole], tuple(one for one, good in zip(events, whole, strict=True) if good))
            block, failed = scored_block(name, replace(scored, columns=_all(matrix)), offsets[whole], given)
            errors |= failed
            log_ms = np.array([times[offset] for offset in offsets[whole].tolist()], dtype=np.int64)
            parts += by_log_time(block, {}, offsets[whole], log_ms)
        for offset, reason in errors.items():
            parts.append((times[offset], ScoreBlock(name, scored.version, b"", b"", (RowError(offset, reason),))))
        return block, sorted(parts, key=lambda part: part[0])


def _together(rows: Sequence[Rows]) -> tuple[Offsets, Matrix, tuple[bytes, ...]]:
    offsets = np.concatenate([one.offsets for one in rows])
    order = np.argsort(offsets)
    events = tuple(event for one in rows for event in one.events)
    matrix = np.concatenate([one.matrix for one in rows])[order]
    return offsets[order], matrix, tuple(events[place] for place in order) if events else ()


def _all(matrix: Matrix) -> tuple[int, ...]:
    return tuple(range(matrix.shape[1]))


def _columns(pipeline: Pipeline, name: str) -> list[int]:
    known = [feature.name for feature in pipeline.features]
    return [known.index(feature) for feature in pipeline.own_features_of(pipeline.model(name))]


def _needed_first(pipeline: Pipeline, scored: Mapping[str, Scored]) -> dict[str, Scored]:
    """Those that need others, each after those that it needs."""
    found: dict[str, Scored] = {}

    def take(name: str) -> None:
        for needed in pipeline.model(name).needs:
            take(needed)
        if name in scored and pipeline.model(name).needs:
            found.setdefault(name, scored[name])

    for name in scored:
        take(name)
    return found
