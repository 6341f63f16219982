"""The reference's own windows, each against the rest: how restless quiet data is, and what time of day explains."""

import numpy as np
from msgspec.structs import replace

from schemas.blocks import Matrix
from streams.core.verdicts.daytime import COVERED_DAYS, DAY_MS
from streams.core.verdicts.reference import SCALES, WINDOW, Reference
from streams.core.verdicts.sums import Sums
from streams.core.verdicts.thresholds import thresholds

DEARER = 1.35  # what a smaller reference costs: the same change has a smaller z


def calibrated(reference: Reference, spans_ms: float) -> Reference:
    """The reference with thresholds; a statistic is held against the same time of day where that is calmer."""
    count = len(reference.vectors)
    never = np.zeros(reference.shifts.size, bool)
    whole = _own_windows(replace(reference, by_clock=never))
    by_clock, seen = never, whole
    if spans_ms >= COVERED_DAYS * DAY_MS:
        matched = _own_windows(replace(reference, by_clock=~never))
        plain, clocked = (thresholds(reference.shifts, found, count).of for found in (whole, matched))
        gain = np.prod([plain[blocks] / clocked[blocks] for blocks in SCALES[:2]], axis=0)
        by_clock = gain > DEARER**2
        seen = {blocks: np.where(by_clock, matched[blocks], whole[blocks]) for blocks in SCALES}
    return replace(reference, by_clock=by_clock, thresholds=thresholds(reference.shifts, seen, count, by_clock))


def _own_windows(reference: Reference) -> dict[int, Matrix]:
    """Z of the reference's windows of each length: {blocks: (windows, statistics)}.

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
            rows.append(reference.z(live, reference.beside(reference.daytimes[part].tolist(), part), part))
        found[blocks] = np.array(rows) if rows else np.empty((0, reference.shifts.size))
    return found
