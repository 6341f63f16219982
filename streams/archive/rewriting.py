"""A file put in another's place, or deleted: how compaction, `forget` and retention do it, and nobody else.

The order: a temporary file, sealed, fsynced and read back; then it takes the old name at once. Whoever is killed
leaves a temporary file, which the next one under the lock removes.

In a bucket a lock is lost by who stands still. So a file's version is noted before it is read, and each step asks
for the lock, and then concerns that version only: who comes back overwrites and deletes nothing of others. What is
left: a merge that stands still between the two for longer than a lease, while `forget` rewrites another file of its
run, brings back what was forgotten. It ends with an error, and `forget` can be run again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.disk import trouble_named
from streams.archive.file import File
from streams.archive.layout import Layout
from streams.archive.seal import seal_file
from streams.archive.segment import ROW_GROUP, SCHEMA, WRITING, Footer, Vanished, read_batches
from streams.archive.store import store_of
from streams.kill_points import reached

GROUP_BYTES = 32 << 20
"""A row group's bytes: what rewriting holds in memory."""


class Hold:
    """What the only one who rewrites a partition may do. Its steps raise ArchiveBusy when that is over."""

    def __init__(self, layout: Layout, still_ours: Callable[[], None]) -> None:
        self.layout, self._ask = layout, still_ours
        self._store = store_of(layout.root)
        self._seen: dict[Path, str | None] = {}

    def still_ours(self) -> None:
        """Raise ArchiveBusy when it is not, DiskTrouble when that cannot be told."""
        with trouble_named(self.layout.staging):
            self._ask()

    def see(self, path: Path, *, whole: bool = True) -> File:
        """The file to read what a step will rest on, its version noted; of large ones the footer, or the `whole`."""
        file = File(path, whole=whole)
        self._seen[path] = file.version
        return file

    def seen(self, path: Path) -> str | None:
        """The version that was noted."""
        return self._seen[path]

    def replace(self, temporary: Path, final: Path) -> None:
        """A finished file takes the place of the one that was seen."""
        self.still_ours()
        self._store.replace(temporary, final, self._seen[final])

    def delete(self, path: Path) -> None:
        """The file that was seen goes."""
        self.still_ours()
        with trouble_named(path):
            self._store.remove(path, self._seen[path])


@contextmanager
def alone(layout: Layout) -> Iterator[Hold]:
    """The only one who rewrites this partition. Raises ArchiveBusy, DiskTrouble."""
    with trouble_named(layout.staging), store_of(layout.root).locked(layout.staging / "rewriting.lock") as still_ours:
        hold = Hold(layout, still_ours)
        try:
            yield hold
        except Vanished:
            hold.still_ours()  # else whoever took over has merged it away
            raise


def rewrite(hold: Hold, batches: Iterable[pa.RecordBatch], like: Footer, stage: str) -> Footer:
    """Put a file of these records where the file that begins at `like.start` is; `like.end` is where it ends."""
    layout = hold.layout
    final, store = layout.segment(like.start), store_of(layout.root)
    with trouble_named(final), store.workshop(layout.staging) as folder:
        temporary = folder / f"{like.start:019d}.part"
        try:
            footer = _write(temporary, batches, like)
            reached(f"{stage}.written")
            for _ in read_batches(temporary):
                pass  # what takes the others' place must be readable to its end
            hold.replace(temporary, final)
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
