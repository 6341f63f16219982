"""A small pipeline under test: its file, its processes, its requests and what became of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.blocks import ScoreBlock, decode_scores, offsets_of
from schemas.decisions import Decision, decode_decision
from schemas.errors import UnreadableRecord
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

FILE = """
name = "{name}"

[request]
budget_ms = {budget_ms}
repeat_s = {repeat_s}

[[features]]
name = "x"
type = "number"

[[features]]
name = "colour"
type = "category"
vocabulary = ["red", "green"]

[[features]]
name = "size"
path = "box.size"
type = "number"
default = 1.0

[[models]]
name = "good"
version = "1"
kind = "python"
role = "champion"
callable = "tests.broker.models:double"

[[models]]
name = "plain"
version = "1"
kind = "constant"
role = "challenger"
value = 0.5

[[models]]
name = "watcher"
version = "1"
kind = "constant"
role = "canary"
value = 0.25

[default]
score = 0.1

[output]
headers = ["tenant"]
reply_to_prefix = "{name}.replies."

[archive]
max_age_s = 1.0
{more}
"""


def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait for a condition, bounded. What is long in looking is looked at less often: who waits takes no core."""
    looked_s = time.monotonic()
    deadline_s = looked_s + within_s
    while not true():
        if looked_s > deadline_s:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(min(max(0.02, 3 * (time.monotonic() - looked_s)), 0.5))
        looked_s = time.monotonic()


@dataclass
class Up:
    """A pipeline that is up."""

    name: str
    cluster: Cluster
    process: subprocess.Popen[bytes]
    state: Path
    file: Path
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        return Topics(self.name)

    @property
    def archive(self) -> Path:
        return Path(self.status["archive"])

    def pid(self, role: str) -> int:
        return int(self.status["roles"][role]["pid"])

    def restarts(self, role: str) -> int:
        """How often it was started again until now; what is shown of a process that has ended is out of date."""
        until(lambda: (pid := self.status["roles"][role]["pid"]) is None or alive(pid), 30, f"{role} is shown anew")
        return int(self.status["roles"][role]["restarts"])

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in Path(self.status["logs"]).glob("*.log"))

    def kill(self, role: str) -> None:
        os.kill(self.pid(role), signal.SIGKILL)

    def running(self, role: str, restarts: int) -> bool:
        found = self.status["roles"][role]
        return bool(found["state"] == "running" and found["restarts"] >= restarts)


