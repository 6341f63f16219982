"""Records on their way into a file, column by column."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from streams.archive.segment import Headers, Record, table_of

OVERHEAD = 64
"""Bytes a record is taken to cost beside its key, value and headers."""


class Columns:
    """What is buffered; offsets rise."""

    __slots__ = ("bytes", "headers", "keys", "offsets", "timestamp_types", "timestamps", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.timestamp_types: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers | None] = []
        self.bytes = 0

    def __len__(self) -> int:
        """Records."""
        return len(self.offsets)

    def _all(self) -> tuple[list[Any], ...]:
        return (self.offsets, self.timestamps, self.timestamp_types, self.keys, self.values, self.headers)

    def extend(self, more: "Columns") -> None:
        """Add what follows."""
        for own, other in zip(self._all(), more._all(), strict=True):
            own.extend(other)
        self.bytes += more.bytes

    def cut_before(self, offset: int) -> None:
        """Drop what lies before an offset."""
        place = bisect_left(self.offsets, offset)
        if place:
            for column in self._all():
                del column[:place]
            self.weigh()

    def weigh(self) -> None:
        """Count the bytes anew."""
        sizes = sum(sum(map(len, filter(None, column))) for column in (self.keys, self.values))
        headers = sum(len(k) + len(v or b"") for found in filter(None, self.headers) for k, v in found)
        self.bytes = OVERHEAD * len(self) + sizes + headers

    def table(self) -> pa.Table:
        """All records as one table of the declared schema."""
        return table_of(self._all())


def columns_of(records: Iterable[Record]) -> Columns:
    """Records as columns."""
    found = list(records)
    return columns(
        [record.offset for record in found],
        [record.timestamp_ms for record in found],
        [record.timestamp_type for record in found],
        [record.key for record in found],
        [record.value for record in found],
        [record.headers for record in found],
    )


def columns(
    offsets: Sequence[int],
    timestamps: Sequence[int],
    timestamp_types: Sequence[int],
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    headers: Sequence[Headers | None],
) -> Columns:
    """One batch, as its lists."""
    found = Columns()
    parts = (offsets, timestamps, timestamp_types, keys, values, headers)
    for own, given in zip(found._all(), parts, strict=True):
        own.extend(given)
    found.weigh()
    return found
