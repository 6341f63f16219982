"""Which records of the past, in which order, and when each is due.

Records come in chunks of one partition, column by column; an order gives runs of a chunk, so that nothing is done
per record that can be done per run. Inside a partition nothing is ever sorted.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from schemas.errors import ConfigurationRefused
from schemas.requests import Headers

Order = Literal["offset", "time"]


@dataclass(slots=True)
class Chunk:
    """Records of one partition, by offset, at least one; `headers` is None when no record has any."""

    partition: int
    offsets: list[int]
    at_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers | None] | None

    def __len__(self) -> int:
        """Records."""
        return len(self.offsets)


Run = tuple[Chunk, int, int]
"""Records of a chunk from one place to another."""


class Span(Struct, frozen=True):
    """Offsets of one partition, both ends included; `last` None is the end."""

    partition: int
    first: int = 0
    last: int | None = None

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.partition}:{self.first}-{'' if self.last is None else self.last}"


class Selection(Struct, frozen=True, kw_only=True):
    """Which records: all that fulfil every condition given. `since_ms` is included, `until_ms` is not."""

    since_ms: int | None = None
    until_ms: int | None = None
    spans: tuple[Span, ...] = ()
    ids: tuple[str, ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        if self.since_ms is not None and self.until_ms is not None and self.until_ms <= self.since_ms:
            raise ConfigurationRefused(
                f"the range ends at {self.until_ms} ms, before it begins at {self.since_ms} ms: nothing can lie in it"
            )
        numbers = [span.partition for span in self.spans]
        for span in self.spans:
            if span.last is not None and span.last < span.first:
                raise ConfigurationRefused(f"offsets {span}: the range ends before it begins")
            if numbers.count(span.partition) > 1:
                raise ConfigurationRefused(f"offsets {span}: partition {span.partition} is given twice")

    def span(self, partition: int) -> Span | None:
        """The offsets wanted of a partition; None: none of it."""
        if not self.spans:
            return Span(partition)
        return next((span for span in self.spans if span.partition == partition), None)


class Pace(Struct, frozen=True):
    """When a record is due: at its original gap, N times faster; at a rate; or at once."""

    speed: float | None = None
    rate: float | None = None

    @property
    def flat_out(self) -> bool:
        """Nothing is waited for."""
        return self.speed is None and self.rate is None


@dataclass(slots=True)
class Schedule:
    """Due times on an absolute schedule: a record that is late makes no other one late. Reads no clock.

    Seconds are the caller's, monotonic; the first record asked about is due at once.
    """

    pace: Pace
    started_s: float
    first_ms: int | None = None
    count: int = 0
    worst_s: float = field(default=0.0)
    """How far behind the schedule it was at most."""

    def due_s(self, at_ms: int) -> float:
        """When the next record is due, by its original time."""
        if self.pace.rate is not None:
            self.count += 1
            return self.started_s + (self.count - 1) / self.pace.rate
        if self.first_ms is None:
            self.first_ms = at_ms
        return self.started_s + (at_ms - self.first_ms) / 1e3 / (self.pace.speed or 1.0)

    def sent(self, due_s: float, now_s: float) -> None:
        """A record that was due then is sent now."""
        self.worst_s = max(self.worst_s, now_s - due_s)


def in_order(order: Order, partitions: Sequence[Iterable[Chunk]]) -> Iterator[Run]:
    """All records of the partitions, in the order asked for."""
    return _by_time(partitions) if order == "time" else _by_offset(partitions)


def _by_offset(partitions: Sequence[Iterable[Chunk]]) -> Iterator[Run]:
    """Each partition by offset; chunks of all of them in turn."""
    left = [iter(chunks) for chunks in partitions]
    while left:
        for chunks in list(left):
            chunk = next(chunks, None)
            if chunk is None:
                left.remove(chunks)
            else:
                yield chunk, 0, len(chunk)


def _by_time(partitions: Sequence[Iterable[Chunk]]) -> Iterator[Run]:
    """Merge by (timestamp, partition, offset) of each partition's head; a run lasts until another head is earlier."""
    heads: list[tuple[int, int, int, int, Chunk, Any]] = []

    def push(chunks: Iterator[Chunk]) -> None:
        chunk = next(chunks, None)
        if chunk is not None:
            heapq.heappush(heads, (chunk.at_ms[0], chunk.partition, chunk.offsets[0], 0, chunk, chunks))

    for chunks in partitions:
        push(iter(chunks))
    while heads:
        _, partition, _, start, chunk, chunks = heapq.heappop(heads)
        stop = _run_end(chunk, start, heads[0][0], heads[0][1]) if heads else len(chunk)
        yield chunk, start, stop
        if stop == len(chunk):
            push(chunks)
        else:
            heapq.heappush(heads, (chunk.at_ms[stop], partition, chunk.offsets[stop], stop, chunk, chunks))


def _run_end(chunk: Chunk, start: int, limit_ms: int, other: int) -> int:
    """The place of the first record that comes after another partition's head."""
    if chunk.partition < other:
        limit_ms += 1  # of equal times, the lower partition's is first
    at_ms = chunk.at_ms
    for place in range(start + 1, len(at_ms)):
        if at_ms[place] >= limit_ms:
            return place
    return len(at_ms)