def alive(pid: int) -> bool:
    """Whether a process has not ended; one that was not waited for yet has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(cluster: Cluster, state: Path) -> dict[str, str]:
    return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "RENDEZVOUS_STATE": str(state)}


def make_topic(cluster: Cluster, name: str, partitions: int = 1) -> None:
    admin = AdminClient(cluster.settings())  # kept while it works: one that is collected cancels its futures
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(10)


def write(
    folder: Path, name: str, budget_ms: int = 400, more: str = "", text: str = FILE, repeat_s: float = 0
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pipeline.toml"
    file.write_text(text.format(name=name, budget_ms=budget_ms, more=more, repeat_s=repeat_s))
    return file


@contextmanager
def up(
    cluster: Cluster,
    file: Path,
    name: str,
    state: Path,
    *options: str,
    more: Mapping[str, str] | None = None,
    said: Path | None = None,
) -> Iterator[Up]:
    """Bring a pipeline up, `more` in its environment; every process ends with the block.

    Without a standby, which most tests have no use for, unless it is asked for. What it says on stderr is put into
    the file `said`, if there is one.
    """
    desks = [] if "--standby" in options else ["--no-standby"]
    command = [sys.executable, "-m", "agents", "up", str(file), "--json", *desks, *options]
    with said.open("wb") if said else nullcontext() as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**environment(cluster, state), **(more or {})},
            process_group=0,
        )
    pipeline = Up(name, cluster, process, state, file)
    follower = threading.Thread(target=_follow, args=(pipeline,), daemon=True)
    follower.start()
    try:
        until(lambda: bool(pipeline.status.get("ready")) or process.poll() is not None, 60, "ready")
        assert process.poll() is None, "`up` ended before it was ready"
        yield pipeline
    finally:
        process.terminate()
        try:
            process.wait(15)
        finally:
            process.kill()
            follower.join(5)
            if process.stdout:
                process.stdout.close()


def _follow(pipeline: Up) -> None:
    assert pipeline.process.stdout is not None
    for line in pipeline.process.stdout:
        pipeline.status = json.loads(line)


@dataclass
class Outcome:
    """What became of requests that were sent: by raw offset (one partition)."""

    raw_at_ms: dict[int, int]
    decisions: dict[int, Decision]
    decided_at_ms: dict[int, int]
    records: dict[int, Message]
    second_finals: int

    def late_ms(self) -> list[float]:
        """How long after its deadline each decision was in the log; negative is before it."""
        return [
            self.decided_at_ms[offset] - at_ms - self.decisions[offset].budget_ms
            for offset, at_ms in self.raw_at_ms.items()
            if offset in self.decisions
        ]


def send(
    cluster: Cluster,
    topic: str,
    values: Sequence[bytes | None],
    rate: float = 1e6,
    headers: Sequence[Any] | None = None,
    during: Callable[[int], None] = lambda _: None,
) -> dict[int, int]:
    """Send on an absolute schedule; returns the log time of each by offset, all acknowledged."""
    acknowledged: dict[int, int] = {}

    def report(error: Any, message: Message) -> None:
        assert error is None, error
        acknowledged[message.offset() or 0] = message.timestamp()[1]

    producer = Producer(cluster.producer_settings(linger_ms=2))
    started_s = time.monotonic()
    for number, value in enumerate(values):
        while (early_s := started_s + number / rate - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(early_s, 0.01))
        during(number)
        producer.produce(topic, value, headers=headers[number] if headers else None, on_delivery=report, partition=0)
    assert producer.flush(30) == 0
    assert len(acknowledged) == len(values)
    return acknowledged


def outcome(pipeline: Up, raw_at_ms: dict[int, int], within_s: float = 30) -> Outcome:
    """Wait until every request has its final decision; the first one counts. Then read on to the end of the log."""
    found = Outcome(raw_at_ms, {}, {}, {}, 0)
    wanted = set(raw_at_ms)
    deadline_s = time.monotonic() + within_s
    with TopicReader(pipeline.cluster, pipeline.topics.decisions) as reader:
        reader.start(reader.at_time(min(raw_at_ms.values(), default=0)))
        while missing := wanted - found.decisions.keys():
            said = f"{len(missing)} of {len(wanted)} have no final decision after {within_s} s: {sorted(missing)[:9]}"
            assert time.monotonic() < deadline_s, said
            for message in reader.poll(0.2):
                take(found, message)
        for message in reader.to_end(dict(reader.positions)):
            take(found, message)
    return found


def blocks(pipeline: Up, model: str) -> list[ScoreBlock]:
    """What a model's scorers have written, by any version of it; another program's bytes are nobody's scores."""
    found: list[ScoreBlock] = []
    with TopicReader(pipeline.cluster, pipeline.topics.scores) as reader:
        for message in reader.to_end():
            with suppress(UnreadableRecord):
                block = decode_scores(message.value())
                if isinstance(block, ScoreBlock) and block.model == model:
                    found.append(block)
    return found


def scored(pipeline: Up, model: str) -> set[int]:
    """Raw offsets of the requests that a model has a score for (one partition)."""
    return {offset for block in blocks(pipeline, model) for offset in offsets_of(block.offsets)}


def take(found: Outcome, message: Message) -> None:
    decision = decode_decision(message.value() or b"")
    offset = decision.ticket.offset
    if not decision.final or offset not in found.raw_at_ms:
        return
    if offset in found.decisions:
        found.second_finals += 1
        return
    found.decisions[offset] = decision
    found.decided_at_ms[offset] = message.timestamp()[1]
    found.records[offset] = message


def good(number: int) -> bytes:
    return json.dumps({"request_id": f"r{number}", "x": number / 1000, "colour": "red", "box": {"size": 2}}).encode()
