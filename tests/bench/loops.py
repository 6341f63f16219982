"""One event in, one field added, one event out: by hand, as an agent, and as an agent over blocks.

Each runs in a process of its own, which prints the CPU seconds (user and system, all threads) from the first event
to the last confirmation: `python -m tests.bench.loops KIND BOOTSTRAP TOPIC COUNT RUN`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from agents.process import spare_the_collector
from schemas.blocks import decode_rows, encode_scores, score_block
from streams.kafka.batch import Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge
from streams.kafka.loop import RecordLoop
from streams.kafka.transport import create_app

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Meter:
    """CPU seconds from the first event to the last."""

    def __init__(self) -> None:
        self.started_s: float | None = None

    def start(self) -> None:
        if self.started_s is None:
            self.started_s = time.process_time()

    def print(self) -> None:
        sys.stdout.write(json.dumps({"cpu_s": time.process_time() - (self.started_s or 0.0)}) + "\n")
        sys.stdout.flush()


def settings(cluster: Cluster, run: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same clients for everybody."""
    consumer = cluster.consumer_settings(f"bench.{run}", f"bench.{run}.0") | {
        "auto.offset.reset": "earliest",
        "queued.min.messages": 20_000,
    }
    return consumer, cluster.producer_settings(linger_ms=1)


def add_field(value: bytes | None) -> bytes:
    """The work itself."""
    event = _decode(value or b"{}")
    event["seen"] = True
    return _encode(event)


class Row(msgspec.Struct):
    """One row as one JSON record."""

    id: int
    at_ms: int
    deadline_ms: int
    features: list[float]


class Sum(msgspec.Struct):
    """One score as one JSON record."""

    model: str
    version: str
    id: int
    score: float


_decode_row = msgspec.json.Decoder(Row).decode


def score_row(value: bytes | None) -> bytes:
    """The same for one row of 20 features."""
    row = _decode_row(value or b"{}")
    return _encode(Sum("m", "1", row.id, sum(row.features)))


def by_hand(cluster: Cluster, topic: str, count: int, run: str, work: Callable[[bytes | None], bytes]) -> None:
    """A plain confluent-kafka loop: poll one, then what is there; commit past what is confirmed."""
    consumer_settings, producer_settings = settings(cluster, run)
    consumer, producer = Consumer(consumer_settings), Producer(producer_settings)
    meter, confirmed, seen, last, committed_s = Meter(), 0, 0, -1, 0.0

    def delivered(error: object, _: Message) -> None:
        nonlocal confirmed
        if error is not None:
            raise RuntimeError(str(error))
        confirmed += 1

    consumer.subscribe([topic])
    while confirmed < count:
        messages = consumer.consume(1, 0.1)
        if messages:
            meter.start()
            messages += consumer.consume(1023, 0)
        for message in messages:
            while True:
                try:
                    producer.produce(f"{topic}.out", work(message.value()), partition=0, on_delivery=delivered)
                except BufferError:
                    producer.poll(0.005)
                else:
                    break
            last = message.offset() or 0
        seen += len(messages)
        producer.poll(0)
        if time.monotonic() - committed_s > 0.25 and confirmed == seen and seen:
            committed_s = time.monotonic()
            consumer.commit(offsets=[TopicPartition(topic, 0, last + 1)], asynchronous=True)
    meter.print()


def agent(cluster: Cluster, topic: str, count: int, run: str, work: Callable[[Any], list[Outgoing]]) -> None:
    """A Faust agent on the transport."""
    consumer, producer = settings(cluster, run)
    edge = Edge("bench", consumer, producer, f"{topic}.dead", 1 << 20)
    app = create_app(edge, cluster.bootstrap)
    meter = Meter()
    seen = 0
    done = asyncio.Event()

    @app.agent(app.topic(topic), name="bench")
    async def bench(batches):
        nonlocal seen
        async for batch in batches:
            meter.start()
            await app.producer.send_batch(batch, work(batch))
            seen += len(batch)
            if seen >= count:
                await app.producer.flush()
                done.set()

    async def main() -> None:
        await app.start()
        await done.wait()
        meter.print()
        await app.stop()

    spare_the_collector()  # as every role does
    loop = RecordLoop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())


def json_work(batch: Any) -> list[Outgoing]:
    """JSON in, JSON out, a batch at a time."""
    topic = f"{batch.topic}.out"
    return [Outgoing(topic, add_field(message.value()), None, 0) for message in batch.messages]


def block_work(batch: Any) -> list[Outgoing]:
    """Blocks of rows in, blocks of scores out."""
    topic = f"{batch.topic}.out"
    out = []
    for message in batch.messages:
        rows = decode_rows(message.value())
        scores = np.asarray(rows.matrix.sum(axis=1))
        out.append(Outgoing(topic, encode_scores(score_block("m", "1", rows.offsets, scores)), None, 0))
    return out


def main(kind: str, bootstrap: str, topic: str, count: str, run: str) -> None:
    """Run one kind."""
    cluster = Cluster(bootstrap)
    if kind in ("by-hand", "rows-by-hand"):
        by_hand(cluster, topic, int(count), run, add_field if kind == "by-hand" else score_row)
    else:
        agent(cluster, topic, int(count), run, json_work if kind == "agent" else block_work)


if __name__ == "__main__":
    main(*sys.argv[1:])
