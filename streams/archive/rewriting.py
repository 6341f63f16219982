"""A file put in another's place: how compaction and `forget` write, and nobody else.

The order: a temporary file, sealed, fsynced and read back; then it takes the old name at once. Whoever is killed
leaves a temporary file, which the next one under the lock removes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.disk import trouble_named
from streams.archive.layout import Layout
from streams.archive.seal import seal_file
from streams.archive.segment import ROW_GROUP, SCHEMA, WRITING, Footer, read_batches
from streams.archive.store import store_of
from streams.kill_points import reached

GROUP_BYTES = 32 << 20
"""A row group's bytes: what rewriting holds in memory."""


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """The only one who rewrites this partition. Raises ArchiveBusy."""
    with store_of(layout.root).locked(layout.staging / "rewriting.lock"):
        yield


def rewrite(layout: Layout, batches: Iterable[pa.RecordBatch], like: Footer, stage: str) -> Footer:
    """Put a file of these records where the file that begins at `like.start` is; `like.end` is where it ends."""
    final, store = layout.segment(like.start), store_of(layout.root)
    with trouble_named(final), store.workshop(layout.staging) as folder:
        temporary = folder / f"{like.start:019d}.part"
        try:
            footer = _write(temporary, batches, like)
            reached(f"{stage}.written")
            for _ in read_batches(temporary):
                pass  # what takes the others' place must be readable to its end
            store.replace(temporary, final)
            reached(f"{stage}.after_replace")
        finally:
            temporary.unlink(missing_ok=True)
    return footer


def _write(path: Path, batches: Iterable[pa.RecordBatch], like: Footer) -> Footer:
    count, last = 0, like.start - 1
    with pq.ParquetWriter(path, SCHEMA, **WRITING) as writer:
        for table in grouped(batches):
            count, last = count + len(table), table.column(0)[-1].as_py()
            writer.write_table(table, row_group_size=ROW_GROUP)
        footer = Footer(like.topic, like.partition, like.start, like.end, count, like.topic_id, like.writer, last)
        writer.add_key_value_metadata(footer.metadata())
    seal_file(path)
    return footer


def grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches gathered into row groups, bounded in rows and bytes."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROW_GROUP or sum(one.nbytes for one in held) >= GROUP_BYTES:
            yield pa.Table.from_batches(held, SCHEMA)
            held = []
    if held:
        yield pa.Table.from_batches(held, SCHEMA)
