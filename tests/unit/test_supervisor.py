"""Who is started again, who is not, and what is said of it."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agents import supervisor
from agents.actor import no_progress
from agents.child import Child, Hung, reason_of, to_blame
from agents.in_hand import Doing, InHand, Left
from agents.status import APART_EXIT, WATCHDOG_EXIT
from agents.supervisor import Supervisor
from schemas.blocks import Rows, decode_rows, encode_rows
from schemas.pipeline import Quarantine
from streams.core.quarantine import Ends
from streams.models.limits import MEMORY_EXIT

NOTHING, LOADING = Left(Doing.NOTHING), Left(Doing.LOADING)
RULE = Quarantine(failures=3, within_s=60)

DIES = """
import os, signal, sys, numpy as np
from agents.in_hand import InHand
from schemas.blocks import Rows
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
memory = InHand.given(int(given["in-hand"]))
print(given["after"], len(memory.suspects(0.0)), file=sys.stderr, flush=True)
memory.took(1, 40, Rows("m", np.array([7]), np.array([9]), np.array([[0.5, 1.5]])))
os.kill(os.getpid(), signal.SIGSEGV)
"""


def rows(*offsets: int) -> Rows:
    return Rows("m", np.array(offsets), np.full(len(offsets), 9), np.ones((len(offsets), 2)))


def scoring(*offsets: int) -> Left:
    return Left(Doing.SCORING, 1, 40, encode_rows(rows(*offsets)))


def test_it_is_enough_when_the_window_is_full():
    ends = Ends(RULE)
    assert [ends.another(at_s) for at_s in (0, 40, 70, 90, 99)] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("code", "left", "blamed"),
    [
        (-signal.SIGSEGV, NOTHING, True),
        (-signal.SIGKILL, NOTHING, False),
        (-signal.SIGKILL, scoring(1), True),
        (-signal.SIGKILL, LOADING, True),
        (MEMORY_EXIT, NOTHING, True),
        (WATCHDOG_EXIT, NOTHING, False),
        (WATCHDOG_EXIT, scoring(1), True),
        (APART_EXIT, NOTHING, False),
        (1, NOTHING, False),
        (1, LOADING, True),
        (0, scoring(1), True),
    ],
)
def test_a_model_is_to_blame_for_what_it_does_and_not_for_kafka_or_a_kill(code: int, left: Left, blamed: bool):
    assert to_blame(code, left) == blamed


def test_a_model_that_kept_up_until_it_hung_makes_no_progress_though_nothing_lags():
    consumer, memory = SimpleNamespace(taken_records=7, lag=lambda: 0), InHand.made(2)
    app: Any = SimpleNamespace(consumer=consumer)
    stuck = no_progress(app, lambda: memory.left().doing is Doing.SCORING)
    assert [stuck(), stuck()] == [False, False]
    memory.took(1, 40, rows(7))
    assert stuck()
    consumer.taken_records = 8
    assert [stuck(), stuck()] == [False, True]


def test_a_reason_says_how_and_on_what():
    assert reason_of(-signal.SIGSEGV, scoring(7), "old words") == "by SIGSEGV on the row of raw 1/7"
    assert reason_of(WATCHDOG_EXIT, scoring(7, 9, 8), "") == "by its watchdog (no progress) on 3 rows of raw 1/7 to 9"
    assert reason_of(MEMORY_EXIT, NOTHING, "530 MB resident") == "by its memory limit: 530 MB resident"
    assert reason_of(1, LOADING, "boom") == "with exit code 1 while it loaded its model: boom"
    assert reason_of(-99, Left(Doing.SCORING, rows=b"half"), "") == "by signal 99 on some rows"


def kept(child: Child) -> list[Left]:
    """Run one child until it stays down; what was told of it."""
    told: list[Left] = []

    async def gave_up(_: Child, left: Left) -> None:
        told.append(left)

    async def run() -> None:
        keeper = Supervisor([child], {}, gave_up)
        await keeper.start()
        async with asyncio.timeout(60):
            while child.state not in supervisor.DOWN:
                await asyncio.sleep(0.01)
        assert keeper.ready
        await keeper.stop()

    asyncio.run(run())
    return told


def test_a_scorer_that_dies_again_and_again_is_given_up_with_its_last_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    command = [sys.executable, "-c", DIES]
    child = Child("scorer.m", command, tmp_path / "m.log", in_hand=InHand.made(2), quarantine=RULE)
    (left,) = kept(child)
    assert (child.state, child.restarts) == ("quarantine", 2)
    assert child.reason == "ended 3 times within 60 s, at last by SIGSEGV on the row of raw 1/7"
    assert (left.partition, left.offset) == (1, 40)
    assert decode_rows(left.rows).matrix.tolist() == [[0.5, 1.5]]
    said = (tmp_path / "m.log").read_text().splitlines()
    assert said[:3] == [" 0", *["by SIGSEGV on the row of raw 1/7 1"] * 2], "a life knows what ended the one before"
    assert "is in quarantine: ended 3 times" in said[3]
    assert all(way in said[3] for way in ("start the pipeline anew", "models add", "roll back", "retire"))
    kept(Child("scorer.m", command, tmp_path / "m.log", in_hand=InHand.made(2), quarantine=RULE))
    assert (tmp_path / "m.log").read_text().splitlines()[4:] == said, "started anew, it has another chance"


def test_any_other_role_is_started_again_for_ever_and_one_that_is_refused_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    count = f"echo x >> {tmp_path}/count; [ $(wc -l < {tmp_path}/count) -lt 9 ] && exit 1; echo no topic >&2; exit 5"
    child = Child("router", ["/bin/sh", "-c", count], tmp_path / "r.log", quarantine=RULE)
    assert kept(child) == []
    assert (child.state, child.restarts) == ("refused", 8)
    assert child.reason == "with exit code 5: no topic"


def test_it_is_started_again_at_once_and_then_with_growing_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, *later = supervisor.BACKOFF_S
    assert first == 0.0
    assert later == sorted(set(later))
    pauses, waited, sleep = (6.1, 6.2, 6.3), list[float](), asyncio.sleep

    async def passes_at_once(seconds: float) -> None:
        waited.extend({seconds} & {*pauses})
        await sleep(0 if seconds in pauses else seconds)

    monkeypatch.setattr(supervisor, "BACKOFF_S", pauses)
    monkeypatch.setattr(asyncio, "sleep", passes_at_once)
    count = f"echo x >> {tmp_path}/count; [ $(wc -l < {tmp_path}/count) -lt 6 ] && exit 1; exit 5"
    kept(Child("router", ["/bin/sh", "-c", count], tmp_path / "r.log", quarantine=RULE))
    assert waited == [6.1, 6.2, 6.3, 6.3, 6.3]


SAYS = """
import os, re, signal, time
def say(state, times):
    for _ in range(times):
        print('{"state": "%s", "rate": 0, "lag": 0}' % state, flush=True)
        time.sleep(0.05)
