"""What a new version's scorer practises on before anybody waits for it, and where it begins to read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from faust.types import TP
from msgspec.structs import replace

from agents import beginning
from agents.beginning import PRACTICE_RECORDS, PRACTICE_S, Beginning
from schemas.blocks import Rows, encode_rows
from schemas.pipeline import MAX_BUDGET_MS
from schemas.topics import Topics
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline
from tests.unit.test_two_versions import ARRIVES, history

SMALL = pipeline()
WIDTH = len(SMALL.features)
TOPIC = Topics(SMALL.name).model("first")
START_MS = 10 * MAX_BUDGET_MS


@dataclass
class Message:
    """A record as a consumer hands it out, one each second."""

    place: int
    value_: bytes

    def value(self) -> bytes:
        return self.value_

    def timestamp(self) -> tuple[int, int]:
        return 1, START_MS + 1_000 * self.place


class Topic:
    """The model's topic: by partition, where it begins and what lies there."""

    holds: Mapping[int, tuple[int, list[bytes]]] = {}

    def __init__(self, cluster: Cluster, topic: str) -> None:
        assert topic == TOPIC

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def bounds(self) -> dict[int, tuple[int, int]]:
        return {number: (low, low + len(values)) for number, (low, values) in self.holds.items()}

    def to_end(self, at: Mapping[int, int]) -> Iterator[Message]:
        for number, start in at.items():
            low, values = self.holds[number]
            assert start >= low, "what is gone by retention is not asked for"
            for place in range(start, low + len(values)):
                yield Message(place, values[place - low])

    def at_time(self, at_ms: int) -> dict[int, int]:
        return {
            number: next((place for place in range(low, end) if START_MS + 1_000 * place >= at_ms), end)
            for number, (low, end) in self.bounds().items()
        }


class Log:
    """The roster's, with this history."""

    def __init__(self, found: History) -> None:
        self.found = found

    def read(self) -> History:
        return self.found


def block(x: float, width: int = WIDTH) -> bytes:
    one = np.zeros(1, np.int64)
    return encode_rows(Rows("first", one, one, np.full((1, width), x)))


def beginning_of(
    monkeypatch: pytest.MonkeyPatch,
    holds: Mapping[int, tuple[int, list[bytes]]],
    version: str = "1",
    start: str = SMALL.start,
    moves: History | None = None,
) -> Beginning:
    monkeypatch.setattr(beginning, "TopicReader", Topic)
    monkeypatch.setattr(Topic, "holds", holds)
    model = replace(SMALL.model("first"), version=version)
    log = Log(moves or History(SMALL))
    return Beginning(replace(SMALL, start=start), model, Cluster("nowhere:9092"), log)  # type: ignore[arg-type]


def practised(one: Beginning) -> list[float]:
    """The x of each row, in the order in which it is given."""
    found = list(one.practice(WIDTH))
    assert all(rows.matrix.shape == (1, WIDTH) for rows in found)
    return [float(rows.matrix[0, 0]) for rows in found]


def test_it_practises_on_the_last_records_of_each_partition(monkeypatch: pytest.MonkeyPatch):
    long = [block(float(n)) for n in range(PRACTICE_RECORDS + 36)]
    one = beginning_of(monkeypatch, {0: (500, long), 1: (7, [block(-1.0), block(-2.0)]), 2: (0, [])})
    assert practised(one) == [float(n) for n in range(36, PRACTICE_RECORDS + 36)] + [-1.0, -2.0]


def test_a_slow_model_practises_for_so_long_and_not_on_all(monkeypatch: pytest.MonkeyPatch):
    one, clock = beginning_of(monkeypatch, {0: (0, [block(float(n)) for n in range(PRACTICE_RECORDS)])}), [100.0]
    monkeypatch.setattr(beginning, "monotonic", lambda: clock[0])
    found = 0
    for _ in one.practice(WIDTH):
        found += 1
        clock[0] += PRACTICE_S / 4  # what the model takes for it
    assert found == 4


def test_rows_of_other_features_and_what_is_no_block_are_passed_over(monkeypatch: pytest.MonkeyPatch):
    strange = [block(1.0), block(2.0, WIDTH + 1), b"\xff", b"", block(3.0)]
    assert practised(beginning_of(monkeypatch, {0: (0, strange)})) == [1.0, 3.0]


def test_where_something_is_committed_or_only_what_comes_is_wanted_it_says_nothing(monkeypatch: pytest.MonkeyPatch):
    holds = {0: (0, [block(1.0)])}
    committed = [TopicPartition(TOPIC, 0, 3)]
    assert beginning_of(monkeypatch, holds).positions(committed) == {}
    nowhere = [TopicPartition(TOPIC, 0, -1001)]
    assert beginning_of(monkeypatch, holds, start="latest").positions(nowhere) == {}


def test_a_version_that_was_staged_begins_there_and_one_of_the_file_with_what_can_still_be_answered(
    monkeypatch: pytest.MonkeyPatch,
):
    budgets = 2 * MAX_BUDGET_MS // 1_000
    holds = {0: (0, [block(1.0)] * (budgets + 1)), 1: (4, []), 2: (0, [block(1.0)])}
    nowhere = [TopicPartition(TOPIC, number, -1001) for number in (0, 1)] + [TopicPartition(TOPIC, 2, 0)]
    of_file = beginning_of(monkeypatch, holds)
    assert of_file.positions(nowhere) == {TP(TOPIC, 0): budgets // 2}, "an empty partition is read from where it is"
    staged = beginning_of(monkeypatch, holds, "2", moves=history(*ARRIVES, at_ms=float(START_MS)))
    assert staged.positions(nowhere) == {TP(TOPIC, 0): 1, TP(TOPIC, 1): 4}
