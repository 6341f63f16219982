"""The same archive in a bucket: a server that speaks S3, on loopback, with the conditional put."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from s3fs import S3FileSystem

from agents.cli.backtest import backtest
from agents.cli.replay import replay
from agents.cli.report import report
from agents.cli.simulate import simulate
from schemas.errors import ConfigurationRefused
from streams.archive import figures, file, marks, segment, store
from streams.archive.compaction import compact
from streams.archive.disk import DiskTrouble
from streams.archive.figures import read_figures
from streams.archive.file import File
from streams.archive.forgetting import forget
from streams.archive.inspection import holding, troubles
from streams.archive.layout import Layout, listed, partitions
from streams.archive.lives import settle
from streams.archive.marks import put_end, read_marks
from streams.archive.ranges import times_held
from streams.archive.reader import read_partition
from streams.archive.retention import DAY_MS, retire
from streams.archive.s3 import S3
from streams.archive.segment import ArchiveDamaged, bytes_of, read_footer, times_of
from streams.archive.store import open_root
from streams.archive.writer import LostRace, PartitionWriter
from tests.broker.commands import rendezvous
from tests.conftest import credentials
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_archive_upkeep import (
    LIMITS,
    OLD_S,
    TOPIC,
    WANTED,
    archived,
    plain,
    raws,
)
from tests.unit.test_backtest import pipeline_file


@pytest.fixture
def root(s3: str, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """A bucket of its own."""
    for variable, value in credentials(s3).items():
        monkeypatch.setenv(variable, value)
    found = open_root(f"s3://{name}/archive", Path())
    found.fs.mkdir(name)  # type: ignore[attr-defined]
    return found


def test_records_come_back_exactly_and_damage_and_deletion_are_found(root: Path):
    layout = archived(root, TOPIC, raws(20), 5)
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert [(found.topic, found.partition) for found in partitions(root)] == [(TOPIC, 0)]
    assert (holding(layout).rows, holding(layout).end, list(troubles(layout))) == (20, 20, [])
    path = layout.segments()[1]
    kept = path.read_bytes()
    path.write_bytes(kept[:40] + bytes([kept[40] ^ 1]) + kept[41:])
    with pytest.raises(ArchiveDamaged, match="offsets 5 to 9 are not as they were sealed"):
        list(read_partition(root, TOPIC, 0))
    path.write_bytes(kept)
    layout.segments()[-1].unlink()
    with pytest.raises(ArchiveDamaged, match="offsets 15 to 19 are missing at its end"):
        list(read_partition(root, TOPIC, 0))


def test_of_two_writers_one_wins_each_file(root: Path):
    one, other = (PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", name) for name in "ab")
    for writer, end in ((one, 5), (other, 8)):
        writer.append([plain(offset) for offset in range(end)], 0.0)
    assert one.close_segment() == 5
    with pytest.raises(LostRace, match="going on from 5"):
        other.close_segment()
    assert other.close_segment() == 8
    assert list(read_partition(root, TOPIC, 0)) == raws(8)


def test_a_slow_twin_does_not_set_back_how_far_the_files_reach(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for place in (root, tmp_path):
        layout = archived(place, TOPIC, raws(8), 4)
        put_end(layout, 4, "slow")
        assert read_marks(layout).end == 8

    def read_and_overtaken(_: File) -> int:
        monkeypatch.undo()
        put_end(layout, 20, "twin")
        return 8

    layout = Layout(root, TOPIC, 0)
    monkeypatch.setattr(marks, "_end_of", read_and_overtaken)
    put_end(layout, 12, "slow")
    assert read_marks(layout).end == 20


def test_compaction_retention_and_forget_work_there_too(root: Path):
    rows = [plain(n, b'{"request_id": "r7"}' if n == 7 else None) for n in range(20)]
    small = archived(root, TOPIC, rows, 5)
    (merged,) = compact(small, OLD_S + 1e10)
    assert (merged.files, len(small.segments())) == (3, 2)
    (rewritten,) = forget(root, "small", WANTED, "w", dry_run=False)
    assert rewritten.removed == [7]
    assert list(read_partition(root, TOPIC, 0)) == rows[:7] + rows[8:]
    layout = archived(root, "other.raw", raws(20), 5)
    assert retire(layout, 12_000 + DAY_MS, 1, "w").end == 10
    assert list(read_partition(root, "other.raw", 0)) == raws(20)[10:]
    assert list(troubles(layout)) == []


def test_another_file_system_of_fsspec_does_and_what_it_lacks_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = open_root(f"memory://{name}/archive", Path())
    rows = [plain(n, b'{"request_id": "r7"}' if n == 7 else None) for n in range(20)]
    layout = archived(root, TOPIC, rows, 5)
    (merged,) = compact(layout, OLD_S + 1e10)
    (rewritten,) = forget(root, "small", WANTED, "w", dry_run=False)
    assert (merged.files, rewritten.removed) == (3, [7])
    assert retire(layout, 16_000 + DAY_MS, 1, "w").end == 15
    assert list(read_partition(root, TOPIC, 0)) == rows[15:]
    assert list(troubles(layout)) == []
    assert open_root(f"file://{tmp_path}/my%20archive", Path()) == tmp_path / "my archive"
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    for elsewhere, says in (("gs://bucket/x", "install gcsfs"), ("nowhere://x", "nowhere")):
        with pytest.raises(ConfigurationRefused, match=f"archive.root: {elsewhere}.*{says}"):
            open_root(elsewhere, Path())


def test_an_archive_there_is_replayed_backtested_simulated_and_reported(root: Path, tmp_path: Path):
    lived = play(pipeline(), [b'{"request_id":"r%d","x":%d}' % (n, n) for n in range(200)], 1, lambda *_: 10.0)
    lived.write(root, "small", rows=60)
    file = tmp_path / "small.toml"
    file.write_text(TEXT)

    def said(command: click.Command, *options: str) -> dict[str, Any]:
        given = ["-P", str(file), "--archive", str(root), "--json", *options]
        return dict(json.loads(CliRunner().invoke(command, given, catch_exceptions=False).stdout))

    assert said(backtest, "--golden")["equal"] > 150
    assert said(backtest, "--budget-ms", "5")["ways"]["candidate"]["outcomes"]["default"] == 1.0
    assert said(simulate, "--budgets", "5")["requests"] == 200
    assert said(report)["overview"]["requests"] == 200
    since = str(lived.raw[100].timestamp_ms)
    assert said(replay, "--dry-run", "--where", "event->>'x' in ('7', '190')")["sent"] == 2
    assert said(replay, "--dry-run", "--since", since)["sent"] >= 100
    Layout(root, TOPIC, 0).segments()[1].unlink()
    done = CliRunner().invoke(replay, ["-P", str(file), "--archive", str(root), "--dry-run"])
    assert "offsets 60 to 119 are missing before it" in str(done.exception)


def test_a_store_that_does_not_answer_is_waited_for(root: Path, s3: str, monkeypatch: pytest.MonkeyPatch):
    writer = PartitionWriter(Layout(root, TOPIC, 0), LIMITS, "id", "w")
    writer.append(raws(3), 0.0)
    gone = open_root(f"s3://{root.fs._strip_protocol(str(root)).split('/')[0]}x/archive", Path())  # type: ignore[attr-defined]
    monkeypatch.setattr(writer, "layout", Layout(gone, TOPIC, 0))
    with pytest.raises(DiskTrouble, match="nothing is lost, the archive waits"):
        writer.close_segment()
    monkeypatch.setattr(writer, "layout", Layout(root, TOPIC, 0))
    assert writer.close_segment() == 3


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that the store was asked for."""
    found: list[str] = []
    call = S3FileSystem._call_s3

    async def counted(fs: S3FileSystem, method: str, *words: Any, **more: Any) -> Any:
        found.append(method)
        return await call(fs, method, *words, **more)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return found


