"""What each watched field of the newest requests was, in figures: missing, of another type, new, and its values.

How often a value is a word of the reference, or fits nothing, is in the sums that verdicts are made of. Numbers are
read again from the requests, which are still remembered: a quantile is exact however far a field has moved. Pure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.blocks import Matrix
from schemas.verdicts import FieldFigures
from streams.core.event_fields import as_segment
from streams.core.quantiles import quantiles_of
from streams.core.verdicts.events import numbers
from streams.core.verdicts.fields import NONE, Column
from streams.core.verdicts.ring import Ring

MOST_WORDS = 5
"""Words of a field that are told, the most frequent first."""


def fields_of(ring: Ring | None) -> dict[str, FieldFigures]:
    """By name, of the last 1,000 requests in whole blocks; none without a reference, or before the first block."""
    kept = [block for block in ring.blocks if block.events] if ring is not None else []
    if ring is None or not kept:
        return {}
    rows = [event.features for block in kept for event in block.events]
    sums: dict[str, Matrix] = {
        name: np.sum([block.sums[name] for block in kept], axis=0) for name in ("bins", "odd", "unseen", "outside")
    }
    found = {}
    for place, column in enumerate(ring.reference.fields):
        bins, odd = sums["bins"][place], sums["odd"][place]
        found[column.name] = FieldFigures(
            requests=len(rows),
            nulls=round(float(bins[NONE] - odd) / len(rows), 6),
            other_type=round(float(odd) / len(rows), 6),
            new=round(float(sums["unseen"][place]) / len(rows), 6),
            outside=round(float(sums["outside"][place]) / len(rows), 6),
            quantiles=_quantiles([row.get(column.name) for row in rows]) if column.kind == "number" else {},
            words=_words(column, bins / len(rows)) if column.kind == "category" else {},
        )
    return found


def _quantiles(values: Sequence[Any]) -> dict[str, float]:
    found, _ = numbers(values)
    return quantiles_of(found[~np.isnan(found)])


def _words(column: Column, share: Matrix) -> dict[str, float]:
    """Words that the reference did not tell apart, and new ones, are `OTHERS` together."""
    frequent = np.argsort(-share[:NONE], kind="stable")[:MOST_WORDS]
    return {as_segment(column.labels[place]): round(float(share[place]), 6) for place in frequent if share[place]}
