"""What is refused at the door of a secured Kafka: soon, in one line that says what to do, without the secrets."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from schemas.topics import Topics, topics_of
from streams.kafka.admin import Admin
from streams.pipeline_file import load
from tests.broker.pipelines import write
from tests.faults.conftest import LONG, Note
from tests.faults.secured import HOST, SECRETS, Grant, Secured, assert_no_secret, everything, rendezvous

SOON_S = 5 if LONG else 30
COMMANDS = {"up": ("up",), "rendezvous": ("run", "rendezvous")} | ({"router": ("run", "router")} if LONG else {})


@dataclass(frozen=True)
class Refusal:
    """One thing that is wrong, and what is said of it (`{name}` is the pipeline's)."""

    says: tuple[str, ...]
    code: int = 5
    listener: str = "SECURE"
    changes: Mapping[str, str] = field(default_factory=dict)
    without: Callable[[Grant], bool] = lambda _: False
    partitions: Mapping[str, int] = field(default_factory=dict)
    """Other than the pipeline says; 0: the topic is missing."""


def denied(kind: ResourceType, ending: str, *operations: AclOperation) -> Callable[[Grant], bool]:
    return lambda grant: grant[0] == kind and grant[1].endswith(ending) and grant[2] in operations


TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
READ, WRITE, LOOK = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS
REFUSALS = {
    "wrong partition count": Refusal(
        ("{name}.scores has 3 partitions, the pipeline says 1", "new pipeline name"), partitions={"scores": 3}
    ),
    "missing topic": Refusal(
        ("{name}.scores", "operator's rights|`rendezvous up` makes them"), partitions={"scores": 0}
    ),
    "denied READ": Refusal(("READ on topic {name}.raw", "Grant it"), without=denied(TOPIC, ".raw", READ)),
    "denied WRITE": Refusal(("WRITE on topic {name}.scores", "Grant it"), without=denied(TOPIC, ".scores", WRITE)),
    "denied settings": Refusal(
        ("DESCRIBE_CONFIGS on topic {name}.scores", "Grant it"), without=denied(TOPIC, ".scores", LOOK)
    ),
    "denied topic": Refusal(
        ("{name}.raw", "operator's rights|this principal may see"), without=denied(TOPIC, ".raw", READ, WRITE, LOOK)
    ),
    "denied group": Refusal(("READ on group {name}.r", "Grant it"), without=denied(GROUP, "", READ)),
    "wrong password": Refusal(
        ("invalid credentials", "KAFKA_SASL_PASSWORD"), changes={"KAFKA_SASL_PASSWORD": f"not-{SECRETS[0]}"}
    ),
    "unknown user": Refusal(
        ("invalid credentials", "KAFKA_SASL_USERNAME"), changes={"KAFKA_SASL_USERNAME": "stranger"}
    ),
    "other mechanism": Refusal(("SCRAM-SHA-512", "KAFKA_SASL_MECHANISM"), changes={"KAFKA_SASL_MECHANISM": "PLAIN"}),
    "expired certificate": Refusal(("certificate has expired", "Renew it"), listener="EXPIRED"),
    "another host's certificate": Refusal(
        ("not valid for '127.0.0.1'", "as its certificate does"), listener="ELSEWHERE"
    ),
    "untrusted authority": Refusal(
        ("local issuer certificate", "KAFKA_SSL_CA_LOCATION"),
        changes={"KAFKA_SSL_CA_LOCATION": "{folder}/strange.pem"},
    ),
    "wrong key password": Refusal(
        ("ssl.key.location", "KAFKA_SSL_"), changes={"KAFKA_SSL_KEY_PASSWORD": f"not-{SECRETS[1]}"}
    ),
    "no TLS against a TLS listener": Refusal(
        ("speaks TLS", "KAFKA_SECURITY_PROTOCOL"),
        changes=dict.fromkeys(("SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD"), ""),
    ),
    "TLS against a plain listener": Refusal(
        ("PLAINTEXT broker listener", "TLS listener"), changes={"KAFKA_BOOTSTRAP_SERVERS": "{plain}"}
    ),
    "unreachable": Refusal(
        ("no Kafka at 127.0.0.1:9 within", "Is it running"), 4, changes={"KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:9"}
    ),
}


@pytest.mark.parametrize("wrong", REFUSALS)
def test_a_start_that_cannot_work_is_refused_in_one_line(
    kafka: Secured, tmp_path: Path, name: str, wrong: str, note: Note
):
    refusal, file = REFUSALS[wrong], write(tmp_path, name)
    pipeline = load(file)
    for topic in topics_of(pipeline):
        partitions = refusal.partitions.get(topic.name.removeprefix(f"{name}."), 1)
        if partitions:
            Admin(kafka.plain).ensure([msgspec.structs.replace(topic, partitions=partitions)])
    allowed = [(TOPIC, Topics(name).raw, WRITE), *everything(pipeline)]
    kafka.principal(name, [grant for grant in allowed if not refusal.without(grant)])
    fill = {"folder": str(kafka.folder), "plain": kafka.plain.bootstrap}
    changes = {
        key if key.startswith("KAFKA_") else f"KAFKA_{key}": value.format(**fill)
        for key, value in refusal.changes.items()
    }
    state = tmp_path / "state"
    environment = kafka.environment(name, refusal.listener) | changes
    with ThreadPoolExecutor() as beside:
        ended = beside.map(lambda words: rendezvous((*words, str(file)), environment, state), COMMANDS.values())
    for command, (code, out, err, took_s) in zip(COMMANDS, ended, strict=True):
        assert code == refusal.code, (command, out, err)
        assert len(err.splitlines()) == 1, (command, err)
        for words in refusal.says:
            assert any(choice.format(name=name) in err for choice in words.split("|")), (command, words, err)
        assert out == ""
        assert took_s < SOON_S, (command, took_s)
        print(f"{wrong}, {command}, {took_s:.1f} s: {err}", end="")
        assert_no_secret(out + err, state)
    note(f"refused: {wrong}", "`up`, `run`: one line, no secret")
