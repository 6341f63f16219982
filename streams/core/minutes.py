"""What each version of a model did in each minute of the log: with all requests, and by declared fields' values.

Between verdicts the monitor forgets; these can be put together over any span afterwards (`streams.core.minute_sums`).
One minute is open, and a request of a later one ends it. A request costs a few appends: they are counted together, by
numpy, some thousands at a time (measured: 0.7 us for one model's row, 1.1 with two fields). Memory has the one minute
only, however long the log. Pure; probes are not counted.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from schemas.minutes import MINUTE_MS, Minute, MinuteFigures
from schemas.pipeline import ModelKey
from streams.core.blame import FAILED, SKIPPED
from streams.core.buckets import BITS, Integers, buckets_of, packed, summed
from streams.core.event_fields import OTHERS, as_segment
from streams.core.gathering import Gathered
from streams.core.score_figures import MOST_VALUES

FOLD = 4_096
"""Rows (one model's share in one request) that are counted together, or more when as much is counted already."""

BACK = 2
"""Minutes: so far an earlier request still counts in the open one; further back, the broker's clock was set."""

DEEDS = 5
SCORED_, FAILED_, SKIPPED_, LATE_, WON_ = (1 << place for place in range(DEEDS))
"""What a model did with a request: the lower bits of a row's mark, of which the upper ones are the model."""

PLACES = 16
"""Bits: values that are told apart, over all declared fields."""

WHOLE = 0
NONE: Sequence[Minute] = ()


class Tally:
    """How often each code came in this minute: model, place and number, from its upper bits to its lower."""

    def __init__(self) -> None:
        self.codes: Integers = np.empty(0, np.int64)
        self.counts: Integers = np.empty(0, np.int64)

    def add(self, codes: Integers) -> None:
        """These, once each."""
        codes = np.sort(codes)  # several times faster than to order all of it: two runs that rise are merged then
        codes, counts = summed(codes, np.ones(len(codes), np.int64))
        self.codes, self.counts = summed(np.concatenate((self.codes, codes)), np.concatenate((self.counts, counts)))

    def of(self, cell: int) -> tuple[Integers, Integers]:
        """Of one model and place: numbers and counts."""
        first, end = np.searchsorted(self.codes, [cell << BITS, (cell + 1) << BITS])
        return self.codes[first:end] - (cell << BITS), self.counts[first:end]


class Rows:
    """What was not counted yet: a row for each model of each request, and a place for each field of each request."""

    def __init__(self, fields: int) -> None:
        self.marks: list[int] = []
        self.scores: list[float] = []
        self.took_ms: list[float] = []
        self.sizes: list[int] = []
        self.places: list[list[int]] = [[] for _ in range(fields)]


class Minutes:
    """The minute that is open. Of a field the first values that ever came are told apart, as in the verdicts."""

    def __init__(self, segments: Sequence[str] = ()) -> None:
        self.number: int | None = None
        """Of the open minute, since 1970; None as long as nothing was counted in one."""
        self.values: dict[str, dict[str, int]] = {name: {OTHERS: place} for place, name in enumerate(segments, 1)}
        """By field, the place of each value."""
        self._begin()

    def _begin(self) -> None:
        self.models: dict[ModelKey, int] = {}
        self.expected: Mapping[str, str] | None = None
        self.asked: list[tuple[str, int]] = []
        self.rows = Rows(len(self.values))
        self.deeds, self.scores, self.took_ms = Tally(), Tally(), Tally()

    @property
    def due_ms(self) -> float:
        """The log time at which the open minute is over."""
        return float("inf") if self.number is None else float((self.number + 1) * MINUTE_MS)

    def expire(self, until_ms: float) -> Sequence[Minute]:
        """The open minute, when it ends by this log time and all requests before that were taken."""
        if self.number is None or until_ms < self.due_ms:
            return NONE
        found = list(self._told())
        self.number = None
        self._begin()
        return found

    def take(self, one: Gathered) -> Sequence[Minute]:
        """One request, in the order of the log; what it ends."""
        if one.probe is not None or not one.expected:
            return NONE
        ended, number = NONE, one.at_ms // MINUTE_MS
        if number != self.number:
            ended = self._turn(number)
        if one.expected is not self.expected:
            self._expect(one.expected)
        rows, scores, without, took, winner = self.rows, one.scores, one.without, one.took_ms, one.winner
        marks, own_scores, own_took, budget_ms = rows.marks, rows.scores, rows.took_ms, one.budget_ms
        for name, model in self.asked:
            score = scores.get(name)
            if score is None:
                why = without.get(name)
                deed = FAILED_ if why in FAILED else SKIPPED_ if why == SKIPPED else 0
            else:
                took_ms = took.get(name, 0.0)
                deed = SCORED_ if took_ms <= budget_ms else SCORED_ | LATE_
                own_scores.append(score)
                own_took.append(took_ms)
            marks.append(model | deed if name != winner else model | deed | WON_)
        rows.sizes.append(len(self.asked))
        for (field, known), places in zip(self.values.items(), rows.places, strict=True):
            places.append(self._place(known, one.fields.get(field)))
        if len(marks) >= FOLD and len(marks) >= len(self.scores.codes) // 4:
            self.fold()
        return ended

    def _expect(self, expected: Mapping[str, str]) -> None:
        """Requests are asked of the same models, mostly: looked up once, not for each."""
        self.expected = expected
        self.asked = [(key[0], self.models.setdefault(key, len(self.models)) << DEEDS) for key in expected.items()]

    def _turn(self, number: int) -> Sequence[Minute]:
        """A request of another minute than the open one: what it ends."""
        if self.number is not None and self.number - BACK <= number < self.number:
            return NONE
        ended = self.expire(float("inf"))
        self.number = number
        return ended

    def _place(self, known: dict[str, int], given: object) -> int:
        value = given if type(given) is str and given in known else as_segment(given)
        place = known.get(value)
        if place is None:
            if len(known) > MOST_VALUES:
                return known[OTHERS]
            place = known[value] = 1 + sum(map(len, self.values.values()))
        return place

    def fold(self) -> None:
        """Count the rows that wait: what is left is small, and arrays, as a snapshot likes it."""
        rows, self.rows = self.rows, Rows(len(self.values))
        if not rows.marks:
            return
        marks, sizes = np.array(rows.marks, np.int64), np.array(rows.sizes)
        models, deeds = marks >> DEEDS << PLACES, marks & ((1 << DEEDS) - 1)
        scored = (deeds & SCORED_).astype(bool)
        places = [models + WHOLE, *(models + np.repeat(np.array(one), sizes) for one in rows.places)]
        for tally, numbers, chosen in (
            (self.deeds, deeds, slice(None)),
            (self.scores, buckets_of(np.array(rows.scores)), scored),
            (self.took_ms, buckets_of(np.array(rows.took_ms)), scored),
        ):
            tally.add(np.concatenate([(cells[chosen] << BITS) | numbers for cells in places]))

    def _told(self) -> Iterator[Minute]:
        """By version of a model and field, each with its values."""
        assert self.number is not None
        self.fold()
        here = set((self.deeds.codes >> BITS).tolist())
        for (model, version), number in self.models.items():
            for field, known in ({"": {"": WHOLE}} | self.values).items():
                cells = {value: (number << PLACES) | place for value, place in known.items()}
                yield Minute(
                    at_ms=self.number * MINUTE_MS,
                    model=model,
                    version=version,
                    field=field,
                    values={value: self._figures(cell) for value, cell in cells.items() if cell in here},
                )

    def _figures(self, cell: int) -> MinuteFigures:
        deeds, counts = self.deeds.of(cell)

        def count(deed: int) -> int:
            return int(counts[(deeds & deed).astype(bool)].sum())

        return MinuteFigures(
            asked=int(counts.sum()),
            scored=count(SCORED_),
            failed=count(FAILED_),
            skipped=count(SKIPPED_),
            late=count(LATE_),
            won=count(WON_),
            scores=packed(*self.scores.of(cell)),
            took_ms=packed(*self.took_ms.of(cell)),
        )
