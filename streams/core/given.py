"""What a model is given, and what it gives back: the same for every kind."""

from collections.abc import Callable, Mapping
from math import inf

from msgspec import Struct

from schemas.blocks import Matrix


class Given(Struct, frozen=True):
    """What a model is given at once: an n x width matrix, and the n events (JSON) if it takes them.

    `left_ms` is what the last of these rows has left of its budget. A model in this process has no use for it; one
    that waits for somebody else waits no longer.
    """

    matrix: Matrix
    events: tuple[bytes, ...] = ()
    left_ms: float = inf

    def part(self, start: int, end: int, elapsed_ms: float = 0.0) -> "Given":
        """Some of the rows, so many ms later."""
        return Given(self.matrix[start:end], self.events[start:end], self.left_ms - elapsed_ms)


ScoreRows = Callable[[Given], tuple[Matrix, Mapping[int, str]]]
"""n rows -> n scores, and the reasons of rows that have none, by their place."""
