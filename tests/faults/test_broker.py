"""The broker itself: it stands still, and it is killed and started again with its data."""

import os
import time
from collections.abc import Iterator

import psutil
import pytest

from agents.settings import cache_dir
from streams.kafka.clients import Cluster
from streams.kafka.local import QUICK_START, LocalBroker
from tests.broker.pipelines import Up, until
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.flow import flow
from tests.faults.load import RATE, Load, assert_kept, findings, suspended
from tests.faults.work import assert_all_at_work, await_rest, restarts

BACK_S = 5 if LONG else 20
"""How soon decisions flow again; the short form runs wherever it runs."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker to be broken: nobody else's."""
    # A broker that was killed is let in again when its old session ends: 9 s unless it is said.
    sooner = {} if LONG else {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
    mine = LocalBroker(
        tmp_path_factory.mktemp("broken"),
        cache_dir(os.environ),
        properties=sooner,
        java_options=QUICK_START,
        heap_mb=256,
    )
    mine.start()
    yield mine
    mine.stop_if_started()


@pytest.fixture(scope=life)
def hanging_on(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A pipeline on that broker."""
    with living(Cluster(broker.start()), tmp_path_factory.mktemp("on-it")) as pipeline:
        yield pipeline


def java(broker: LocalBroker) -> psutil.Process:
    running = broker.running()
    assert running is not None
    (child,) = psutil.Process(running.pid).children()
    return child


@pytest.mark.timeout(240)
def test_a_broker_that_stood_still_has_lost_nothing_it_acknowledged(broker: LocalBroker, hanging_on: Up, note: Note):
    pipeline, asleep_s = hanging_on, 20 if LONG else 6
    with Load(pipeline.cluster, pipeline.topics.raw, RATE) as load:
        load.wait(2 if LONG else 1)
        with suspended([java(broker).pid]):
            load.wait(asleep_s)
        back_ms = time.time() * 1e3
        load.wait(10 if LONG else 2)
    found = findings(pipeline, pipeline.file, load)
    assert_kept(found)
    seen = flow(pipeline.cluster, pipeline.name).of(load.acknowledged)
    assert_all_at_work(pipeline)
    ended = restarts(pipeline)
    again_s, in_time_s = seen.again_s(back_ms), seen.in_time_s(back_ms)
    done = f"{asleep_s} s; answers again {again_s:.1f} s after it, in time after {in_time_s:.1f} s, {ended} restarts"
    note("broker stopped (SIGSTOP), then SIGCONT", done, found)
    assert again_s <= BACK_S


@pytest.mark.timeout(240)
def test_a_broker_that_was_killed_has_lost_nothing_it_acknowledged(broker: LocalBroker, hanging_on: Up, note: Note):
    pipeline = hanging_on
    await_rest(pipeline)
    before = restarts(pipeline)
    with Load(pipeline.cluster, pipeline.topics.raw, RATE) as load:
        load.wait(2 if LONG else 1)
        java(broker).kill()
        killed_s = time.monotonic()
        until(lambda: broker.running() is None, 10, "its guard has noticed")
        assert broker.start() == pipeline.cluster.bootstrap, "the same address"
        away_s, back_ms = time.monotonic() - killed_s, time.time() * 1e3
        load.wait(10 if LONG else 2)
    found = findings(pipeline, pipeline.file, load)
    assert_kept(found)
    seen = flow(pipeline.cluster, pipeline.name).of(load.acknowledged)
    assert_all_at_work(pipeline)
    ended = restarts(pipeline) - before
    again_s, in_time_s = seen.again_s(back_ms), seen.in_time_s(back_ms)
    done = f"away for {away_s:.1f} s; answers again {again_s:.1f} s after it, in time after {in_time_s:.1f} s, {ended} restarts"
    note("broker kill -9, started again with its data", done, found)
    assert again_s <= BACK_S
