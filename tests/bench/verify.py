"""`rendezvous verify` over a million requests that were answered and archived: how long, and how much memory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from confluent_kafka import Message
from msgspec.structs import replace

from agents.archiver import columns_of
from schemas.decisions import Decision, Outcome, ScoreSeen, Ticket, encode_decision
from schemas.topics import Topics, topics_of
from streams.archive.layout import Layout
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load
from tests.bench.stages import bench_file, produce

MODELS = ("full", "fast", "rule", "january")
LIMITS = Limits(max_rows=200_000, max_bytes=128 << 20, max_age_s=3600)
LIKE = Decision(
    request_id="UA1545-20130701-0515-EWR",
    ticket=Ticket(0, 0),
    outcome=Outcome.PREFERRED,
    final=True,
    revision=0,
    model="full",
    version="2013-h1",
    score=0.31,
    scores={name: ScoreSeen(0.31, "2013-h1", 5) for name in MODELS},
    missing=[],
    failed={},
    not_asked={},
    budget_ms=200,
    used_ms=7.9,
    decided_at_ms=1_372_655_721_000,
    reason="the champion full answered after 5 ms",
)


def verified(cluster: Cluster, folder: Path, values: Sequence[bytes], count: int) -> dict[str, float]:
    """Fill topics and archive of one partition, then time the command itself, from its start to its end."""
    file = bench_file(folder, "checked", MODELS, "first", 200)
    topics, state = Topics("checked"), folder / "state"
    Admin(cluster).ensure(topics_of(load(file)))
    produce(cluster, topics.raw, (values[number % len(values)] for number in range(count)))
    produce(cluster, topics.decisions, map(answer, range(count)))
    archive(cluster, topics.raw, state / "checked" / "archive")
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "RENDEZVOUS_STATE": str(state)}
    command = [sys.executable, "-m", "agents", "verify", "--json", "--pipeline", str(file)]
    started_s = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        found = json.loads(child.stdout.read())
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
    took_s = time.monotonic() - started_s
    if not found["ok"] or (found["accepted"], found["decided"], found["archived"]) != (count, count, count):
        raise RuntimeError(f"verify does not find what was put there: {found}")
    millions = count / 1e6
    return {
        "verify_s_per_million": took_s / millions,
        "verify_cpu_s_per_million": (used.ru_utime + used.ru_stime) / millions,
        "verify_peak_mb": used.ru_maxrss / 1024,
    }


def answer(offset: int) -> bytes:
    """A decision of four models, about 530 bytes."""
    return encode_decision(replace(LIKE, ticket=Ticket(0, offset)))


def archive(cluster: Cluster, topic: str, root: Path) -> None:
    """Write the archive as the archiver does."""
    writer = PartitionWriter(Layout(root, topic, 0), LIMITS, "", "bench")
    with TopicReader(cluster, topic) as reader:
        for records in batched(reader):
            writer.extend(columns_of(records), 0.0)
            if writer.due(0.0):
                writer.close_segment()
    writer.close_segment()


def batched(reader: TopicReader) -> Iterator[list[Message]]:
    """Everything there is, a thousand records at a time."""
    batch: list[Message] = []
    for message in reader.to_end():
        batch.append(message)
        if len(batch) == 1000:
            yield batch
            batch = []
    yield batch
