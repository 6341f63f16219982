"""Parquet -> chunks of the records that are wanted, each file held against what it says of itself.

Before anything is sent every file of the range is looked at: a gap, a newer format or another pipeline's file is an
error while nothing is done yet. A damaged page is found when it is read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct, json

from schemas.errors import RendezvousError
from streams.archive.layout import Layout, encoded
from streams.archive.segment import SCHEMA, UNREADABLE, ArchiveDamaged, Footer, read_footer
from streams.archive.writer import Gap
from streams.core.replay import IdField, Rewrite
from streams.core.replay_order import Chunk, Selection, Span
from streams.core.validator import minted

CHUNK_ROWS = 4096
TIME = SCHEMA.get_field_index("kafka_timestamp_ms")

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Advance = Callable[[int], None]
Times = tuple[int, int]


class NothingThere(RendezvousError):
    """The archive has nothing of what is asked for."""


class File(Struct, frozen=True):
    """One file that is to be read; `first` is the first offset wanted of it."""

    path: Path
    footer: Footer
    first: int


class Part(Struct, frozen=True):
    """What is to be read of one partition: its files, and ranges that are missing between or around them."""

    number: int
    span: Span
    files: tuple[File, ...]
    missing: tuple[str, ...]
    explained: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Records in the files."""
        return sum(file.footer.count for file in self.files)


def parts_of(root: Path, topic: str, selection: Selection) -> list[Part]:
    """What is to be read, partition by partition; raises NothingThere and ArchiveDamaged, naming file and range."""
    folder = root / "data" / f"topic={encoded(topic)}"
    numbers = sorted(int(path.name.partition("=")[2]) for path in folder.glob("partition=*"))
    numbers = [number for number in numbers if Layout(root, topic, number).segments()]
    if not numbers:
        raise NothingThere(_nothing(root, topic))
    for span in selection.spans:
        if span.partition not in numbers:
            known = ", ".join(map(str, numbers))
            raise NothingThere(f"{folder}: no partition {span.partition} (offsets {span}); there are {known}")
    wanted = [(number, selection.span(number)) for number in numbers]
    return [_part(Layout(root, topic, number), span, selection) for number, span in wanted if span is not None]


def _nothing(root: Path, topic: str) -> str:
    others = sorted(unquote(path.name.partition("=")[2]) for path in (root / "data").glob("topic=*"))
    if others:
        return (
            f"{root}: no record of {topic}; it is an archive of {', '.join(others)}. Name their pipeline with "
            "--pipeline, or another folder with --archive"
        )
    return f"{root}: the archive is empty. Has its archiver run (`rendezvous up`, files close after max_age_s)?"


def _part(layout: Layout, span: Span, selection: Selection) -> Part:
    gaps = [json.decode(path.read_bytes(), type=Gap) for path in sorted(layout.staging.glob("gap-*.json"))]
    files: list[File] = []
    missing: list[str] = []
    explained: list[str] = []
    following: int | None = span.first if selection.spans else None
    timed = selection.since_ms is not None or selection.until_ms is not None
    latest_ms = 0
    for path in layout.segments():
        footer = read_footer(path)
        _check_owner(path, footer, layout)
        if following is not None and footer.end <= following:
            continue
        if span.last is not None and footer.start > span.last:
            break
        times = _times(path) if timed else None
        # What is missing lies between the times of its neighbours: it may not be in the range at all.
        hole_times = (latest_ms, times[0]) if times else None
        if following is not None and footer.start > following and not _outside(hole_times, selection):
            marked = any(gap.start <= following and gap.end >= footer.start for gap in gaps)
            hole = f"{path}: offsets {following} to {footer.start - 1} are missing before it"
            (explained if marked else missing).append(hole)
        if not _outside(times, selection):
            files.append(File(path, footer, max(footer.start, following or 0)))
        following, latest_ms = footer.end, times[1] if times else 0
    if span.last is not None and (following or 0) <= span.last:
        missing.append(f"{layout.data}: offsets {following} to {span.last} are not in the archive")
    return Part(layout.partition, span, tuple(files), tuple(missing), tuple(explained))


def _check_owner(path: Path, footer: Footer, layout: Layout) -> None:
    if (footer.topic, footer.partition) != (layout.topic, layout.partition):
        raise ArchiveDamaged(
            f"{path}: holds offsets {footer.start} to {footer.end - 1} of {footer.topic}/{footer.partition} and lies "
            f"among those of {layout.topic}/{layout.partition}; move it where it belongs"
        )


