"""The archive -> chunks of the records that are wanted.

Before anything is sent every file of the range is looked at: a gap, a newer format or another pipeline's file is an
error while nothing is done yet. A damaged page is found when it is read, by the archive's own reader, which also
knows buckets and what a compaction moves meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from agents.replay.probes import ArchivedProbes
from schemas.errors import RendezvousError
from streams.archive.file import File
from streams.archive.layout import NOW, Layout, partitions
from streams.archive.marks import Marks, read_marks
from streams.archive.overtaken import undisturbed
from streams.archive.ranges import nothing_of
from streams.archive.reader import check_place, read_batches
from streams.archive.segment import ArchiveDamaged, read_footer, times_of
from streams.core.replay import IdField, Rewrite
from streams.core.replay_order import Chunk, Selection, Span
from streams.core.validator import minted

EVER_MS = 1 << 62

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Advance = Callable[[int], None]
Times = tuple[int, int]


class NothingThere(RendezvousError):
    """The archive has nothing of what is asked for."""


class Range(Struct, frozen=True):
    """Offsets from `start` to before `end` without a hole; `rows` records at most."""

    start: int
    end: int
    rows: int


class Part(Struct, frozen=True):
    """What is to be read of one partition, and ranges that are missing between or around it."""

    layout: Layout
    ranges: tuple[Range, ...]
    missing: tuple[str, ...]
    explained: tuple[str, ...]

    @property
    def number(self) -> int:
        """The partition."""
        return self.layout.partition

    @property
    def rows(self) -> int:
        """So many records at most."""
        return sum(one.rows for one in self.ranges)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of it, a few thousand rows at a time; raises ArchiveDamaged with file and range."""
        root, topic, number = self.layout.root, self.layout.topic, self.layout.partition
        for one in self.ranges:
            if one.start < (retired := read_marks(self.layout).retired):
                gone = f"offsets {one.start} to {min(one.end, retired) - 1}"
                raise ArchiveDamaged(
                    f"{self.layout.data}: {gone} were deleted by retention since they were chosen; take a later range"
                )
            yield from read_batches(root, topic, number, start=one.start, end=one.end)


def parts_of(root: Path, topic: str, selection: Selection) -> list[Part]:
    """What is to be read, partition by partition; raises NothingThere, ConfigurationRefused, ArchiveDamaged."""
    found = [layout for layout in partitions(root) if layout.tree == NOW]
    own = {layout.partition: layout for layout in found if layout.topic == topic and layout.segments()}
    if not own:
        raise nothing_of(root, topic, {layout.topic for layout in found if layout.segments()})
    for span in selection.spans:
        if span.partition not in own:
            known = ", ".join(map(str, own))
            raise NothingThere(f"{root}: no partition {span.partition} (offsets {span}); there are {known}")
    wanted = [(layout, selection.span(number)) for number, layout in own.items()]
    return [undisturbed(partial(_part, layout, span, selection)) for layout, span in wanted if span is not None]


class _Holes:
    """What is missing of a partition, as far as it may be wanted."""

    def __init__(self, marks: Marks, selection: Selection) -> None:
        self.missing: list[str] = []
        self.explained: list[str] = []
        self._marks = marks
        self._selection = selection

    def note(self, start: int, end: int, times: Times | None, what: str) -> None:
        """Offsets that are not there, between records of these times."""
        if start < end and not _outside(times, self._selection):
            (self.explained if self._marks.explain(start, end) else self.missing).append(what)


def _part(layout: Layout, span: Span, selection: Selection) -> Part:
    marks = read_marks(layout)
    holes = _Holes(marks, selection)
    ranges: list[Range] = []
    following: int | None = span.first if selection.spans else None
    beyond = EVER_MS if span.last is None else span.last + 1
    timed = selection.since_ms is not None or selection.until_ms is not None
    latest_ms = 0
    for path in layout.segments():
        file = File(path, whole=False)
        footer = read_footer(file)
        check_place(path, footer, layout)
        if following is not None and footer.end <= following:
            continue
        if footer.start >= beyond:
            break
        times = times_of(file) if timed else None
        if following is not None:
            # What is missing lies between the times of its neighbours: it may not be in the range at all.
            what = f"{path}: offsets {following} to {footer.start - 1} are missing before it"
            holes.note(following, footer.start, (latest_ms, times[0]) if times else None, what)
        if not _outside(times, selection):
            start, end = max(footer.start, following or 0), min(footer.end, beyond)
            _add(ranges, Range(start, end, min(footer.count, end - start)))
        following, latest_ms = footer.end, times[1] if times else 0
    _after(layout, span, marks, holes, following or 0, (latest_ms, EVER_MS) if latest_ms else None)
    return Part(layout, tuple(ranges), tuple(holes.missing), tuple(holes.explained))


def _add(ranges: list[Range], more: Range) -> None:
    """Files without a hole between them are one range."""
    if ranges and ranges[-1].end == more.start:
        last = ranges.pop()
        more = Range(last.start, more.end, last.rows + more.rows)
    ranges.append(more)


