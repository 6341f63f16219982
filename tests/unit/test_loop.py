"""The loop that sleeps in librdkafka: what must wake it, and what may run inside a callback."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from streams.kafka.loop import IDLE_S, RecordLoop, running_loop


class Records:
    """A source that waits as librdkafka does, until something is put into it."""

    def __init__(self, loop: RecordLoop) -> None:
        self.arrived = threading.Event()
        self.reads: list[float] = []
        self.paused_until_s = 0.0
        self.on_read: Callable[[], None] = lambda: None
        loop.read_from(self)

    def pause_s(self) -> float:
        return self.paused_until_s - time.monotonic()

    def read(self, wait_s: float) -> None:
        self.reads.append(wait_s)
        if self.arrived.wait(wait_s):
            self.arrived.clear()
            self.on_read()


@pytest.fixture
def loop() -> Iterator[RecordLoop]:
    made = RecordLoop()
    yield made
    made.leave()
    made.close()


def run(loop: RecordLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(work, 5))


def test_a_record_wakes_what_waits_for_it(loop: RecordLoop):
    records = Records(loop)

    async def work() -> bool:
        heard = asyncio.Event()
        records.on_read = heard.set
        threading.Timer(0.02, records.arrived.set).start()
        return await heard.wait()

    assert run(loop, work())


def test_timers_keep_their_time_while_no_record_comes(loop: RecordLoop):
    Records(loop)

    async def work() -> list[float]:
        late = []
        for pause_s in (0.0004, 0.003, 0.03):
            due_s = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            late.append(time.monotonic() - due_s)
        return late

    assert min(run(loop, work())) >= 0


def test_another_thread_is_heard_soon_enough(loop: RecordLoop):
    Records(loop)

    async def work() -> float:
        started_s = time.monotonic()
        await asyncio.to_thread(lambda: None)
        return time.monotonic() - started_s

    assert run(loop, work()) < 50 * IDLE_S


def test_the_broker_is_left_alone_as_long_as_the_source_says(loop: RecordLoop):
    records = Records(loop)

    async def work() -> None:
        records.paused_until_s = time.monotonic() + 60
        records.reads.clear()
        for _ in range(20):
            await asyncio.sleep(0)
        assert records.reads == []
        records.paused_until_s = 0.0
        while not records.reads:
            await asyncio.sleep(0)

    run(loop, work())


def test_inside_a_callback_the_loop_goes_on_turning_and_reads_nothing(loop: RecordLoop):
    records, said = Records(loop), []

    async def finish() -> str:
        reads = len(records.reads)
        await asyncio.sleep(0.01)
        await asyncio.to_thread(lambda: None)
        assert len(records.reads) == reads
        return "finished"

    async def work() -> None:
        beside = asyncio.create_task(asyncio.sleep(0.005))
        records.on_read = lambda: said.append((loop.run_within(finish()), beside.done()))
        records.arrived.set()
        while not said:
            await asyncio.sleep(0.001)

    run(loop, work())
    assert said == [("finished", True)]


def test_what_fails_inside_a_callback_fails_there(loop: RecordLoop):
    records, raised = Records(loop), []

    async def fail() -> None:
        raise LookupError("in the callback")

    def callback() -> None:
        try:
            loop.run_within(fail())
        except LookupError as error:
            raised.append(str(error))

    async def work() -> None:
        records.on_read = callback
        records.arrived.set()
        while not raised:
            await asyncio.sleep(0.001)
        assert asyncio.current_task() is not None

    run(loop, work())
    assert raised == ["in the callback"]


def test_an_app_on_another_loop_is_told_so():
    async def work() -> None:
        running_loop()

    with pytest.raises(TypeError, match="RecordLoop"):
        asyncio.run(work())