FILES, LOCKS = 4, 3
"""A lock is looked at, taken and given back."""
REQUESTS: dict[str, tuple[Callable[[Layout], object], int]] = {
    # Two listings, the note of the end, and each file.
    "read": (lambda layout: list(read_partition(layout.root, TOPIC, 0)), 3 + FILES),
    "read a part": (lambda layout: list(read_partition(layout.root, TOPIC, 0, start=10, end=15)), 3 + FILES),
    "troubles": (troubles, 3 + FILES),
    "holding": (holding, 3 + FILES),
    "times": (lambda layout: times_held(layout.root, TOPIC, [0]), 1 + FILES),
    # The root, the tree, the topic.
    "partitions": (lambda layout: partitions(layout.root), 3),
    # Eight topics are looked for with two listings each. Raw is listed twice, and each of its files is read twice.
    # One is written anew: read once more, a note before it, and a look for what is kept of its hour.
    "forget": (
        lambda layout: list(forget(layout.root, "small", WANTED, "w", dry_run=False)),
        16 + LOCKS + 2 + 2 * FILES + 4,
    ),
    # Footers are looked at twice; three files are read, one is written and two are deleted.
    "compact": (lambda layout: list(compact(layout, OLD_S + 1e10)), LOCKS + 2 + FILES + FILES - 1 + 3 + 1 + 2),
}


