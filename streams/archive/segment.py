"""One segment: contiguous records of one partition in one Parquet file, exact to the byte.

The schema is declared once, never inferred, so that every file has the same columns. Pages carry checksums, and
the whole file a seal: any flipped bit is found when the file is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from schemas.errors import RendezvousError
from streams.archive import seal
from streams.archive.file import File, file_of

FORMAT = "1"
ROW_GROUP = 50_000
BATCH = 4_096
"""Rows read at a time: as quick as more, in a fraction of the memory."""

SCHEMA = pa.schema(
    [
        pa.field("kafka_offset", pa.int64(), nullable=False),
        pa.field("kafka_timestamp_ms", pa.int64(), nullable=False),
        pa.field("kafka_timestamp_type", pa.int8(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field(
            "headers",
            pa.list_(pa.struct([pa.field("k", pa.string(), nullable=False), pa.field("v", pa.binary())])),
        ),
    ]
)


UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What pyarrow raises on a damaged file: its own errors, and those of the texts and numbers in the footer."""


class ArchiveDamaged(RendezvousError):
    """A file of the archive is not what was written, or one is missing."""

    exit_code = 3


class Vanished(ArchiveDamaged):
    """A file was there and is not any more: a compaction took it into another, or somebody deleted it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: it is not there any more; restore it from a copy")
        self.path = path


class Footer(Struct, frozen=True):
    """What a file says of itself; `end` is the offset after its last record, `last` that record's own."""

    topic: str
    partition: int
    start: int
    end: int
    count: int
    topic_id: str
    writer: str
    last: int

    def metadata(self) -> dict[str, str]:
        """As Parquet keeps it; `sealed` says that there must be a seal."""
        words = {name: str(getattr(self, name)) for name in self.__struct_fields__}
        return {"format": FORMAT, "sealed": "1", **words}


Headers = list[tuple[str, bytes | None]]


class Record(Struct, frozen=True):
    """One archived record, as it was on the topic."""

    offset: int
    timestamp_ms: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


def table_of(columns: Sequence[Sequence[Any]]) -> pa.Table:
    """Columns in the schema's order as one table of the declared types."""
    plain = [pa.array(column, field.type) for column, field in zip(columns[:5], SCHEMA, strict=False)]
    return pa.Table.from_arrays([*plain, _headers(columns[5])], schema=SCHEMA)


WRITING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "write_page_checksum": True,
    "use_dictionary": False,
    "store_schema": True,
}


def file_parts(table: pa.Table, footer: Footer) -> Iterator[memoryview]:
    """The whole file, in memory: it is at most as large as what was buffered."""
    return sealed_parts(table.replace_schema_metadata(footer.metadata()))


def sealed_parts(table: pa.Table) -> Iterator[memoryview]:
    """A table with its metadata as a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP, **WRITING)
    return seal.sealed(memoryview(sink.getvalue()))


def read_footer(asked: Path | File) -> Footer:
    """What the file says of itself; raises ArchiveDamaged when it says nothing readable."""
    source = file_of(asked, whole=False)
    path = source.path
    try:
        with source.opened() as file:
            return _footer(path, file)
    except FileNotFoundError as error:
        raise Vanished(path) from error
    except UNREADABLE as error:
        raise ArchiveDamaged(f"{path}: no readable Parquet file ({error!r}); restore it from a copy") from error


def bytes_of(asked: Path | File) -> int:
    """A file's size; raises Vanished."""
    source = file_of(asked, whole=False)
    try:
        return source.bytes
    except FileNotFoundError as error:
        raise Vanished(source.path) from error


def times_of(asked: Path | File) -> tuple[int, int] | None:
    """Earliest and latest log time of a file, by its sealed footer; None when it says none. Raises ArchiveDamaged."""
    source = file_of(asked, whole=False)
    path = source.path
    try:
        with source.opened() as file:
            _footer(path, file)
            about = pq.read_metadata(file)
    except FileNotFoundError as error:
        raise Vanished(path) from error
    except UNREADABLE as error:
        raise ArchiveDamaged(f"{path}: no readable Parquet file ({error!r}); restore it from a copy") from error
    found = [about.row_group(number).column(1).statistics for number in range(about.num_row_groups)]
    if not found or any(one is None or not one.has_min_max for one in found):
        return None
    return min(one.min for one in found), max(one.max for one in found)


