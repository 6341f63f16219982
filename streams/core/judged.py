"""Requests of a range held against their labels: every model's measures, by day of the decision and by segment.

A day (UTC) is `open` while the archive does not reach an hour beyond its end, then `provisional` until its labels are
mature (`[labels]` in the pipeline file says when that is), then `mature`. Only mature days are stored for ever.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from schemas.pipeline import LabelSettings, ModelKey
from streams.core.event_fields import OTHERS
from streams.core.labels import Truths
from streams.core.measures import Measures, measures
from streams.core.races import Races

DAY_MS = 86_400_000
SETTLE_MS = 3_600_000
"""How long after a day's end its last decisions and the archive's last files may come."""

HAIR = 1e-9
"""0.8 * 0.9 * 200 is a hair more than 144."""

MOST_VALUES = 50
DECISION: ModelKey = ("(decision)", "")
"""What was answered, whoever did."""

State = Literal["open", "provisional", "mature", "range"]
Bools = NDArray[np.bool_]


class Judged(Struct, frozen=True, kw_only=True):
    """One model in one group of requests. `day` is empty for the whole range, `field` for all its requests.

    `requests` could be read; `labelled` of them have a label, `coverage` is their share. `threshold` is the one by
    which accuracy and cost were taken. `stored` says that the figures were read, not computed now.
    """

    day: str
    field: str
    value: str
    state: State
    requests: int
    labelled: int
    coverage: float | None
    threshold: float
    model: str
    version: str
    measures: Measures
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds requests against labels; `reached_ms` is how far the archive's log times reach."""

    races: Races
    truths: Truths
    settings: LabelSettings
    reached_ms: int

    def days(self) -> list[int]:
        """Days with decisions, as numbers since 1970."""
        found: list[int] = np.unique(self.races.decided_ms // DAY_MS).tolist()
        return found

    def state(self, day: int) -> State:
        """How far the labels of a day are."""
        end_ms = (day + 1) * DAY_MS
        if self.reached_ms < over_ms(day):
            return "open"
        rows = self._asked(self.races.decided_ms // DAY_MS == day)
        wanted = self.settings.expected * self.settings.mature_share * int(rows.sum())
        come = int((rows & self.truths.known).sum())
        late = self.reached_ms >= end_ms + self.settings.mature_days * DAY_MS
        return "mature" if late or come >= wanted - HAIR else "provisional"

    def of_day(self, day: int, field: str) -> list[Judged]:
        """Every model over one day: all its requests, or split by a field."""
        rows = self.races.decided_ms // DAY_MS == day
        return list(self._groups(day_name(day), self.state(day), rows, field))

    def of_range(self, field: str) -> list[Judged]:
        """Every model over the whole range, as labels are now."""
        return list(self._groups("", "range", np.ones(len(self.races), dtype=bool), field))

    def scored(self, day: int) -> Iterator[tuple[ModelKey, Matrix]]:
        """Every model's scores of one day, labelled or not."""
        rows = self._asked(self.races.decided_ms // DAY_MS == day)
        for key, scores in self._columns().items():
            own = scores[rows]
            yield key, own[~np.isnan(own)]

    def _groups(self, day: str, state: State, rows: Bools, field: str) -> Iterator[Judged]:
        rows = self._asked(rows)
        for value, own in self._split(rows, field):
            count, labelled = int(own.sum()), int((own & self.truths.known).sum())
            for (model, version), scores in self._columns().items():
                found = measures(
                    scores[own],
                    self.truths.truth[own],
                    self.truths.weight[own],
                    self.settings.threshold,
                    self.settings.costs,
                )
                if not found.scored:
                    continue
                yield Judged(
                    day=day,
                    field=field,
                    value=value,
                    state=state,
                    requests=count,
                    labelled=labelled,
                    coverage=round(labelled / count, 6) if count else None,
                    threshold=self.settings.threshold,
                    model=model,
                    version=version,
                    measures=found,
                )

    def _columns(self) -> Mapping[ModelKey, Matrix]:
        return {DECISION: self.races.answers.score, **self.races.scores}

    def _asked(self, rows: Bools) -> Bools:
        return rows & self.races.asked

    def _split(self, rows: Bools, field: str) -> Iterator[tuple[str, Bools]]:
        """The rows by the values of a field, the most frequent ones first; rare ones together."""
        if not field:
            yield "", rows
            return
        codes = self.races.segments[field]
        words = list(self.races.values[field])
        found, counts = np.unique(codes[rows], return_counts=True)
        ranked = sorted(
            zip(counts.tolist(), found.tolist(), strict=True), key=lambda pair: (-pair[0], words[pair[1]])
        )
        for _, code in ranked[:MOST_VALUES]:
            yield words[code], rows & (codes == code)
        if rest := [code for _, code in ranked[MOST_VALUES:]]:
            yield OTHERS, rows & np.isin(codes, rest)


def over_ms(day: int) -> int:
    """When a day is over, and its last decisions are in the archive."""
    return (day + 1) * DAY_MS + SETTLE_MS


def look_again_ms(day: int, now_ms: float, mature_days: float) -> float:
    """When a day that was not mature is worth another look: a quarter older, or when `mature_days` are over.

    Looking costs all of the day's requests; so a day is read some thirty times in a month, not seven hundred.
    """
    end_ms = (day + 1) * DAY_MS
    late_ms = over_ms(day) + mature_days * DAY_MS
    again_ms = end_ms + 1.25 * (now_ms - end_ms)
    return min(again_ms, late_ms) if now_ms < late_ms else again_ms


def day_name(day: int) -> str:
    """A day as people write it: 2026-11-26."""
    return str(np.datetime64(day, "D"))
