"""A scorer for each model of the roster, and none for those that are retired."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from msgspec.structs import replace
from psutil import Process

from agents import supervisor as supervising
from agents.cast import Cast
from agents.child import Child
from agents.supervisor import Supervisor
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Kind, Model
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline

FIRST, SECOND, *_ = pipeline().models
RUNS = 'import json, time; print(json.dumps({"state": "running", "rate": 0, "lag": LAG}), flush=True); time.sleep(60)'


def child(folder: Path, name: str, lag: int = 0, version: str = "1") -> Child:
    words = [*name.split("."), "", ""]
    made = Child(name, [sys.executable, "-c", RUNS.replace("LAG", str(lag))], folder / f"{name}.log")
    made.model, made.version = words[1], version
    return made


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def cast(folder: Path, started: list[str], *refused: tuple[str, str]) -> Cast:
    def scorers_of(model: Model) -> list[Child]:
        started.append(f"{model.name} {model.version}")
        names = (f"scorer.{model.name}", f"scorer.{model.name}.1")
        return [child(folder, name, version=model.version) for name in names]

    return Cast(pipeline(), Cluster("nowhere:9"), scorers_of, refused)


def test_scorers_come_and_go_with_their_models_and_nobody_else_does(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)
    started: list[str] = []

    async def run() -> None:
        here = [child(tmp_path, "router"), child(tmp_path, "scorer.first")]
        keeper, found = Supervisor(here, {}), cast(tmp_path, started)
        await keeper.start()
        await until(lambda: keeper.ready)
        pids = [one.pid for one in here]
        found.scored([FIRST, SECOND], keeper)
        found.scored([FIRST, SECOND], keeper)
        await until(lambda: keeper.ready)
        assert [one.name for one in keeper.children] == ["router", "scorer.first", "scorer.second", "scorer.second.1"]
        found.scored([FIRST], keeper)
        found.scored([FIRST], keeper)
        await until(lambda: len(keeper.children) == 2)
        assert [one.pid for one in keeper.children] == pids
        found.scored([FIRST, replace(SECOND, version="2")], keeper)
        found.scored([FIRST, replace(SECOND, version="3")], keeper)
        await until(lambda: keeper.ready and len(keeper.children) == 4)
        assert [one.pid for one in keeper.children][:2] == pids
        await keeper.stop()

    asyncio.run(run())
    assert started == ["second 1", "second 2", "second 3"]


def test_who_was_refused_at_the_start_has_no_scorer_until_it_comes_anew(tmp_path: Path):
    started, at_first = list[str](), list[str]()

    async def run() -> None:
        keeper, found = Supervisor([], {}), cast(tmp_path, started, ("second", "1"))
        needing = replace(SECOND, needs=("first",))
        found.scored([FIRST, needing], keeper)
        at_first.extend(started)
        found.scored([FIRST, replace(SECOND, version="2")], keeper)
        found.scored([FIRST], keeper)
        found.scored([FIRST, SECOND], keeper)
        await keeper.stop()

    asyncio.run(run())
    assert at_first == ["first 1"]
    assert started == ["first 1", "second 2", "second 1"]


def test_a_coupler_comes_and_goes_with_the_model_it_serves_though_nothing_here_scores_that(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)

    async def run() -> None:
        needing = replace(SECOND, kind=Kind.EXTERNAL, value=None, features=(), needs=("first",))
        keeper = Supervisor([child(tmp_path, "scorer.first")], {})
        found = Cast(
            pipeline(), Cluster("nowhere:9"), lambda model: [child(tmp_path, f"coupler.{model.name}", version="")]
        )
        await keeper.start()
        found.scored([FIRST, needing], keeper)
        await until(lambda: keeper.ready and [one.name for one in keeper.children][1:] == ["coupler.second"])
        found.scored([FIRST], keeper)
        await until(lambda: [one.name for one in keeper.children] == ["scorer.first"])
        await keeper.stop()

    asyncio.run(run())


class Log:
    """A history that cannot be read at first, and then comes to these models; in the end a mistake of ours."""

    def __init__(self, *errors: Exception, scored: tuple[Model, ...] = (), mistake: Exception | None = None) -> None:
        self.errors, self.mistake = list(errors), mistake
        roster = SimpleNamespace(scored=lambda: scored, others=tuple)
        self.history: Any = SimpleNamespace(begun=True, roster=roster)

    def follow(self, heard: Callable[[History], None], stop: threading.Event) -> None:
        if self.errors:
            raise self.errors.pop(0)
        if self.mistake:
            raise self.mistake
        heard(self.history)
        stop.wait()


def test_a_roster_that_cannot_be_read_is_shown_said_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    started, seen = list[str](), set[str]()
    gone = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    monkeypatch.setattr("agents.cast.LOOK_S", 0.1)

    async def run() -> None:
        keeper, found = Supervisor([], {}), cast(tmp_path, started)
        log: Any = Log(gone, gone, ConfigurationRefused("small.roster-history: no such topic"), scored=(FIRST,))
        found._log = log
        found.follow(keeper)

        def followed() -> bool:
            seen.add(found.trouble)
            return bool(started)

        await until(followed)
        assert found.trouble == ""
        found.stop()
        await keeper.stop()

    asyncio.run(run())
    assert any("no such topic" in trouble for trouble in seen)
    assert capsys.readouterr().err.count("the roster is not followed until") == 2


@pytest.mark.parametrize("where", ["the log", "the cast"])
def test_a_mistake_about_the_roster_is_no_secret(tmp_path: Path, where: str):
    def scorers_of(_: Model) -> list[Child]:
        raise LookupError("the cast")

    async def run() -> None:
        keeper, found = Supervisor([], {}), Cast(pipeline(), Cluster("nowhere:9"), scorers_of)
        log: Any = Log(scored=(FIRST,), mistake=LookupError(where) if where == "the log" else None)
        found._log = log
        found.follow(keeper)
        async with asyncio.timeout(20):
            await keeper.over.wait()
        found.stop()
        with pytest.raises(LookupError, match=where):
            await keeper.stop()

    asyncio.run(run())


def test_nothing_is_left_of_a_scorer_that_came_and_went_nor_held_for_one_that_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)

    def scorers_of(model: Model) -> list[Child]:
        found = [child(tmp_path, f"scorer.{model.name}"), child(tmp_path, f"coupler.{model.name}", version="")]
        for each in found:
            each.width = 2
        return found

    async def run() -> None:
        keeper, found = Supervisor([], {}), Cast(pipeline(), Cluster("nowhere:9"), scorers_of)
        await keeper.start()
        before, most = Process().num_fds(), 0
        for _ in range(2):
            found.scored([FIRST], keeper)
            await until(lambda: len(keeper.children) == 1 and keeper.ready)
            assert keeper.children[0].in_hand
            most = max(most, Process().num_fds())
            found.scored([], keeper)
            await until(lambda: keeper.children == [])
        assert most > before
        await until(lambda: Process().num_fds() == before)
        await keeper.stop()

    asyncio.run(run())


def test_a_scorer_that_is_let_go_while_it_is_born_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)

    class Slow:
        """A nursery that takes its time, and bears nobody."""

        asked, answers = asyncio.Event(), asyncio.Event()

        async def bear(self, *_: Any) -> None:
            self.asked.set()
            await self.answers.wait()

    async def run() -> None:
        nursery: Any = Slow()
        unborn = child(tmp_path, "scorer.first")
        unborn.role = ("run",)
        keeper = Supervisor([unborn], {}, nursery=nursery)
        await keeper.start()
        await nursery.asked.wait()
        await keeper.drain(unborn)
        nursery.answers.set()
        await until(lambda: unborn.state == "stopped")
        assert unborn.process
        assert (unborn.process.returncode, keeper.children) == (-9, [])
        await keeper.stop()

    asyncio.run(run())


def test_a_scorer_that_has_work_is_left_to_do_it_for_a_while(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)

    async def run() -> None:
        busy = child(tmp_path, "scorer.busy", lag=5)
        keeper = Supervisor([busy], {})
        await keeper.start()
        await until(lambda: busy.status.lag == 5)
        draining = asyncio.create_task(keeper.drain(busy))
        await asyncio.sleep(0.3)
        assert busy.pid is not None
        busy.status = supervising.Status("running", 0, 0)
        await draining
        assert (busy.pid, keeper.children, busy.restarts) == (None, [], 0)
        late = child(tmp_path, "scorer.late", lag=5)
        keeper.add(late)
        await until(lambda: late.status.lag == 5)
        await keeper.drain(late, within_s=0.05)
        assert (late.pid, keeper.children) == (None, [])

    asyncio.run(run())
