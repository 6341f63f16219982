"""Comparisons that are kept: whole hours, once, equal to what is told when asked; nothing of what is forgotten."""

import asyncio
import logging
from collections import Counter
from pathlib import Path
from shutil import copytree
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from agents.cli.archive import comparisons
from agents.cli.comparisons import keep_comparisons
from agents.compared_hours import ComparedHours
from schemas.pipeline import Archive
from schemas.topics import Topics
from streams.archive import rewriting
from streams.archive.compared import HOUR_MS, due_hours, keep_hour, kept_hours, place_of, retire_hours
from streams.archive.disk import ArchiveBusy
from streams.archive.forgetting import Wanted, forget
from streams.archive.layout import Layout
from streams.archive.marks import read_marks
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.store import open_root
from streams.archive.writer import Limits, PartitionWriter
from tests.conftest import credentials
from tests.unit.lived import START_MS, play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_backtest import pipeline_file, values

SMALL = pipeline()
FIRST = START_MS // HOUR_MS
KEPT = "[archive]\ncomparisons = true\n"
SETTLED = [FIRST, FIRST + 1]
"""Of four hours: the last is not over, and the third not for an hour."""


@pytest.fixture(scope="module")
def four_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of requests, pulled apart into four hours."""
    lived = play(SMALL, values(1_000))

    def apart(record: Record) -> Record:
        hours = min(3, (record.timestamp_ms - START_MS) // 500)
        return replace(record, timestamp_ms=record.timestamp_ms + hours * HOUR_MS)

    for log in (lived.raw, lived.scores, lived.decisions):
        log[:] = map(apart, log)
    return lived.write(tmp_path_factory.mktemp("lived") / "archive", SMALL.name)


@pytest.fixture
def root(four_hours: Path, tmp_path: Path) -> Path:
    """An archive of a test's own, of these."""
    return copytree(four_hours, tmp_path / "archive")


def run(root: Path, *options: str) -> Result:
    return CliRunner().invoke(
        comparisons, ["-P", str(pipeline_file(root, TEXT)), "--root", str(root), *options], standalone_mode=False
    )


def whole(row: dict[str, Any]) -> bool:
    """Whether all that came of a request came in its own hour, which is no more than the test's."""
    return bool(row["log_time_ms"] % HOUR_MS % 500 < 300)


def file(root: Path, hour: int) -> Path:
    return place_of(root, SMALL.name, hour)


def test_an_hour_that_is_over_is_kept_once_and_is_what_is_told_when_asked(root: Path, tmp_path: Path):
    assert due_hours(root, SMALL) == SETTLED
    done = run(root)
    assert done.exception is None, done.exception
    assert kept_hours(root, SMALL.name) == SETTLED
    assert [file(root, hour).name for hour in SETTLED] == ["hour=2025-11-24T16.parquet", "hour=2025-11-24T17.parquet"]
    until = str((FIRST + 2) * HOUR_MS)
    assert run(root, "--until", until, "--out", str(tmp_path / "asked.parquet")).exception is None
    asked = pq.read_table(tmp_path / "asked.parquet").to_pylist()
    kept = [row for hour in SETTLED for row in pq.read_table(file(root, hour)).to_pylist()]
    assert [row["raw_offset"] for row in kept] == [row["raw_offset"] for row in asked]
    assert list(filter(whole, kept)) == list(filter(whole, asked))
    assert len(list(filter(whole, kept))) > 200
    every = duckdb.sql(f"select count(*) from '{root}/comparisons/*/*.parquet'").fetchall()
    assert every == [(len(asked),)]
    before = [file(root, hour).stat().st_ino for hour in SETTLED]
    assert "every hour that is over is kept" in run(root).stderr
    assert [file(root, hour).stat().st_ino for hour in SETTLED] == before


def test_a_range_is_for_a_file_of_ones_own(root: Path):
    assert "whole hours" in str(run(root, "--since", "1d").exception)


def test_in_a_bucket_it_is_the_same(root: Path, s3: str, name: str, monkeypatch: pytest.MonkeyPatch):
    for variable, value in credentials(s3).items():
        monkeypatch.setenv(variable, value)
    bucket = open_root(f"s3://{name}/archive", Path())
    bucket.fs.mkdir(name)  # type: ignore[attr-defined]
    for path in root.rglob("*.parquet"):
        (bucket / str(path.relative_to(root))).write_bytes(path.read_bytes())
    for where in (str(bucket), str(root)):
        done = CliRunner().invoke(
            comparisons, ["-P", str(pipeline_file(root, TEXT)), "--root", where], standalone_mode=False
        )
        assert done.exception is None, done.exception
    for hour in SETTLED:
        with file(bucket, hour).open("rb") as there:
            assert pq.read_table(there).equals(pq.read_table(file(root, hour)))
    list(forget(bucket, SMALL.name, Wanted(ids(root, FIRST)[3], None, ("request_id",)), "w", dry_run=False))
    assert kept_hours(bucket, SMALL.name) == [FIRST + 1]


def ids(root: Path, hour: int) -> list[str]:
    return list(pq.read_table(file(root, hour)).column("request_id").to_pylist())


def test_what_is_forgotten_takes_its_hour_with_it_and_is_not_in_the_next(root: Path):
    run(root)
    wanted = ids(root, FIRST + 1)[7]
    list(forget(root, SMALL.name, Wanted(wanted, None, ("request_id",)), "w", dry_run=True))
    assert kept_hours(root, SMALL.name) == SETTLED
    list(forget(root, SMALL.name, Wanted(wanted, None, ("request_id",)), "w", dry_run=False))
    assert kept_hours(root, SMALL.name) == [FIRST], "the other hour stays"
    before = len(ids(root, FIRST))
    assert run(root).exception is None
    assert (kept_hours(root, SMALL.name), len(ids(root, FIRST))) == (SETTLED, before)
    assert wanted not in ids(root, FIRST + 1)


