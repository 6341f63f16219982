"""Rows of a model that needs others' scores: each is sent on with them once they are there, or told to be without.

Who holds them is a process of its own, the coupler, between router and model: so what lies on `model.<name>` is what
the model is given, whatever it is made of and in whatever language, a scorer is none the wiser, and while the coupler
waits, hangs or is dead, nobody but this one model is without rows. A row waits for no longer than its budget. Which
version's score belongs into it the router has written beside it, by the roster as of the request's log time.

Reads no clock and sends nothing: times (ms, broker's clock) are arguments, what is sent on is returned, and what the
broker has confirmed is told.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import islice

import numpy as np
from msgspec import Raw, Struct, json

from schemas.blocks import NotAskedBlock, RowError, Rows, ScoreBlock, ScoresBlock, offsets_of, scores_of
from schemas.needs import Needing
from schemas.pipeline import Model, Pipeline, score_feature

KEPT = 50_000
"""Requests whose needed scores are remembered: they may be read before their row, and a row may come twice."""

VERSIONS = 16
"""Versions of the needed models whose scores are remembered of one request: more are nobody's."""

CATCH_UP_MS = 1_000.0
"""A row that is read after its deadline, as after a crash, waits so long: what it needs may be read later."""

ANY = ""
"""The version of those that were not asked: nobody knows it."""

_decode_object = json.Decoder(dict[str, Raw]).decode
_encode = json.Encoder().encode

Said = float | str
"""A score, or why there is none."""


class Sent(Struct):
    """What is to leave at once: rows for the model, errors in its name; and the positions they were read at."""

    rows: list[Rows] = []
    errors: list[ScoreBlock] = []
    positions: list[int] = []


class Waiting(Struct, gc=False):
    """One row without all its scores."""

    needing: Needing
    place: int
    position: int
    found: dict[str, float]


