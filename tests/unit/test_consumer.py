"""What waits in the agents' inboxes, in records and in bytes: by it reading stops and goes on."""

import asyncio
from types import SimpleNamespace
from typing import Any

from confluent_kafka import Message
from faust.types import TP

from streams.core.finished import FinishedPrefix
from streams.kafka.batch import Batch
from streams.kafka.consumer import Consumer
from streams.kafka.stream import Inbox

PLACE = TP("small.raw", 0)


def a_batch(first: int, *values: bytes, generation: int = 1) -> Batch:
    messages = [
        Message(topic=PLACE.topic, partition=0, offset=first + number, value=value)
        for number, value in enumerate(values)
    ]
    return Batch(*PLACE, messages, generation, sum(map(len, messages)))


def consumer_of(inbox: Inbox) -> Any:
    """One that hands its batches to this agent; nobody else is there."""
    consumer: Any = object.__new__(Consumer)
    consumer.generation, consumer._draining, consumer._behind = 1, False, False
    consumer.taken_records = consumer._outstanding = consumer._outstanding_bytes = 0
    consumer._prefixes = {PLACE: FinishedPrefix(0)}
    consumer._idle = asyncio.Event()
    consumer._inboxes = lambda: [inbox]
    consumer._reader = SimpleNamespace(flowing=True)
    consumer.edge = SimpleNamespace(committable=None)
    topics = SimpleNamespace(_tp_index={PLACE: [SimpleNamespace(inbox=inbox)]})
    consumer.app = SimpleNamespace(topics=topics, producer=SimpleNamespace(poll=lambda: 0))
    return consumer


def waiting(consumer: Any) -> tuple[int, int]:
    return consumer._outstanding, consumer._outstanding_bytes


async def drained(consumer: Any, in_hand: Batch | None) -> None:
    """Let go of what waits; what is in hand is finished first."""
    draining = asyncio.ensure_future(consumer._drain())
    await asyncio.sleep(0)
    assert waiting(consumer) == ((len(in_hand), in_hand.size) if in_hand else (0, 0))
    if in_hand:
        assert not draining.done()
        consumer.taken(in_hand)
    await draining
    assert waiting(consumer) == (0, 0)


def test_what_is_let_go_unread_waits_no_more_in_records_and_in_bytes():
    async def let_go() -> None:
        consumer = consumer_of(inbox := Inbox())
        consumer.deliver([a_batch(0, b"a" * 10, b"b"), a_batch(2, b"c" * 100), a_batch(3, b"d" * 1_000, b"", b"e")])
        assert waiting(consumer) == (6, 1_112)
        await drained(consumer, await inbox.get())

    asyncio.run(let_go())


def test_a_batch_that_is_tried_record_by_record_waits_by_what_is_left_of_it():
    async def let_go() -> None:
        consumer = consumer_of(inbox := Inbox())
        consumer.deliver([a_batch(0, b"a" * 10, b"b" * 20, b"c" * 30)])
        inbox.put_back((await inbox.get()).split())
        consumer.taken(await inbox.get())
        assert waiting(consumer) == (2, 50)
        await drained(consumer, await inbox.get())

    asyncio.run(let_go())


def test_what_another_life_of_the_partition_left_behind_is_let_go_and_counts_for_nothing():
    async def let_go() -> None:
        consumer = consumer_of(inbox := Inbox())
        consumer.deliver([a_batch(0, b"a" * 10)])
        in_hand = await inbox.get()
        inbox.put_back([a_batch(0, b"z" * 500, generation=0)])  # it was to be tried again while others had it
        await drained(consumer, in_hand)

    asyncio.run(let_go())
