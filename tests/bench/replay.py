"""A replay, flat out, against a raw librdkafka producer that is handed the very same records in memory.

`python -m tests.bench.replay raw|ours BOOTSTRAP FOLDER RUN`; each run is a process of its own, and they take turns.
The raw producer has the same settings, and its records (marks and ids as they are in the target) are made before
its clock starts; it reads nothing, rewrites nothing, checks nothing and keeps no checkpoint.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer

from agents.replay.running import Asked, Replay, Report
from agents.replay.source import Source, parts_of
from deploy.flights.prepare import PIPELINE
from schemas.topics import Topics, topics_of
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.replay import IdField, of_run, replay_prefix
from streams.core.replay_order import Pace, Selection
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.replaying import LINGER_MS, QUEUED
from streams.pipeline_file import load

FILE_ROWS = 100_000
HEADERS: list[tuple[str, bytes | None]] = [("budget-ms", b"200")]


def archive(folder: Path, values: Sequence[bytes]) -> None:
    """The flights as they would be archived, every second one with a header."""
    topic = Topics(load(PIPELINE).name).raw
    writer = PartitionWriter(Layout(folder, topic, 0), Limits(FILE_ROWS, 1 << 30, 60), "id", "bench")
    for start in range(0, len(values), FILE_ROWS):
        part = enumerate(values[start : start + FILE_ROWS], start)
        writer.append(
            [Record(n, 1_372_654_800_000 + n, 1, b"k%d" % n, value, HEADERS if n % 2 else None) for n, value in part],
            0.0,
        )
        writer.close_segment()


def ours(cluster: Cluster, folder: Path, run: str) -> dict[str, float]:
    """The whole archive by the command's own code."""
    pipeline = load(PIPELINE)
    asked = Asked(
        run=run,
        pipeline=pipeline,
        archive=folder,
        selection=Selection(),
        asked={},
        order="offset",
        pace=Pace(),
        target=Topics(of_run(pipeline, run).name).raw,
    )
    cpu_s = time.process_time()
    report: Report = Replay(asked, cluster, folder / "state").go(_unseen)
    return {"records": report.sent, "seconds": report.seconds, "cpu_s": time.process_time() - cpu_s}


def raw(cluster: Cluster, folder: Path, run: str) -> dict[str, float]:
    """The same records from memory: produce, and wait until all are confirmed."""
    pipeline = of_run(load(PIPELINE), run)
    source = Topics(load(PIPELINE).name).raw
    topic = topics_of(pipeline)[0]
    Admin(cluster).ensure([topic])
    field = IdField(pipeline.request.id)
    records = []
    for part in parts_of(folder, source, Selection()):
        for chunk in Source(Selection(), field, None, replay_prefix(run)).chunks(part, 0, lambda _: None):
            for place, offset in enumerate(chunk.offsets):
                own = chunk.headers[place] if chunk.headers else None
                marks = [
                    ("rv-replay", run.encode()),
                    ("rv-src", f"{source}/0/{offset}".encode()),
                    ("rv-orig-ts", b"%d" % chunk.at_ms[place]),
                ]
                records.append((chunk.values[place], chunk.keys[place], [*(own or []), *marks]))
    producer = Producer(
        cluster.producer_settings(LINGER_MS)
        | {
            "queue.buffering.max.messages": QUEUED,
            "delivery.report.only.error": True,
            "message.max.bytes": int(topic.config["max.message.bytes"]),
        }
    )
    produce, name = producer.produce, topic.name
    started_s, cpu_s = time.monotonic(), time.process_time()
    for value, key, headers in records:
        while True:
            try:
                produce(name, value, key, 0, headers=headers)
            except BufferError:
                producer.poll(0.05)
            else:
                break
    producer.flush()
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    return {"records": len(records), "seconds": took_s, "cpu_s": cpu_s}


class _Unseen:
    def __enter__(self):  # type: ignore[no-untyped-def]
        return lambda _: None

    def __exit__(self, *_: object) -> None:
        pass


def _unseen(_: int) -> _Unseen:
    return _Unseen()


def replay_ratio(cluster: Cluster, folder: Path, values: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Records per second and CPU of a replay against the raw producer's, in turn; the first of each warms up."""
    archive(folder, values)
    found: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        for kind in ("raw", "ours"):
            name = f"{kind}{number + 1}"
            command = [sys.executable, "-m", "tests.bench.replay", kind, cluster.bootstrap, str(folder), name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                raise RuntimeError(f"{kind}: {done.stderr[-2000:]}")
            figures = json.loads(done.stdout.splitlines()[-1])
            if figures["records"] != len(values):
                raise RuntimeError(f"{kind} sent {figures['records']} of {len(values)} records")
            if number >= 0:
                found.setdefault(f"{kind}_per_s", []).append(figures["records"] / figures["seconds"])
                found.setdefault(f"{kind}_cpu_us", []).append(figures["cpu_s"] / figures["records"] * 1e6)
            Admin(cluster).delete([Topics(of_run(load(PIPELINE), name).name).raw])
    middle = {f"replay_{name}": statistics.median(figures) for name, figures in found.items()}
    ratios = [mine / theirs for mine, theirs in zip(found["ours_per_s"], found["raw_per_s"], strict=True)]
    return middle | {"replay_ratio": statistics.median(ratios)}


def main(kind: str, bootstrap: str, folder: str, run: str) -> None:
    """One run."""
    work = {"raw": raw, "ours": ours}[kind]
    print(json.dumps(work(Cluster(bootstrap), Path(folder), run)))


if __name__ == "__main__":
    main(*sys.argv[1:])
