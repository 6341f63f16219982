"""Members of the groups join and leave again and again, under load."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
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
from tests.faults.load import RATE, Load, assert_kept, findings
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
STAY_S = 1.5 if LONG else 1.0
SESSION_MS, SECOND_MS = 6_000, 1_000

Numbers = dict[str, set[int]]
"""Topic -> partition numbers, of one member."""


class Groups:
    """Who has which partitions, as the broker sees it."""

    def __init__(self, cluster: Cluster, pipeline: str) -> None:
        self._admin = AdminClient(cluster.settings())
        self._pipeline = pipeline

    def members(self, role: str) -> list[Numbers]:
        """Each member's partitions; empty while the group is between two assignments."""
        return [numbers for _, numbers in self._named(role)]

    def held_by(self, role: str, number: int) -> set[int]:
        """The partition numbers of the static member of that number."""
        return {
            partition
            for name, numbers in self._named(role)
            if name == f"{self._group(role)}.{number}"
            for found in numbers.values()
            for partition in found
        }

    def _group(self, role: str) -> str:
        return f"{self._pipeline}.{role}{'.1' if role.startswith('scorer.') else ''}"

    def _named(self, role: str) -> list[tuple[str | None, Numbers]]:
        group = self._group(role)
        found = self._admin.describe_consumer_groups([group])[group].result(10)
        if found.state != ConsumerGroupState.STABLE:
            return []
        members: list[tuple[str | None, Numbers]] = []
        for member in found.members:
            numbers: Numbers = {}
            for place in member.assignment.topic_partitions:
                numbers.setdefault(place.topic, set()).add(place.partition)
            members.append((member.group_instance_id, numbers))
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
        with Load(cluster, pipeline.topics.raw, RATE) as load:
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
        # Its champion scores what is decided already, too.
        until(lambda: scored(cluster, name, "good") == found.accepted, 30, "it scores every request")
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
    for partition, _, offsets in score_blocks(cluster, name, model):
        found.setdefault(partition, []).extend(offsets)
    return found


def score_times(cluster: Cluster, name: str, model: str) -> dict[int, list[int]]:
    """By partition, the log times of a model's scores."""
    found: dict[int, list[int]] = {}
    for partition, at_ms, _ in score_blocks(cluster, name, model):
        found.setdefault(partition, []).append(at_ms)
    return found


def score_blocks(cluster: Cluster, name: str, model: str) -> Iterator[tuple[int, int, list[int]]]:
    """Partition, log time and raw offsets of each block of a model's scores."""
    with TopicReader(cluster, Topics(name).scores) as reader:
        for message in reader.to_end():
            block = decode_scores(message.value())
            if isinstance(block, ScoreBlock) and block.model == model:
                yield message.partition() or 0, message.timestamp()[1], list(offsets_of(block.offsets))


SHARED = WIDE.replace(DOUBLE, DOUBLE + "instances = 2\n")


@pytest.mark.timeout(400)
def test_processes_of_one_model_share_its_partitions_and_hardly_notice_one_that_comes_or_goes(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    """What is counted is the time in which a partition has no score of that model, by the log."""
    file, role, times = write(tmp_path, name, budget_ms=2_000, text=SHARED), "scorer.good", 5 if LONG else 1
    marks: list[tuple[str, float]] = []
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        groups = Groups(cluster, name)
        until(lambda: groups.shared_by(role, 2), 60, "both have partitions")
        own = groups.held_by(role, 1)
        assert 0 < len(own) < PARTITIONS
        with Load(cluster, pipeline.topics.raw, RATE) as load:

            def begins(what: str) -> None:
                marks.append((what, time.time() * 1e3))

            load.wait(STAY_S)
            begins("all is well")
            load.wait(STAY_S)
            for _ in range(times):
                begins("one joins")
                with guest(cluster, file, tmp_path / "state", role, number=2):
                    until(lambda: groups.shared_by(role, 3), 90, "a third has its share")
                    load.wait(STAY_S)
                    begins("one leaves")
                until(lambda: groups.shared_by(role, 2), 30, "its share is the others' again")
                load.wait(STAY_S)
            begins("one is killed")  # once: who is killed again within 30 s is not started again at once
            pipeline.kill(f"{role}.1")
            until(lambda: pipeline.running(f"{role}.1", 1), 30, "it is back")
            load.wait(STAY_S)
            begins("the end")
        found = findings(pipeline, file, load)
        until(lambda: groups.held_by(role, 1) == own, 30, "who is back has what it had")
        until(lambda: scored(cluster, name, "good") == found.accepted, 30, "it scores every request")
        assert pipeline.restarts(role) == 0
    assert_kept(found)
    pauses = longest_pauses(score_times(cluster, name, "good"), marks)
    back_ms = max(pauses["one is killed"].pop(place) for place in own)
    others_ms = {what: max(by_partition.values()) for what, by_partition in pauses.items()}
    told = ", ".join(f"{what} {ms:,.0f}" for what, ms in others_ms.items())
    note(
        "processes of one model share its partitions",
        f"{times} join and leave, one is killed; longest silence of a partition, ms: {told}, {back_ms:,.0f} of its own",
        found,
    )
    assert max(others_ms.values()) < (SECOND_MS if LONG else SESSION_MS), told


def scored(cluster: Cluster, name: str, model: str) -> int:
    """How many requests a model has scored."""
    return sum(len(set(seen)) for seen in scores_of(cluster, name, model).values())


def longest_pauses(
    times: Mapping[int, Sequence[int]], marks: Sequence[tuple[str, float]]
) -> dict[str, dict[int, float]]:
    """What went on from each mark to the next -> partition -> the longest pause (ms) that ended then."""
    found: dict[str, dict[int, float]] = {}
    for (what, from_ms), (_, to_ms) in pairwise(marks):
        longest = found.setdefault(what, {})
        for partition, at_ms in times.items():
            pauses = (late - early for early, late in pairwise(sorted(at_ms)) if from_ms < late <= to_ms)
            longest[partition] = max([longest.get(partition, 0), *pauses])
    return found
