"""An archive with what its topics hold beyond it: every record once, wherever it lies, and the archive as it was."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from agents.cli import newest
from agents.cli.newest import with_newest
from schemas.errors import ConfigurationRefused
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.store import open_root
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.clients import Cluster

TOPIC = "small.raw"
LIMITS = Limits(1_000, 1 << 20, 60.0)


@dataclass
class Message:
    """A record as a consumer hands it out; its type is counted from 1."""

    one: Record
    number: int

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.one.offset

    def timestamp(self) -> tuple[int, int]:
        return self.one.timestamp_type + 1, self.one.timestamp_ms

    def key(self) -> bytes | None:
        return self.one.key

    def value(self) -> bytes | None:
        return self.one.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.one.headers


class Topic:
    """Two partitions of 10 records each, from `low` on; `asked` is where it was read from."""

    low = 0
    asked: Mapping[int, int] = {}

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.topic = topic

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def bounds(self) -> dict[int, tuple[int, int]]:
        return dict.fromkeys((0, 1), (self.low, 10))

    def to_end(self, at: Mapping[int, int]) -> Iterator[Message]:
        type(self).asked = at
        for number, start in at.items():
            for offset in range(max(start, self.low), 10):
                yield Message(record(offset), number)


def record(offset: int) -> Record:
    return Record(offset, 1_000 + offset, 1, b"k", b"%d" % offset, [("h", b"1")] if offset % 2 else None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Partition 0 has six records in two files; partition 1 none."""
    monkeypatch.setattr(newest, "TopicReader", Topic)
    monkeypatch.setattr(Topic, "low", 0)
    writer = PartitionWriter(Layout(tmp_path / "archive", TOPIC, 0), LIMITS, "id", "w")
    for start in (0, 3):
        writer.append([record(offset) for offset in range(start, start + 3)], 0.0)
        writer.close_segment()
    return tmp_path / "archive"


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_record_is_there_once_and_the_archive_is_as_it_was(root: Path):
    before = tree(root)
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        for number in (0, 1):
            assert list(read_partition(whole, TOPIC, number)) == [record(offset) for offset in range(10)]
        assert Topic.asked == {0: 6, 1: 0}, "what is archived is not read again"
    assert tree(root) == before
    assert not whole.exists()


def test_where_the_topic_has_nothing_more_the_archive_is_enough(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Topic, "bounds", lambda self: {0: (0, 6)})
    monkeypatch.setattr(Topic, "to_end", lambda self, at: iter(()))
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        # The archiver goes on meanwhile: what it closes and notes is no loss to whoever reads this.
        writer = PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", "w")
        writer.append([record(6)], 0.0)
        writer.close_segment()
        assert [one.offset for one in read_partition(whole, TOPIC, 0)] == [0, 1, 2, 3, 4, 5]


def test_what_neither_has_is_a_gap_and_is_refused_where_it_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Topic, "low", 8)
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        later = list(read_period(whole, TOPIC, 0, Period(1_008)))
        assert [one.offset for one in later] == [8, 9]
        with pytest.raises(ArchiveDamaged, match="offsets 6 to 7 are gone"):
            list(read_period(whole, TOPIC, 0, Period(1_003)))


def test_a_bucket_is_refused_with_what_to_do_instead():
    bucket = open_root("memory://bucket/archive", Path())
    with pytest.raises(ConfigurationRefused, match="without --live"), with_newest(bucket, [], Cluster("nowhere:1")):
        pass
