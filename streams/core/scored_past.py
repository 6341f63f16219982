"""Archived requests scored here, by a model that is tried: its scores as they would have been appended."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from schemas.blocks import Offsets, RowError, ScoreBlock, score_block
from streams.core.given import Given, ScoreRows


@dataclass(frozen=True, slots=True)
class Scored:
    """A model that is scored here, the columns it is given, and how long its answers take (ms)."""

    version: str
    score_rows: ScoreRows
    columns: tuple[int, ...]
    latency_ms: int


def scored_block(name: str, scored: Scored, offsets: Offsets, given: Given) -> tuple[ScoreBlock, Mapping[int, str]]:
    """The scores of these requests, checked, and why some have none, by offset. Of any size: it is on no topic."""
    columns, matrix = list(scored.columns), given.matrix
    own = matrix if columns == list(range(matrix.shape[1])) else matrix[:, columns]
    scores, reasons = scored.score_rows(Given(own, given.events))
    if not reasons:
        return score_block(name, scored.version, offsets, scores), reasons
    good = np.ones(len(offsets), dtype=bool)
    good[list(reasons)] = False
    failed = {int(offsets[row]): reason for row, reason in reasons.items()}
    return score_block(name, scored.version, offsets[good], scores[good]), failed


def by_log_time(
    block: ScoreBlock, failed: Mapping[int, str], offsets: Offsets, log_ms: Offsets
) -> Iterator[tuple[int, ScoreBlock]]:
    """Scores as the blocks that would have been appended, each at its own time; `log_ms` are those of `offsets`."""
    model, version, packed, scores = block.model, block.version, block.offsets, block.scores
    own = np.frombuffer(packed, dtype="<i8")
    times = log_ms if len(own) == len(offsets) else log_ms[np.searchsorted(offsets, own)]
    starts = [0, *((np.flatnonzero(np.diff(times)) + 1) * 8).tolist(), len(packed)] if len(own) else [0]
    first = times[np.array(starts[:-1], dtype=np.int64) // 8].tolist()
    for start, end, at in zip(starts[:-1], starts[1:], first, strict=True):
        yield at, ScoreBlock(model, version, packed[start:end], scores[start:end])
    for offset, reason in failed.items():
        at = int(log_ms[np.searchsorted(offsets, offset)])
        yield at, ScoreBlock(model, version, b"", b"", (RowError(offset, reason),))
