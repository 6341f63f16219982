"""The archive's disk: full, failing or damaged. Nothing is skipped, and what is damaged is found."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from agents.cli.verify import audit
from streams.archive.layout import Layout
from streams.archive.segment import read_footer
from streams.kafka.clients import Cluster
from streams.pipeline_file import load as load_file
from tests.broker.pipelines import Up, until, up, write
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.load import RATE, Load, assert_kept, findings, plain
from tests.faults.test_kills import assert_on_time
from tests.faults.test_stalls import peak_mb

SHIM = Path(__file__).parent / "disk"
FIGURE = "s the disk takes nothing"
LIMIT_BYTES = 32 << 10
FAULTS = {
    "disk full": "full",
    "EIO on write": "eio",
    "short write, then full": "short",
    "fsync fails": "fsync",
    "fsync of the folder fails": "folder",
    "the kernel refuses longer files (RLIMIT_FSIZE)": "",
}


def noisy(number: int) -> dict[str, Any]:
    """A record that no compression makes small."""
    return plain(number) | {"note": random.Random(number).randbytes(1_000).hex()}


@pytest.fixture(scope=life)
def shimmed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A pipeline whose archiver's disk fails as long as a file beside its state says so."""
    folder = tmp_path_factory.mktemp("disk")
    shim = {"FAULT_DISK": str(folder), "PYTHONPATH": str(SHIM), "RENDEZVOUS_NURSERY": "0"}
    with living(cluster, folder, more=shim) as pipeline:
        yield pipeline


@contextmanager
def failing(pipeline: Up, fault: str) -> Iterator[None]:
    """The archiver's disk fails in this way until the block ends."""
    if fault:
        switch = pipeline.file.with_name(fault)
        switch.touch()
        yield
        switch.unlink()
        return
    archiver = psutil.Process(pipeline.pid("archiver"))
    soft, hard = archiver.rlimit(psutil.RLIMIT_FSIZE)
    archiver.rlimit(psutil.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    yield
    archiver.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", FAULTS if LONG else list(FAULTS)[:4])
def test_a_disk_that_takes_nothing_stops_the_archiver_alone_until_it_takes_files_again(
    shimmed: Up, fault: str, note: Note
):
    pipeline, bad_s = shimmed, 15 if LONG else 2
    raw, log = Layout(pipeline.archive, pipeline.topics.raw, 0), Path(pipeline.status["logs"]) / "archiver.log"
    before, said = len(raw.segments()), len(log.read_text())
    with Load(pipeline.cluster, pipeline.topics.raw, min(RATE, 200), noisy) as load:
        until(lambda: len(raw.segments()) >= before + 2, 60, "files are written")
        with failing(pipeline, FAULTS[fault]):
            until(lambda: "nothing is lost, the archive waits" in log.read_text()[said:], 10, "the log says so")
            until(lambda: FIGURE in pipeline.status["roles"]["archiver"]["figures"], 10, "the status says so")
            files = raw.segments()
            load.wait(bad_s)
            assert raw.segments() == files, "no link was made"
            assert 0 < committed(pipeline) <= read_footer(files[-1]).end, (
                "no offset is committed of what is in no file"
            )
        until(lambda: FIGURE not in pipeline.status["roles"]["archiver"]["figures"], 40, "it goes on")
        load.wait(1)
    found = findings(pipeline, pipeline.file, load)
    assert "the disk takes files again" in log.read_text()[said:]
    assert {pipeline.restarts(role) for role in pipeline.status["roles"]} == {0}
    assert peak_mb(pipeline.pid("archiver")) < 512
    assert_kept(found)
    note(f"archive: {fault}", f"{bad_s} s; it waits, says so, goes on", found)
    if LONG:  # the other roles are unmoved; the short form runs wherever it runs
        assert_on_time(found)


def committed(pipeline: Up) -> int:
    """What the archiver's group has committed of raw."""
    settings = pipeline.cluster.reader_settings() | {"group.id": f"{pipeline.name}.archiver"}
    consumer = Consumer(settings)
    try:
        return int(consumer.committed([TopicPartition(pipeline.topics.raw, 0)], timeout=10)[0].offset)
    finally:
        consumer.close()


@pytest.mark.timeout(600)
def test_verify_finds_every_flipped_bit_and_every_truncated_or_deleted_file(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    file = write(tmp_path, name)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        raw = Layout(pipeline.archive, pipeline.topics.raw, 0)
        with Load(cluster, pipeline.topics.raw, min(RATE, 200)) as load:
            until(lambda: len(raw.segments()) >= 4, 30, "files are written")
        found = findings(pipeline, file, load)
        archive = pipeline.archive
    assert_kept(found)
    dice, copies = random.Random(5), 60 if LONG else 4
    files = raw.segments()
    for victim in (files[0], files[len(files) // 2], files[-1]):
        size = victim.stat().st_size
        for _ in range(copies):
            with damage(archive, victim) as copy:
                place, bit = dice.randrange(size), 1 << dice.randrange(8)
                flip(copy, place, bit)
                assert not audit(cluster, load_file(file), copy_root(copy)).ok, (victim, place, bit)
        for length in (0, 1, size // 2, size - 1, dice.randrange(size)):
            with damage(archive, victim) as copy:
                copy.write_bytes(copy.read_bytes()[:length])
                assert not audit(cluster, load_file(file), copy_root(copy)).ok, (victim, length)
        with damage(archive, victim) as copy:
            copy.unlink()
            assert not audit(cluster, load_file(file), copy_root(copy)).ok, victim
    done = f"{3 * copies} bits, 15 cuts, 3 deletions: all found by `verify`"
    note("archive: flipped bits, truncated and deleted files", done, found)


@contextmanager
def damage(archive: Path, victim: Path) -> Iterator[Path]:
    """A copy of the archive in which one file may be damaged: that file."""
    root = archive.parent / "copy"
    shutil.copytree(archive, root)
    try:
        yield root / victim.relative_to(archive)
    finally:
        shutil.rmtree(root)


def copy_root(copy: Path) -> Path:
    return copy.parents[3]  # ROOT/data/topic=.../partition=.../file


def flip(path: Path, place: int, bit: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= bit
    path.write_bytes(whole)
