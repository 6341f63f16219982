"""Raw's times, what lies on scores, and decisions of one partition, in columns: what a simulation is made of.

Reading is most of what a simulation costs, so records come many at a time.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from schemas.blocks import NotAskedBlock, Offsets, RejectionBlock, ScoreBlock, ScoresBlock, pack_offsets
from schemas.decisions import Outcome, Ticket
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import Pipeline
from streams.core.alike import Values, alike, decode_quickly
from streams.core.answers import NOBODY, Answered, Answers, Names, ScoreColumn, places


class Said(Struct, frozen=True, gc=False):
    """What a simulation needs of a decision; decoding the rest would take longer than simulating it."""

    request_id: str
    ticket: Ticket
    outcome: Outcome
    final: bool
    budget_ms: int
    model: str | None = None
    score: float | None = None
    duplicate_of: Ticket | None = None
    probe: bool = False


_decode_said = json.Decoder(Said).decode


def _said(value: bytes | None) -> Said | None:
    try:
        return _decode_said(value or b"")
    except UNREADABLE:
        return None


class Recorded:
    """One partition, as it is read."""

    def __init__(self, pipeline: Pipeline, names: Names) -> None:
        self._refined: set[int] = set()
        self._probes: set[int] = set()
        self.unreadable = 0
        self.longest_ms = 0
        self._rejections = 0
        self._scores: dict[str, ScoreColumn] = {}
        self._failed: dict[str, ScoreColumn] = {}
        self._not_asked: dict[str, ScoreColumn] = {}
        self._versions = {model.name: model.version for model in pipeline.models}
        self._offsets, self._at_ms = array("q"), array("q")
        self._answered = Answered(names)
        nothing = np.zeros(0, dtype=np.int64)
        self._decided = [(nothing, nothing, nothing)]
        self._ids: list[str] = []

    def requests_seen(self, offsets: Offsets, at_ms: Offsets, refined: Iterable[int] = ()) -> None:
        """Raw records, in offset order; `refined` are the offsets of those that ask for answers that get better."""
        self._offsets.frombytes(offsets.tobytes())
        self._at_ms.frombytes(at_ms.tobytes())
        self._refined.update(refined)

    def scores_offered(self, positions: Offsets, log_ms: Offsets, values: Values) -> None:
        """What lies on `scores`, in the order of the log."""
        groups, others = alike(values)
        for group in groups:
            if self._versions.get(group.model) == group.version:
                column = self._scores.setdefault(group.model, ScoreColumn())
                column.take_alike(group.offsets, group.scores, positions[group.rows], log_ms[group.rows])
        for row in others.tolist():
            try:
                block = decode_quickly(values[row])
            except UnreadableRecord:
                self.unreadable += 1
                continue
            self._offered(int(positions[row]), int(log_ms[row]), block)

    def _offered(self, position: int, log_ms: int, block: ScoresBlock) -> None:
        match block:
            case ScoreBlock():
                if self._versions.get(block.model) != block.version:
                    return
                if block.offsets:
                    self._scores.setdefault(block.model, ScoreColumn()).take(block, position, log_ms)
                if block.errors:
                    offsets = pack_offsets([error.offset for error in block.errors])
                    self._note(self._failed, block.model, offsets, position, log_ms)
            case NotAskedBlock():
                for model in block.models:
                    self._note(self._not_asked, model, block.offsets, position, log_ms)
            case RejectionBlock():
                self._rejections += 1

    def _note(self, where: dict[str, ScoreColumn], model: str, offsets: bytes, position: int, log_ms: int) -> None:
        block = ScoreBlock(model, "", offsets, bytes(len(offsets)))
        where.setdefault(model, ScoreColumn()).take(block, position, log_ms)

    def decided(self, values: Sequence[bytes | None], log_ms: Offsets) -> None:
        """Decisions, in the order of their log; what is none is passed over."""
        try:
            found: Sequence[Said | None] = list(map(_decode_said, values))  # type: ignore[arg-type]
        except (*UNREADABLE, TypeError):
            found = list(map(_said, values))
        said = [one for one in found if one is not None and one.final]
        if len(said) < len(found):
            log_ms = log_ms[np.array([one is not None and one.final for one in found])]
        tickets = np.array([one.ticket.offset for one in said], dtype=np.int64)
        self._probes.update(one.ticket.offset for one in said if one.probe)
        budgets_ms = np.array([one.budget_ms for one in said], dtype=np.int64)
        self._answered.said(
            tickets,
            [one.outcome for one in said],
            [one.model for one in said],
            np.array([one.score for one in said], dtype=np.float64),  # None becomes NaN
            log_ms.astype(np.float64),
        )
        firsts = [NOBODY if one.duplicate_of is None else one.duplicate_of.offset for one in said]
        self._decided.append((tickets, budgets_ms, np.array(firsts, dtype=np.int64)))
        self._ids += [one.request_id for one in said]
        self.longest_ms = max(self.longest_ms, int(budgets_ms.max(initial=0)))

    def table(self, budget_ms: int) -> "Table":
        """Everything was given; a request without a decision has the pipeline's budget."""
        offsets, at_ms = np.array(self._offsets, dtype=np.int64), np.array(self._at_ms, dtype=np.int64)
        tickets, own_budgets, repeated = (np.concatenate(column) for column in zip(*self._decided, strict=True))
        place, known = places(offsets, tickets)
        first = np.flatnonzero(known)[::-1]
        place = place[first]
        budgets = np.full(len(offsets), budget_ms, dtype=np.int64)
        budgets[place] = own_budgets[first]
        firsts = np.full(len(offsets), NOBODY, dtype=np.int64)
        firsts[place] = repeated[first]
        ids = [""] * len(offsets)
        for row, said in zip(place.tolist(), first.tolist(), strict=True):
            ids[row] = self._ids[said]
        happened = self._answered.rows(offsets)
        first_row, found = places(offsets, firsts)
        return Table(
            offsets,
            at_ms,
            budgets,
            np.where(found & (firsts != NOBODY), first_row, NOBODY),
            ids,
            Answers(happened.outcome, happened.model, happened.score, happened.used_ms - at_ms),
            {model: column.rows(offsets) for model, column in self._scores.items()},
            {model: column.rows(offsets) for model, column in self._failed.items()},
            {model: column.rows(offsets) for model, column in self._not_asked.items()},
            np.isin(offsets, list(self._refined)),
            any(column.odd for column in self._scores.values()),
            self._rejections,
            np.isin(offsets, list(self._probes)),
        )


Times = tuple[NDArray[np.float64], Offsets, Offsets]
"""Score (NaN: none), log time and position of each row."""


@dataclass(frozen=True, slots=True)
class Table:
    """One partition's requests, by offset; `repeats` is the row each repeats, NOBODY for most."""

    offsets: Offsets
    at_ms: Offsets
    budgets_ms: Offsets
    repeats: Offsets
    ids: list[str]
    happened: Answers
    scores: dict[str, Times]
    failed: dict[str, Times]
    not_asked: dict[str, Times]
    refined: NDArray[np.bool_]
    """Which ask for answers that get better."""

    odd: bool = False
    """Whether some number in a block cannot be: such a block counts as unreadable."""

    rejections: int = 0

    probes: NDArray[np.bool_] | None = None
    """Which are the monitor's own, and nobody's in what is told of them."""