def _times(path: Path) -> Times | None:
    """The earliest and latest timestamp of a file by its own statistics; None when it has none."""
    metadata = pq.read_metadata(path)
    found = [metadata.row_group(number).column(TIME).statistics for number in range(metadata.num_row_groups)]
    if not found or any(one is None or not one.has_min_max for one in found):
        return None
    return min(one.min for one in found), max(one.max for one in found)


def _outside(times: Times | None, selection: Selection) -> bool:
    """Whether nothing between these instants is wanted."""
    if times is None:
        return False
    before = selection.since_ms is not None and times[1] < selection.since_ms
    return before or (selection.until_ms is not None and times[0] >= selection.until_ms)


def check_pages(parts: Iterable[Part]) -> None:
    """Read every page that would be read; raises ArchiveDamaged."""
    for part in parts:
        for file in part.files:
            for _ in _batches(file):
                pass


class Source:
    """The wanted records of an archive, as chunks; counts what it finds."""

    def __init__(
        self, selection: Selection, id_field: IdField, matches: Mapping[int, Numbers] | None, prefix: str = ""
    ) -> None:
        self.selected = 0
        self._rewrite = id_field.rewriter(prefix) if prefix else None
        self.found_ids: set[str] = set()
        self._selection = selection
        self._ids = frozenset(selection.ids)
        self._id_field = id_field
        self._matches = matches

    def chunks(self, part: Part, after: int, advance: Advance) -> Iterator[Chunk]:
        """The wanted records of a partition from offset `after` on (what lies before is counted, and left out)."""
        for file in part.files:
            for batch in _batches(file):
                advance(batch.num_rows)
                wanted = self._wanted(batch, part, file.first)
                if self._ids:
                    wanted = self._by_id(part.number, wanted)
                self.selected += wanted.num_rows
                left = _from(wanted, after)
                if left.num_rows:
                    yield _chunk(part.number, left, self._rewrite)

    def _wanted(self, batch: pa.RecordBatch, part: Part, first: int) -> pa.RecordBatch:
        """What offsets, times and the condition leave; nothing is copied when that is all of it."""
        offsets: Numbers = batch.column(0).to_numpy()
        at_ms: Numbers = batch.column(1).to_numpy()
        selection = self._selection
        keep = offsets >= first
        if part.span.last is not None:
            keep &= offsets <= part.span.last
        if selection.since_ms is not None:
            keep &= at_ms >= selection.since_ms
        if selection.until_ms is not None:
            keep &= at_ms < selection.until_ms
        if self._matches is not None:
            keep &= np.isin(offsets, self._matches.get(part.number, np.empty(0, dtype=np.int64)))
        return batch if keep.all() else batch.filter(pa.array(keep))

    def _by_id(self, partition: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What has a wanted id; one that its producer gave none has the id it was answered under."""
        read, wanted = self._id_field.read, self._ids
        pairs = zip(_list(batch.column(0)), _list(batch.column(4)), strict=True)
        ids = [read(value) or minted(partition, offset) for offset, value in pairs]
        keep = [found in wanted for found in ids]
        self.found_ids.update(wanted.intersection(ids))
        return batch.filter(pa.array(keep, pa.bool_()))


def _batches(file: File) -> Iterator[pa.RecordBatch]:
    """All of a file, a few thousand rows at a time, in our columns; raises ArchiveDamaged with file and range."""
    footer, count, last = file.footer, 0, file.footer.start - 1
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as opened:
            if opened.schema_arrow.names[: len(SCHEMA)] != SCHEMA.names:
                raise ArchiveDamaged(f"{file.path}: its columns are not an archive's; restore it from a copy")
            for batch in opened.iter_batches(CHUNK_ROWS, columns=SCHEMA.names):
                offsets: Numbers = batch.column(0).to_numpy()
                if len(offsets) and (offsets[0] <= last or (np.diff(offsets) <= 0).any()):
                    raise ArchiveDamaged(f"{file.path}: offsets do not rise after {last}; restore it from a copy")
                count, last = count + len(offsets), int(offsets[-1]) if len(offsets) else last
                yield batch
    except UNREADABLE as error:
        raise ArchiveDamaged(
            f"{file.path}: offsets {last + 1} to {footer.end - 1} cannot be read, a page is damaged ({error!r}); "
            "restore the file from a copy"
        ) from error
    if (count, last) != (footer.count, footer.last):
        raise ArchiveDamaged(
            f"{file.path}: {count} records up to {last}, where {footer.count} up to {footer.last} were written; "
            "restore it from a copy"
        )


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