"""
STANDS_STILL = SAYS + "say('running', 3); os.kill(os.getpid(), signal.SIGSTOP)"
KEEPS_THE_INTERPRETER = SAYS + "say('running', 3); re.match('(a+)+$', 'a' * 40 + 'b')"
LOADS_FOR_EVER = SAYS + "time.sleep(60)"
BROKER_IS_AWAY = SAYS + "say('starting', 1000)"
RUNS = SAYS + "say('running', 1000)"


def lived(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    source: str,
    hung: Hung,
    within_s: float,
    *,
    scorer: bool = True,
    still_s: float = 0,
) -> Child:
    """One child until it is started again, or for so long; this program stands still when it has spoken."""
    monkeypatch.setattr(supervisor, "LOOK_S", 0.05)
    child = Child("scorer.m", [sys.executable, "-c", source], folder / "m.log")
    child.in_hand = InHand.made(2) if scorer else None

    async def run() -> None:
        keeper = Supervisor([child], {}, hung=hung)
        await keeper.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s + still_s):
                while still_s and not child.spoke:
                    await asyncio.sleep(0.01)
                time.sleep(still_s)  # noqa: ASYNC251  nobody looks meanwhile
                while child.restarts == 0:
                    await asyncio.sleep(0.01)
        await keeper.stop()

    asyncio.run(run())
    return child


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (STANDS_STILL, "by its supervisor, because it said nothing for 1 s"),
        (KEEPS_THE_INTERPRETER, "by its supervisor, because it said nothing for 1 s"),
        (LOADS_FOR_EVER, "by its supervisor, because it was starting for 2 s without a word"),
    ],
)
def test_a_role_that_cannot_end_itself_is_ended_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
):
    child = lived(monkeypatch, tmp_path, source, Hung(silent_s=1, loading_s=2), 30)
    assert (child.restarts, child.reason) == (1, said)


@pytest.mark.parametrize(
    ("source", "scorer", "still_s"),
    [
        (BROKER_IS_AWAY, True, 0),  # it says that it is starting, for as long as that takes
        (LOADS_FOR_EVER, False, 0),  # no scorer: it reads its state
        (RUNS, True, 3),  # the supervisor stood still, and not its child
    ],
)
def test_a_role_that_says_what_it_does_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, scorer: bool, still_s: float
):
    patient = Hung(silent_s=2, loading_s=2)
    child = lived(monkeypatch, tmp_path, source, patient, 3, scorer=scorer, still_s=still_s)
    assert (child.restarts, child.hung) == (0, "")


def test_of_a_scorer_that_is_refused_it_is_told_once_and_of_no_other_role(tmp_path: Path):
    command = ["/bin/sh", "-c", "echo model new: new.txt: No such file >&2; exit 5"]
    child = Child("scorer.new", command, tmp_path / "n.log", in_hand=InHand.made(2))
    assert [left.doing for left in kept(child)] == [Doing.NOTHING]
    assert (child.state, child.restarts) == (supervisor.REFUSED, 0)
    assert child.reason == "with exit code 5: model new: new.txt: No such file"
    assert kept(Child("router", command, tmp_path / "r.log")) == []


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def test_a_role_that_cannot_be_started_is_tried_again_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.01,))
    in_the_way = tmp_path / "logs"
    in_the_way.touch()
    child = Child("scorer.m", [sys.executable, "-c", RUNS], in_the_way / "m.log", in_hand=InHand.made(2))

    async def run() -> None:
        keeper = Supervisor([child], {})
        await keeper.start()
        await until(lambda: child.restarts >= 2)
        assert (child.state, child.ended) == ("restarting", "")
        assert re.match("before it began: .*logs", child.reason)
        in_the_way.unlink()
        await until(lambda: keeper.ready)
        await keeper.stop()

    asyncio.run(run())


def test_of_a_quarantine_that_no_log_can_be_told_its_roster_hears(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = tmp_path / "m.log"
    child = Child("scorer.m", ["/bin/sh", "-c", f"rm {log}; mkdir {log}; kill -SEGV $$"], log)
    child.quarantine = Quarantine(failures=1)
    assert kept(child) == [Left(Doing.NOTHING)]
    assert child.state == "quarantine"
    assert "scorer.m is in quarantine, which its log does not say" in capsys.readouterr().err


NO_TEXT = b'{"state": "\xff", "rate": 0, "lag": 0}\n'
ODD = SAYS + f"print('a' * 200_000, flush=True); os.write(1, {NO_TEXT!r}); say('running', 1000)"


class Closed:
    """A terminal that is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("someone_reads", [True, False])
