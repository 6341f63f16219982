"""The archiver's shelf: when it warns, when it refuses, what its watchdog takes for trouble."""

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from faust.types import TP

from agents import archiver
from agents.archiver import Shelf, refuse_full_disk, stuck
from schemas.pipeline import Archive
from streams.archive.buffer import columns
from streams.archive.disk import DiskTrouble, write_whole
from streams.archive.layout import Layout
from streams.archive.lives import settle
from streams.archive.reader import read_partition
from tests.unit.small import pipeline

RAW = TP("small.raw", 0)


def shelf(root: Path, **archive: Any) -> Shelf:
    return Shelf(pipeline(archive=Archive(**archive)), root, dict, "w")


def buffer(found: Shelf, tp: TP, start: int, end: int) -> None:
    offsets = range(start, end)
    same = [b"v" * 100] * len(offsets)
    found.writer(tp).extend(columns(offsets, offsets, [1] * len(offsets), same, same, [None] * len(offsets)), 0.0)


def test_a_disk_with_too_little_room_is_refused_at_start(tmp_path: Path):
    refuse_full_disk(tmp_path, 0.0)
    with pytest.raises(DiskTrouble, match=r"less than 99.999 %: the archiver does not start. Free space, or set"):
        refuse_full_disk(tmp_path, 0.99999)


def test_a_scarce_disk_is_said_once_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    found = shelf(tmp_path, warn_free=0.99999)
    for _ in range(3):
        found.look_at_disk()
    assert [record.message for record in caplog.records if "of the disk is free" in record.message] == [
        caplog.records[0].message
    ]
    assert "% free" in found.figures()
    assert "% free" not in shelf(tmp_path, warn_free=0.0).figures()


def test_what_is_buffered_or_waits_for_the_disk_is_no_sign_of_trouble_but_an_idle_reader_is(tmp_path: Path):
    found = shelf(tmp_path)
    lag = 5
    app: Any = SimpleNamespace(consumer=SimpleNamespace(taken_records=5, lag=lambda: lag))
    looked = stuck(app, found)
    buffer(found, RAW, 0, 5)
    assert not looked()
    assert not looked(), "all of the lag is buffered: the file is closed when it is old enough"
    lag = 6
    assert looked(), "a record lies there and is not read"
    found._note_trouble(DiskTrouble("full"), 1.0)
    assert not looked(), "it waits for the disk"


def test_all_buffers_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = shelf(tmp_path, max_bytes=10_000)
    batches = [SimpleNamespace(topic=f"small.{n}", partition=0, messages=()) for n in range(4)]
    monkeypatch.setattr(
        archiver,
        "columns_of",
        lambda _: columns(range(20), range(20), [1] * 20, [b"k" * 100] * 20, [b"v" * 100] * 20, [None] * 20),
    )

    async def take() -> None:
        for batch in batches:
            await found.take(batch)  # type: ignore[arg-type]
            assert found.buffered_bytes < 20_000

    asyncio.run(take())
    assert found.files >= 1


def test_a_file_the_disk_did_not_take_is_tried_again_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    found, failures = shelf(tmp_path), iter([28, 5, 28])

    def failing(path: Path, parts: Any, stage: str) -> None:
        if stage == "archive" and (number := next(failures, None)):
            path.write_bytes(b"half")
            raise OSError(number, "no room")
        write_whole(path, parts, stage)

    monkeypatch.setattr("streams.archive.disk.write_whole", failing)
    monkeypatch.setattr(archiver, "RETRY_S", (0.01,))
    buffer(found, RAW, 0, 5)
    asyncio.run(found.close_all())
    assert [record.offset for record in read_partition(tmp_path, RAW.topic, 0)] == [0, 1, 2, 3, 4]
    assert found.committable() == {RAW: (5, "")}
    assert not found.trouble_s
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3 + [logging.WARNING]
    assert "no room; nothing is lost, the archive waits" in caplog.records[0].message
    assert list((tmp_path / "staging").rglob("*.tmp")) == []


def test_the_retention_holds_for_earlier_lives_too(tmp_path: Path):
    settle(tmp_path, RAW.topic, "first", "w")
    before = shelf(tmp_path)
    buffer(before, RAW, 0, 5)
    asyncio.run(before.close_all())
    settle(tmp_path, RAW.topic, "second", "w")
    found = shelf(tmp_path, retention_days=1.0)
    buffer(found, RAW, 0, 5)
    asyncio.run(found.close_all())
    closed = Layout(tmp_path, RAW.topic, RAW.partition, "data-1")
    assert len(closed.segments()) == 1
    found.keep_up(time.time() + 10)
    assert closed.segments() == [], "records of 1970"
    assert len(Layout(tmp_path, RAW.topic, RAW.partition).segments()) == 1


def test_a_batch_that_waited_for_a_disk_while_its_partition_was_let_go_is_not_buffered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # 0 to 9 are in a file, 10 to 19 wait for a disk that is full, and 20 to 29 wait behind them.
    found, batch = shelf(tmp_path), SimpleNamespace(topic=RAW.topic, partition=0, messages=())
    monkeypatch.setattr(
        archiver,
        "columns_of",
        lambda _: columns(range(20, 30), range(10), [1] * 10, [b""] * 10, [b"v"] * 10, [None] * 10),
    )

    async def rebalanced() -> None:
        async with found._lock:
            stale = asyncio.ensure_future(found.take(batch))
            await asyncio.sleep(0)
            found.positions([TopicPartition(*RAW, 10)])
            found.begin({RAW: 10})
        await stale

    buffer(found, RAW, 0, 10)
    found.writer(RAW).close_segment()
    asyncio.run(rebalanced())
    assert found.writer(RAW).buffered == 0, "it is read again, after 10 to 19"
