"""A recovery goes live when it has read to where its logs end now, not to where they ended when it began."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from faust.types import TP

from agents.recoveries import PATIENCE, Recoveries
from schemas.topics import Topics
from streams.core.pending import Reply
from streams.core.recovery import Recovery
from streams.core.rendezvous import Rendezvous
from tests.unit.small import pipeline, request, scores

TOPICS = Topics("small")
RAW, SCORES = TP(TOPICS.raw, 0), TP(TOPICS.scores, 0)


class Logs:
    """An app at 1,300 ms whose logs end there, and what it was left to do."""

    def __init__(self, raw: int, scored: int, error: KafkaException | None = None) -> None:
        self.ends, self.error = {RAW: (0, raw), SCORES: (0, scored)}, error
        self.left: list[Coroutine[Any, Any, None]] = []
        self.said: list[Reply] = []
        self.core = Rendezvous(pipeline(), 0)
        self.recovery = Recovery(self.core, 1, 1, asked_ms=1_000)
        self.recoveries = Recoveries("rendezvous", TOPICS, self.answer)
        app = SimpleNamespace(
            producer=SimpleNamespace(now_ms=lambda: 1_300.0), consumer=self, add_future=self.left.append
        )
        self.recoveries.open(app)  # type: ignore[arg-type]
        self.recoveries.begin({0: self.recovery})

    async def bounds(self, _: Sequence[TP]) -> Mapping[TP, tuple[int, int]]:
        if self.error:
            raise self.error
        return self.ends

    async def answer(self, _: Rendezvous, replies: Sequence[Reply]) -> None:
        self.said += replies

    def read_what_was_missed(self) -> list[Reply]:
        self.recovery.requests_seen([request(0)])
        self.offer("second", 0, 1_010)
        return self.recoveries.run(0)

    def offer(self, model: str, position: int, log_ms: int) -> None:
        block = scores(model, 0)
        self.recovery.scores_offered(
            position, log_ms, lambda at: self.core.scores_offered(block, position, log_ms, at)
        )

    def do_what_is_left(self) -> None:
        while self.left:
            asyncio.run(self.left.pop())  # type: ignore[arg-type]


def test_what_came_meanwhile_is_read_before_time_decides():
    logs = Logs(raw=1, scored=2)
    assert logs.read_what_was_missed() == []
    assert logs.recoveries.run(0) == []
    assert len(logs.left) == 1, "the ends are asked for once at a time"
    logs.do_what_is_left()
    assert logs.said == []
    logs.offer("first", 1, 1_050)
    (reply,) = logs.recoveries.run(0)
    assert reply.decision.model == "first"
    assert logs.recoveries.at(0) is None
    assert logs.recoveries.recovered == 1


def test_where_nothing_came_meanwhile_it_is_live_as_soon_as_that_is_known():
    logs = Logs(raw=1, scored=1)
    logs.read_what_was_missed()
    logs.do_what_is_left()
    assert [reply.decision.model for reply in logs.said] == ["second"]
    assert logs.recoveries.at(0) is None


def test_when_nobody_says_where_the_logs_end_what_was_read_counts():
    logs = Logs(raw=9, scored=9, error=KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    logs.read_what_was_missed()
    logs.do_what_is_left()
    assert len(logs.said) == 1
    assert logs.recoveries.at(0) is None


def test_who_lost_the_partition_meanwhile_says_nothing():
    logs = Logs(raw=1, scored=1)
    logs.read_what_was_missed()
    logs.recoveries.begin({})
    logs.do_what_is_left()
    assert logs.said == []


@pytest.mark.parametrize("raw", [2, 1], ids=["a hole at the end", "nobody asks"])
def test_what_is_never_shown_is_waited_for_in_vain_for_so_many_looks(raw: int):
    logs = Logs(raw=raw, scored=1)
    logs.read_what_was_missed()
    if raw == 2:
        logs.do_what_is_left()
    for _ in range(PATIENCE):
        asyncio.run(logs.recoveries.close_overdue())
    assert logs.said == []
    asyncio.run(logs.recoveries.close_overdue())
    assert len(logs.said) == 1
    for left in logs.left:
        left.close()
