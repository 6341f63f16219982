"""Every reader we ship takes the first final record of a ticket: real Kafka, the real commands, records by hand."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from msgspec.structs import replace

from schemas.decisions import Decision, Outcome, Ticket, encode_decision
from schemas.topics import Topics, topics_of
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.following import follow
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load
from tests.broker.commands import rendezvous
from tests.broker.pipelines import environment, until, write


def decision(offset: int, score: float, **changes: Any) -> Decision:
    return replace(
        Decision(
            request_id=f"r{offset}",
            ticket=Ticket(0, offset),
            outcome=Outcome.PREFERRED,
            final=True,
            revision=0,
            model="good",
            version="1",
            score=score,
            scores={},
            missing=[],
            failed={},
            not_asked={},
            budget_ms=400,
            used_ms=1.0,
            decided_at_ms=1,
            reason="by hand",
        ),
        **changes,
    )


@dataclass
class Bare:
    """A pipeline's topics, and nobody at work on them."""

    cluster: Cluster
    topics: Topics
    file: Path
    state: Path

    def put(self, topic: str, *values: bytes, headers: Any = None) -> None:
        producer = Producer(self.cluster.producer_settings())
        for value in values:
            producer.produce(topic, value, partition=0, headers=headers)
        assert producer.flush(20) == 0

    def decide(self, *decisions: Decision) -> None:
        self.put(self.topics.decisions, *map(encode_decision, decisions))

    def say(self, verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return rendezvous([verb, "--pipeline", str(self.file), *arguments], environment(self.cluster, self.state))


@pytest.fixture
def bare(cluster: Cluster, name: str, tmp_path: Path, state: Path) -> Bare:
    file = write(tmp_path, name)
    Admin(cluster).ensure(topics_of(load(file)))
    return Bare(cluster, Topics(name), file, state)


@pytest.fixture
def answered_twice(bare: Bare) -> Bare:
    """One request, a first try that is not final, its answer, and another one after it."""
    bare.put(bare.topics.raw, b'{"request_id": "r0"}')
    bare.decide(decision(0, 0.5, final=False), decision(0, 0.7), decision(0, 0.2, standby=True))
    return bare


def scores(lines: str) -> list[float]:
    return [json.loads(line)["score"] for line in lines.splitlines()]


def test_decisions_shows_the_answer_and_with_all_every_record(answered_twice: Bare):
    assert scores(answered_twice.say("decisions", "--format", "json").stdout) == [0.7]
    assert scores(answered_twice.say("decisions", "--format", "json", "--all").stdout) == [0.5, 0.7, 0.2]


def test_decisions_that_follow_from_now_pass_over_a_second_record_of_what_was_answered_before(answered_twice: Bare):
    words = ["decisions", "--pipeline", str(answered_twice.file), "--follow", "--format", "json", "--count", "1"]
    command = [sys.executable, "-m", "agents", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(answered_twice.cluster, answered_twice.state)
    ) as follower:
        assert follower.stdout is not None
        number = 0

        def answered() -> bool:
            """Two records each time: until the follower reads, nobody knows when it began."""
            nonlocal number
            number += 1
            answered_twice.decide(decision(0, 0.3), decision(number, 0.9))
            return follower.poll() is not None

        until(answered, 60, "a decision that was followed")
        assert scores(follower.stdout.read().decode()) == [0.9]


def test_explain_tells_the_answer(answered_twice: Bare):
    told = answered_twice.say("explain", "0/0").stdout
    assert "0.7000" in told
    assert "0.2000" not in told


def test_ask_prints_the_answer(bare: Bare):
    with Answering(bare.cluster, bare.topics.raw, lambda offset: bare.decide(*twice(offset))):
        asked = bare.say("ask", '{"x": 1}')
    assert json.loads(asked.stdout)["score"] == 0.7


def twice(offset: int) -> tuple[Decision, ...]:
    return decision(offset, 0.5, final=False), decision(offset, 0.7), decision(offset, 0.2)


class Answering:
    """Somebody answers the next raw record, once."""

    def __init__(self, cluster: Cluster, topic: str, answer: Callable[[int], None]) -> None:
        self._ended = threading.Event()
        self._reader = TopicReader(cluster, topic)
        self._reader.start("beginning")
        self._thread = threading.Thread(target=self._work, args=(answer,), daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._reader.__exit__(None, None, None)

    def _work(self, answer: Callable[[int], None]) -> None:
        while not self._ended.is_set():
            for message in self._reader.poll():
                answer(message.offset() or 0)


def test_verify_counts_the_second_record_and_takes_the_first(answered_twice: Bare):
    found = answered_twice.say("verify", "--json", "--no-archive")
    counts = json.loads(found.stdout)
    assert found.returncode == 0
    assert (counts["decided"], counts["second_finals"], counts["conflicting"]) == (1, 1, 1)
    assert counts["by_standby"] == 0


def test_verify_refuses_a_dead_letter_from_nowhere(answered_twice: Bare):
    answered_twice.put(answered_twice.topics.dead_letters, b"what is this")
    found = answered_twice.say("verify", "--json", "--no-archive")
    counts = json.loads(found.stdout)
    assert found.returncode == 3
    assert (counts["dead_letters"], counts["dead_letters_unknown"]) == (1, 1)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "aborted"])
def test_the_end_of_a_transaction_is_shown_to_no_reader_and_waited_for_by_none(bare: Bare, committed: bool):
    producer = Producer(
        bare.cluster.producer_settings() | {"transactional.id": bare.topics.raw, "message.timeout.ms": 9_000}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(bare.topics.raw, b"{}", partition=0)
    producer.flush(10)
    (producer.commit_transaction if committed else producer.abort_transaction)(30)
    with TopicReader(bare.cluster, bare.topics.raw) as reader:
        # The coordinator has answered before its marker is in the log.
        until(lambda: reader.bounds()[0] == (0, 2), 20, "the end of the transaction")
        assert [message.value() for message in reader.to_end()] == [b"{}"] * committed
    told: list[tuple[int, bool]] = []
    stop = threading.Event()

    def heard(messages: Sequence[Message], whole: bool) -> None:
        told.append((len(messages), whole))
        if whole:
            stop.set()

    follow(bare.cluster, bare.topics.raw, heard, stop)
    assert (sum(number for number, _ in told), told[-1][1]) == (int(committed), True)
