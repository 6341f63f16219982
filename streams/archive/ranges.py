"""The records of a time range of one partition, or an error that names file and range: never half of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from msgspec import json

from schemas.errors import ConfigurationRefused
from streams.archive.layout import Layout
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.writer import Gap


@dataclass(frozen=True, slots=True)
class Period:
    """From `since_ms` up to before `until_ms`, by log time; None is open."""

    since_ms: int | None = None
    until_ms: int | None = None

    def __post_init__(self) -> None:
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ConfigurationRefused(f"the range ends before it starts: {self}; swap --since and --until")

    def __str__(self) -> str:
        """As people write it."""
        since = "the beginning" if self.since_ms is None else iso(self.since_ms)
        return f"{since} to {'the end' if self.until_ms is None else iso(self.until_ms)}"

    def lacks(self, after_ms: int, before_ms: int) -> bool:
        """Whether records missing between these two log times may belong to it."""
        begins = self.since_ms is None or self.since_ms < before_ms
        return begins and (self.until_ms is None or self.until_ms > after_ms + 1)


def iso(at_ms: int) -> str:
    """A log time for people, UTC."""
    return datetime.fromtimestamp(at_ms / 1e3, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_period(root: Path, topic: str, partition: int, period: Period, before_ms: int = 0) -> Iterator[Record]:
    """The records of a period, and what lies up to `before_ms` before it; raises ArchiveDamaged.

    A gap within the period is refused though it is marked. Files are read from the first: times are inside them, and
    a file that is damaged is refused wherever it lies.
    """
    folder = Layout(root, topic, partition)
    gaps = _gaps(folder)
    since_ms = -1 if period.since_ms is None else period.since_ms - before_ms
    last: Record | None = None
    for record in read_partition(root, topic, partition):
        if last is not None and gaps:
            _refuse_gap(folder, gaps, period, last, record)
        if period.until_ms is not None and record.timestamp_ms >= period.until_ms:
            return
        if record.timestamp_ms >= since_ms:
            yield record
        last = record


def _refuse_gap(folder: Layout, gaps: list[Gap], period: Period, last: Record, record: Record) -> None:
    for gap in gaps:
        within = last.offset < gap.start and gap.end <= record.offset
        if within and period.lacks(last.timestamp_ms, record.timestamp_ms):
            raise ArchiveDamaged(
                f"{folder.data}: offsets {gap.start} to {gap.end - 1} are gone ({gap.why}): choose a range with "
                f"--until {iso(last.timestamp_ms + 1)} or --since {iso(record.timestamp_ms)}"
            )


def require(root: Path, topic: str, partitions: int) -> list[int]:
    """The partitions an archive holds of a topic; raises ConfigurationRefused when it holds none."""
    found = [number for number in range(partitions) if Layout(root, topic, number).segments()]
    if found:
        return found
    others = sorted({unquote(path.parent.parent.name.removeprefix("topic=")) for path in _files(root)})
    held = (
        f"it holds {', '.join(others)}: name that pipeline's file"
        if others
        else "it is empty: run the archiver first"
    )
    raise ConfigurationRefused(f"{root}: the archive holds nothing of {topic}; {held}")


def _files(root: Path) -> list[Path]:
    return list((root / "data").glob("topic=*/partition=*/*.parquet"))


def _gaps(layout: Layout) -> list[Gap]:
    return [json.decode(path.read_bytes(), type=Gap) for path in sorted(layout.staging.glob("gap-*.json"))]
