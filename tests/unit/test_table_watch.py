"""The router takes nothing before its tables are whole."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Message

from agents import table_watch
from agents.table_watch import TableWatch
from streams.core.enrichment import Enrichment
from streams.kafka.clients import Cluster
from tests.unit.small import TEXT, pipeline

TABLE = '\n[[features]]\nname = "a"\npath = "t.a"\ntype = "number"\ndefault = 0\n[[enrich]]\nname = "t"\nkey = "k"\n'


def test_beginning_ends_when_everything_was_read_and_not_before(monkeypatch: pytest.MonkeyPatch):
    read = threading.Event()

    def follow(_: object, __: str, told: Callable[[Sequence[Message], bool], None], *___: object) -> None:
        told([], False)
        read.wait(10)
        told([], True)

    monkeypatch.setattr(table_watch, "follow", follow)
    watch = TableWatch("small", Enrichment(pipeline(TEXT + TABLE)), Cluster("x:1"), lambda _: None)

    async def begin() -> bool:
        begun = asyncio.ensure_future(watch.begin())
        done, _ = await asyncio.wait([begun], timeout=0.2)
        read.set()
        await asyncio.wait_for(begun, 10)
        return not done

    assert asyncio.run(begin()), "it ended before its table was whole"
