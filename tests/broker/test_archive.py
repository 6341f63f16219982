"""The archive of a live pipeline on real Kafka: six topics, four engines, two archivers, two lives of a topic."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from msgspec import json

from agents.archiver import topics_of
from agents.cli.verify import audit
from schemas.topics import topics_of as topics_in
from streams.archive.figures import place_of, read_figures, store_figures, untold_days
from streams.archive.inspection import troubles
from streams.archive.layout import Layout, partitions
from streams.archive.reader import read_partition
from streams.archive.segment import read_footer
from streams.archive.store import open_root
from streams.core.judged import Judged
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load
from tests.broker.commands import rendezvous
from tests.broker.pipelines import Up, environment, good, send, until, up, write
from tests.conftest import credentials
from tests.faults.load import Load, assert_kept, findings, suspended
from tests.unit.test_told_days import figures

Row = tuple[int, bytes | None, bytes | None, object, int, int]


def on_topic(cluster: Cluster, topic: str) -> list[Row]:
    with TopicReader(cluster, topic) as reader:
        return [
            (m.offset() or 0, m.key(), m.value(), m.headers(), m.timestamp()[1], m.timestamp()[0] - 1)
            for m in reader.to_end()
        ]


def in_archive(root: Path, topic: str, tree: str = "data") -> list[Row]:
    return [
        (r.offset, r.key, r.value, r.headers, r.timestamp_ms, r.timestamp_type)
        for r in read_partition(root, topic, 0, tree=tree)
    ]


def four_counts(data: Path) -> list[dict[str, int]]:
    """Rows by topic as DuckDB, Polars, PyArrow and pandas see them, one after the other."""
    pattern = f"{data}/**/*.parquet"
    duck = duckdb.sql(f"select topic, count(kafka_offset) from read_parquet('{pattern}') group by topic").fetchall()
    polars = pl.scan_parquet(str(data), hive_partitioning=True).group_by("topic").agg(pl.len()).collect().rows()
    arrow = ds.dataset(data, partitioning="hive").to_table(columns=["topic"]).to_pandas().value_counts("topic")
    pandas = pd.read_parquet(data)["topic"].value_counts()
    return [dict(duck), dict(polars), arrow.to_dict(), {str(topic): int(n) for topic, n in pandas.items()}]


@pytest.mark.timeout(240)
def test_six_topics_are_kept_exactly_and_four_engines_read_them_while_they_are_written(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        send(
            cluster,
            pipeline.topics.raw,
            [b'{"x": "no"}', None, b"[]"],
            headers=[[("h", b"1"), ("h", None)], None, []],
        )
        send(cluster, pipeline.topics.labels, [b'{"request_id": "a", "label": true}', b"no label"])
        send(cluster, pipeline.topics.roster_history, [b"no move"])
        data, topics = pipeline.archive / "data", topics_of(load(file))
        until(lambda: len(list(data.glob("topic=*/partition=0/*.parquet"))) >= 6, 30, "a file of each topic")
        seen = [four_counts(data)]
        with Load(cluster, pipeline.topics.raw, 300) as load_:

            def looked() -> bool:
                seen.append(four_counts(data))
                return len(seen) > 8 and seen[-1][0][topics[0]] > seen[0][0][topics[0]] + 900

            until(looked, 120, "eight looks while it is written")
        for look in seen:
            for before, after in pairwise(look):
                assert all(after[topic] >= count for topic, count in before.items()), "engines see whole files only"
        found = findings(pipeline, file, load_)
        for topic in topics:
            wanted = on_topic(cluster, topic)
            assert wanted, topic
            until(lambda kept=topic, end=wanted[-1][0]: in_archive(pipeline.archive, kept)[-1][0] >= end, 30, topic)
            assert in_archive(pipeline.archive, topic)[: len(wanted)] == wanted
        counts = four_counts(data)
        assert counts[0] == counts[1] == counts[2] == counts[3]

        def told() -> bool:
            archiver = pipeline.status["roles"]["archiver"]
            return bool(archiver["lag"] < 1_000 and archiver["figures"].get("rows", 0) > 0)

        until(told, 20, "the status says what is kept")
    assert_kept(found)
    forgotten(cluster, file, pipeline, tmp_path)


def forgotten(cluster: Cluster, file: Path, pipeline: Up, folder: Path) -> None:
    """What is forgotten on request is no loss to `verify`, and gone from three topics."""
    request_id = str(pipeline_ids(pipeline)[5])
    done = rendezvous(["forget", request_id, "--yes", "-P", str(file)], environment(cluster, folder / "state"))
    assert done.returncode == 0, done.stderr
    after = audit(cluster, load(file), pipeline.archive)
    assert (after.ok, after.archive_forgotten, after.archive_missing) == (True, 1, 0)
    for layout in partitions(pipeline.archive):
        assert list(troubles(layout)) == []
        assert request_id not in pipeline_ids(pipeline)


def pipeline_ids(pipeline: Up) -> list[object]:
    found = [record.value or b"" for record in read_partition(pipeline.archive, pipeline.topics.raw, 0)]
    return [value.split(b'"')[3].decode() for value in found if value.startswith(b'{"request_id"')]


@contextmanager
def archiver(cluster: Cluster, file: Path, state: Path, number: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """An archiver of its own; ends with the block."""
    command = [sys.executable, "-m", "agents", "run", "archiver", str(file), "--number", str(number)]
    with (state / f"archiver{number}.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment(cluster, state), stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def kept(cluster: Cluster, tmp_path: Path, name: str) -> tuple[Path, Path, Path]:
    """Pipeline file, state folder and archive of a pipeline whose topics exist."""
    file, state = write(tmp_path, name), tmp_path / "state"
    state.mkdir()
    Admin(cluster).ensure(topics_in(load(file)))
    return file, state, state / name / "archive"


def test_an_archiver_that_stood_still_does_no_harm_to_the_one_that_took_over(
    cluster: Cluster, kept: tuple[Path, Path, Path], name: str
):
    file, state, root = kept
    raw = f"{name}.raw"

    def archived() -> int:
        return len(in_archive(root, raw)) if root.exists() else 0

    with archiver(cluster, file, state) as first:
        send(cluster, raw, [good(n) for n in range(200)])
        until(lambda: archived() == 200, 40, "the first one archives")
        with suspended([first.pid]), archiver(cluster, file, state, 1):
            send(cluster, raw, [good(n) for n in range(300)])
            until(lambda: archived() == 500, 60, "the second one took over")
        send(cluster, raw, [good(n) for n in range(100)])
        until(lambda: archived() == 600, 60, "whoever is there goes on")
        assert first.poll() is None, (state / "archiver0.log").read_text()[-2_000:]
    assert in_archive(root, raw) == on_topic(cluster, raw)


def test_a_topic_that_is_made_anew_begins_a_tree_of_its_own(
    cluster: Cluster, kept: tuple[Path, Path, Path], name: str
):
    file, state, root = kept
    raw = f"{name}.raw"
    with archiver(cluster, file, state) as running:
        send(cluster, raw, [good(n) for n in range(50)])
        before = on_topic(cluster, raw)
        until(lambda: root.exists() and len(in_archive(root, raw)) == 50, 40, "the first life is archived")
        Admin(cluster).delete([raw])
        admin = Admin(cluster)
        until(lambda: raw not in admin.partitions(), 20, "the topic is gone")
        until(lambda: raw in admin.ensure(topics_in(load(file))) or raw in admin.partitions(), 20, "it is made anew")
        send(cluster, raw, [good(n) for n in range(100, 180)])
        until(lambda: running.poll() is not None, 40, "the archiver ends")
        assert "was deleted and made anew: starting again" in (state / "archiver0.log").read_text()
    with archiver(cluster, file, state):
        until(lambda: (root / "data-1").exists(), 30, "the old tree is closed")
        until(lambda: len(in_archive(root, raw)) == 80, 40, "the second life is archived")
    assert in_archive(root, raw) == on_topic(cluster, raw)
    assert in_archive(root, raw, "data-1") == before


def test_the_archive_may_lie_in_a_bucket_and_its_archiver_may_be_killed(
    cluster: Cluster, tmp_path: Path, name: str, s3: str, monkeypatch: pytest.MonkeyPatch
):
    for variable, value in credentials(s3).items():
        monkeypatch.setenv(variable, value)
    root = open_root(f"s3://{name}/kept", tmp_path)
    root.fs.mkdir(name)  # type: ignore[attr-defined]
    file, state, raw = write(tmp_path, name, more=f'root = "s3://{name}/kept"'), tmp_path / "state", f"{name}.raw"
    state.mkdir()
    Admin(cluster).ensure(topics_in(load(file)))
    for _ in range(2):
        with archiver(cluster, file, state) as running:
            send(cluster, raw, [good(n) for n in range(100)])
            until(lambda: archived_to(root, raw) == len(on_topic(cluster, raw)), 60, "it is archived")
            assert in_archive(root, raw) == on_topic(cluster, raw)
            send(cluster, raw, [good(n) for n in range(50)])
            running.kill()  # with what is in no file yet
            running.wait(10)
    with archiver(cluster, file, state):
        until(lambda: archived_to(root, raw) == 300, 60, "what was read again, too")
    assert in_archive(root, raw) == on_topic(cluster, raw)
    checked = rendezvous(["archive", "check", "-P", str(file)], environment(cluster, state))
    assert (checked.returncode, "all sound" in checked.stderr) == (0, True), checked.stderr


def archived_to(root: Path, topic: str) -> int:
    """The offset after the last that is archived: asked of one file, for the server is in this process."""
    files = Layout(root, topic, 0).segments()
    return read_footer(files[-1]).end if files else 0


WITHOUT_DELAY = (
    "import sys; from agents import archiver; archiver.UPKEEP_FIRST_S = archiver.UPKEEP_S = 0.5; "
    "from agents.cli import main; sys.argv = ['rendezvous', *sys.argv[1:]]; main()"
)


def test_each_stored_day_of_figures_comes_on_its_topic_once_also_after_a_restart(
    cluster: Cluster, tmp_path: Path, name: str
):
    file, state = write(tmp_path, name, more="[labels]\nexpected = 0.8\n"), tmp_path / "state"
    root, topic = state / name / "archive", f"{name}.quality"
    Admin(cluster).ensure(topics_in(load(file)))
    days = ("2025-11-24", "2025-11-25")
    for count, day in enumerate(days, 1):
        store_figures(root, name, "w", figures(day))
        command = [sys.executable, "-c", WITHOUT_DELAY, "run", "archiver", str(file)]
        with (tmp_path / "archiver.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment(cluster, state), stderr=log)
        try:
            until(lambda: not untold_days(root, name, ""), 60, f"{day} is told")
        finally:
            process.terminate()
            process.wait(20)
        assert len(on_topic(cluster, topic)) == 2 * count, (tmp_path / "archiver.log").read_text()[-2_000:]
    stored = [row for day in days for row in read_figures(place_of(root, name, day, "")) or ()]
    found = [
        (json.decode(key or b""), json.decode(value or b"", type=Judged))
        for _, key, value, *_ in on_topic(cluster, topic)
    ]
    assert found == [([row.day, row.model, row.version], row) for row in stored]
