"""What is made of a value, kept as long as the same one is asked for again: of a span's pipeline, by each request."""

from collections.abc import Callable
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Latest(Generic[Given, Made]):
    """Makes something of a value that never changes, once for all that ask of it one after the other.

    Threads may share one: each has what was made of what it gave.
    """

    def __init__(self, make: Callable[[Given], Made]) -> None:
        self._make = make
        self._kept: tuple[Given, Made] | None = None

    def of(self, given: Given) -> Made:
        """What is made of this very object."""
        kept = self._kept
        if kept is None or kept[0] is not given:
            kept = self._kept = given, self._make(given)
        return kept[1]
