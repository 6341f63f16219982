"""The longest finished prefix of one partition: what may be committed.

Batches are opened in offset order and finished in any order; a batch that is held holds the commit.
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol


class Finishable(Protocol):
    """What the prefix is made of: `next_offset` follows the batch's last record."""

    @property
    def next_offset(self) -> int:
        """The offset to read on from when this batch and all before it are finished."""

    @property
    def finished(self) -> bool:
        """Whether nothing of the batch is left to do."""


class FinishedPrefix:
    """Batches of one partition, in the order they were read."""

    __slots__ = ("_committable", "_open")

    def __init__(self, start: int | None = None) -> None:
        self._open: deque[Finishable] = deque()
        self._committable = start

    def opened(self, batch: Finishable) -> None:
        """A batch was read; it follows all that were opened before."""
        self._open.append(batch)

    def committable(self) -> int | None:
        """The offset to commit; None while nothing has finished."""
        opened = self._open
        while opened and opened[0].finished:
            self._committable = opened.popleft().next_offset
        return self._committable

    def __iter__(self) -> Iterator[Finishable]:
        """The batches that are not committable yet, in offset order."""
        return iter(self._open)
