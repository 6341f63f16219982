"""Blocks of scores as a table that SQL can read: one row per score, or per reason why there is none."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from schemas.blocks import ScoreBlock, decode_scores, offsets_of, scores_of
from schemas.errors import UnreadableRecord
from streams.archive.derived import write_derived
from streams.archive.layout import NOW, partitions
from streams.archive.reader import read_partition
from streams.archive.segment import ROW_GROUP, Record

TABLE = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("raw_offset", pa.int64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("error", pa.string()),
        pa.field("log_time_ms", pa.int64(), nullable=False),
        pa.field("scores_offset", pa.int64(), nullable=False),
    ]
)
Row = tuple[int, int, str, str, float | None, str | None, int, int]


def write_scores(root: Path, topic: str, out: Path) -> int:
    """Write the table; it is whole or not there. Returns its rows; raises ArchiveDamaged, ConfigurationRefused."""
    groups = (
        pa.table([list(column) for column in zip(*rows, strict=True)], schema=TABLE) for rows in _grouped(root, topic)
    )
    return write_derived(out, TABLE, groups)


def _grouped(root: Path, topic: str) -> Iterator[list[Row]]:
    held: list[Row] = []
    for layout in partitions(root):
        if (layout.topic, layout.tree) != (topic, NOW):
            continue
        for record in read_partition(root, topic, layout.partition):
            held += rows_of(record, layout.partition)
            if len(held) >= ROW_GROUP:
                yield held
                held = []
    if held:
        yield held


def rows_of(record: Record, partition: int) -> Iterator[Row]:
    """One record of `scores` as rows; what is no block of scores has none."""
    try:
        block = decode_scores(record.value)
    except UnreadableRecord:
        return
    if not isinstance(block, ScoreBlock):
        return
    about = (record.timestamp_ms, record.offset)
    for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
        yield (partition, offset, block.model, block.version, score, None, *about)
    for row in block.errors:
        yield (partition, row.offset, block.model, block.version, None, row.reason, *about)
