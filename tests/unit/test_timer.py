"""One timer for all: when it fires, and that a coupler's refused rows need no record to be seen to."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from agents.coupler import Coupler, attach
from agents.timer import LISTEN_S, STALL_S, TOGETHER_S, Timer
from streams.kafka.batch import Told
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline

NOW_MS = 1_000.0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


def test_one_that_is_due_right_after_another_waits_for_more():
    async def run() -> None:
        clock, fired = asyncio.get_running_loop().time, list[float]()
        timer = Timer(lambda: fired.append(clock()))
        for times in (1, 2):
            timer.arm([None, NOW_MS + 90_000, NOW_MS], NOW_MS)
            await until(lambda times=times: len(fired) == times)  # type: ignore[misc]
        assert fired[1] - fired[0] > TOGETHER_S / 2

    asyncio.run(run())


def test_the_earliest_fires_and_nothing_does_where_none_is_due():
    async def run() -> None:
        fired: list[str] = []
        kept, moved, dropped = (Timer(lambda name=name: fired.append(name)) for name in ("kept", "moved", "dropped"))  # type: ignore[misc]
        kept.arm([NOW_MS + 20], NOW_MS)
        kept.arm([NOW_MS + 90_000], NOW_MS)
        moved.arm([NOW_MS + 90_000], NOW_MS)
        moved.arm([NOW_MS + 60], NOW_MS)
        dropped.arm([NOW_MS + 10], NOW_MS)
        dropped.arm([None], NOW_MS)
        await until(lambda: "moved" in fired)
        assert fired == ["kept", "moved"]

    asyncio.run(run())


class Loop:
    """A loop whose time is set by hand; `calls` are what is to be called, and when."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, call: Callable[..., object], *args: float) -> Any:
        self.calls.append((at_s, lambda: call(*args)))
        return SimpleNamespace(when=lambda: at_s, cancel=lambda: None)

    def turn(self, now_s: float) -> None:
        self.now_s = now_s
        self.calls.pop()[1]()


def test_a_timer_that_is_late_for_want_of_a_processor_listens_first(monkeypatch: pytest.MonkeyPatch):
    loop, fired = Loop(), list[float]()
    monkeypatch.setattr("agents.timer.asyncio.get_running_loop", lambda: loop)
    timer = Timer(lambda: fired.append(loop.now_s))
    timer.arm([NOW_MS], NOW_MS)
    loop.turn(100.0 + STALL_S)
    assert len(fired) == 1, "that is no stall"
    timer.arm([NOW_MS + 500], NOW_MS)
    due_s = loop.calls[-1][0]
    loop.turn(due_s + 0.06)
    assert len(fired) == 1
    listened_s = due_s + 0.06 + LISTEN_S
    timer.arm([NOW_MS], NOW_MS)  # what it reads meanwhile arms it again, no earlier
    assert [at_s for at_s, _ in loop.calls] == [listened_s]
    loop.turn(listened_s + 0.06)
    assert fired[1:] == [listened_s + 0.06], "once for each stall, however long the moment was"


def test_rows_that_the_broker_refused_are_seen_to_though_no_record_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agents.coupler.TICK_S", 0.01)
    tasks: list[Callable[[], Any]] = []
    settled: list[list[Told]] = []

    class App(SimpleNamespace):
        """Stops once something is settled."""

        @property
        def should_stop(self) -> bool:
            return bool(settled)

    async def settle(failed: list[Told]) -> None:
        settled.append(failed)

    signal = SimpleNamespace(connect=lambda **_: lambda work: work)
    app: Any = App(
        agent=lambda *_, **__: lambda work: work,
        topic=lambda *_: None,
        task=tasks.append,
        on_partitions_assigned=signal,
        on_partitions_revoked=signal,
        producer=SimpleNamespace(settle=settle),
    )
    needing = replace(pipeline().model("second"), needs=("first",))
    coupler = Coupler(pipeline(), needing, Cluster("nowhere:9"))
    attach(app, coupler)
    coupler.begin(app, {})

    async def run() -> None:
        async with asyncio.timeout(10):
            await tasks[0]()

    asyncio.run(run())
    assert [failed is coupler._failed for failed in settled] == [True]
