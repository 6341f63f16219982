"""A whole pipeline behind TLS, SCRAM and access lists: each role with the rights it needs, people with theirs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from schemas.dead_letters import DeadLetter
from schemas.pipeline import Pipeline
from schemas.rights import group_of, rights_of
from schemas.topics import Topics, topics_of
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.token_log import TokenLog
from streams.pipeline_file import load
from tests.broker.pipelines import send, until, up, write
from tests.faults.conftest import Note
from tests.faults.secured import (
    ROLES,
    Ended,
    Grant,
    Secured,
    assert_no_secret,
    everything,
    grants,
    rendezvous,
)

TOPIC = ResourceType.TOPIC
EVENT = '{{"request_id": "{}", "x": 0.5, "colour": "red"}}'


@pytest.fixture
def pipeline(kafka: Secured, tmp_path: Path, name: str) -> Pipeline:
    """A pipeline whose topics an operator has made."""
    found = load(write(tmp_path, name, budget_ms=5_000, more="[monitor]"))
    Admin(kafka.plain).ensure(topics_of(found))
    kafka.principal(f"{name}-person", people(found))
    return found


def people(pipeline: Pipeline) -> list[Grant]:
    """Who asks and looks: no group, no inner topic."""
    topics = Topics(pipeline.name)
    looked_at = (topics.raw, topics.scores, topics.decisions, topics.dead_letters)
    reads = [(TOPIC, topic, AclOperation.READ) for topic in looked_at]
    return [*reads, (TOPIC, topics.raw, AclOperation.WRITE)]


def test_each_role_runs_with_its_own_rights_and_every_command_with_a_persons(
    kafka: Secured, pipeline: Pipeline, tmp_path: Path, note: Note
):
    name, file, state = pipeline.name, tmp_path / "pipeline.toml", tmp_path / "state"
    for role, model in ROLES:
        rights = grants(rights_of(pipeline, role, model), group_of(role, pipeline, model))
        kafka.principal(group_of(role, pipeline, model), rights)
    said = ""

    def person(*words: str, text: str = "") -> Ended:
        nonlocal said
        environment = kafka.environment(f"{name}-person") | {"RENDEZVOUS_CONFIG": str(file)}
        done = rendezvous(words, environment, state, text)
        said += done.out + done.err
        return done

    with roles(kafka, pipeline, file, state):
        until(lambda: json.loads(person("ask", EVENT.format("a")).out)["outcome"] == "preferred", 60, "an answer")
        sent = person("send", "-", text="".join(EVENT.format(f"s{n}") + "\n" for n in range(20)) + "no json\n")
        assert sent.code == 0, sent.err
        until(lambda: '"s19"' in person("decisions", "--format", "json").out, 30, "the last decision")
        assert "DECISION: preferred good" in person("explain", "s19").out
        until(lambda: f"{name}.raw" in person("dead-letters", "ls").out, 30, "the dead letter")
        shown = [json.loads(line) for line in person("topics", "--json").out.splitlines()]
        assert {topic["name"] for topic in shown if topic["exists"]} >= {topic for _, topic, _ in people(pipeline)}
        await_clean(lambda: person("verify", "--json"))
        assert json.loads(person("verify", "--json").out)["accepted"] >= 22
        assert TokenLog(kafka.plain, pipeline).read().sums, "the monitor may announce its token"
    assert_no_secret(said, state)
    note("TLS, SCRAM and access lists", "a principal for each role; every command")


def await_clean(verify: Callable[[], Ended]) -> None:
    """Wait until nothing is wrong and the archive has caught up."""
    deadline_s = time.monotonic() + 60
    while not (found := json.loads(verify().out))["ok"] or found["behind"]:
        assert time.monotonic() < deadline_s, json.dumps(found)


@contextmanager
def roles(kafka: Secured, pipeline: Pipeline, file: Path, state: Path) -> Iterator[None]:
    """Each role as a container would run it, until the block ends. One after the other: seven handshakes at once take a
    broker that has just begun longer than a role waits for it.
    """
    state.mkdir()
    running = []
    try:
        for role, model in ROLES:
            own = group_of(role, pipeline, model)
            words = ["run", role, str(file), *(["--model", model] if model else [])]
            running.append((own, start(words, kafka.environment(own), state, own)))
            until(lambda own=own: " INFO " in (state / f"{own}.log").read_text(), 30, f"{own} has found Kafka")  # type: ignore[misc]
        yield
        ended = [own for own, process in running if process.poll() is not None]
        assert not ended, [(state / f"{own}.log").read_text()[-2000:] for own in ended]
        assert not [own for own, _ in running if "FATAL" in (state / f"{own}.log").read_text()]
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            try:
                process.wait(15)
            finally:
                process.kill()


def start(words: list[str], environment: Mapping[str, str], state: Path, own: str) -> "subprocess.Popen[bytes]":
    rest = {key: value for key, value in os.environ.items() if not key.startswith("KAFKA_")}
    with (state / f"{own}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "agents", *words],
            env={**rest, **environment, "RENDEZVOUS_STATE": str(state), "RENDEZVOUS_LOG_LEVEL": "DEBUG"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def test_up_with_one_principal_for_all_roles_and_its_standby(
    kafka: Secured, pipeline: Pipeline, tmp_path: Path, note: Note
):
    name, file, state = pipeline.name, tmp_path / "pipeline.toml", tmp_path / "state"
    standby = grants(rights_of(pipeline, "standby"), group_of("standby", pipeline))
    kafka.principal(name, [*everything(pipeline), *standby])
    person = kafka.environment(f"{name}-person") | {"RENDEZVOUS_CONFIG": str(file)}
    with up(Cluster(""), file, name, state, "--standby", more=kafka.environment(name)) as running:
        asked = rendezvous(("ask", EVENT.format("u")), person, state)
        assert (asked.code, json.loads(asked.out)["outcome"]) == (0, "preferred"), asked.err
        await_clean(lambda: rendezvous(("verify", "--json"), person, state))
        assert {running.restarts(role) for role in running.status["roles"]} == {0}
        assert_no_secret(json.dumps(running.status), state)


def test_a_command_without_a_right_says_so_in_one_line_and_claims_nothing(
    kafka: Secured, pipeline: Pipeline, tmp_path: Path
):
    topics, file = Topics(pipeline.name), tmp_path / "pipeline.toml"
    seen = [(TOPIC, topic, AclOperation.DESCRIBE) for topic in (topics.raw, topics.decisions)]
    kafka.principal(pipeline.name, [*seen, (TOPIC, topics.dead_letters, AclOperation.READ)])
    letter = DeadLetter(topics.raw, 0, 0, "router", "Unreadable", "a test of it")
    send(kafka.plain, topics.dead_letters, [b"{"], headers=[list(letter.headers())])
    send(kafka.plain, topics.decisions, [b"{}"])
    environment = kafka.environment(pipeline.name) | {"RENDEZVOUS_CONFIG": str(file)}
    lacking = f"Kafka does not allow this principal: WRITE on topic {topics.raw}. Grant it"
    for words, says in (
        (("decisions",), "Kafka does not allow this principal"),
        (("dead-letters", "retry", "0/0"), lacking),
        (("send", "-"), lacking),
        (("ask", "-"), lacking),
    ):
        done = rendezvous(words, environment, tmp_path / "state", "{}")
        assert (done.code, done.out, len(done.err.splitlines())) == (5, "", 1), (words, done)
        assert says in done.err, (words, done)
        assert_no_secret(done.err, tmp_path)
    with TopicReader(kafka.plain, topics.raw) as reader:
        assert not list(reader.to_end())
