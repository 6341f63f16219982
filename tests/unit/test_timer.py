"""One timer for all: when it fires, and that a coupler's refused rows need no record to be seen to."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from agents.coupler import Coupler, attach
from agents.timer import TOGETHER_S, Timer
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
