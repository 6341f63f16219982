"""kill -9: at every named point, at random, of the rendezvous beside its standby, and of `up` itself."""

import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import psutil
import pytest

from agents.settings import cache_dir
from streams.core.audit import Findings
from streams.kafka.clients import Cluster
from streams.kafka.local import QUICK_START, LocalBroker
from streams.kill_points import POINTS, VARIABLE
from tests.broker.pipelines import Up, until, up, write
from tests.broker.test_pipeline import NOT_A_TIMEOUT_MS
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.flow import Flow
from tests.faults.load import RATE, Load, assert_kept, findings
from tests.faults.work import await_rest

SOON = {"archive": 2, "standby": 1}
"""How many passes an archiver lives (a file a second) and a standby (it seldom speaks); the others live 20."""

BY_ROLE = [(role, list(points)) for role, points in groupby(POINTS, key=lambda point: point.split(".")[0])]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("whose", "points"), BY_ROLE if LONG else [("each role", list(POINTS))])
def test_a_kill_at_each_named_point_costs_nothing(
    cluster: Cluster, tmp_path: Path, name: str, whose: str, points: list[str], note: Note
):
    file = write(tmp_path, name)
    deadly = list(dict.fromkeys(wanted for point in points for wanted in with_its_way(point)))
    markers = {point: tmp_path / point for point in deadly}
    text = ",".join(f"{point}:{passes(point)}:{markers[point]}" for point in deadly)
    with up(cluster, file, name, tmp_path / "state", "--standby", more={VARIABLE: text}) as pipeline:
        with Load(cluster, pipeline.topics.raw, 200) as load:
            deadline_s = time.monotonic() + 200
            while not all(marker.exists() for marker in markers.values()):
                assert time.monotonic() < deadline_s, [p for p, marker in markers.items() if not marker.exists()]
                mute = [point for point in deadly if point.startswith("standby") and not markers[point].exists()]
                if mute and pipeline.running("rendezvous", 0):
                    kill(pipeline, "rendezvous")  # so that the standby has something to say
                load.wait(0.5)
            load.wait(1)
        found = findings(pipeline, file, load)
    assert_kept(found)
    assert_agreed(found)
    done = ", ".join(f"`{point}`" for point in points)
    if whose == "standby":
        done += "; the owner dead too: nobody answers"
    note(f"kill -9 at each named point of {whose}", done, found)


def with_its_way(point: str) -> list[str]:
    """A recovery is only reached by somebody who died before."""
    role, _, place = point.partition(".")
    return [f"{role}.after_request_read", point] if place == "in_recovery" else [point]


def passes(point: str) -> int:
    return 1 if point.endswith("in_recovery") else SOON.get(point.split(".", maxsplit=1)[0], 20)


def kill(pipeline: Up, role: str) -> bool:
    """Kill a role of this very pipeline; False when it has just died or is not up yet."""
    try:
        process = psutil.Process(pipeline.status["roles"][role]["pid"] or 0)
        if process.pid == 0 or process.ppid() != pipeline.process.pid:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


@pytest.fixture(scope=life)
def mortal(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A pipeline with a standby, whose processes are killed."""
    with living(cluster, tmp_path_factory.mktemp("mortal"), "--standby") as pipeline:
        yield pipeline


@pytest.mark.timeout(400)
def test_the_standby_answers_while_the_owner_is_dead(mortal: Up, note: Note):
    kills = 20 if LONG else 3
    with Load(mortal.cluster, mortal.topics.raw, RATE) as load:
        load.wait(3 if LONG else 1)
        for number in range(kills):
            kill(mortal, "rendezvous")
            until(lambda number=number: mortal.running("rendezvous", number + 1), 40, "the owner is back")
            load.wait(1)
    found = findings(mortal, mortal.file, load)
    assert_kept(found)
    assert 0 < found.by_standby < found.decided
    assert_agreed(found)
    note("kill -9 of the rendezvous beside its standby", f"{kills} kills", found)
    assert_on_time(found)


@pytest.mark.timeout(400)
def test_random_kills_cost_nothing(mortal: Up, note: Note):
    await_rest(mortal)
    dice, kills, enough = random.Random(7), 0, 30 if LONG else 5
    with Load(mortal.cluster, mortal.topics.raw, RATE) as load:
        end_s = time.monotonic() + (180 if LONG else 8)
        while time.monotonic() < end_s or kills < enough:
            assert time.monotonic() < end_s + 100, f"{kills} kills; who is to be killed must be there"
            load.wait(dice.uniform(2, 8) if LONG else dice.uniform(0.5, 2))
            kills += kill(mortal, dice.choice(sorted(mortal.status["roles"])))
    found = findings(mortal, mortal.file, load)
    assert_kept(found)
    assert_agreed(found)
    note("random kill -9 of any process", f"{kills} kills", found)


def assert_agreed(found: Findings) -> None:
    """Owner and standby decide by the same log. On a machine that is not quiet one of them may not have read it yet."""
    said = f"{found.conflicting} of {found.second_finals} second finals say something else"
    print(said)
    assert not LONG or found.conflicting <= 0.0005 * found.decided, said


def assert_on_time(
    found: Findings | Flow, late_share: float = 0.001, worst_ms: float = 250, short_worst_ms: float = NOT_A_TIMEOUT_MS
) -> None:
    """Bars for a quiet machine. The short form runs wherever it runs: it asks only that nobody waited for what was
    broken, which takes longer than its bar to be well again; how many are late is for the other programs there to say.
    """
    said = f"{found.late} of {found.decided} late, the latest by {found.worst_late_ms:.0f} ms"
    print(said)
    assert not LONG or found.late / found.decided <= late_share, said
    assert found.worst_late_ms <= (worst_ms if LONG else short_worst_ms), said


def test_when_up_is_killed_everything_ends_and_the_next_up_goes_on(tmp_path: Path, name: str, note: Note):
    file, state = write(tmp_path, name), tmp_path / "state"
    broker = LocalBroker(state, cache_dir(os.environ), java_options=QUICK_START)
    own = {"KAFKA_BOOTSTRAP_SERVERS": ""}
    nowhere = Cluster("")
    with up(nowhere, file, name, state, more=own) as first:
        first.cluster = Cluster(first.status["bootstrap"])
        processes = psutil.Process(first.process.pid).children(recursive=True)
        with Load(first.cluster, first.topics.raw, 300) as load:
            load.wait(2)
        first.process.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(processes, 20)
        assert not alive, alive
        assert len(gone) >= 7
        assert broker.running() is None
    with up(nowhere, file, name, state, more=own) as second:
        second.cluster = Cluster(second.status["bootstrap"])
        with Load(second.cluster, second.topics.raw, 300) as more:
            more.wait(2)
        load.acknowledged |= more.acknowledged
        found = findings(second, file, load)
    assert_kept(found)
    note("kill -9 of `up` itself", "children and broker end, the next `up` goes on", found)
