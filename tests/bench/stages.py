"""A pipeline under measurement: its processes, their CPU, and the requests that are put through it."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka import Producer

from deploy.flights.prepare import MODELS, PIPELINE
from schemas.decisions import Decision, decode_decision
from schemas.pipeline import Pipeline
from schemas.topics import Topics, topics_of
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load

READY_S, DONE_S = 60, 120


def bench_file(folder: Path, name: str, models: Sequence[str], answer: str, budget_ms: int) -> Path:
    """The flights pipeline under another name, with these models, and its models beside it.

    Where all models answer it is held against a pipeline that joins nothing into events, and so it joins nothing either.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(MODELS, folder / "models", dirs_exist_ok=True)
    head, *blocks = PIPELINE.read_text().split("[[models]]")
    tail = blocks[-1][blocks[-1].index("# A schedule") :]
    blocks[-1] = blocks[-1][: blocks[-1].index("# A schedule")]
    kept = [block for block in blocks if any(f'name = "{model}"' in block for model in models)]
    text = "[[models]]".join([head, *kept]) + tail
    changes = {
        'name = "flights" ': f'name = "{name}" ',
        "budget_ms = 200 ": f"budget_ms = {budget_ms} ",
        'answer = "first" ': f'answer = "{answer}" ',
        '"flights.replies."': f'"{name}.replies."',
    }
    if answer == "all":
        changes |= {'role = "canary"': 'role = "challenger"', '["champion", "fast"]': '["champion"]'}
        changes |= {'start = "earliest" ': 'standby = false\nstart = "earliest" '}
        enrich = text[text.index("[[enrich]]") : text.index("[[features]]", text.index("[[enrich]]"))]
        changes[enrich] = ""
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"{PIPELINE} no longer says {old}")
        text = text.replace(old, new)
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


@dataclass
class Stages:
    """The processes of one pipeline, and its topics."""

    cluster: Cluster
    pipeline: Pipeline
    processes: dict[str, psutil.Process]
    sent: int = 0

    @property
    def topics(self) -> Topics:
        return Topics(self.pipeline.name)

    def cpu_s(self) -> float:
        """User and system seconds of all stages so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes.values())


def commands(
    file: Path, pipeline: Pipeline, cluster: Cluster, *, ours: bool, beside: Sequence[str]
) -> dict[str, list[str]]:
    """How each stage is started; `beside` are the roles of ours that nobody waits for."""
    names = [model.name for model in pipeline.models]
    if not ours:
        base = [sys.executable, "-m", "tests.bench.by_hand"]
        found = {f"scorer {name}": [*base, "scorer", cluster.bootstrap, str(file), name] for name in names}
        found |= {stage: [*base, stage, cluster.bootstrap, str(file)] for stage in ("router", "joiner")}
        return found
    base = [sys.executable, "-m", "agents", "run"]
    found = {f"scorer {name}": [*base, "scorer", str(file), "--supervised", "--model", name] for name in names}
    desks = ("rendezvous", "standby") if pipeline.standby else ("rendezvous",)
    roles = ("router", *desks, *beside)
    return found | {role: [*base, role, str(file), "--supervised"] for role in roles}


@contextmanager
def running(file: Path, cluster: Cluster, state: Path, *, ours: bool, beside: Sequence[str] = ()) -> Iterator[Stages]:
    """Start every stage, wait until each has its partitions, end them."""
    pipeline = load(file)
    Admin(cluster).ensure(topics_of(pipeline))
    where = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "RENDEZVOUS_STATE": str(state)}
    children = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=where)
        for name, command in commands(file, pipeline, cluster, ours=ours, beside=beside).items()
    }
    ready = {name: threading.Event() for name in children}
    for name, child in children.items():
        threading.Thread(target=_follow, args=(child, ready[name]), daemon=True).start()
    try:
        for name, event in ready.items():
            if not event.wait(READY_S):
                raise RuntimeError(f"{name} is not ready in {READY_S} s")
        yield Stages(cluster, pipeline, {name: psutil.Process(child.pid) for name, child in children.items()})
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)


def _follow(child: "subprocess.Popen[bytes]", ready: threading.Event) -> None:
    if child.stdout is None:
        raise RuntimeError("a stage was started without its status")
    for line in child.stdout:
        if line.startswith(b"ready") or b'"state":"running"' in line:
            ready.set()


def flights(lines: Sequence[bytes], count: int, after: int = 0) -> list[bytes]:
    """So many flights after the first `after`, each with an id of its own: a repeat would not be scored again."""
    return [
        lines[number % len(lines)].replace(b'"request_id":"', b'"request_id":"%d-' % (number // len(lines)), 1)
        for number in range(after, after + count)
    ]


def produce(cluster: Cluster, topic: str, values: Iterable[bytes], linger_ms: float = 20) -> None:
    """Send everything to partition 0."""
    producer = Producer(cluster.producer_settings(linger_ms=linger_ms))
    for value in values:
        while True:
            try:
                producer.produce(topic, value, partition=0)
            except BufferError:
                producer.poll(0.05)
            else:
                break
    if producer.flush(120):
        raise RuntimeError(f"{topic} does not take the bench's records in 120 s")


@dataclass
class Run:
    """What came back: by raw offset. A schedule is by the number of the request: its offset, unless there are probes."""

    decisions: dict[int, Decision] = field(default_factory=dict)
    received_s: dict[int, float] = field(default_factory=dict)
    log_ms: dict[int, int] = field(default_factory=dict)
    scheduled_s: dict[int, float] = field(default_factory=dict)
    raw_ms: dict[int, int] = field(default_factory=dict)
    took_s: float = 0.0

    def latencies_ms(self, skip: int = 0) -> np.ndarray:
        """From the scheduled send to the decision received; the first `skip` are warm-up."""
        offsets = sorted(self.scheduled_s)[skip:]
        return np.array([(self.received_s[o] - self.scheduled_s[o]) * 1e3 for o in offsets if o in self.received_s])

    def on_time_share(self, skip: int = 0) -> float:
        """Log time of the decision at most budget + 10 ms after raw's."""
        offsets = sorted(self.raw_ms)[skip:]
        late = [self.log_ms.get(o, 1 << 60) - self.raw_ms[o] - self.decisions[o].budget_ms for o in offsets]
        return float(np.mean(np.array(late) <= 10))