def test_what_is_no_status_is_passed_over_and_nobody_need_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], someone_reads: bool
):
    child = Child("scorer.m", [sys.executable, "-c", ODD], tmp_path / "m.log")

    async def run() -> None:
        keeper = Supervisor([child], {})
        await keeper.start()
        await until(lambda: keeper.ready or keeper.over.is_set())
        await keeper.stop()

    with monkeypatch.context() as terminal:
        if not someone_reads:
            terminal.setattr(sys, "stderr", Closed())
        asyncio.run(run())
    assert child.status.state == "running"
    assert ("scorer.m: said a line that is too long" in capsys.readouterr().err) == someone_reads


def test_an_error_that_nobody_foresaw_is_the_end_of_all_and_is_told(tmp_path: Path):
    refused = Child("scorer.m", ["/bin/sh", "-c", "exit 5"], tmp_path / "m.log", in_hand=InHand.made(2))
    runs = Child("router", [sys.executable, "-c", RUNS], tmp_path / "r.log")

    async def gave_up(_: Child, __: Left) -> None:
        await until(lambda: runs.spoke)
        raise LookupError("nobody foresaw it")

    async def run() -> None:
        keeper = Supervisor([refused, runs], {}, gave_up)
        await keeper.start()
        async with asyncio.timeout(20):
            await keeper.over.wait()
        with pytest.raises(LookupError, match="nobody foresaw it"):
            await keeper.stop()
        assert runs.pid is None

    asyncio.run(run())


def test_what_is_in_hand_outlives_its_writer_and_a_file_keeps_it_too(tmp_path: Path):
    first = InHand.at(tmp_path / "notes" / "m.0", 2)
    with first.loading():
        assert first.left() == LOADING
    assert first.left() == NOTHING
    first.took(1, 40, rows(7, 8))
    again = InHand.at(tmp_path / "notes" / "m.0", 2)
    assert (again.left().doing, again.left().offsets) == (Doing.SCORING, [7, 8])
    assert {suspect.offset for suspect in again.suspects(1.0, "SIGSEGV")} == {7, 8}
    assert again.left() == NOTHING
    assert {suspect.ends for suspect in InHand.at(tmp_path / "notes" / "m.0", 2).suspects(2.0)} == {1}
    assert len(InHand.at(tmp_path / "notes" / "m.0", 3).suspects(3.0)) == 0, "a model of other features"


def test_a_full_block_and_all_suspects_fit():
    memory, start = InHand.made(2), 1 << 60
    for block in range(8):
        memory.took(1000 + block, start, rows(*range(start, start + 256)))
        found = memory.suspects(1.8e9, "\U0001f4a5" * 1000)
    assert len(found) == len(memory.suspects(1.8e9)) == 1024
    memory.took(7, start, rows(*range(start, start + 256)))
    assert len(memory.left().offsets) == 256


def test_events_of_any_size_are_no_part_of_what_is_in_hand():
    memory = InHand.made(2)
    memory.took(1, 40, replace(rows(7, 8), events=(b"a" * (8 << 20),) * 2))
    assert memory.left().offsets == [7, 8]
    assert decode_rows(memory.left().rows).events == ()
