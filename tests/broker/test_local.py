"""The local broker: the real Kafka, started, found again, stopped, and never left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from agents.settings import cache_dir
from streams.kafka.clients import Cluster
from streams.kafka.local import QUICK_START, LocalBroker
from streams.kafka.reading import TopicReader
from tests.broker.pipelines import make_topic, until


def broker(state: Path) -> LocalBroker:
    return LocalBroker(state, cache_dir(os.environ), java_options=QUICK_START, heap_mb=256)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker with one record; the last test ends it."""
    found = broker(tmp_path_factory.mktemp("first"))
    address = found.start()
    make_topic(Cluster(address), "kept")
    producer = Producer(Cluster(address).producer_settings())
    producer.produce("kept", b"here")
    assert producer.flush(10) == 0
    del producer
    yield found
    found.stop_if_started()


def test_a_second_start_finds_the_first_and_does_not_stop_it(first: LocalBroker):
    again = broker(first.folder.parent)
    assert again.start() == first.start()
    again.stop_if_started()
    assert first.running() is not None, "who did not start it does not stop it"


def test_two_brokers_on_one_machine_do_not_clash_and_a_stale_note_is_not_believed(first: LocalBroker, state: Path):
    note = {"pid": os.getpid(), "created_s": 1.0, "port": 9, "version": "4.4.0"}
    (state / "kafka").mkdir(parents=True)
    (state / "kafka" / "broker.json").write_text(json.dumps(note))
    two = broker(state)
    try:
        assert two.running() is None
        assert first.start() != two.start()
        Cluster(first.start()).check_reachable()
        Cluster(two.start()).check_reachable()
    finally:
        two.stop()


STARTER = """
import os, sys, time
from pathlib import Path
from tests.broker.test_local import broker
print(broker(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


def test_data_and_address_survive_a_restart_and_a_broker_ends_when_its_starter_is_killed(first: LocalBroker):
    state, address = first.folder.parent, first.start()
    assert first.stop()
    assert first.running() is None
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(state)], stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline().decode().strip() == address, "the same port when it is free"
        with TopicReader(Cluster(address), "kept") as reader:
            assert [message.value() for message in reader.to_end()] == [b"here"]
        running = broker(state).running()
        assert running is not None
        family = psutil.Process(running.pid).children(recursive=True)
        assert family, "java under its guard"
        starter.send_signal(signal.SIGKILL)
        starter.wait(10)
        until(lambda: not any(process.is_running() for process in family), 20, "java ends")
    finally:
        starter.kill()
        starter.wait(10)
        if starter.stdout:
            starter.stdout.close()
        broker(state).stop()
