"""The records of a time range of one partition, or an error that names file and range: never half of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.errors import ConfigurationRefused
from streams.archive.file import File
from streams.archive.layout import NOW, Layout, partitions
from streams.archive.marks import Gap, read_marks
from streams.archive.overtaken import undisturbed
from streams.archive.reader import read_batches
from streams.archive.segment import SCHEMA, ArchiveDamaged, Record, read_footer, records_of, times_of


@dataclass(frozen=True, slots=True)
class Period:
    """From `since_ms` up to before `until_ms`, by log time; None is open."""

    since_ms: int | None = None
    until_ms: int | None = None

    def __post_init__(self) -> None:
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ConfigurationRefused(f"the range ends before it starts: {self}; swap --since and --until")

    def __str__(self) -> str:
        """As people write it."""
        since = "the beginning" if self.since_ms is None else iso(self.since_ms)
        return f"{since} to {'the end' if self.until_ms is None else iso(self.until_ms)}"

    def lacks(self, after_ms: int, before_ms: int) -> bool:
        """Whether records missing between these two log times may belong to it."""
        begins = self.since_ms is None or self.since_ms < before_ms
        return begins and (self.until_ms is None or self.until_ms > after_ms + 1)


def iso(at_ms: int) -> str:
    """A log time for people, UTC."""
    return datetime.fromtimestamp(at_ms / 1e3, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_period(root: Path, topic: str, partition: int, period: Period, before_ms: int = 0) -> Iterator[Record]:
    """The records of a period, and what lies up to `before_ms` before it; raises ArchiveDamaged.

    A gap within the period is refused though it is marked. Files that are wholly older are known by their footers,
    and not read.
    """
    for batch in read_period_batches(root, topic, partition, period, before_ms):
        yield from records_of(batch)


def read_period_batches(
    root: Path,
    topic: str,
    partition: int,
    period: Period,
    before_ms: int = 0,
    columns: Sequence[str] = tuple(SCHEMA.names),
) -> Iterator[pa.RecordBatch]:
    """The same as Arrow batches of the columns asked for; offset and log time always are the first two."""
    folder = Layout(root, topic, partition)
    gaps = read_marks(folder).gaps
    since_ms = -1 if period.since_ms is None else period.since_ms - before_ms
    wanted = ("kafka_timestamp_ms", *columns)
    last: Place | None = None
    for batch in read_batches(
        root, topic, partition, start=undisturbed(partial(_start, folder, since_ms)), columns=wanted
    ):
        at_ms = batch.column(1).to_numpy()
        if last is not None and gaps:  # they lie between files, never inside one
            _refuse_gap(folder, gaps, period, last, _place(batch, 0))
        last = _place(batch, len(batch) - 1)
        after = np.flatnonzero(at_ms >= period.until_ms) if period.until_ms is not None else ()
        inside = batch.slice(0, int(after[0])) if len(after) else batch
        keep = at_ms[: len(inside)] >= since_ms
        if keep.any():
            yield inside if keep.all() else inside.filter(pa.array(keep))
        if len(after):
            return


Place = tuple[int, int]
"""Offset and log time of a record."""


def _place(batch: pa.RecordBatch, row: int) -> Place:
    return batch.column(0)[row].as_py(), batch.column(1)[row].as_py()


def _start(layout: Layout, since_ms: int) -> int:
    """Where to begin: with the last file that is wholly older, so that a gap after it is seen."""
    start = 0
    for path in layout.segments() if since_ms > 0 else ():
        file = File(path, whole=False)
        footer, times = read_footer(file), times_of(file)
        if times is None or times[1] >= since_ms:
            break
        start = footer.start
    return start


def _refuse_gap(folder: Layout, gaps: list[Gap], period: Period, last: Place, following: Place) -> None:
    for gap in gaps:
        within = last[0] < gap.start and gap.end <= following[0]
        if within and period.lacks(last[1], following[1]):
            raise ArchiveDamaged(
                f"{folder.data}: offsets {gap.start} to {gap.end - 1} are gone ({gap.why}): choose a range with "
                f"--until {iso(last[1] + 1)} or --since {iso(following[1])}"
            )


def require(root: Path, topic: str, count: int) -> list[int]:
    """Which of so many partitions an archive holds of a topic; raises ConfigurationRefused when it holds none."""
    found = [number for number in range(count) if Layout(root, topic, number).segments()]
    if found:
        return found
    raise nothing_of(root, topic, {held.topic for held in partitions(root, tree=NOW) if held.segments()})


def nothing_of(root: Path, wanted: str, topics: Iterable[str]) -> ConfigurationRefused:
    """What is said of an archive that holds other topics than the wanted, or none."""
    others = ", ".join(sorted(topics))
    held = (
        f"it is another pipeline's, and holds {others}: name that pipeline's file with --pipeline"
        if others
        else "it is empty: run the archiver first (`rendezvous up`; a file is closed after archive.max_age_s)"
    )
    return ConfigurationRefused(f"{root}: the archive holds nothing of {wanted}; {held}, or another place")


def times_held(root: Path, topic: str, numbers: Sequence[int]) -> tuple[int, int] | None:
    """The earliest and latest log time an archive holds of a topic; None when it holds no record."""
    return undisturbed(partial(_times_held, root, topic, numbers))


def _times_held(root: Path, topic: str, numbers: Sequence[int]) -> tuple[int, int] | None:
    paths = [path for number in numbers for path in Layout(root, topic, number).segments()]
    found = [times for path in paths if (times := times_of(path)) is not None]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None