@pytest.mark.parametrize("doing", REQUESTS)
def test_a_file_is_fetched_with_one_request_and_a_folder_listed_with_one(root: Path, requests: list[str], doing: str):
    rows = [plain(n, b'{"request_id": "r7"}' if n == 7 else None) for n in range(20)]
    layout = archived(root, TOPIC, rows, 20 // FILES)
    requests.clear()
    do, most = REQUESTS[doing]
    do(layout)
    assert len(requests) <= most, Counter(requests)


def test_what_stands_for_a_folder_or_lies_elsewhere_in_it_is_no_file_of_the_archive(root: Path):
    layout = archived(root, TOPIC, raws(20), 5)
    assert listed(layout.data / "nowhere") == []
    for name in ("data/", "data/topic=small.raw/", "data/topic=small.raw/partition=0/", "data/topic=small.raw/note"):
        (root / name).fs.pipe_file(f"{root.path}/{name}", b"")  # type: ignore[attr-defined]
    assert sorted(listed(layout.data)) == layout.segments()
    assert partitions(root) == partitions(root, TOPIC) == [layout]
    assert partitions(root, "other") == []
    assert list(read_partition(root, TOPIC, 0)) == raws(20)


def test_a_footer_that_is_longer_than_what_is_fetched_at_once_is_fetched_whole(
    root: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch
):
    layout = archived(root, TOPIC, raws(20), 5)
    path = layout.segments()[1]
    found = read_footer(path), times_of(path), bytes_of(path)
    for few in (4, 64, 1024):
        monkeypatch.setattr(file, "TAIL_BYTES", few)
        requests.clear()
        assert (read_footer(path), times_of(path), bytes_of(path)) == found
        assert holding(layout).end == 20
    assert list(read_partition(root, TOPIC, 0, start=7)) == raws(20)[7:]
    path.write_bytes(path.read_bytes()[:-4] + b"none")
    with pytest.raises(ArchiveDamaged, match=r"5.parquet: no readable Parquet file"):
        read_footer(path)
    path.write_bytes(b"")
    with pytest.raises(ArchiveDamaged, match=r"5.parquet: no readable Parquet file"):
        read_footer(path)


ASKED: dict[str, Callable[[Layout], object]] = {
    "partitions": lambda layout: partitions(layout.root),
    "segments": lambda layout: layout.segments(),
    "notes": read_marks,
    "a footer": lambda layout: read_footer(layout.segment(0)),
    "records": lambda layout: list(segment.read_batches(layout.segment(0))),
    "figures": lambda layout: read_figures(figures.place_of(layout.root, "small", "2026-11-27", "")),
    "a lock": lambda layout: list(compact(layout, OLD_S)),
    "a note": lambda layout: put_end(layout, 5, "w"),
}


@pytest.fixture(params=["nobody listens", "no credentials"])
def away(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket that cannot be reached, or not by us."""
    given = credentials(s3) | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    if request.param == "no credentials":
        given = {"AWS_ENDPOINT_URL": s3, "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(variable, raising=False)
    for variable, value in (given | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(variable, value)
    S3.clear_instance_cache()  # fsspec keeps clients, and looks at the environment once
    yield "s3://away/archive"
    S3.clear_instance_cache()


@pytest.mark.parametrize("asked", ASKED)
def test_a_bucket_that_is_away_is_no_damage(away: str, asked: str):
    layout = Layout(open_root(away, Path()), TOPIC, 0)
    with pytest.raises(DiskTrouble, match=r"s3://away.*(connect to the endpoint|credentials).*AWS_ENDPOINT_URL"):
        ASKED[asked](layout)


def test_every_command_says_in_one_line_that_the_bucket_is_away(away: str, tmp_path: Path):
    file = pipeline_file(tmp_path, TEXT)
    done = rendezvous(["archive", "ls", "-P", str(file), "--root", away], os.environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rendezvous: s3://away")
    assert done.stderr.count("\n") == 1


def test_a_topic_made_anew_asks_for_an_operator(root: Path):
    settle(root, TOPIC, "first", "w")
    archived(root, TOPIC, raws(3), 5, "first")
    with pytest.raises(ConfigurationRefused, match="move .*small.raw to data-1"):
        settle(root, TOPIC, "second", "w")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(ConfigurationRefused, match=r"install rendezvous-kafka\[s3\]"):
        store.open_root("s3://bucket/x", Path())