def test_nothing_is_kept_of_what_was_forgotten_while_it_was_made(root: Path):
    run(root)
    wanted = Wanted(ids(root, FIRST)[0], None, ("request_id",))
    file(root, FIRST).unlink()

    def write(made: Path) -> int:
        made.write_bytes(b"as it was")
        list(forget(root, SMALL.name, wanted, "w", dry_run=False))
        return 1

    with pytest.raises(ArchiveBusy, match="was forgotten meanwhile"):
        keep_hour(root, SMALL, FIRST, "w", write)
    assert kept_hours(root, SMALL.name) == [FIRST + 1]


def test_what_is_kept_while_a_forget_is_at_work_is_without_the_request(root: Path, monkeypatch: pytest.MonkeyPatch):
    run(root)
    wanted = ids(root, FIRST)[3]
    file(root, FIRST).unlink()

    raw = [Layout(root, Topics(SMALL.name).raw, number) for number in range(SMALL.partitions)]
    kept = []

    def between(point: str) -> None:
        if point == "forget.written" and any(read_marks(layout).forgotten for layout in raw):
            kept.extend(keep_comparisons(root, SMALL, "w", Counter(), lambda _: None))

    monkeypatch.setattr(rewriting, "reached", between)
    list(forget(root, SMALL.name, Wanted(wanted, None, ("request_id",)), "w", dry_run=False))
    assert [path for path, _ in kept] == [file(root, FIRST)]
    assert kept_hours(root, SMALL.name) == SETTLED
    assert wanted not in ids(root, FIRST)


@pytest.mark.parametrize(
    ("broken", "why"), [("gap", "are gone (the topic's retention"), ("page", "as they were sealed")]
)
def test_an_hour_that_is_not_whole_is_told_and_the_hours_after_it_are_kept(root: Path, broken: str, why: str):
    topic = Topics(SMALL.name).raw
    layout = Layout(root, topic, 0)
    records = list(read_partition(root, topic, 0))
    for path in layout.segments():
        path.unlink()
    writer = PartitionWriter(layout, Limits(100_000, 1 << 30, 60.0), "id", "w")
    for part in records[:10], records[20:100], records[100:200], records[200:]:
        if broken == "gap" and part[0].offset > writer.next_offset:
            writer.note_gap(part[0].offset, "the topic's retention was shorter than our absence")
        writer.append(part if broken == "gap" else records[: part[-1].offset + 1], 0.0)
        writer.close_segment()
    if broken == "page":
        first = layout.segments()[0]
        held = first.read_bytes()
        first.write_bytes(held[:40] + bytes([held[40] ^ 1]) + held[41:])
    assert due_hours(root, SMALL) == SETTLED
    done = run(root)
    assert isinstance(done.exception, ArchiveDamaged), done.exception
    assert "1 hours are not whole" in str(done.exception)
    assert why in str(done.exception)
    assert kept_hours(root, SMALL.name) == [FIRST + 1]


def test_of_two_that_keep_hours_at_once_the_second_touches_nothing_of_the_first(root: Path):
    def write(made: Path) -> int:
        made.write_bytes(b"whole")
        with pytest.raises(ArchiveBusy, match="try again when it is done"):
            keep_hour(root, SMALL, FIRST + 1, "w2", write)
        return 1

    assert keep_hour(root, SMALL, FIRST, "w1", write) == 1
    assert file(root, FIRST).read_bytes() == b"whole"
    assert kept_hours(root, SMALL.name) == [FIRST]


def test_what_a_killed_keeper_left_goes_with_the_next(root: Path):
    left = [root / "staging" / "comparisons" / name for name in ("hour=x.part", ".hour=x.part.1.tmp")]
    left[0].parent.mkdir(parents=True)
    for path in left:
        path.write_bytes(b"half")
    assert run(root).exception is None
    assert kept_hours(root, SMALL.name) == SETTLED
    assert [path for path in left if path.exists()] == []


def test_hours_go_with_the_archives_retention(root: Path):
    run(root)
    of = replace(SMALL, archive=Archive(retention_days=1))
    now_ms = (FIRST + 25) * HOUR_MS + 1
    assert retire_hours(root, SMALL, now_ms) == 0
    assert retire_hours(root, of, now_ms - 2) == 0
    assert retire_hours(root, of, now_ms) == 1
    assert kept_hours(root, SMALL.name) == [FIRST + 1]


def test_the_archiver_keeps_them_when_the_pipeline_wants_them(root: Path, caplog: pytest.LogCaptureFixture):
    now_s = (FIRST + 5) * HOUR_MS / 1e3
    path = pipeline_file(root, TEXT)
    asyncio.run(ComparedHours(SMALL, path, root).keep(now_s))
    assert kept_hours(root, SMALL.name) == []
    wanted = pipeline(TEXT + KEPT)
    path.write_text("name = 1")
    with caplog.at_level(logging.WARNING):
        asyncio.run(ComparedHours(wanted, path, root).keep(now_s))
    assert any("2 hours of comparisons are due" in record.message for record in caplog.records)
    asyncio.run(ComparedHours(wanted, pipeline_file(root, TEXT + KEPT), root).keep(now_s))
    assert kept_hours(root, SMALL.name) == SETTLED
