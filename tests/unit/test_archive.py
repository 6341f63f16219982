"""What is archived comes back byte for byte, by any engine, while it is written; damage is found and named."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.archive.layout import Layout
from streams.archive.reader import read_partition, summary
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.writer import Limits, LostRace, PartitionWriter

LIMITS = Limits(10, 1 << 20, 60.0)
TOPIC = "flights.raw"


def record(offset: int, value: bytes | None = b"{}") -> Record:
    return Record(offset, 1_000 + offset, 1, f"k{offset}".encode(), value, [("h", b"\x00"), ("h", None)])


def writer(root: Path, name: str = "w") -> PartitionWriter:
    return PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", name)


def write(root: Path, *sizes: int) -> PartitionWriter:
    found = writer(root)
    for size in sizes:
        found.append([record(found.next_offset + place) for place in range(size)], 0.0)
        found.close_segment()
    return found


_bytes = st.none() | st.binary(max_size=20)
_headers = st.none() | st.lists(st.tuples(st.text(max_size=5), _bytes), max_size=3)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(_bytes, _bytes, _headers, st.integers(1, 3)), min_size=1, max_size=10))
def test_keys_values_headers_and_holes_come_back_exactly(rows, tmp_path_factory: pytest.TempPathFactory):
    root, records, offset = tmp_path_factory.mktemp("archive"), [], 0
    for key, value, headers, step in rows:
        records.append(Record(offset, 5, 1, key, value, headers))
        offset += step
    found = writer(root)
    found.append(records, 0.0)
    found.close_segment()
    assert list(read_partition(root, TOPIC, 0)) == records


def test_duckdb_polars_pandas_and_pyarrow_read_it_while_it_is_written(tmp_path: Path):
    found = write(tmp_path, 3, 4)
    found.append([record(7)], 0.0)
    (found.layout.staging / "0000000000000000007~w.tmp").write_bytes(b"half a file")
    data = tmp_path / "data"
    assert duckdb.sql(f"select count(*), max(kafka_offset) from '{data}/**/*.parquet'").fetchall() == [(7, 6)]
    assert pl.scan_parquet(f"{data}/**/*.parquet").select(pl.len()).collect().item() == 7
    frame = pd.read_parquet(data)
    assert (len(frame), set(frame["topic"]), set(frame["partition"])) == (7, {TOPIC}, {0})
    assert ds.dataset(data, partitioning="hive").count_rows() == 7
    assert summary(tmp_path).rows == 7


def test_of_two_writers_one_wins_each_file_and_nothing_is_doubled(tmp_path: Path):
    first, second = writer(tmp_path, "a"), writer(tmp_path, "b")
    for one in (first, second):
        one.append([record(offset) for offset in range(5)], 0.0)
    assert first.close_segment() == 5
    with pytest.raises(LostRace, match="another writer was first; going on from 5"):
        second.close_segment()
    second.append([record(offset) for offset in range(3, 8)], 0.0)
    assert second.close_segment() == 8
    first.append([record(offset) for offset in range(5, 12)], 0.0)
    with pytest.raises(LostRace, match="going on from 8"):
        first.close_segment()
    assert first.close_segment() == 12, "what the other does not hold is kept"
    assert [found.offset for found in read_partition(tmp_path, TOPIC, 0)] == list(range(12))


def test_a_writer_that_is_killed_leaves_whole_files_and_the_next_goes_on(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from tests.unit.test_archive import record, writer\n"
        f"w = writer(Path({str(tmp_path)!r}), 'killed'); print('go', flush=True)\n"
        "while True:\n"
        "    w.append([record(w.next_offset + n) for n in range(50)], 0.0); w.close_segment()\n"
    )
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        before = summary(tmp_path).files
        while summary(tmp_path).files < before + 3:
            assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
    found = [one.offset for one in read_partition(tmp_path, TOPIC, 0)]
    assert found == list(range(len(found)))
    assert len(found) % 50 == 0


def test_a_flipped_bit_anywhere_in_a_file_is_found(tmp_path: Path):
    path = write(tmp_path, 10).layout.segments()[0]
    whole = path.read_bytes()
    missed = []
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with suppress(ArchiveDamaged):
            list(read_partition(tmp_path, TOPIC, 0))
            missed.append(place)
    assert missed == []


def test_a_file_cut_anywhere_is_found(tmp_path: Path):
    path = write(tmp_path, 10).layout.segments()[0]
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveDamaged):
            list(read_partition(tmp_path, TOPIC, 0))


def test_the_last_file_is_missed_when_it_is_deleted_and_so_is_the_first(tmp_path: Path):
    found = write(tmp_path, 3, 3)
    first, last = found.layout.segments()
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(ArchiveDamaged, match="offsets 3 to 5 are missing at its end"):
        list(read_partition(tmp_path, TOPIC, 0))
    last.write_bytes(kept)
    first.unlink()
    with pytest.raises(ArchiveDamaged, match="offsets 0 to 2 are missing before it"):
        list(read_partition(tmp_path, TOPIC, 0))


def test_a_missing_file_is_refused_and_a_marked_gap_is_not(tmp_path: Path):
    found = write(tmp_path, 3, 3, 3)
    found.layout.segments()[1].unlink()
    with pytest.raises(ArchiveDamaged, match="offsets 3 to 5 are missing"):
        list(read_partition(tmp_path, TOPIC, 0))
    found = write(tmp_path / "other", 3)
    found.note_gap(9, "retention")
    found.append([record(9)], 0.0)
    found.close_segment()
    assert [one.offset for one in read_partition(tmp_path / "other", TOPIC, 0)] == [0, 1, 2, 9]


def test_a_disk_that_takes_half_of_what_it_is_given_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    take = os.write
    monkeypatch.setattr(os, "write", lambda file, data: take(file, data[: (len(data) + 1) // 2]))
    write(tmp_path, 20)
    monkeypatch.undo()
    found = list(read_partition(tmp_path, TOPIC, 0))
    assert [(one.offset, one.value) for one in found] == [(offset, b"{}") for offset in range(20)]


def test_a_file_is_due_by_rows_by_bytes_and_by_age(tmp_path: Path):
    found = writer(tmp_path)
    assert not found.due(1e9)
    found.append([record(0)], 100.0)
    assert not found.due(159.0)
    assert found.due(160.0)
    found.append([record(offset) for offset in range(1, 10)], 101.0)
    assert found.due(101.0)
    large = writer(tmp_path / "large")
    large.append([record(0, bytes(1 << 20))], 0.0)
    assert large.due(0.0)
