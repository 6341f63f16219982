"""An archive with what its topics hold beyond it: every record once, wherever it lies, and the archive as it was."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import pytest

from agents.archiver import topics_of
from agents.cli import newest, report_live
from agents.cli.newest import with_newest
from agents.cli.races import Archived
from agents.cli.report import made
from agents.cli.report_live import of_newest
from schemas.errors import ConfigurationRefused
from streams.archive.compaction import compact
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged, Record, Vanished
from streams.archive.store import open_root
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.clients import Cluster
from tests.unit.lived import Lived
from tests.unit.test_report import OF, lived

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
            assert list(read_partition(whole.root, TOPIC, number)) == [record(offset) for offset in range(10)]
        assert (whole.begins_ms, whole.left_out) == (0, {})
        assert Topic.asked == {0: 6, 1: 0}, "what is archived is not read again"
    assert tree(root) == before
    assert not whole.root.exists()


def test_where_the_topic_has_nothing_more_the_archive_is_enough(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Topic, "bounds", lambda self: {0: (0, 6)})
    monkeypatch.setattr(Topic, "to_end", lambda self, at: iter(()))
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        # The archiver goes on meanwhile: what it closes and notes is no loss to whoever reads this.
        writer = PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", "w")
        writer.append([record(6)], 0.0)
        writer.close_segment()
        assert [one.offset for one in read_partition(whole.root, TOPIC, 0)] == [0, 1, 2, 3, 4, 5]


def test_what_neither_has_is_a_gap_and_is_refused_where_it_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Topic, "low", 8)
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        later = list(read_period(whole.root, TOPIC, 0, Period(1_008)))
        assert [one.offset for one in later] == [8, 9]
        with pytest.raises(ArchiveDamaged, match="offsets 6 to 7 are gone"):
            list(read_period(whole.root, TOPIC, 0, Period(1_003)))


def test_a_bucket_is_refused_with_what_to_do_instead():
    bucket = open_root("memory://bucket/archive", Path())
    with pytest.raises(ConfigurationRefused, match="without --live"), with_newest(bucket, [], Cluster("nowhere:1")):
        pass


def test_what_is_read_from_topics_is_in_memory_by_parts_only(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(newest, "IN_MEMORY", Limits(2, 1 << 20, float("inf")))
    monkeypatch.setattr(newest, "AT_ONCE", 1)
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        assert len(Layout(whole.root, TOPIC, 1).segments()) == 5
        for number in (0, 1):
            assert list(read_partition(whole.root, TOPIC, number)) == [record(offset) for offset in range(10)]


def test_when_the_archiver_is_far_behind_the_newest_are_read_and_the_rest_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(newest, "MOST", 3)
    with with_newest(root, [TOPIC], Cluster("nowhere:1")) as whole:
        assert Topic.asked == {0: 7, 1: 7}
        assert whole.begins_ms == 1_007
        assert sorted(whole.left_out.values()) == [1, 7]
        for number in (0, 1):
            found = read_period(whole.root, TOPIC, number, Period(whole.begins_ms))
            assert [one.offset for one in found] == [7, 8, 9]


class Logs(Topic):
    """One partition of each topic, as a pipeline that ran has left them."""

    kept: ClassVar[dict[str, list[Record]]] = {}

    def bounds(self) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self.kept.get(self.topic, ())))}

    def to_end(self, at: Mapping[int, int]) -> Iterator[Message]:
        return (Message(one, 0) for one in self.kept.get(self.topic, ())[at[0] :])


def test_a_page_begins_where_nothing_is_left_out_any_more_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    live = lived()
    kept = {"small.raw": live.raw, "small.scores": live.scores, "small.decisions": live.decisions}
    archived = Lived(live.raw[:100], live.scores[:200], live.decisions[:100]).write(tmp_path / "behind", "small")
    monkeypatch.setattr(newest, "TopicReader", Logs)
    monkeypatch.setattr(newest, "MOST", 400)
    monkeypatch.setattr(Logs, "kept", kept)
    with with_newest(archived, topics_of(OF), Cluster("nowhere:1")) as whole:
        begins_ms, left_out = whole.begins_ms, whole.left_out
        found, _ = made(whole, OF, None, None, (), drawn=False)
    cut = {len(live.raw) - 500, len(live.scores) - 600, len(live.decisions) - 500}
    assert {*left_out.values()} == cut
    assert begins_ms == live.scores[-400].timestamp_ms > live.raw[-400].timestamp_ms
    assert sum("small.raw/0 not archived yet" in note for note in found.notes) == 1
    same = Archived(live.write(tmp_path / "whole", "small"), begins_ms, left_out)
    expected, _ = made(same, OF, None, None, (), drawn=False)
    assert 20 < found.overview.requests < len(live.raw) / 2
    assert (found.overview, found.models) == (expected.overview, expected.models)


def test_a_compaction_while_a_page_is_made_costs_one_more_try(root: Path, monkeypatch: pytest.MonkeyPatch):
    writer = PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", "w")
    writer.append([record(6)], 0.0)
    writer.close_segment()
    tried: list[int] = []

    def page(whole: Archived) -> str:
        tried.append(len(Layout(root, TOPIC, 0).segments()))
        if len(tried) == 1:
            [_] = compact(Layout(root, TOPIC, 0), time.time() + 60, closed_s=0)
        return str(len(list(read_partition(whole.root, TOPIC, 0))))

    assert of_newest(page, root, [TOPIC], Cluster("nowhere:1")) == "10"
    assert tried == [3, 2]
    monkeypatch.setattr(report_live, "TRIES", 1)
    tried.clear()
    writer.append([record(7)], 0.0)
    writer.close_segment()
    with pytest.raises(Vanished):
        of_newest(page, root, [TOPIC], Cluster("nowhere:1"))