def _after(layout: Layout, span: Span, marks: Marks, holes: _Holes, following: int, times: Times | None) -> None:
    """What is missing at the end: files that are gone, or offsets that never were there."""
    if span.last is not None:
        what = f"{layout.data}: offsets {following} to {span.last} are not in the archive"
        holes.note(following, span.last + 1, None, what)
    else:
        what = f"{layout.data}: offsets {following} to {marks.end - 1} are missing at its end"
        holes.note(following, marks.end, times, what)


def _outside(times: Times | None, selection: Selection) -> bool:
    """Whether nothing between these instants is wanted."""
    if times is None:
        return False
    before = selection.since_ms is not None and times[1] < selection.since_ms
    return before or (selection.until_ms is not None and times[0] >= selection.until_ms)


class Source:
    """The wanted records of an archive, as chunks; counts what it finds."""

    def __init__(
        self,
        selection: Selection,
        id_field: IdField,
        matches: Mapping[int, Numbers] | None,
        prefix: str = "",
        probes: ArchivedProbes | None = None,
    ) -> None:
        self.selected = 0
        self.left_out = 0
        """Of `probes`, those that would have been selected."""
        self._probes = probes
        self._rewrite = id_field.rewriter(prefix) if prefix else None
        self.found_ids: set[str] = set()
        self._selection = selection
        self._ids = frozenset(selection.ids)
        self._id_field = id_field
        self._matches = matches

    def chunks(self, part: Part, after: int, advance: Advance) -> Iterator[Chunk]:
        """The wanted records of a partition from offset `after` on (what lies before is counted, and left out)."""
        for batch in part.batches():
            advance(batch.num_rows)
            wanted = self._wanted(batch, part.number)
            if self._ids:
                wanted = self._by_id(part.number, wanted)
            if self._probes is not None:
                wanted = self._but_probes(part.number, wanted, self._probes)
            self.selected += wanted.num_rows
            left = _from(wanted, after)
            if left.num_rows:
                yield _chunk(part.number, left, self._rewrite)

    def _but_probes(self, partition: int, batch: pa.RecordBatch, probes: ArchivedProbes) -> pa.RecordBatch:
        """What customers have asked; nothing is copied when that is all of it."""
        found = probes.among(partition, batch)
        self.left_out += int(found.sum())
        return batch.filter(pa.array(~found)) if found.any() else batch

    def _wanted(self, batch: pa.RecordBatch, partition: int) -> pa.RecordBatch:
        """What times and the condition leave; nothing is copied when that is all of it."""
        offsets: Numbers = batch.column(0).to_numpy()
        at_ms: Numbers = batch.column(1).to_numpy()
        selection = self._selection
        keep = np.ones(len(offsets), dtype=bool)
        if selection.since_ms is not None:
            keep &= at_ms >= selection.since_ms
        if selection.until_ms is not None:
            keep &= at_ms < selection.until_ms
        if self._matches is not None:
            keep &= np.isin(offsets, self._matches.get(partition, np.empty(0, dtype=np.int64)))
        return batch if keep.all() else batch.filter(pa.array(keep))

    def _by_id(self, partition: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What has a wanted id; one that its producer gave none has the id it was answered under."""
        read, wanted = self._id_field.read, self._ids
        pairs = zip(_list(batch.column(0)), _list(batch.column(4)), strict=True)
        ids = [read(value) or minted(partition, offset) for offset, value in pairs]
        keep = [found in wanted for found in ids]
        self.found_ids.update(wanted.intersection(ids))
        return batch.filter(pa.array(keep, pa.bool_()))


def _chunk(partition: int, batch: pa.RecordBatch, rewrite: Rewrite | None) -> Chunk:
    """Columns as lists: bytes are what the producer takes."""
    offsets, at_ms, _, keys, column, headers = batch.columns
    values = list(map(rewrite, _list(column))) if rewrite else _list(column)
    return Chunk(partition, _list(offsets), _list(at_ms), _list(keys), values, _headers(headers))


def _list(column: pa.Array) -> list[Any]:
    """By way of numpy: pyarrow's own `to_pylist` makes an object of its own per value, five times slower."""
    found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return found


def _headers(column: pa.ListArray) -> list[Any] | None:
    """Header lists cut from flat columns: a dictionary per header would cost more than all else."""
    flat = column.flatten()
    if len(flat) == 0:
        return None
    pairs = list(zip(_list(flat.field("k")), _list(flat.field("v")), strict=True))
    lengths = _list(column.value_lengths().fill_null(0))
    cut, place = [], 0
    for length in lengths:
        cut.append(pairs[place : place + length] if length else None)
        place += length
    return cut


def _from(batch: pa.RecordBatch, after: int) -> pa.RecordBatch:
    """What was not sent before."""
    return batch.slice(int(np.searchsorted(batch.column(0).to_numpy(), after)))