def read_batches(asked: Path | File, columns: Sequence[str] = tuple(SCHEMA.names)) -> Iterator[pa.RecordBatch]:
    """The records of one file, `kafka_offset` always among the columns; raises ArchiveDamaged.

    A file of an earlier version has no seal: columns and offsets are held against what is declared, too.
    """
    wanted = [name for name in SCHEMA.names if name in {"kafka_offset", *columns}]
    source, count, last = file_of(asked, whole=True), 0, -1
    path = source.path
    try:
        with source.opened(whole=True) as file:
            footer = _footer(path, file)
            if not seal.pages_are_whole(file):
                raise ArchiveDamaged(
                    f"{path}: offsets {footer.start} to {footer.end - 1} are not as they were sealed; restore "
                    "the file from a copy"
                )
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            if not parquet.schema_arrow.equals(SCHEMA):
                raise ArchiveDamaged(f"{path}: its columns are not an archive's; restore it from a copy")
            last = footer.start - 1
            for batch in parquet.iter_batches(BATCH, columns=wanted):
                offsets = batch.column(0).to_numpy()
                if not len(offsets):
                    continue
                if offsets[0] <= last or np.any(np.diff(offsets) <= 0):
                    raise ArchiveDamaged(f"{path}: offsets after {last} do not rise; restore it from a copy")
                count, last = count + len(offsets), int(offsets[-1])
                yield batch
    except FileNotFoundError as error:
        raise Vanished(path) from error
    except UNREADABLE as error:
        raise ArchiveDamaged(
            f"{path}: no readable file, or a page after offset {last} is damaged ({error!r}); restore it from a copy"
        ) from error
    if (count, last) != (footer.count, footer.last):
        raise ArchiveDamaged(
            f"{path}: {count} records up to {last}, where {footer.count} up to {footer.last} were written; "
            "restore it from a copy"
        )


def records_of(batch: pa.RecordBatch) -> Iterator[Record]:
    """The records of a batch of all columns."""
    *plain, headers = batch.columns
    yield from map(Record, *(column.to_pylist() for column in plain), _pairs(headers))


def _pairs(column: Any) -> Iterator[Headers | None]:
    """Each record's headers; a list of dicts for every record would cost more than all else together."""
    if column.null_count == len(column):
        yield from [None] * len(column)
        return
    pairs, ends = column.values, column.offsets.to_pylist()
    names, values = pairs.field(0).to_pylist(), pairs.field(1).to_pylist()
    for place, there in enumerate(column.is_valid().to_pylist()):
        start, end = ends[place], ends[place + 1]
        yield list(zip(names[start:end], values[start:end], strict=True)) if there else None


def _headers(found: Sequence[Headers | None]) -> pa.Array:
    """Flat arrays and where each record's begin: a dictionary per header would cost more than all the rest."""
    kind = SCHEMA.field("headers").type
    if not any(found):
        if None not in found:
            return pa.array([[]] * len(found), kind)
        if all(one is None for one in found):
            return pa.nulls(len(found), kind)
    lengths = np.fromiter((len(one or ()) for one in found), np.int32, len(found))
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    pairs = [pair for one in found if one for pair in one]
    names = pa.array([name for name, _ in pairs], pa.string())
    values = pa.array([value for _, value in pairs], pa.binary())
    structs = pa.StructArray.from_arrays([names, values], fields=list(kind.value_type))
    absent = pa.array([one is None for one in found], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(starts), structs, type=kind, mask=absent)


def _footer(path: Path, file: BinaryIO) -> Footer:
    whole = seal.footer_is_whole(file)
    found = {k.decode(): v.decode() for k, v in (pq.read_metadata(file).metadata or {}).items()}
    if whole is False or (whole is None and "sealed" in found):
        raise ArchiveDamaged(f"{path}: its footer is not as it was sealed; restore it from a copy")
    if found.get("format") != FORMAT:
        raise ArchiveDamaged(
            f"{path}: format {found.get('format')!r}; this program reads format {FORMAT}: upgrade it, or take the "
            "file away if it is no archive's"
        )
    numbers = {name: int(found[name]) for name in ("partition", "start", "end", "count")}
    last = int(found.get("last", numbers["end"] - 1))
    return Footer(found["topic"], topic_id=found["topic_id"], writer=found["writer"], last=last, **numbers)
