"""How far a partition is decided for good: where to read on after a crash.

A commit says: every request before this one has its final decision, confirmed by the broker. Requests are confirmed
in any order, so it stands at the first one that is not; and with it goes the place on scores at which that request's
first score may lie.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where to read on after a crash: raw at the low watermark, scores where its first score may lie."""

    raw: int
    scores: int
    at_ms: float = 0.0
    """Log time before which every request of the partition is decided; 0 when none is known."""


BEGINNING = Checkpoint(0, 0)


class Watermark:
    """Requests of one partition in the order of raw, until their decisions are confirmed.

    `order` and `open` are added to by whoever reads requests: a call for each would be felt.
    """

    def __init__(self, start: Checkpoint) -> None:
        self.order: deque[int] = deque()
        self.open: set[int] = set()
        self._marks: deque[tuple[int, int, float]] = deque()
        self._at_ms = start.at_ms

    def mark(self, offset: int, at_ms: float, scores: int) -> None:
        """The requests from this offset on came at this log time or later; their scores lie at `scores` or later."""
        self._at_ms = at_ms
        if not self._marks or self._marks[-1][1] != scores:
            self._marks.append((offset, scores, at_ms))

    def confirmed(self, offsets: Iterable[int]) -> None:
        """The final decisions of these requests are in the log."""
        self.open.difference_update(offsets)

    def checkpoint(self, next_raw: int, scores: int) -> Checkpoint:
        """The place of the first open request; without one, everything read: `next_raw`, and `scores` beside it."""
        order, still_open = self.order, self.open
        while order and order[0] not in still_open:
            order.popleft()
        raw = order[0] if order else next_raw
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= raw:
            marks.popleft()
        if order and marks:
            return Checkpoint(raw, marks[0][1], marks[0][2])
        return Checkpoint(raw, scores, self._at_ms)
