"""One Kafka for the whole run: the given cluster, else a real one started here. Never skipped."""

import fcntl
import gc
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from agents.settings import cache_dir
from streams.kafka.clients import Cluster, cluster_of
from streams.kafka.local import LocalBroker

# How long one example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("rendezvous", deadline=None)
hypothesis.settings.load_profile("rendezvous")


LONG_FILES = (
    "tests/broker/test_pipeline.py",
    "tests/broker/test_monitor.py",
    "tests/broker/test_roster.py",
    "tests/unit/test_archive_lease.py",
    "tests/unit/test_archive_bucket",
    "tests/unit/test_model_check.py",
    "tests/unit/test_verdicts.py",
)
"""A file is one worker's, which makes once what its tests share; one that began such a file last would work on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults, then files on Kafka; of these, and of all others, the long ones first, else in their order."""
    items.sort(key=lambda item: (item.nodeid.startswith("tests/broker/"), not item.nodeid.startswith(LONG_FILES)))


def pytest_collection_finish() -> None:
    """What is imported now lives on, and is not looked through again and again for what might be garbage."""
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Cluster:
    given = cluster_of(os.environ)
    if given is not None:
        given.check_reachable()
        return given
    from tests.broker.commands import begin

    begin()
    base = tmp_path_factory.getbasetemp()
    return _shared_by_workers(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base, request.config)


def _shared_by_workers(folder: Path, config: pytest.Config) -> Cluster:
    """Tests that run side by side have one broker: each is a whole JVM. It goes with the last that uses it.

    Whoever has started it holds it, and waits for the others when its own tests are over: after the last, where no
    test's timeout runs any more.
    """
    starting, used = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("kafka-starting", "kafka-used"))
    fcntl.flock(starting, fcntl.LOCK_EX)
    # Compiled to the full: 12 s of CPU in the first minute, for 40 % less at each request in all the others.
    broker = LocalBroker(folder, cache_dir(os.environ), java_options=())
    ours = broker.running() is None
    found = Cluster(broker.start())
    fcntl.flock(used, fcntl.LOCK_SH)
    fcntl.flock(starting, fcntl.LOCK_UN)

    def let_go() -> None:
        fcntl.flock(used, fcntl.LOCK_UN)
        if ours:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(used, fcntl.LOCK_EX)
            broker.stop()
        os.close(starting)
        os.close(used)

    config.add_cleanup(let_go)
    return found


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of its own."""
    return tmp_path / "state"


@pytest.fixture(scope="module")
def trials() -> Iterator[None]:
    """Models are tried in forks, for a file whose tests try many."""
    from streams.models.trial_forks import several

    with several():
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A server that speaks S3, on loopback."""
    from tests.bucket import served

    with served() as url:
        yield url


def credentials(s3: str) -> dict[str, str]:
    """What lets a client of S3 in there."""
    return {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
