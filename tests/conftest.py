"""One Kafka for the whole run: the given cluster, else a real one started here. Never skipped."""

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from agents.settings import cache_dir
from streams.kafka.clients import Cluster, cluster_of
from streams.kafka.local import QUICK_START, LocalBroker

# How long one example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("rendezvous", deadline=None)
hypothesis.settings.load_profile("rendezvous")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    given = cluster_of(os.environ)
    if given is not None:
        given.check_reachable()
        yield given
        return
    from tests.broker.commands import begin

    begin()
    broker = LocalBroker(tmp_path_factory.mktemp("kafka"), cache_dir(os.environ), java_options=QUICK_START)
    yield Cluster(broker.start())
    broker.stop_if_started()


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of its own."""
    return tmp_path / "state"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A server that speaks S3, on loopback."""
    from moto import backends
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    services = frozenset(backends.list_of_moto_modules())
    with pytest.MonkeyPatch.context() as patch:
        # It walks through its own folder at each request, which is a quarter of the server's time.
        patch.setattr(backends, "list_of_moto_modules", lambda: services)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def credentials(s3: str) -> dict[str, str]:
    """What lets a client of S3 in there."""
    return {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