class Coupling:
    """One model's rows of one partition. `position` is the offset on `needs.<name>`, rows are known by their ticket.

    What was read before is passed over: a batch that failed half-way is handed to its agent again.
    """

    def __init__(self, pipeline: Pipeline, model: Model, start: int = 0) -> None:
        self.without = 0
        self._model = model
        self._needed = frozenset(model.needs)
        features = pipeline.features_of(model)
        scores = {score_feature(name): name for name in model.needs}
        self._width = len(features)
        self._own = [place for place, name in enumerate(features) if name not in scores]
        self._scores = [(place, scores[name]) for place, name in enumerate(features) if name in scores]
        self._said: dict[int, dict[tuple[str, str], Said]] = {}
        self._waiting: dict[int, Waiting] = {}
        self._timers: list[tuple[float, int]] = []
        self._open: dict[int, int] = {}
        self._next = start

    def rows_offered(self, needing: Needing, position: int, now_ms: float) -> Sent:
        """Rows that were read at `position`, in the order of their log."""
        sent = Sent()
        if position < self._next:
            return sent
        self._next = position + 1
        self._open[position] = len(needing.rows.offsets)
        ready: list[Waiting] = []
        fits = needing.rows.matrix.shape[1] == len(self._own) and {name for name, _ in needing.needs} == self._needed
        for place, offset in enumerate(needing.rows.offsets.tolist()):
            row = Waiting(needing, place, position, {})
            if not fits:
                self._refuse(
                    row, offset, "was routed for other features or needs than the pipeline file has now", sent
                )
            elif offset in self._waiting:  # a second copy: one of them is enough
                sent.positions.append(position)
            elif reason := self._complete(row, offset):
                self._refuse(row, offset, reason, sent)
            elif len(row.found) == len(needing.needs):
                ready.append(row)
            else:
                self._waiting[offset] = row
                deadline_ms = float(needing.rows.deadlines_ms[place])
                heappush(self._timers, (deadline_ms if deadline_ms > now_ms else now_ms + CATCH_UP_MS, offset))
        self._send(ready, sent)
        return sent

    def scores_offered(self, block: ScoresBlock) -> Sent:
        """What lies on `scores`."""
        sent, touched = Sent(), list[int]()
        if isinstance(block, ScoreBlock) and block.model in self._needed:
            key = (block.model, block.version)
            for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                self._note(offset, key, score, touched)
            for error in block.errors:
                self._note(error.offset, key, f"has no score: {error.reason}", touched)
        elif isinstance(block, NotAskedBlock):
            for name in self._needed.intersection(block.models):
                for offset in offsets_of(block.offsets):
                    self._note(offset, (name, ANY), f"was not asked: {block.reason}", touched)
        ready: list[Waiting] = []
        for offset in touched:
            row = self._waiting.get(offset)
            if row is None:
                continue
            if reason := self._complete(row, offset):
                del self._waiting[offset]
                self._refuse(row, offset, reason, sent)
            elif len(row.found) == len(row.needing.needs):
                del self._waiting[offset]
                ready.append(row)
        self._send(ready, sent)
        self._forget()
        return sent

    def due(self, now_ms: float) -> Sent:
        """Rows that have waited for long enough."""
        sent = Sent()
        while self._timers and self._timers[0][0] <= now_ms:
            _, offset = heappop(self._timers)
            row = self._waiting.pop(offset, None)
            if row is not None:
                lacking = [name for name, _ in row.needing.needs if name not in row.found]
                self._refuse(row, offset, f"needs {', '.join(lacking)}, whose score did not come in time", sent)
        return sent

    @property
    def next_due_ms(self) -> float | None:
        """When `due` has something to look at next; None when nothing waits."""
        while self._timers and self._timers[0][1] not in self._waiting:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def confirmed(self, positions: Sequence[int]) -> None:
        """The broker has what became of these rows."""
        for position in positions:
            self._open[position] -= 1

    def low(self) -> int:
        """Where to read on after a crash: the first record with a row of which nothing is confirmed yet."""
        for position in [*self._open]:
            if self._open[position] > 0:
                return position
            del self._open[position]
        return self._next

    @property
    def waiting(self) -> int:
        """Rows without all their scores."""
        return len(self._waiting)

    def _note(self, offset: int, key: tuple[str, str], said: Said, touched: list[int]) -> None:
        known = self._said.setdefault(offset, {})
        if key not in known and len(known) < VERSIONS * len(
            self._needed
        ):  # of two the first counts, as in the rendezvous
            known[key] = said
            touched.append(offset)

    def _complete(self, row: Waiting, offset: int) -> str:
        """Give a row what is known of it; returns why it can never be whole, empty when it can."""
        known = self._said.get(offset)
        if not known:
            return ""
        for name, version in row.needing.needs:
            said = known.get((name, version), known.get((name, ANY)))
            if isinstance(said, str):
                return f"needs {name}, which {said}"
            if said is not None:
                row.found[name] = said
        return ""

    def _refuse(self, row: Waiting, offset: int, reason: str, sent: Sent) -> None:
        self.without += 1
        error = RowError(offset, reason)
        sent.errors.append(ScoreBlock(self._model.name, row.needing.version, b"", b"", (error,)))
        sent.positions.append(row.position)

    def _send(self, ready: Sequence[Waiting], sent: Sent) -> None:
        if not ready:
            return
        matrix = np.empty((len(ready), self._width))
        matrix[:, self._own] = [row.needing.rows.matrix[row.place] for row in ready]
        for place, name in self._scores:
            matrix[:, place] = [row.found[name] for row in ready]
        offsets = np.array([row.needing.rows.offsets[row.place] for row in ready], dtype=np.int64)
        deadlines = np.array([row.needing.rows.deadlines_ms[row.place] for row in ready], dtype=np.int64)
        events = tuple(with_scores(row.needing.rows.events[row.place], row.found) for row in ready if _events(row))
        sent.rows.append(Rows(self._model.name, offsets, deadlines, matrix, events))
        sent.positions += [row.position for row in ready]

    def _forget(self) -> None:
        surplus = len(self._said) - KEPT
        if surplus > 0:
            for offset in list(islice(self._said, surplus)):
                del self._said[offset]


def with_scores(event: bytes, scores: dict[str, float]) -> bytes:
    """An event beside whose fields the needed scores stand, each under its feature's name."""
    return _encode(_decode_object(event) | {score_feature(name): Raw(_encode(own)) for name, own in scores.items()})


def _events(row: Waiting) -> bool:
    return bool(row.needing.rows.events)
