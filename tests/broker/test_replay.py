"""The past run again on real Kafka: exact, fenced, in time, and each record once whatever kills it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from schemas.decisions import Decision, Outcome, decode_decision
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.reader import read_partition
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kill_points import REPLAY_POINTS, VARIABLE
from tests.broker.commands import rendezvous
from tests.broker.pipelines import environment, make_topic, outcome, send, until, up, write

HEADERS: list[tuple[str, bytes | None]] = [("tenant", b"a"), ("tenant", None), ("raw", b"\x00\xff")]


def value_of(partition: int, offset: int) -> bytes | None:
    if offset % 50 == 7:
        return None
    if offset % 50 == 8:
        return b'{"x": 0.5, "colour": "red"}'
    if offset % 50 == 9:
        return b"{no json"
    return b'{"request_id": "r%d-%d",  "x": %d.5e-1, "colour": "red"}' % (partition, offset, offset % 10)


def archived(root: Path, name: str, partition: int, count: int, gap_ms: int = 10) -> list[Record]:
    writer = PartitionWriter(Layout(root, f"{name}.raw", partition), Limits(200, 1 << 20, 60), "id", "w")
    records = [
        Record(
            offset,
            1_372_654_800_000 + gap_ms * offset + partition,
            1,
            None if offset % 5 == 0 else b"k%d" % offset,
            value_of(partition, offset),
            HEADERS if offset % 3 == 0 else None,
        )
        for offset in range(count)
    ]
    for start in range(0, count, 200):
        writer.append(records[start : start + 200], 0.0)
        writer.close_segment()
    return records


class Past:
    """A pipeline's file with an archive beside it, and the command under test."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, partitions: int = 1) -> None:
        self.cluster, self.folder, self.name = cluster, folder, name
        self.file = write(folder, name)
        text = self.file.read_text().replace("[archive]", '[archive]\nroot = "kept"')
        self.file.write_text(text.replace("[request]", f"partitions = {partitions}\n\n[request]", 1))
        self.root = folder / "kept"
        self.state = folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.cluster, self.state)

    def words(self, *arguments: str) -> list[str]:
        return ["replay", "-P", str(self.file), "--json", *arguments]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agents", *self.words(*arguments)]

    def replay(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return rendezvous(self.words(*arguments), self.environment)

    def done(self, *arguments: str) -> dict[str, Any]:
        found = self.replay(*arguments)
        assert found.returncode == 0, found.stderr
        return dict(json.loads(found.stdout))

    def target(self, run: str) -> str:
        return f"replay.{run}.{self.name}.raw"

    def messages(self, run: str) -> list[Message]:
        return messages(self.cluster, self.target(run))


def messages(cluster: Cluster, topic: str) -> list[Message]:
    with TopicReader(cluster, topic) as reader:
        return list(reader.to_end())


def source(message: Message) -> tuple[int, int]:
    topic, partition, offset = (dict(message.headers() or [])["rv-src"] or b"").decode().rsplit("/", 2)
    assert topic.endswith(".raw")
    return int(partition), int(offset)


def expected(record: Record, run: str, name: str, partition: int) -> tuple[Any, ...]:
    value = record.value
    if value is not None:
        value = value.replace(b'"request_id": "', b'"request_id": "rp:%s:' % run.encode())
    marks = [
        ("rv-replay", run.encode()),
        ("rv-src", f"{name}.raw/{partition}/{record.offset}".encode()),
        ("rv-orig-ts", str(record.timestamp_ms).encode()),
    ]
    return record.key, value, [*(record.headers or []), *marks]


def test_key_value_headers_partition_and_order_are_kept_and_the_marks_are_added(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name, partitions=2)
    records = {number: archived(past.root, name, number, 500 + number) for number in (0, 1)}
    report = past.done("--run", "june")
    assert (report["sent"], report["selected"], report["before"]) == (1001, 1001, 0)
    found = past.messages("june")
    for number, own in records.items():
        mine = [message for message in found if message.partition() == number]
        assert [(m.key(), m.value(), m.headers()) for m in mine] == [
            expected(record, "june", name, number) for record in own
        ]
    again = past.done("--run", "june")
    assert (again["sent"], again["before"]) == (0, 1001)
    assert len(past.messages("june")) == 1001


def test_the_target_stamps_its_own_time_so_that_retention_does_not_eat_what_is_old(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    archived(past.root, name, 0, 10)
    before_ms = time.time() * 1e3
    past.done("--run", "june")
    assert all(abs(message.timestamp()[1] - before_ms) < 60_000 for message in past.messages("june"))
    resource = ConfigResource(ResourceType.TOPIC, past.target("june"))
    admin = AdminClient(cluster.settings())
    (found,) = admin.describe_configs([resource], request_timeout=10).values()
    assert found.result(10)["message.timestamp.type"].value == "LogAppendTime"


def test_by_time_the_partitions_are_merged_and_by_speed_the_gaps_are_kept(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name, partitions=2)
    for number in (0, 1):
        archived(past.root, name, number, 50, gap_ms=200)
    report = past.done("--run", "ten", "--speed", "10")
    assert report["order"] == "time"
    assert 0.97 <= report["seconds"] < 8, "9.8 s of records, ten times faster"
    found = past.messages("ten")
    sent_ms = {source(message): message.timestamp()[1] for message in found}
    took_ms = [sent_ms[number, 49] - sent_ms[number, 0] for number in (0, 1)]
    assert all(400 <= took < 8_000 for took in took_ms), took_ms
    report = past.done("--run", "rated", "--rate", "100", "--offsets", "1:0-29")
    assert report["sent"] == 30
    assert 0.29 <= report["seconds"] < 5
    assert 6 < report["rate"] < 110


def test_ids_a_range_and_a_condition_choose_what_is_replayed(cluster: Cluster, tmp_path: Path, name: str):
    past = Past(cluster, tmp_path, name)
    archived(past.root, name, 0, 300)
    past.done("--run", "ids", "--id", "r0-5", "--id", "0-8")
    assert [source(message)[1] for message in past.messages("ids")] == [5, 8]
    past.done("--run", "sql", "--where", "event->>'request_id' in ('r0-3', 'r0-222')")
    assert [source(message)[1] for message in past.messages("sql")] == [3, 222]
    past.done("--run", "range", "--since", "1372654801000", "--until", "1372654801030")
    assert [source(message)[1] for message in past.messages("range")] == [100, 101, 102]
    found = past.replay("--run", "some", "--id", "r0-5", "--id", "nobody")
    assert (found.returncode, json.loads(found.stdout)["sent"]) == (3, 1)
    assert "not in the archive: nobody" in found.stderr
    assert past.target("dry") not in Admin(cluster).partitions()
    assert past.done("--run", "dry", "--dry-run")["sent"] == 300
    assert past.target("dry") not in Admin(cluster).partitions()


def decided(cluster: Cluster, topics: Topics, count: int) -> list[Decision]:
    found: list[Decision] = []

    def enough() -> bool:
        found[:] = [decode_decision(message.value() or b"") for message in messages(cluster, topics.decisions)]
        return len(found) >= count

    until(enough, 30, f"{count} decisions on {topics.decisions}")
    return found


@pytest.mark.timeout(240)
def test_a_replay_is_answered_by_its_own_pipeline_and_rejected_by_the_live_one(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    reply = f"{name}.replies.one"
    make_topic(cluster, reply)
    values = [json.dumps({"request_id": f"r{n}", "x": n / 10, "colour": "red"}).encode() for n in range(20)]
    with up(cluster, past.file, name, past.state) as live:
        raw_at_ms = send(cluster, live.topics.raw, values, headers=[[("reply-to", reply.encode())]] * 20)
        first = outcome(live, raw_at_ms)
        until(lambda: len(messages(cluster, reply)) == 20, 20, "copies to reply-to")
        until(lambda: _rows(past.root, name) == 20, 20, "the archive has them all")

        refused = past.replay("--run", "june2", "--to", live.topics.raw)
        assert (refused.returncode, f"{name}.raw does not lie under replay.june2." in refused.stderr) == (5, True)
        assert len(messages(cluster, live.topics.raw)) == 20

        past.done("--run", "forced", "--to", live.topics.raw, "--force")
        answers = [d for d in decided(cluster, live.topics, 40) if d.ticket.offset >= 20]
        assert [(d.outcome, d.request_id) for d in answers] == [
            (Outcome.REJECTED, f"rp:forced:r{n}") for n in range(20)
        ], "never silence"
        assert all("replayed by run 'forced'; this pipeline takes none" in d.reason for d in answers)
        retried = rendezvous(["dead-letters", "retry", "0/0", "-P", str(past.file)], past.environment)
        assert "would pass as live" in retried.stderr
        copies = len(messages(cluster, reply))

    with up(cluster, past.file, f"replay.june.{name}", past.state, "--replay", "june") as fenced:
        past.done("--run", "june")
        again = sorted(decided(cluster, fenced.topics, 40), key=lambda decision: decision.ticket)
    assert {d.outcome for d in again[20:]} == {Outcome.REJECTED}, "as they were then"
    assert [(d.request_id, d.outcome, d.model, d.score) for d in again[:20]] == [
        (f"rp:june:r{n}", d.outcome, d.model, d.score) for n, d in sorted(first.decisions.items())
    ]
    assert len(messages(cluster, reply)) == copies, "a replay answers nobody but its own topics"


def golden(past: Past, file: Path) -> tuple[int, dict[str, Any], str]:
    """The golden check of a pipeline file over this archive: exit code, findings, what was said of requests."""
    command = ["backtest", "--golden", "--json", "-P", str(file), "--archive", str(past.root)]
    found = rendezvous(command, past.environment)
    return found.returncode, json.loads(found.stdout or "{}"), found.stderr


def test_what_was_answered_live_is_answered_again_and_a_changed_model_is_named_with_the_request(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    values = [json.dumps({"request_id": f"r{n}", "x": n / 10, "colour": "red"}).encode() for n in range(300)]
    with up(cluster, past.file, name, past.state) as live:
        patient = [[("budget-ms", b"5000")]] * 300  # a busy machine's models are in time, too
        found = outcome(live, send(cluster, live.topics.raw, values, 150, patient))
        assert len(found.decisions) == 300
        until(lambda: min(_rows(past.root, name, of) for of in ("raw", "decisions")) == 300, 20, "it is archived")
    code, said, words = golden(past, past.file)
    assert code == 0, words
    assert said["equal"] == said["compared"]
    assert said["compared"] > 150, said
    assert said["compared"] + sum(said["not_compared"].values()) == 300
    changed = tmp_path / "changed.toml"
    changed.write_text(past.file.read_text().replace('name = "good"\nversion = "1"', 'name = "good"\nversion = "2"'))
    code, said, words = golden(past, changed)
    assert (code, said["equal"]) == (3, 0)
    first = said["mismatches"][0]
    decision = found.decisions[int(first["request_id"][1:])]
    assert f"{first['request_id']} ({first['ticket']}): live preferred by good, score {decision.score!r}" in words


def _rows(root: Path, name: str, of: str = "raw") -> int:
    if not Layout(root, f"{name}.{of}", 0).segments():
        return 0
    return sum(1 for _ in read_partition(root, f"{name}.{of}", 0))


@contextmanager
def running(past: Past, arguments: Sequence[str], more: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(past.command(*arguments), env=past.environment | more, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("point", REPLAY_POINTS)
def test_killed_at_each_named_point_and_run_again_each_record_is_there_once(
    cluster: Cluster, tmp_path: Path, name: str, point: str
):
    past = Past(cluster, tmp_path, name, partitions=2)
    for number in (0, 1):
        archived(past.root, name, number, 1000)
    arguments = ("--run", "june", "--rate", "600")
    nth = {"replay.after_send": 3, "replay.checkpoint_written": 2}.get(point, 1)  # one is written before all else
    marker = tmp_path / "killed"
    with running(past, arguments, {VARIABLE: f"{point}:{nth}:{marker}"}) as process:
        assert process.wait(30) == -signal.SIGKILL
    assert marker.exists()
    half = len(past.messages("june"))
    assert 0 < half < 2000
    with running(past, arguments, {}) as process:
        until(lambda: len(past.messages("june")) > half + 100, 30, "it goes on")
        process.kill()
    report = past.done("--run", "june", "--rate", "5000")
    found = [source(message) for message in past.messages("june")]
    assert set(found) == {(number, offset) for number in (0, 1) for offset in range(1000)}
    assert len(found) - len(set(found)) <= 300, "what was in flight at a kill, at most"
    first = list(dict.fromkeys(found))
    for number in (0, 1):
        assert [offset for own, offset in first if own == number] == list(range(1000)), "in order, without repeats"
    assert report["before"] > half


def test_without_its_checkpoint_a_run_goes_on_by_the_targets_tail_and_a_target_made_anew_is_filled_anew(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    archived(past.root, name, 0, 600)
    past.done("--run", "june", "--rate", "100000")
    foreign = Producer(cluster.producer_settings())
    for _ in range(1200):  # more than is looked back at first
        foreign.produce(past.target("june"), b"{}", headers=[("rv-replay", b"other"), ("rv-src", b"x/0/5")])
    assert foreign.flush(20) == 0
    for path in (past.state / "replay").iterdir():
        path.unlink()
    assert past.done("--run", "june")["sent"] == 0
    Admin(cluster).delete([past.target("june")])
    until(lambda: past.target("june") not in Admin(cluster).partitions(), 20, "deleted")
    assert past.done("--run", "june")["sent"] == 600


def test_a_full_disk_and_a_damaged_file_say_what_was_sent_and_the_run_goes_on_afterwards(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    archived(past.root, name, 0, 1000)
    path = Layout(past.root, f"{name}.raw", 0).segment(600)
    good = path.read_bytes()
    values = pq.read_metadata(path).row_group(0).column(4)
    inside = values.data_page_offset + values.total_compressed_size - 5
    path.write_bytes(good[:inside] + bytes([good[inside] ^ 4]) + good[inside + 1 :])
    found = past.replay("--run", "june")
    assert found.returncode == 3
    assert "0600.parquet: offsets 600 to 799 are not as they were sealed" in found.stderr
    assert f"at least 600 records of {name}.raw are in {past.target('june')}, up to 0/599" in found.stderr
    assert [source(message)[1] for message in past.messages("june")] == list(range(600))
    path.write_bytes(good)

    temporary = past.state / "replay" / f"june.{name}.tmp"
    command = past.command("--run", "june", "--rate", "100")
    with subprocess.Popen(command, env=past.environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: len(past.messages("june")) > 600, 30, "it goes on")
        temporary.symlink_to("/dev/full")  # the kernel's own full disk
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the checkpoint is not written: No space left on device" in said
    assert "run the same command again" in said
    temporary.unlink()
    past.done("--run", "june", "--rate", "100000")
    assert [source(message)[1] for message in past.messages("june")] == list(range(1000))


def test_a_record_the_target_is_too_small_for_stops_the_run_before_anything_that_follows(
    cluster: Cluster, tmp_path: Path, name: str
):
    past = Past(cluster, tmp_path, name)
    writer = PartitionWriter(Layout(past.root, f"{name}.raw", 0), Limits(200, 64 << 20, 60), "id", "w")
    big = os.urandom(1_048_700)  # beyond what the target takes, but for the room of the marks it would just fit
    writer.append([Record(n, 5, 1, None, b"%d" % n if n != 2 else big, None) for n in range(5)], 0.0)
    writer.close_segment()
    make_topic(cluster, f"replay.june.{name}.copy")
    found = past.replay("--run", "june", "--to", f"replay.june.{name}.copy")
    assert found.returncode == 1
    assert f"record {name}.raw/0/2" in found.stderr
    assert [m.value() for m in messages(cluster, f"replay.june.{name}.copy")] == [b"0", b"1"]
    assert past.done("--run", "june2")["sent"] == 5, "our own target has room for it"


def test_sigterm_confirms_what_was_sent_and_says_how_to_go_on(cluster: Cluster, tmp_path: Path, name: str):
    past = Past(cluster, tmp_path, name)
    archived(past.root, name, 0, 1000)
    command = past.command("--run", "june", "--rate", "100")
    with subprocess.Popen(command, env=past.environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: past.target("june") in Admin(cluster).partitions(), 30, "it has begun")
        until(lambda: len(past.messages("june")) > 10, 30, "it has begun")
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "The same command goes on" in said
    past.done("--run", "june", "--rate", "100000")
    assert [source(message)[1] for message in past.messages("june")] == list(range(1000))
