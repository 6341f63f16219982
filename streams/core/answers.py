"""What every request of a range was answered, in columns: by the live run, or by a pipeline that is run again.

A row is one request of one partition, in offset order; every column of a range has the same rows, so that
answers are compared row by row. Millions of requests fit: some 40 bytes for each way of answering.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix, Offsets, ScoreBlock
from schemas.decisions import Decision, Outcome
from schemas.requests import Rejection, Request

OUTCOMES = tuple(Outcome)
_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
NOBODY = -1

Codes = NDArray[np.int16]


class Names:
    """Model names as small numbers, the same for every column of a run."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, name: str | None) -> int:
        """The number of a name; of None, nobody's."""
        return NOBODY if name is None else self._codes.setdefault(name, len(self._codes))

    def __getitem__(self, code: int) -> str | None:
        """The name of a number."""
        return None if code == NOBODY else tuple(self._codes)[code]

    def __len__(self) -> int:
        """How many names are known."""
        return len(self._codes)


class Asked:
    """The requests of one partition's range."""

    def __init__(self) -> None:
        self._offsets, self._at_ms, self._budgets_ms = array("q"), array("q"), array("q")
        self.ids: list[str] = []

    def seen(self, requests: Sequence[Request | Rejection]) -> None:
        """Add requests, in offset order."""
        self._offsets.extend(request.offset for request in requests)
        self._at_ms.extend(request.at_ms for request in requests)
        self._budgets_ms.extend(request.budget_ms for request in requests)
        self.ids.extend(request.request_id for request in requests)

    def __len__(self) -> int:
        """Requests."""
        return len(self._offsets)

    @property
    def offsets(self) -> Offsets:
        """Raw offsets, rising."""
        return np.array(self._offsets, dtype=np.int64)

    @property
    def at_ms(self) -> Offsets:
        """Log times of raw."""
        return np.array(self._at_ms, dtype=np.int64)

    def at_ms_of(self, offsets: Offsets) -> Offsets:
        """Log times of these requests; where there is none, of the next, else of the last. Copies no column."""
        known = np.frombuffer(self._offsets, dtype=np.int64)
        place = np.minimum(np.searchsorted(known, offsets), len(known) - 1)
        return np.frombuffer(self._at_ms, dtype=np.int64)[place]

    @property
    def budgets_ms(self) -> Offsets:
        """Budgets, as the pipeline that ran gave them."""
        return np.array(self._budgets_ms, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Answers:
    """One way of answering: outcome, model, score and time used of each row; NaN and NOBODY where there is none."""

    outcome: Codes
    model: Codes
    score: Matrix
    used_ms: Matrix

    def __len__(self) -> int:
        """Rows."""
        return len(self.outcome)

    def only(self, rows: NDArray[np.bool_]) -> "Answers":
        """Some of the rows."""
        return Answers(self.outcome[rows], self.model[rows], self.score[rows], self.used_ms[rows])

    def row(self, row: int, names: Names) -> str:
        """One answer, for people."""
        outcome, score = int(self.outcome[row]), float(self.score[row])
        if outcome == NOBODY:
            return "undecided"
        shown = "" if np.isnan(score) else f" {score:.4f}"
        return f"{OUTCOMES[outcome]} by {names[int(self.model[row])] or 'nobody'}{shown}"

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> "Answers":
        """Partitions one after the other."""
        columns = [(part.outcome, part.model, part.score, part.used_ms) for part in parts]
        return Answers(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def of_scores(scores: Matrix) -> Answers:
    """A model's scores as if each were an answer."""
    some = np.where(np.isnan(scores), NOBODY, 0).astype(np.int16)
    return Answers(some, np.zeros(len(scores), dtype=np.int16), scores, np.full(len(scores), np.nan))


class Answered:
    """Final decisions as they come, to be put into rows."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._offsets, self._outcomes, self._models = array("q"), array("h"), array("h")
        self._scores, self._used_ms = array("d"), array("d")

    def take(self, decision: Decision, used_ms: float) -> None:
        """A decision; of a ticket, the first final one counts."""
        if decision.final:
            self._offsets.append(decision.ticket.offset)
            self._outcomes.append(_CODES[decision.outcome])
            self._models.append(self._names.code(decision.model))
            self._scores.append(np.nan if decision.score is None else decision.score)
            self._used_ms.append(used_ms)

    def said(
        self,
        offsets: Offsets,
        outcomes: Sequence[Outcome],
        models: Sequence[str | None],
        scores: Matrix,
        used_ms: Matrix,
    ) -> None:
        """What final decisions say, many at once."""
        codes = {model: self._names.code(model) for model in dict.fromkeys(models)}
        self._offsets.frombytes(offsets.tobytes())
        self._outcomes.extend([_CODES[outcome] for outcome in outcomes])
        self._models.extend([codes[model] for model in models])
        self._scores.frombytes(scores.tobytes())
        self._used_ms.frombytes(used_ms.tobytes())

    def rows(self, offsets: Offsets) -> Answers:
        """One row for each of these offsets, which rise."""
        found = np.array(self._offsets, dtype=np.int64)
        place, known = places(offsets, found)
        first = np.flatnonzero(known)[::-1]  # the last assignment stays: so the first decision comes last
        place = place[first]

        answers = Answers(
            np.full(len(offsets), NOBODY, dtype=np.int16),
            np.full(len(offsets), NOBODY, dtype=np.int16),
            np.full(len(offsets), np.nan),
            np.full(len(offsets), np.nan),
        )
        answers.outcome[place] = np.array(self._outcomes, dtype=np.int16)[first]
        answers.model[place] = np.array(self._models, dtype=np.int16)[first]
        answers.score[place] = np.array(self._scores)[first]
        answers.used_ms[place] = np.array(self._used_ms)[first]
        return answers


class ScoreColumn:
    """One model's scores of a range, as its blocks came."""

    def __init__(self) -> None:
        self._offsets, self._scores = bytearray(), bytearray()
        self._log_ms, self._positions, self._counts = array("q"), array("q"), array("q")

    def take(self, block: ScoreBlock, position: int, log_ms: int) -> None:
        """Add a block that lies at `position` and was appended at `log_ms`."""
        self._offsets += block.offsets
        self._scores += block.scores
        self._log_ms.append(log_ms)
        self._positions.append(position)
        self._counts.append(len(block.offsets) // 8)

    def take_alike(
        self, offsets: NDArray[np.uint8], scores: NDArray[np.uint8], positions: Offsets, log_ms: Offsets
    ) -> None:
        """Add blocks of as many rows each, one a line, their numbers as bytes."""
        self._offsets += offsets.tobytes()
        self._scores += scores.tobytes()
        self._log_ms.frombytes(log_ms.tobytes())
        self._positions.frombytes(positions.tobytes())
        self._counts.frombytes(np.full(len(positions), offsets.shape[1] // 8, dtype=np.int64).tobytes())

    @property
    def odd(self) -> bool:
        """Whether some score is not finite, or some offset negative."""
        scores, offsets = (np.frombuffer(bytes(self._scores), "<f8"), np.frombuffer(bytes(self._offsets), "<i8"))
        return not (np.isfinite(scores).all() and (offsets >= 0).all())

    def rows(self, offsets: Offsets) -> tuple[Matrix, Offsets, Offsets]:
        """Score, log time and position of each row's first score; NaN, 0 and 0 where there is none."""
        place, known = places(offsets, np.frombuffer(bytes(self._offsets), dtype="<i8"))
        counts = np.array(self._counts, dtype=np.int64)
        every = np.repeat(np.array(self._positions, dtype=np.int64), counts)
        first = np.flatnonzero(known)
        # Blocks that are alike came together: the log's order again, and its first one last, so that it stays.
        first = first[np.argsort(every[first], kind="stable")][::-1]
        scores = np.full(len(offsets), np.nan)
        log_ms = np.zeros(len(offsets), dtype=np.int64)
        positions = np.zeros(len(offsets), dtype=np.int64)
        place = place[first]
        scores[place] = np.frombuffer(bytes(self._scores), dtype="<f8")[first]
        log_ms[place] = np.repeat(np.array(self._log_ms, dtype=np.int64), counts)[first]
        positions[place] = every[first]
        return scores, log_ms, positions


def places(offsets: Offsets, found: Offsets) -> tuple[Offsets, NDArray[np.bool_]]:
    """Where each of `found` stands among `offsets`, which rise, and whether it stands there at all."""
    place = np.searchsorted(offsets, found)
    inside = place < len(offsets)
    place = np.where(inside, place, 0)
    known = inside & (offsets[place] == found) if len(offsets) else np.zeros(len(found), dtype=bool)
    return place, known
