"""The transport under fire: what is committed was finished, whatever dies."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.kafka.admin import NO_COORDINATOR
from streams.kafka.bounds import asked
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.pipelines import make_topic, until
from tests.broker.relay import PAUSE, POISON

PARTITIONS = 2


@pytest.fixture
def topics(cluster: Cluster, name: str) -> str:
    for what in ("in", "out", "dead-letters"):
        make_topic(cluster, f"{name}.{what}", PARTITIONS)
    return name


def start(cluster: Cluster, name: str, number: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.broker.relay", cluster.bootstrap, name, str(number)])


def produce(producer: Producer, name: str, values: list[bytes]) -> None:
    for number, value in enumerate(values):
        producer.produce(f"{name}.in", value, partition=number % PARTITIONS)
    assert producer.flush(30) == 0


def values_of(cluster: Cluster, topic: str) -> list[bytes | None]:
    with TopicReader(cluster, topic) as reader:
        return [message.value() for message in reader.to_end()]


class Group:
    """The offsets a relay has committed."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._places = [TopicPartition(f"{name}.in", number) for number in range(PARTITIONS)]
        self._consumer = Consumer(cluster.settings() | {"group.id": f"{name}.relay"})

    def committed(self) -> dict[int, int]:
        def ask(left_s: float) -> list[TopicPartition]:
            return self._consumer.committed(self._places, timeout=left_s)

        found = asked(ask, 10, NO_COORDINATOR)  # a broker that has just started makes the topic of its groups first
        return {place.partition: max(0, place.offset) for place in found}

    def close(self) -> None:
        self._consumer.close()


