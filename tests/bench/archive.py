"""The archive's writer against a plain pyarrow writer, given the same records of a real topic.

Both take the same Kafka messages and write the same columns in the same codec, into one file. Ours alone adds page
checksums, the seal, the fsyncs, the exclusive link and the note of how far it got.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Message

from agents.archiver import columns_of
from streams.archive.layout import Layout
from streams.archive.segment import SCHEMA, read_footer
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

BATCH = 256
"""Records that the archiver's agent is handed at once."""


def by_hand(messages: Sequence[Message], folder: Path) -> None:
    """What one would write without us."""
    arrays = [
        pa.array([message.offset() for message in messages], pa.int64()),
        pa.array([message.timestamp()[1] for message in messages], pa.int64()),
        pa.array([message.timestamp()[0] - 1 for message in messages], pa.int8()),
        pa.array([message.key() for message in messages], pa.binary()),
        pa.array([message.value() for message in messages], pa.binary()),
        pa.array([message.headers() for message in messages], SCHEMA.field("headers").type),
    ]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    pq.write_table(table, folder / "plain.parquet", compression="zstd", compression_level=1, use_dictionary=False)


def ours(messages: Sequence[Message], folder: Path) -> None:
    """As the archiver does it, batch by batch."""
    writer = PartitionWriter(Layout(folder, "bench-archive", 0), Limits(1 << 30, 1 << 40, 1e9), "", "bench")
    for start in range(0, len(messages), BATCH):
        writer.extend(columns_of(messages[start : start + BATCH]), 0.0)
    writer.close_segment()
    (path,) = writer.layout.segments()
    if read_footer(path).count != len(messages):
        raise RuntimeError(f"{path}: not all of {len(messages)} records")


def archive_figures(cluster: Cluster, topic: str, rounds: int) -> dict[str, float]:
    """CPU and wall time of both, in turn; the ratio is the plain writer's CPU over ours."""
    with TopicReader(cluster, topic) as reader:
        messages = list(reader.to_end())
    found: dict[str, list[float]] = {"cpu": [], "wall": [], "us": []}
    for number in range(-1, rounds):
        (hand_cpu_s, hand_s), (cpu_s, wall_s) = (_measured(write, messages) for write in (by_hand, ours))
        if number >= 0:  # the first of each warms pyarrow
            found["cpu"].append(hand_cpu_s / cpu_s)
            found["wall"].append(hand_s / wall_s)
            found["us"].append(cpu_s / len(messages) * 1e6)
    middle = {name: statistics.median(figures) for name, figures in found.items()}
    return {
        "archive_write_ratio": middle["cpu"],
        "archive_write_wall_ratio": middle["wall"],
        "archive_us_per_record": middle["us"],
    }


def _measured(write: Callable[[Sequence[Message], Path], None], messages: Sequence[Message]) -> tuple[float, float]:
    with TemporaryDirectory() as folder:
        os.sync()  # nobody pays for what another has left in the page cache
        started_s, cpu_s = time.perf_counter(), time.process_time()
        write(messages, Path(folder))
        return time.process_time() - cpu_s, time.perf_counter() - started_s
