"""One segment: contiguous records of one partition in one Parquet file, exact to the byte.

The schema is declared once, never inferred, so that every file has the same columns. Pages carry checksums:
any flipped bit is found when the file is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from schemas.errors import RendezvousError

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


class Footer(Struct, frozen=True):
    """What a file says of itself; `end` is the offset after its last record."""

    topic: str
    partition: int
    start: int
    end: int
    count: int
    topic_id: str
    writer: str

    def metadata(self) -> dict[str, str]:
        """As Parquet keeps it."""
        return {"format": FORMAT, **{name: str(getattr(self, name)) for name in self.__struct_fields__}}


Headers = list[tuple[str, bytes | None]]


class Record(Struct, frozen=True):
    """One archived record, as it was on the topic."""

    offset: int
    timestamp_ms: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Columns:
    """Records on their way into a file, column by column."""

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

    def append(self, record: Record) -> None:
        """Add one record; offsets rise."""
        self.offsets.append(record.offset)
        self.timestamps.append(record.timestamp_ms)
        self.timestamp_types.append(record.timestamp_type)
        self.keys.append(record.key)
        self.values.append(record.value)
        self.headers.append(record.headers)
        self.bytes += len(record.key or b"") + len(record.value or b"") + 64
        if record.headers:
            self.bytes += sum(len(name) + len(value or b"") for name, value in record.headers)

    def table(self, footer: Footer) -> pa.Table:
        """All records as one table of the declared schema."""
        columns = [
            self.offsets,
            self.timestamps,
            self.timestamp_types,
            self.keys,
            self.values,
            [None if found is None else [{"k": k, "v": v} for k, v in found] for found in self.headers],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(footer.metadata()))


def write_table(table: pa.Table, path: Path) -> None:
    """Write one file; raises OSError as the disk does."""
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=1,
        row_group_size=ROW_GROUP,
        write_page_checksum=True,
        use_dictionary=False,
        store_schema=True,
    )


def read_footer(path: Path) -> Footer:
    """What the file says of itself; raises ArchiveDamaged when it says nothing readable."""
    try:
        found = {k.decode(): v.decode() for k, v in (pq.read_metadata(path).metadata or {}).items()}
        if found.get("format") != FORMAT:
            raise ArchiveDamaged(f"{path}: format {found.get('format')!r}; this program reads {FORMAT}, upgrade it")
        fields: dict[str, Any] = {name: found[name] for name in Footer.__struct_fields__}
        return Footer(**fields | {name: int(fields[name]) for name in ("partition", "start", "end", "count")})
    except UNREADABLE as error:
        raise ArchiveDamaged(f"{path}: no readable Parquet file ({error!r}); restore it from a copy") from error


def read_records(path: Path) -> Iterator[Record]:
    """The records of one file; raises ArchiveDamaged.

    Parquet's checksums cover its pages but not its footer, so columns and offsets are held against what is declared.
    """
    footer = read_footer(path)
    count, last = 0, footer.start - 1
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise ArchiveDamaged(f"{path}: its columns are not an archive's; restore it from a copy")
            for batch in file.iter_batches(BATCH, columns=SCHEMA.names):
                for record in _records(batch):
                    count, before, last = count + 1, last, record.offset
                    if last <= before:
                        raise ArchiveDamaged(f"{path}: offset {last} follows {before}; restore it from a copy")
                    yield record
    except UNREADABLE as error:
        raise ArchiveDamaged(f"{path}: a page is damaged ({error!r}); restore the file from a copy") from error
    if (count, last + 1) != (footer.count, footer.end):
        raise ArchiveDamaged(
            f"{path}: {count} records up to {last}, where {footer.count} up to {footer.end - 1} were written; "
            "restore it from a copy"
        )


def _records(batch: pa.RecordBatch) -> Iterator[Record]:
    *columns, headers = batch.columns
    for offset, at_ms, kind, key, value, pairs in zip(
        *(column.to_pylist() for column in columns), _headers(headers), strict=True
    ):
        yield Record(offset, at_ms, kind, key, value, pairs)


def _headers(column: Any) -> Iterator[Headers | None]:
    """Each record's headers; a list of dicts for every record would cost more than all else together."""
    if column.null_count == len(column):
        yield from [None] * len(column)
        return
    pairs = column.values
    names, values = pairs.field(0).to_pylist(), pairs.field(1).to_pylist()
    ends = column.offsets.to_pylist()
    for place, there in enumerate(column.is_valid().to_pylist()):
        start, end = ends[place], ends[place + 1]
        yield list(zip(names[start:end], values[start:end], strict=True)) if there else None
