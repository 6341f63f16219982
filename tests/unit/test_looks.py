"""An owner that is not heard: its standby answers what is not in decisions up to their end, and asks for that end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from faust.types import TP
from msgspec.structs import replace

from agents.looks import Looks
from schemas.decisions import Outcome
from schemas.pipeline import RequestShape
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from tests.unit.small import pipeline, request, scores

PIPELINE = pipeline(request=RequestShape(budget_ms=100))
DECISIONS = TP("small.decisions", 0)


def standby(*, looks: bool = True) -> Rendezvous:
    """Its grace is 25 ms, a quarter of the budget. It may look at its answer to request 0 from 1,030 ms on."""
    core = Rendezvous(PIPELINE, 0, lead_ms=4, grace_ms=500, looks=looks)
    core.requests_seen([request(0)], 1_000)
    assert core.scores_offered(scores("first", 0), 0, 1_004, 1_005) == []
    return core


def test_what_may_be_in_the_log_already_is_kept_back_until_it_was_read():
    core = standby()
    assert core.read_to(1_010, 1_029) == []
    assert core.due(1_030) == [], "decisions were last read 20 ms before it was to leave"
    assert core.next_due_ms == 1_055
    (reply,) = core.read_to(1_031, 1_038)
    assert (reply.decision.standby, reply.decision.used_ms) == (True, 5.0)
    assert core.due(2_000) == []


def test_what_is_in_the_log_is_not_said():
    core = standby()
    assert core.due(1_030) == []
    (said,) = standby(looks=False).due(1_030)
    core.decided(replace(said.decision, standby=False), 1_034)
    assert core.read_to(1_031, 1_034) == []
    assert core.due(2_000) == []


def test_what_was_read_a_moment_before_needs_no_more():
    core = standby()
    assert core.read_to(1_018, 1_029) == []
    assert len(core.due(1_030)) == 1


def test_nobody_waits_for_a_look_longer_than_a_grace_nor_beyond_the_deadline():
    core = standby()
    assert core.due(1_030) == []
    assert core.due(1_054) == []
    assert len(core.due(1_055)) == 1
    core.requests_seen([request(1)], 1_100)
    assert core.due(1_096 + 4) == []
    (default,) = core.due(1_104)
    assert (default.decision.outcome, default.decision.ticket.offset) == (Outcome.DEFAULT, 1)


class Desk:
    """A desk at 1,200 ms with a standby's core; `ends` are where decisions end at each time somebody asks."""

    def __init__(self, *ends: int | KafkaException) -> None:
        self.core = standby()
        self.ends = list(ends)
        self.asked: list[Sequence[TP]] = []
        self.said: list[Reply] = []
        self.left: list[Awaitable[None]] = []
        self.looks = Looks(DECISIONS.topic, self.answer)
        self.meanwhile: Callable[[], object] = lambda: None
        app = SimpleNamespace(
            producer=SimpleNamespace(now_ms=lambda: 1_200.0), consumer=self, add_future=self.left.append
        )
        self.looks.open(app)  # type: ignore[arg-type]
        self.looks.begin({0: self.core}, {DECISIONS: 5, TP("small.raw", 0): 0})

    async def bounds(self, wanted: Sequence[TP]) -> Mapping[TP, tuple[int, int]]:
        self.asked.append(wanted)
        end = self.ends.pop(0)
        self.meanwhile()
        if isinstance(end, KafkaException):
            raise end
        return {DECISIONS: (0, end)}

    async def answer(self, _: Rendezvous, replies: Sequence[Reply]) -> None:
        self.said += replies

    def look(self) -> None:
        self.looks.look()
        while self.left:
            asyncio.run(self.left.pop())  # type: ignore[arg-type]


def test_who_has_read_to_the_end_answers():
    desk = Desk(5)
    assert desk.core.due(1_030) == []
    desk.look()
    assert desk.asked == [[DECISIONS]]
    assert len(desk.said) == 1


def test_who_has_not_reads_on_and_asks_again_meanwhile():
    desk = Desk(7, 9, 9)
    assert desk.core.due(1_030) == []
    desk.meanwhile = lambda: len(desk.asked) == 3 and desk.said.extend(desk.looks.read(0, 7))
    desk.look()
    assert len(desk.asked) == 3
    assert len(desk.said) == 1, "the end that was asked for first was reached, whatever was said since"


def test_nobody_is_asked_while_the_owner_is_heard_or_nothing_waits():
    desk = Desk()
    (said,) = standby(looks=False).due(1_030)
    other = replace(said.decision, standby=False, ticket=replace(said.decision.ticket, offset=9))
    desk.core.decided(other, 1_160)
    desk.look()
    desk = Desk()
    desk.core.decided(said.decision, 1_030)
    desk.look()
    assert desk.asked == []


def test_a_broker_that_says_nothing_is_asked_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agents.looks.AFTER_ERROR_S", 0.0)
    desk = Desk(KafkaException(KafkaError(KafkaError._TIMED_OUT)), 5)
    assert desk.core.due(1_030) == []
    with caplog.at_level(logging.WARNING):
        desk.look()
    assert "where decisions end is not known" in caplog.text
    assert len(desk.said) == 1


def test_who_lost_the_partition_meanwhile_says_nothing():
    desk = Desk(5)
    assert desk.core.due(1_030) == []
    desk.meanwhile = lambda: desk.looks.begin({}, {})
    desk.look()
    assert desk.said == []