def test_a_relay_killed_and_started_many_times_loses_nothing_and_commits_only_what_it_finished(
    cluster: Cluster, topics: str
):
    producer = Producer(cluster.producer_settings(linger_ms=2))
    group = Group(cluster, topics)
    dice = random.Random(2013)
    sent: list[bytes] = []
    kills = 0
    process = start(cluster, topics)
    try:
        while kills < 25:
            more = [f"{len(sent) + number}".encode() for number in range(400)]
            produce(producer, topics, more)
            sent += more
            assert_finished(cluster, topics, sent, group.committed())
            time.sleep(dice.uniform(0.0, 0.6))  # the moment of the kill is what is varied
            process.send_signal(dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            process.wait(15)
            kills += 1
            process = start(cluster, topics)
        until(lambda: sum(group.committed().values()) == len(sent), 60, "all is finished and committed")
        out = Counter(values_of(cluster, f"{topics}.out"))
        assert set(out) == set(sent)
    finally:
        group.close()
        process.kill()
        process.wait(10)


def assert_finished(cluster: Cluster, topics: str, sent: list[bytes], committed: dict[int, int]) -> None:
    finished = set(values_of(cluster, f"{topics}.out"))
    for partition, offset in committed.items():
        mine = sent[partition::PARTITIONS][:offset]
        assert all(value in finished for value in mine), "committed, and not in the output"


def test_what_an_agent_has_in_hand_and_what_waits_behind_it_is_not_committed(cluster: Cluster, topics: str):
    sent = [PAUSE, *[f"{number}".encode() for number in range(600)]]
    produce(Producer(cluster.producer_settings()), topics, sent)
    group, process = Group(cluster, topics), start(cluster, topics)

    def all_committed() -> bool:
        committed = group.committed()
        assert_finished(cluster, topics, sent, committed)
        return sum(committed.values()) == len(sent)

    try:
        until(all_committed, 60, "all is finished and committed")
    finally:
        group.close()
        process.kill()
        process.wait(10)


def test_a_planned_stop_repeats_nothing(cluster: Cluster, topics: str):
    producer = Producer(cluster.producer_settings())
    sent = [f"{number}".encode() for number in range(20_000)]
    process = start(cluster, topics)
    try:
        produce(producer, topics, sent)
        until(lambda: len(values_of(cluster, f"{topics}.out")) > 1000, 30, "it works")
        process.terminate()
        assert process.wait(15) == 0
        process = start(cluster, topics)
        until(lambda: len(set(values_of(cluster, f"{topics}.out"))) == len(sent), 60, "all is there")
        assert len(values_of(cluster, f"{topics}.out")) == len(sent)
    finally:
        process.kill()
        process.wait(10)


def test_a_record_the_agent_cannot_take_becomes_a_dead_letter_and_the_others_go_on(cluster: Cluster, topics: str):
    producer = Producer(cluster.producer_settings())
    process = start(cluster, topics)
    group = Group(cluster, topics)
    try:
        produce(producer, topics, [b"a", b"b", POISON, b"c", b"d", POISON, b"e", b"f"])
        until(lambda: sum(group.committed().values()) == 8, 30, "all finished")
        assert set(values_of(cluster, f"{topics}.out")) == {b"a", b"b", b"c", b"d", b"e", b"f"}
        with TopicReader(cluster, f"{topics}.dead-letters") as reader:
            letters = list(reader.to_end())
        assert [letter.value() for letter in letters] == [POISON, POISON]
        story = dict(letters[0].headers() or [])
        assert story["rendezvous.error.topic"] == f"{topics}.in".encode()
        assert story["rendezvous.error.exception.class.name"] == b"ValueError"
        assert story["rendezvous.error.stage"] == b"relay"
    finally:
        group.close()
        process.kill()
        process.wait(10)


def test_an_output_the_broker_will_never_take_becomes_a_dead_letter_with_its_hash(cluster: Cluster, topics: str):
    big = os.urandom(1 << 20) + b"x" * (1 << 19)
    squeezed = Producer(cluster.producer_settings() | {"compression.type": "zstd", "message.max.bytes": 4 << 20})
    process = start(cluster, topics)
    group = Group(cluster, topics)
    make_topic(cluster, f"{topics}.wide", 1)
    try:
        from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

        resource = ConfigResource("topic", f"{topics}.in")
        resource.add_incremental_config(
            ConfigEntry("max.message.bytes", str(4 << 20), incremental_operation=AlterConfigOpType.SET)
        )
        admin = AdminClient(cluster.settings())
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(10)
        produce(squeezed, topics, [b"before", big, b"after", b"last"])
        until(lambda: sum(group.committed().values()) == 4, 30, "all finished")
        assert set(values_of(cluster, f"{topics}.out")) == {b"before", b"after", b"last"}
        (letter,) = values_of(cluster, f"{topics}.dead-letters")
        assert letter == big[:256]
    finally:
        group.close()
        process.kill()
        process.wait(10)


def test_a_second_process_under_the_same_name_ends_the_first_which_is_told_apart_by_its_exit_code(
    cluster: Cluster, topics: str
):
    producer = Producer(cluster.producer_settings())
    group = Group(cluster, topics)
    first = start(cluster, topics)
    second = None
    try:
        produce(producer, topics, [b"1", b"2"])
        until(lambda: sum(group.committed().values()) == 2, 30, "the first works")
        second = start(cluster, topics)
        assert first.wait(30) == 75
        produce(producer, topics, [b"3", b"4"])
        until(lambda: sum(group.committed().values()) == 4, 30, "the second works")
    finally:
        group.close()
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait(10)


def test_a_killed_member_that_comes_back_has_its_partitions_at_once(cluster: Cluster, topics: str):
    producer = Producer(cluster.producer_settings())
    began_s = time.monotonic()
    process = start(cluster, topics)
    try:
        produce(producer, topics, [b"1", b"2"])
        until(lambda: len(values_of(cluster, f"{topics}.out")) == 2, 30, "it works")
        first_s = time.monotonic() - began_s
        process.kill()
        process.wait(10)
        began_s = time.monotonic()
        process = start(cluster, topics)
        produce(producer, topics, [b"3", b"4"])
        until(lambda: b"4" in values_of(cluster, f"{topics}.out"), 30, "it works again")
        # A dynamic member would wait for its dead self's session of 6 s; most of either is the start of Python.
        assert time.monotonic() - began_s < first_s + 3
    finally:
        process.kill()
        process.wait(10)
