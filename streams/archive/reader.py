"""Reads an archive back: by start offset, overlap skipped, a gap that no marker explains refused."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, json

from streams.archive.layout import Layout
from streams.archive.segment import ArchiveDamaged, Record, read_footer, read_records
from streams.archive.writer import Gap


class Summary(Struct, frozen=True):
    """What an archive holds."""

    files: int
    rows: int
    bytes: int


def read_partition(root: Path, topic: str, partition: int) -> Iterator[Record]:
    """All records of one partition, each offset once; raises ArchiveDamaged naming file and range."""
    layout = Layout(root, topic, partition)
    marked = [json.decode(path.read_bytes(), type=Gap) for path in layout.staging.glob("gap-*.json")]
    following: int | None = None
    for path in layout.segments():
        footer = read_footer(path)
        if following is not None and footer.start > following and not _explained(marked, following, footer.start):
            raise ArchiveDamaged(f"{path}: offsets {following} to {footer.start - 1} are missing before it")
        for record in read_records(path):
            if following is None or record.offset >= following:
                yield record
        following = max(following or 0, footer.end)


def summary(root: Path) -> Summary:
    """Files, rows and bytes under an archive's root."""
    paths = sorted((root / "data").glob("topic=*/partition=*/*.parquet"))
    rows = sum(read_footer(path).count for path in paths)
    return Summary(len(paths), rows, sum(path.stat().st_size for path in paths))


def _explained(gaps: list[Gap], start: int, end: int) -> bool:
    return any(gap.start <= start and gap.end >= end for gap in gaps)
