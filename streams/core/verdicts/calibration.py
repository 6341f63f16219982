"""The reference's own windows, each against the rest: how restless quiet data is, and whether time of day explains it."""

import numpy as np
from msgspec.structs import replace

from schemas.blocks import Matrix
from streams.core.verdicts.daytime import COVERED_DAYS, DAY_MS
from streams.core.verdicts.reference import SCALES, WINDOW, Reference
from streams.core.verdicts.sums import Sums
from streams.core.verdicts.thresholds import thresholds

CALMER = 0.9


def calibrated(reference: Reference, spans_ms: float) -> Reference:
    """The reference with thresholds; held against the same time of day where that makes quiet days calmer."""
    found = _own_windows(reference)
    if spans_ms >= COVERED_DAYS * DAY_MS:
        by_daytime = replace(reference, matched=True)
        matched = _own_windows(by_daytime)
        if _restless(matched) < CALMER * _restless(found):
            reference, found = by_daytime, matched
    return replace(reference, thresholds=thresholds(reference.shifts, found, len(reference.vectors)))


def _own_windows(reference: Reference) -> dict[int, Matrix]:
    """z of the reference's windows of each length: {blocks: (windows, statistics)}.

    They overlap by three quarters: a window that straddles two days is another thing than one that is a day.
    """
    count = len(reference.vectors)
    layout = reference.summing.layout
    found: dict[int, Matrix] = {}
    for blocks in SCALES:
        rows = []
        for start in range(0, count - blocks + 1, max(blocks // WINDOW, 1)):
            part = slice(start, start + blocks)
            live = Sums(layout, reference.vectors[part].sum(0))
            usual = reference.beside(reference.daytimes[part], without=part)
            rows.append(reference.shifts.of(live, usual, reference.whole(without=part)))
        found[blocks] = np.array(rows) if rows else np.empty((0, reference.shifts.size))
    return found


def _restless(found: dict[int, Matrix]) -> float:
    """The upper spread among the statistics of short windows."""
    spread = np.sqrt(np.mean(found[SCALES[0]] ** 2, 0))
    return float(np.quantile(spread[spread > 0], 0.9)) if (spread > 0).any() else 1.0
