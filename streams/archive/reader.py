"""Reads an archive back: by start offset, overlap skipped, a gap that no note explains refused.

A record that is noted as forgotten is given to nobody, also while its file is still to be written anew: what is made
of the archive meanwhile is made without it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from streams.archive import segment
from streams.archive.file import File
from streams.archive.layout import NOW, Layout, partitions
from streams.archive.marks import Marks, read_marks
from streams.archive.overtaken import Overtaken, undisturbed
from streams.archive.segment import (
    SCHEMA,
    ArchiveDamaged,
    Footer,
    Record,
    Vanished,
    bytes_of,
    read_footer,
    records_of,
)


class Summary(Struct, frozen=True):
    """What an archive holds."""

    files: int
    rows: int
    bytes: int


def read_partition(
    root: Path, topic: str, partition: int, *, start: int = 0, end: int | None = None, tree: str = NOW
) -> Iterator[Record]:
    """All records of one partition, each offset once; raises ArchiveDamaged naming file and range.

    `start` and `end` (not included) bound the offsets; what lies outside them is not looked at. `tree` names the
    files of an earlier life of the topic: `data-1` and so on.
    """
    for batch in read_batches(root, topic, partition, start=start, end=end, tree=tree):
        yield from records_of(batch)


def read_batches(
    root: Path,
    topic: str,
    partition: int,
    *,
    start: int = 0,
    end: int | None = None,
    columns: Sequence[str] = tuple(SCHEMA.names),
    tree: str = NOW,
) -> Iterator[pa.RecordBatch]:
    """The same as Arrow batches of the columns asked for (and `kafka_offset`): many times faster."""
    layout = Layout(root, topic, partition, tree)
    following, overtaken = start, Overtaken()
    while True:
        marks = read_marks(layout)
        gone = pa.array([mark.offset for mark in marks.forgotten if not mark.altered], pa.int64())
        check_kept(layout, start, following, marks)
        following = max(following, marks.retired)
        try:
            for path in layout.segments():
                # The start is the name's: what is needed for certain is fetched with its footer.
                file = File(path, whole=following <= int(path.stem) and (end is None or int(path.stem) < end))
                footer = read_footer(file)
                if footer.end <= following:
                    continue
                if end is not None and footer.start >= end:
                    break
                check_place(path, footer, layout)
                check_follows(path, footer, following, marks)
                # A compaction may have put more under this name since: that has its own turn.
                until = footer.end if end is None else min(end, footer.end)
                for batch in segment.read_batches(file, columns):
                    found = without(within(batch, following, until), gone)
                    if len(found):
                        yield found
                following = footer.end
        except Vanished as error:
            overtaken.look_again(error)
        else:
            check_end(layout, following, marks.end if end is None else min(end, marks.end), marks)
            return


def within(batch: pa.RecordBatch, start: int, end: int | None) -> pa.RecordBatch:
    """The part of a batch between two offsets."""
    offsets = batch.column(0).to_numpy()
    low = int(offsets.searchsorted(start))
    high = len(offsets) if end is None else int(offsets.searchsorted(end))
    return batch.slice(low, max(0, high - low))


def without(batch: pa.RecordBatch, gone: pa.Array) -> pa.RecordBatch:
    """A batch without the records of some offsets."""
    if not len(gone):
        return batch
    return batch.filter(pc.invert(pc.is_in(batch.column(0), gone)))


def check_place(path: Path, footer: Footer, layout: Layout) -> None:
    """Refuse another partition's file."""
    if (footer.topic, footer.partition) != (layout.topic, layout.partition):
        raise ArchiveDamaged(
            f"{path}: a file of {footer.topic}/{footer.partition}, in the folder of {layout.topic}/"
            f"{layout.partition}; put it where it belongs"
        )
    if path != layout.segment(footer.start):
        raise ArchiveDamaged(f"{path}: it begins at offset {footer.start}; give it that name")


def check_follows(path: Path, footer: Footer, following: int, marks: Marks) -> None:
    """Refuse a gap that no note explains."""
    if footer.start > following and not marks.explain(following, footer.start):
        raise ArchiveDamaged(
            f"{path}: offsets {following} to {footer.start - 1} are missing before it; restore them from a copy, or "
            "choose a range without them"
        )


def check_kept(layout: Layout, start: int, following: int, marks: Marks) -> None:
    """Refuse to pass over what retention took in the middle of a reading."""
    if start < following < marks.retired:
        gone = f"offsets {following} to {marks.retired - 1}"
        raise ArchiveDamaged(
            f"{layout.data}: {gone} were deleted by retention while they were read; choose a later range"
        )


def check_end(layout: Layout, following: int, end: int, marks: Marks) -> None:
    """Refuse files that do not reach as far as they once did."""
    if following < end and not marks.explain(following, end):
        raise ArchiveDamaged(
            f"{layout.data}: offsets {following} to {end - 1} are missing at its end; restore them from a copy"
        )


def summary(root: Path) -> Summary:
    """Files, rows and bytes under an archive's root. Raises ArchiveDamaged."""

    def look() -> Summary:
        paths = [path for held in partitions(root, tree=NOW) for path in held.segments()]
        rows = size = 0
        for path in paths:
            file = File(path, whole=False)
            rows, size = rows + read_footer(file).count, size + bytes_of(file)
        return Summary(len(paths), rows, size)

    return undisturbed(look)
