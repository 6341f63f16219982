"""Small files merged into large ones: contiguous, closed for a while, and never the last.

The merged file takes the first one's name, then the others are deleted. Between the two the same records lie in two
files, which every reader of ours skips; a compaction that was killed there is finished by the next.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from streams.archive.file import File
from streams.archive.layout import Layout
from streams.archive.reader import within
from streams.archive.rewriting import Hold, alone, rewrite
from streams.archive.seal import pages_are_whole
from streams.archive.segment import Footer, read_batches, read_footer
from streams.archive.store import store_of
from streams.kill_points import reached

TARGET_BYTES = 256 << 20
CLOSED_S = 3600.0


class Merged(Struct, frozen=True):
    """What one merge did: `files` became the one that is named."""

    path: Path
    files: int
    start: int
    end: int


def compact(
    layout: Layout, now_s: float, *, target_bytes: int = TARGET_BYTES, closed_s: float = CLOSED_S
) -> Iterator[Merged]:
    """Merge what can be merged in one partition, a run of files at a time; raises ArchiveDamaged, ArchiveBusy."""
    with alone(layout) as hold:
        _finish(hold)
        for run in runs(hold, now_s - closed_s, target_bytes):
            yield merge(hold, run)


def runs(hold: Hold, before_s: float, target_bytes: int) -> list[list[tuple[Path, Footer]]]:
    """Neighbours that together are no larger than the target, all written before a time (the disk's clock)."""
    found: list[list[tuple[Path, Footer]]] = []
    run: list[tuple[Path, Footer]] = []
    size = 0
    for path in hold.layout.segments()[:-1]:
        about = hold.see(path, whole=False)
        footer, size_there = read_footer(about), about.bytes
        follows = bool(run) and footer.start <= run[-1][1].end and footer.topic_id == run[-1][1].topic_id
        if not follows or size + size_there > target_bytes:
            found.append(run)
            run, size = [], 0
        if about.modified_s <= before_s and size_there <= target_bytes:
            run.append((path, footer))
            size += size_there
    return [run for run in [*found, run] if len(run) > 1]


def merge(hold: Hold, run: list[tuple[Path, Footer]]) -> Merged:
    """Several files become one."""
    layout = hold.layout
    first, end = run[0][1], max(footer.end for _, footer in run)
    rewrite(hold, _rows(run), replace(first, end=end), "compact")
    for path, _ in reversed(run[1:]):
        hold.delete(path)
        reached("compact.after_delete")
    store_of(layout.root).settle(layout.data)
    return Merged(layout.segment(first.start), len(run), first.start, end)


def _rows(run: list[tuple[Path, Footer]]) -> Iterator[pa.RecordBatch]:
    following = 0
    for path, footer in run:
        for batch in read_batches(path):
            if len(found := within(batch, following, None)):
                yield found
        following = max(following, footer.end)


def _finish(hold: Hold) -> None:
    """Delete what a killed compaction had merged already: files that lie wholly in an earlier one that is sound."""
    found = [(path, read_footer(hold.see(path, whole=False))) for path in hold.layout.segments()]
    whole = found[0] if found else None
    for (path, footer), _ in pairwise(found):  # never the last
        if whole is None or footer.end > whole[1].end:
            whole = (path, footer)
        elif path != whole[0] and _sound(whole[0]):
            hold.delete(path)


def _sound(path: Path) -> bool:
    with File(path).opened(whole=True) as file:
        return pages_are_whole(file)
