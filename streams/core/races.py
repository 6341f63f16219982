"""What every request of a range was asked, scored and answered, in columns: for all models, winner or not.

A race is one request: who answered, why, after how long, and what each model (of each version that was live) scored,
in time or late. A row is one request of one partition, in offset order. Reads no clock and no file.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from schemas.blocks import Matrix, NotAskedBlock, Offsets, ScoreBlock, ScoresBlock, pack_offsets
from schemas.decisions import Outcome, Ticket
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import ModelKey
from streams.core.answers import NOBODY, OUTCOMES, Answered, Answers, Codes, Names, ScoreColumn, places
from streams.core.event_fields import LARGEST, as_segment, value_at

REJECTED = OUTCOMES.index(Outcome.REJECTED)
NUMBERS = re.compile(r" by \d+ % of the budget|: .*")


class Told(Struct, frozen=True, gc=False):
    """What this needs of a decision; the rest is not decoded."""

    request_id: str
    ticket: Ticket
    outcome: Literal["preferred", "fallback", "default", "rejected"]
    final: bool
    model: str | None
    score: float | None
    budget_ms: int
    missing: list[str] = []
    reason: str = ""
    duplicate_of: Ticket | None = None
    probe: bool = False


_decode = json.Decoder(Told).decode


def decode_told(value: bytes | None) -> Told:
    """Read a decision; raises UnreadableRecord when it is none."""
    try:
        return _decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a decision: {error}") from error


def way_of(told: Told) -> str:
    """Who answered and why, without the numbers of the single case: what shares are counted by."""
    if told.duplicate_of is not None:
        return "a repeat: its first one's answer"
    if told.outcome == "rejected":
        return "rejected: it could not be read"
    if told.outcome == "default":
        return "default: no score in time" if told.missing else "default: every model failed or was passed over"
    if told.outcome == "preferred":
        return f"{told.model}, as wanted"
    why = NUMBERS.sub("", told.reason.partition(";")[0])
    return f"{told.model}: {why}" if why else f"{told.model}, as a fallback"


@dataclass(frozen=True, slots=True)
class Races:
    """n requests. `answers.used_ms` is from raw's log time to that of the decision, NaN without one.

    `scores` and `took_ms` are NaN where a model has not scored; `took_ms` is from raw's log time to the score's.
    Scores beyond plus and minus `LARGEST` are that: sums and spans of what is larger are no numbers any more.
    `ways` are numbers into `way_names`; `failed` and `not_asked` say for which requests a model had no score, and
    why. `decided_ms` is the decision's log time, else that of the request; `decision_at` where it lies, NOBODY
    without one. `segments` are the event's own fields, by number; `values` has the numbers of a field's values.
    """

    partitions: Offsets
    offsets: Offsets
    ids: list[str]
    at_ms: Offsets
    budgets_ms: Offsets
    decided_ms: Offsets
    decision_at: Offsets
    answers: Answers
    ways: Codes
    way_names: Names
    names: Names
    scores: Mapping[ModelKey, Matrix]
    took_ms: Mapping[ModelKey, Matrix]
    failed: Mapping[str, NDArray[np.bool_]]
    not_asked: Mapping[str, NDArray[np.bool_]]
    segments: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        """Requests."""
        return len(self.ids)

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Requests that have an answer, be it `rejected`."""
        return self.answers.outcome != NOBODY

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Requests that could be read: those a model could have scored."""
        return self.answers.outcome != REJECTED

    def only(self, rows: NDArray[np.bool_]) -> "Races":
        """Some of the rows."""

        def columns(found: Mapping[Any, NDArray[Any]]) -> dict[Any, NDArray[Any]]:
            return {key: column[rows] for key, column in found.items()}

        return Races(
            self.partitions[rows],
            self.offsets[rows],
            list(compress(self.ids, rows)),
            self.at_ms[rows],
            self.budgets_ms[rows],
            self.decided_ms[rows],
            self.decision_at[rows],
            self.answers.only(rows),
            self.ways[rows],
            self.way_names,
            self.names,
            columns(self.scores),
            columns(self.took_ms),
            columns(self.failed),
            columns(self.not_asked),
            columns(self.segments),
            self.values,
        )

    @classmethod
    def joined(cls, parts: Sequence["Races"]) -> "Races":
        """Partitions one after the other; they share their names."""

        def column(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        def columns(name: str, empty: float) -> dict[Any, NDArray[Any]]:
            keys = sorted({key for part in parts for key in getattr(part, name)})
            return {
                key: np.concatenate([getattr(part, name).get(key, np.full(len(part), empty)) for part in parts])
                for key in keys
            }

        def flags(name: str) -> dict[str, NDArray[np.bool_]]:
            return {key: found.astype(bool) for key, found in columns(name, 0).items()}

        return Races(
            column("partitions"),
            column("offsets"),
            [request_id for part in parts for request_id in part.ids],
            column("at_ms"),
            column("budgets_ms"),
            column("decided_ms"),
            column("decision_at"),
            Answers.joined([part.answers for part in parts]),
            column("ways").astype(np.int16),
            parts[0].way_names,
            parts[0].names,
            columns("scores", np.nan),
            columns("took_ms", np.nan),
            flags("failed"),
            flags("not_asked"),
            columns("segments", NOBODY),
            parts[0].values,
        )


class Racing:
    """One partition's records on their way into columns; what is shared by all partitions is given.

    `values` has an empty table for each field of the event that is kept.
    """

    def __init__(self, partition: int, names: Names, ways: Names, values: Mapping[str, dict[str, int]]) -> None:
        self._partition = partition
        self._names = names
        self._way_names = ways
        self._values = values
        self._segments = {field: array("q") for field in values}
        self._paths = {field: tuple(field.split(".")) for field in values}
        self._offsets, self._at_ms = array("q"), array("q")
        self._outcomes: list[Outcome] = []
        self._models: list[str | None] = []
        self._said, self._log_ms = array("d"), array("d")
        self._ids: list[str] = []
        self._tickets, self._budgets_ms, self._ways = array("q"), array("q"), array("h")
        self._positions = array("q")
        self._scores: dict[ModelKey, ScoreColumn] = {}
        self._failed: dict[str, ScoreColumn] = {}
        self._not_asked: dict[str, ScoreColumn] = {}
        self._probes: set[int] = set()

    def request_seen(self, offset: int, at_ms: int, value: bytes | None = None) -> None:
        """A raw record, in offset order; its value is needed for fields that are kept."""
        self._offsets.append(offset)
        self._at_ms.append(at_ms)
        if self._segments:
            event = _event(value)
            for field, column in self._segments.items():
                codes = self._values[field]
                named = as_segment(value_at(event, self._paths[field]))
                column.append(codes.setdefault(named, len(codes)))

    def decided(self, told: Told, position: int, log_ms: int) -> None:
        """A decision that lies at `position`, in the order of their log; of a ticket, the first final one counts."""
        if not told.final:
            return
        if told.probe:
            self._probes.add(told.ticket.offset)
        self._outcomes.append(Outcome(told.outcome))
        self._models.append(told.model)
        self._said.append(np.nan if told.score is None else told.score)
        self._log_ms.append(log_ms)
        self._ids.append(told.request_id)
        self._tickets.append(told.ticket.offset)
        self._positions.append(position)
        self._budgets_ms.append(told.budget_ms)
        self._ways.append(self._way_names.code(way_of(told)))

    def scores_offered(self, position: int, log_ms: int, block: ScoresBlock) -> None:
        """What lies on `scores`, in its order; of a ticket, a model's first score counts."""
        if isinstance(block, ScoreBlock):
            column = self._scores.setdefault((block.model, block.version), ScoreColumn())
            column.take(block, position, log_ms)
            if block.errors:
                offsets = pack_offsets([error.offset for error in block.errors])
                self._note(self._failed, block.model, offsets, position, log_ms)
        elif isinstance(block, NotAskedBlock):
            for model in block.models:
                self._note(self._not_asked, model, block.offsets, position, log_ms)

    def _note(self, where: dict[str, ScoreColumn], model: str, offsets: bytes, position: int, log_ms: int) -> None:
        block = ScoreBlock(model, "", offsets, bytes(len(offsets)))
        where.setdefault(model, ScoreColumn()).take(block, position, log_ms)

    def races(self, budget_ms: int) -> Races:
        """Everything was given; a request without a decision has the pipeline's budget and its ticket as its id.

        The monitor's probes are left out.
        """
        offsets, at_ms = np.array(self._offsets, dtype=np.int64), np.array(self._at_ms, dtype=np.int64)
        tickets = np.array(self._tickets, dtype=np.int64)
        place, known = places(offsets, tickets)
        first = np.flatnonzero(known)[::-1]
        place = place[first]
        budgets = np.full(len(offsets), budget_ms, dtype=np.int64)
        budgets[place] = np.array(self._budgets_ms, dtype=np.int64)[first]
        ways = np.full(len(offsets), NOBODY, dtype=np.int16)
        ways[place] = np.array(self._ways, dtype=np.int16)[first]
        decision_at = np.full(len(offsets), NOBODY, dtype=np.int64)
        decision_at[place] = np.array(self._positions, dtype=np.int64)[first]
        ids = [f"{self._partition}-{offset}" for offset in offsets.tolist()]
        for row, told in zip(place.tolist(), first.tolist(), strict=True):
            ids[row] = self._ids[told]
        answered = Answered(self._names)
        answered.said(tickets, self._outcomes, self._models, np.array(self._said), np.array(self._log_ms))
        answers = answered.rows(offsets)
        decided_ms = np.where(np.isnan(answers.used_ms), at_ms, answers.used_ms).astype(np.int64)
        answers = Answers(answers.outcome, answers.model, answers.score, answers.used_ms - at_ms)
        found = {key: column.rows(offsets) for key, column in self._scores.items()}
        every = Races(
            np.full(len(offsets), self._partition, dtype=np.int64),
            offsets,
            ids,
            at_ms,
            budgets,
            decided_ms,
            decision_at,
            answers,
            ways,
            self._way_names,
            self._names,
            {key: np.clip(scores, -LARGEST, LARGEST) for key, (scores, _, _) in found.items()},
            {key: np.where(np.isnan(scores), np.nan, log_ms - at_ms) for key, (scores, log_ms, _) in found.items()},
            {model: ~np.isnan(column.rows(offsets)[0]) for model, column in self._failed.items()},
            {model: ~np.isnan(column.rows(offsets)[0]) for model, column in self._not_asked.items()},
            {field: np.array(column, dtype=np.int64) for field, column in self._segments.items()},
            self._values,
        )
        return every.only(~np.isin(offsets, list(self._probes))) if self._probes else every


def _event(value: bytes | None) -> Any:
    try:
        return json.decode(value or b"")
    except UNREADABLE:
        return None
