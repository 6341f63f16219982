"""The desk's own clock: who stood still says nothing more."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from agents.desk import PAUSE_S, TOGETHER_S, Desk
from schemas.errors import Paused
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline, request, scores


def replies(core: Rendezvous) -> list[Reply]:
    core.requests_seen([request(0)], 1_000)
    return core.scores_offered(scores("first", 0), 0, 1_004, 1_005)


def test_a_desk_that_stood_still_says_nothing_ever_after(monkeypatch: pytest.MonkeyPatch):
    now_s = time.monotonic()
    monkeypatch.setattr("agents.desk.time.monotonic", lambda: now_s)
    desk = Desk(pipeline(), Cluster("127.0.0.1:1"))
    core = desk.cores[0] = Rendezvous(pipeline(), 0)
    answered = replies(core)
    now_s += PAUSE_S + 0.1
    for _ in range(2):  # the process ends, which takes it some more callbacks
        with pytest.raises(Paused, match=r"stood still for 3\.1 s"):
            asyncio.run(desk.on_time())
        with pytest.raises(Paused, match=r"stood still for 3\.1 s"):
            asyncio.run(desk._publish(core, answered))


def test_a_timer_that_is_due_right_after_another_waits_for_more():
    async def run() -> None:
        desk = Desk(pipeline(), Cluster("127.0.0.1:1"))
        core = desk.cores[0] = Rendezvous(pipeline(), 0)
        now_ms = 1_000.0
        desk._app = SimpleNamespace(producer=SimpleNamespace(now_ms=lambda: now_ms))  # type: ignore[assignment]
        await desk.on_time()
        core.requests_seen([request(0)], 1_000)
        assert core.next_due_ms is not None
        now_ms = core.next_due_ms
        desk._arm()
        assert desk._timer is not None
        assert desk._timer.when() == desk._fired_s + TOGETHER_S
        desk._timer.cancel()

    asyncio.run(run())
