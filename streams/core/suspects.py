"""Rows that were in a model's hands when its process ended: which are tried alone, and which no more.

A block that ends a process says only that one of its rows may have. The next life tries them one by one, and a row
that was in hand at two ends, alone at the last one, is not tried again: one poisonous row costs itself and two ends.
Pure: what was in hand, and when (s), are arguments.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

ENDS = 2
KEPT = 1024
"""Rows that are remembered, the newest: those of four full blocks."""
CAUSE_CHARS = 200
FORGET_S = 3600.0
"""A row that has not come again by then was scored, or its topic was made anew."""


class Suspect(Struct, frozen=True, array_like=True):
    """One row by its ticket: how many ends it was in hand at, whether alone at the last one, and that one's cause."""

    partition: int
    offset: int
    ends: int
    alone: bool
    at_s: float
    cause: str

    @property
    def condemned(self) -> bool:
        """Whether it is not tried again."""
        return self.ends >= ENDS and self.alone

    def __str__(self) -> str:
        """Why its row has no score."""
        return (
            f"not tried again: this model's process ended {self.ends} times with it, the last time alone{self.cause}"
        )


class Suspects:
    """All of one process of a model."""

    def __init__(self, known: Iterable[Suspect] = ()) -> None:
        self._by_place = {(suspect.partition, suspect.offset): suspect for suspect in known}

    def __len__(self) -> int:
        """How many rows."""
        return len(self._by_place)

    def __iter__(self) -> Iterator[Suspect]:
        """Every one, the newest last."""
        return iter(self._by_place.values())

    def of(self, partition: int, offsets: Sequence[int]) -> dict[int, Suspect]:
        """Those among these rows, by their place."""
        found = ((place, self._by_place.get((partition, offset))) for place, offset in enumerate(offsets))
        return {place: suspect for place, suspect in found if suspect is not None}

    def after_end(self, partition: int, offsets: Sequence[int], now_s: float, cause: str = "") -> "Suspects":
        """The same after the process has ended with these rows in its hands."""
        kept = {place: known for place, known in self._by_place.items() if now_s - known.at_s < FORGET_S}
        alone, said = len(offsets) == 1, f" ({cause[:CAUSE_CHARS]})" if cause else ""
        for offset in offsets:
            before = kept.pop((partition, offset), None)
            kept[partition, offset] = (
                Suspect(partition, offset, 1, alone, now_s, said)
                if before is None
                else replace(before, ends=before.ends + 1, alone=alone, at_s=now_s, cause=said)
            )
        return Suspects(list(kept.values())[-KEPT:])
