"""Members of the groups join and leave again and again, under load."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from schemas.blocks import ScoreBlock, decode_rows, decode_scores, offsets_of
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.pipelines import FILE, environment, until, up, write
from tests.faults.conftest import LONG, Note
from tests.faults.load import Load, assert_kept, findings
from tests.faults.work import assert_all_at_work

PARTITIONS = 3
"""Odd: an assignor that deals out raw and scores in one row gives one member other numbers of the two."""

DOUBLE = 'callable = "tests.broker.models:double"\n'
WIDE = FILE.replace("[request]", f"partitions = {PARTITIONS}\n\n[request]").replace(
    DOUBLE, DOUBLE + 'expired = "score"\n'
)
"""Several partitions, and a champion that scores what is too late too: every request must be seen by it."""
GUESTS = {
    "rendezvous": ["rendezvous", "--no-standby"],
    "router": ["router"],
    "scorer.good": ["scorer", "--model", "good"],
}
STAY_S = 2.0

Numbers = dict[str, set[int]]
"""Topic -> partition numbers, of one member."""


class Groups:
    """Who has which partitions, as the broker sees it."""

    def __init__(self, cluster: Cluster, pipeline: str) -> None:
        self._admin = AdminClient(cluster.settings())
        self._pipeline = pipeline

    def members(self, role: str) -> list[Numbers]:
        """Each member's partitions; empty while the group is between two assignments."""
        version = ".1" if role.startswith("scorer.") else ""
        group = f"{self._pipeline}.{role}{version}"
        found = self._admin.describe_consumer_groups([group])[group].result(10)
        if found.state != ConsumerGroupState.STABLE:
            return []
        members: list[Numbers] = []
        for member in found.members:
            numbers: Numbers = {}
            for place in member.assignment.topic_partitions:
                numbers.setdefault(place.topic, set()).add(place.partition)
            members.append(numbers)
        return members

    def shared_by(self, role: str, count: int) -> bool:
        """Whether this many members share the partitions, each with the same numbers of all its topics."""
        members = self.members(role)
        for numbers in members:
            assert len(set(map(frozenset, numbers.values()))) <= 1, f"{role}: one member, other numbers: {members}"
        held = sorted(number for numbers in members for number in next(iter(numbers.values()), ()))
        return len(members) == count and all(members) and held == list(range(PARTITIONS))


@contextmanager
def guest(cluster: Cluster, file: Path, state: Path, role: str, number: int = 1) -> Iterator[None]:
    """One more instance of a role, which leaves when the block ends."""
    name, *options = GUESTS[role]
    command = [sys.executable, "-m", "agents", "run", name, str(file), "--number", str(number), "--leave", *options]
    with (state / f"guest-{role}.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, env=environment(cluster, state))
    try:
        yield
        process.terminate()
        assert process.wait(20) == 0, f"the guest {role} ended in a bad way"
    finally:
        process.kill()
        process.wait(5)


@pytest.mark.timeout(600)
def test_members_that_join_and_leave_lose_nothing_and_keep_the_order(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    file, times, rebalances = write(tmp_path, name, text=WIDE), 10 if LONG else 1, 0
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        groups = Groups(cluster, name)
        with Load(cluster, pipeline.topics.raw, 300) as load:
            for _ in range(times):
                with ExitStack() as guests:
                    for role in GUESTS:
                        guests.enter_context(guest(cluster, file, tmp_path / "state", role))
                    for role in GUESTS:
                        until(lambda role=role: groups.shared_by(role, 2), 30, f"a second {role} has joined")
                    load.wait(STAY_S)
                for role in GUESTS:
                    until(lambda role=role: groups.shared_by(role, 1), 30, f"the second {role} has left")
                rebalances += 2
                load.wait(STAY_S)
        found = findings(pipeline, file, load)
        assert_all_at_work(pipeline)
    assert_kept(found)
    rows, scores = rows_of(cluster, name, "good"), scores_of(cluster, name, "good")
    assert sum(map(len, map(set, rows.values()))) == found.accepted
    assert {number: set(seen) for number, seen in rows.items()} == {
        number: set(seen) for number, seen in scores.items()
    }
    for seen in (*rows.values(), *scores.values()):
        first = list(dict.fromkeys(seen))
        assert first == sorted(first), "out of order"
    again = sum(len(seen) - len(set(seen)) for seen in rows.values())
    done = f"{rebalances} rebalances of {', '.join(GUESTS)} each; {again:,} rows routed twice, none out of order"
    note("members join and leave", done, found)


def rows_of(cluster: Cluster, name: str, model: str) -> dict[int, list[int]]:
    """By partition, the raw offsets of a model's rows in the order of the log."""
    found: dict[int, list[int]] = {}
    with TopicReader(cluster, Topics(name).model(model)) as reader:
        for message in reader.to_end():
            found.setdefault(message.partition() or 0, []).extend(decode_rows(message.value()).offsets.tolist())
    return found


def scores_of(cluster: Cluster, name: str, model: str) -> dict[int, list[int]]:
    """By partition, the raw offsets of a model's scores in the order of the log."""
    found: dict[int, list[int]] = {}
    with TopicReader(cluster, Topics(name).scores) as reader:
        for message in reader.to_end():
            block = decode_scores(message.value())
            if isinstance(block, ScoreBlock) and block.model == model:
                found.setdefault(message.partition() or 0, []).extend(offsets_of(block.offsets))
    return found
