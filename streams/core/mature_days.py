"""The mature figures of labels that lie on `quality`, as the monitor says them beside each verdict.

A change of what is true, with the same input and the same scores, shows in labels alone; and these come weeks later.
So it is no alarm: it is said of the last mature day of each model, whatever the verdict, for whoever asks why a model
is worse than it was.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from msgspec import Struct, json
from msgspec.structs import replace

from schemas.errors import UNREADABLE
from schemas.pipeline import ModelKey
from schemas.verdicts import OfLabels, Reported, Share
from streams.core.intervals import Z95, Estimate, share_of
from streams.core.judged import DECISION

BEFORE = 28
"""Days before the last one that it is held against: seasons are older."""


class _Measured(Struct, frozen=True):
    labelled: int
    accuracy: Estimate


class _Told(Struct, frozen=True):
    """What is read of a record of `quality`."""

    day: str
    field: str
    model: str
    version: str
    measures: _Measured


_decode = json.Decoder(_Told).decode


class MatureDays(Struct, frozen=True):
    """How often each version of a model was right on its last mature days, by day; `read` is the next offset.

    `strange` counts records that are no figures. What is split by a field is left out.
    """

    days: Mapping[ModelKey, Mapping[str, _Measured]] = {}
    read: int = 0
    strange: int = 0

    def after(self, value: bytes | None, offset: int) -> "MatureDays":
        """The same with the next record; a day that is told again is told in the same words."""
        known = replace(self, read=offset + 1)
        try:
            told = _decode(value or b"")
        except UNREADABLE:
            return replace(known, strange=self.strange + 1)
        if told.field or told.measures.accuracy.value is None:
            return known
        key = told.model, told.version
        days = sorted({**self.days.get(key, {}), told.day: told.measures}.items())[-1 - BEFORE :]
        return replace(known, days={**self.days, key: dict(days)})

    def last_of(self, models: Collection[str]) -> Iterator[OfLabels]:
        """Of each of these names its last mature day, of the version that had the later one."""
        found = sorted((key[0], max(days), key[1]) for key, days in self.days.items() if key[0] in models)
        for model, days in groupby(found, key=lambda one: one[0]):
            *_, (_, day, version) = days
            yield _of_day(model, version, self.days[model, version], day)


NO_DAYS = MatureDays()


def with_labels(report: Reported, known: MatureDays, models: Collection[str]) -> Reported:
    """The verdict with the last mature day of these models and of what was answered; a worse one is a notice."""
    found = list(known.last_of({*models, DECISION[0]}))
    notes = [_notice(one) for one in found if one.worse]
    if known.strange:
        notes.append(f"{known.strange:,} records of quality are no figures: passed over")
    return replace(report, evidence=replace(report.evidence, labels=found), notes=[*report.notes, *notes])


def _of_day(model: str, version: str, days: Mapping[str, _Measured], day: str) -> OfLabels:
    last, past = days[day], [one for name, one in days.items() if name < day]
    now, before = _share(last.accuracy), _together(past)
    return OfLabels(
        model=model,
        version=version,
        day=day,
        labelled=last.labelled,
        accuracy=now,
        days_before=len(past),
        before=before,
        worse=before is not None and now.high < before.low,
    )


def _share(found: Estimate) -> Share:
    assert found.value is not None
    return Share(found.value, found.low or 0.0, 1.0 if found.high is None else found.high)


def _together(days: Sequence[_Measured]) -> Share | None:
    """The days as one, by their labels; its interval is at least as wide as single days lie apart.

    Days of weather, or of one customer, differ more than chance lets single requests differ: without this every
    tenth day would be a bad one.
    """
    if not days:
        return None
    right = np.array([one.accuracy.value for one in days], np.float64)
    rows = np.array([one.labelled for one in days], np.float64)
    found = _share(share_of(float(np.average(right, weights=rows)), float(rows.sum())))
    apart = Z95 * float(right.std(ddof=1)) if len(days) > 1 else 0.0
    low, high = min(found.low, found.value - apart), max(found.high, found.value + apart)
    return Share(found.value, round(max(0.0, low), 6), round(min(1.0, high), 6))


def _notice(one: OfLabels) -> str:
    assert one.before is not None
    name = "what was answered" if one.model == DECISION[0] else f"{one.model} {one.version}"
    days = "the mature day" if one.days_before == 1 else f"{one.days_before} mature days"
    return (
        f"by its labels {name} was right less often on {one.day} than before: {_said(one.accuracy)} "
        f"of {one.labelled:,}, and {_said(one.before)} on {days} before"
    )


def _said(found: Share) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