def put_through(stages: Stages, values: Sequence[bytes], rate: float | None) -> Run:
    """Send on an absolute schedule (or as fast as it goes) and read every decision."""
    run = Run()
    stop = threading.Event()
    with TopicReader(stages.cluster, stages.topics.decisions) as reader:
        reader.start("end")
        reader.poll(0.3)
        thread = threading.Thread(target=_send, args=(stages, values, rate, run, stop), daemon=True)
        started_s = time.monotonic()
        thread.start()
        while len(run.decisions) < len(values) and time.monotonic() - started_s < DONE_S:
            for message in reader.poll(0.1):
                decision = decode_decision(message.value() or b"")
                offset = decision.ticket.offset
                if decision.final and not decision.probe and offset not in run.decisions:
                    run.decisions[offset] = decision
                    run.received_s[offset] = time.monotonic()
                    run.log_ms[offset] = message.timestamp()[1]
        run.took_s = time.monotonic() - started_s
        stop.set()
        thread.join()
    if len(run.decisions) < len(values):
        raise RuntimeError(f"{len(values) - len(run.decisions)} of {len(values)} decisions are missing")
    return run


def _send(stages: Stages, values: Sequence[bytes], rate: float | None, run: Run, stop: threading.Event) -> None:
    producer = Producer(stages.cluster.producer_settings(linger_ms=1))
    first = stages.sent
    started_s = time.monotonic()

    def delivered(error: object, message: object) -> None:
        if error is not None:
            raise RuntimeError(str(error))
        run.raw_ms[message.offset()] = message.timestamp()[1]  # type: ignore[attr-defined]

    sent = 0
    while sent < len(values) and not stop.is_set():
        due = len(values) if rate is None else min(len(values), int((time.monotonic() - started_s) * rate) + 1)
        while sent < due:
            try:
                producer.produce(stages.topics.raw, values[sent], partition=0, on_delivery=delivered)
            except BufferError:
                producer.poll(0.01)
                continue
            run.scheduled_s[first + sent] = started_s + (sent / rate if rate else 0.0)
            sent += 1
        producer.poll(0)
        if rate:
            time.sleep(0.001)
    producer.flush(30)
    stages.sent += sent
