"""Two versions of the program side by side: role by role, with fields the other does not know, and with blocks that
the other does not read.

The next version is the present one with what it writes changed at its start (`versions/sitecustomize.py`).
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from msgspec import json, msgpack

from schemas.blocks import RowBlock, ScoreBlock
from schemas.dead_letters import PREFIX
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.pipelines import Up, until
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.load import RATE, Load, assert_kept, decisions, findings
from tests.faults.work import assert_all_at_work, await_rest

VERSIONS = Path(__file__).parent / "versions"


class Upgrade:
    """Which roles write what the next version writes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "next-version"
        self._roles: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {"NEXT_VERSION": str(self._file), "PYTHONPATH": str(VERSIONS), "RENDEZVOUS_NURSERY": "0"}

    def change(self, pipeline: Up, role: str, how: str) -> None:
        """Stop a role as an operator does; its supervisor starts the other version (`how` = "": the present)."""
        self._roles[role] = how
        self._file.write_text("".join(f"{name} {what}\n" for name, what in self._roles.items() if what))
        count = pipeline.restarts(role)
        os.kill(pipeline.pid(role), signal.SIGTERM)
        until(lambda: pipeline.running(role, count + 1), 60, f"the other version of {role} works")


@dataclass(frozen=True, slots=True)
class Fleet:
    """A pipeline whose roles may be of another version."""

    pipeline: Up
    upgrade: Upgrade


@pytest.fixture(scope=life)
def fleet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    upgrade = Upgrade(folder)
    with living(cluster, folder, "--standby", more=upgrade.environment) as pipeline:
        yield Fleet(pipeline, upgrade)


@pytest.mark.timeout(300)
def test_two_versions_work_together_role_by_role(fleet: Fleet, note: Note):
    pipeline, upgrade, cluster = fleet.pipeline, fleet.upgrade, fleet.pipeline.cluster
    some = sorted(pipeline.status["roles"]) if LONG else ["rendezvous", "router", "scorer.good"]
    with Load(cluster, pipeline.topics.raw, min(RATE, 200)) as load:
        for role in some:
            upgrade.change(pipeline, role, "more")
            load.wait(1)
        for role in some if LONG else []:
            upgrade.change(pipeline, role, "")
            load.wait(1)
    found = findings(pipeline, pipeline.file, load)
    assert_kept(found)
    answers, topics = decisions(pipeline, load), pipeline.topics
    said = [json.decode(message.value()) for message in records(cluster, topics.decisions)]
    assert 0 < sum("next" in decision for decision in said) < len(said), "both versions of the rendezvous spoke"
    for topic, tag, fields in (
        (topics.model("good"), "rows/1", RowBlock.__struct_fields__),
        (topics.scores, "scores/1", ScoreBlock.__struct_fields__),
    ):
        lengths = {len(block) for block in map(block_of, records(cluster, topic)) if block[0] == tag}
        present = 1 + len(fields)
        assert lengths == {present, present + 1}, f"both versions wrote {tag}"
    assert not records(cluster, topics.dead_letters)
    changes = len(some) * (2 if LONG else 1)
    preferred = sum(answer.outcome == "preferred" for answer in answers) / len(answers)
    note("old and new version together, role by role", f"{changes} roles changed, {preferred:.0%} preferred", found)


@pytest.mark.timeout(300)
def test_a_block_of_an_unknown_version_is_refused_by_name(fleet: Fleet, note: Note):
    pipeline, upgrade, cluster, stay_s = fleet.pipeline, fleet.upgrade, fleet.pipeline.cluster, 5 if LONG else 1
    await_rest(pipeline)
    with Load(cluster, pipeline.topics.raw, min(RATE, 200)) as load:
        load.wait(1)
        upgrade.change(pipeline, "scorer.good", "other")
        load.wait(stay_s)
        upgrade.change(pipeline, "router", "other")
        load.wait(stay_s)
        for role in ("scorer.good", "router") if LONG else ():
            upgrade.change(pipeline, role, "")
            load.wait(stay_s)
    found = findings(pipeline, pipeline.file, load)
    assert_kept(found)
    answers = decisions(pipeline, load)
    assert_all_at_work(pipeline)
    letters = records(cluster, pipeline.topics.dead_letters)
    found_by = {(said_of(letter, "stage"), block_of(letter)[0]) for letter in letters}
    assert found_by >= {("rendezvous", "scores/2"), ("scorer", "rows/2")}
    for letter in letters:
        refused = f"block {block_of(letter)[0]!r} is of a version this program does not read"
        assert refused in said_of(letter, "exception.message")
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count("fallback") > 0, "the champion could not be read: another answered"
    assert outcomes.count("default") > 0, "nobody could read the rows: the default answered"
    assert "preferred" in outcomes[:100], "before that the champion answered"
    assert outcomes[-1] == ("preferred" if LONG else "default")
    counts = ", ".join(f"{outcomes.count(what):,} {what}" for what in ("preferred", "fallback", "default"))
    note("a block of an unknown version", f"{len(letters):,} dead letters by name; {counts}", found)


def records(cluster: Cluster, topic: str) -> list[Message]:
    with TopicReader(cluster, topic) as reader:
        return list(reader.to_end())


def block_of(message: Message) -> list[Any]:
    return msgpack.decode(message.value(), type=list)


def said_of(letter: Message, what: str) -> str:
    return dict(letter.headers() or [])[PREFIX + what].decode()
