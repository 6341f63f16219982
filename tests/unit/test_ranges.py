"""A period of an archive: exactly its records, whatever files they lie in, and no gap that may belong to it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period, read_period_batches, times_held
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.writer import Limits, PartitionWriter

TOPIC = "small.raw"
FALLING = (0, 1, -3, 2, 0)
"""Log times rise, but for a few milliseconds."""


def record(offset: int) -> Record:
    return Record(offset, 1_000 + 10 * offset + 7 * FALLING[offset % 5], 1, None, b"%d" % offset, None)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of seven records."""
    root = tmp_path_factory.mktemp("archive")
    writer = PartitionWriter(Layout(root, TOPIC, 0), Limits(100, 1 << 20, 60.0), "id", "w")
    for start in range(0, 35, 7):
        writer.append([record(offset) for offset in range(start, start + 7)], 0.0)
        writer.close_segment()
    return root


@given(
    since=st.none() | st.integers(950, 1_400),
    length=st.none() | st.integers(1, 300),
    before_ms=st.sampled_from([0, 5, 60, 500]),
)
def test_a_period_is_what_reading_all_and_choosing_gives(root: Path, since, length, before_ms):
    until = None if length is None else (since or 1_000) + length
    chosen = []
    for one in read_partition(root, TOPIC, 0):
        if until is not None and one.timestamp_ms >= until:
            break
        if since is None or one.timestamp_ms >= since - before_ms:
            chosen.append(one)
    period = Period(since, until)
    assert list(read_period(root, TOPIC, 0, period, before_ms)) == chosen
    batches = list(read_period_batches(root, TOPIC, 0, period, before_ms, ("value",)))
    assert [value for batch in batches for value in batch.column(2).to_pylist()] == [one.value for one in chosen]


def test_what_is_held_is_told_by_the_files(root: Path):
    times = [record(offset).timestamp_ms for offset in range(35)]
    assert times_held(root, TOPIC, [0]) == (min(times), max(times))
    assert times_held(root, TOPIC, [1]) is None


def test_a_gap_is_seen_by_a_period_that_begins_inside_it_also_when_all_before_it_is_not_read(tmp_path: Path):
    writer = PartitionWriter(Layout(tmp_path, TOPIC, 0), Limits(100, 1 << 20, 60.0), "id", "w")
    for start, end in (0, 10), (20, 30):
        if start:
            writer.note_gap(20, "retention")
        writer.append([record(offset) for offset in range(start, end)], 0.0)
        writer.close_segment()
    with pytest.raises(ArchiveDamaged, match=r"offsets 10 to 19 are gone \(retention\)"):
        list(read_period(tmp_path, TOPIC, 0, Period(1_150)))
    assert [one.offset for one in read_period(tmp_path, TOPIC, 0, Period(1_200))] == [20, 21, *range(23, 30)]
    Layout(tmp_path, TOPIC, 0).segment(0).write_bytes(b"damaged")
    with pytest.raises(ArchiveDamaged, match="no readable Parquet file"):
        list(read_period(tmp_path, TOPIC, 0, Period(1_200)))
