"""A real Kafka behind TLS, SCRAM and access lists: principals of a test's own, certificates good and bad."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from agents.settings import cache_dir
from schemas.pipeline import Pipeline
from schemas.rights import Rights, group_of, rights_of, together
from streams.kafka.clients import Cluster
from streams.kafka.local import QUICK_START, LocalBroker, free_ports
from tests.broker import commands
from tests.faults.conftest import LONG

HOST = "127.0.0.1"
PASSWORD = "planted-password-of-a-test"
KEY_PASSWORD = "planted-key-password-of-a-test"
SECRETS = (PASSWORD, KEY_PASSWORD)
ROLES = (
    ("router", ""),
    ("rendezvous", ""),
    ("archiver", ""),
    ("monitor", ""),
    *(("scorer", name) for name in ("good", "plain", "watcher")),
)
LISTENERS = ("SECURE", "EXPIRED", "ELSEWHERE")

Grant = tuple[ResourceType, str, AclOperation]
"""What a principal may: on which kind of thing, of which name, do what."""


def grants(rights: Rights, *groups: str) -> list[Grant]:
    """The access list of somebody with these rights, and no other."""
    looked_at = [(ResourceType.TOPIC, topic.name, AclOperation.DESCRIBE_CONFIGS) for topic in rights.topics]
    reads = [(ResourceType.TOPIC, topic.name, AclOperation.READ) for topic in rights.reads]
    writes = [(ResourceType.TOPIC, topic.name, AclOperation.WRITE) for topic in rights.writes]
    return [*looked_at, *reads, *writes, *((ResourceType.GROUP, group, AclOperation.READ) for group in groups)]


@dataclass
class Secured:
    """The broker as its operator sees it (`plain`, every right) and as everybody else does."""

    plain: Cluster
    ports: dict[str, int]
    folder: Path
    admin: AdminClient

    def environment(self, user: str, listener: str = "SECURE") -> dict[str, str]:
        """What a principal's processes are given."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{self.ports[listener]}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CA_LOCATION": str(self.folder / "ca.pem"),
            "KAFKA_SSL_CERTIFICATE_LOCATION": str(self.folder / "client.pem"),
            "KAFKA_SSL_KEY_LOCATION": str(self.folder / "client.key"),
            "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
        }

    def principal(self, user: str, grants: Iterable[Grant]) -> None:
        """Make a user who may exactly this."""
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = [UserScramCredentialUpsertion(user, scram, PASSWORD.encode())]
        for done in self.admin.alter_user_scram_credentials(wanted).values():
            done.result(10)
        bindings = [_binding(user, *grant) for grant in dict.fromkeys(grants)]
        if bindings:
            for done in self.admin.create_acls(bindings).values():
                done.result(10)


def _binding(user: str, kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(kind, name, literal, f"User:{user}", "*", operation, allow)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str
    took_s: float


def secured(folder: Path) -> Iterator[Secured]:
    """Start it, hand it out, stop it."""
    _certificates(folder)
    port = free_ports(2 + len(LISTENERS))  # the second is its controller's
    secure = {listener: port + 2 + number for number, listener in enumerate(LISTENERS)}
    broker = LocalBroker(
        folder,
        cache_dir(os.environ),
        port=port,
        properties=_properties(folder, port, secure),
        java_options=QUICK_START,
        heap_mb=256,
    )
    try:
        plain = Cluster(broker.start())
        yield Secured(plain, secure, folder, AdminClient(plain.settings() | {"log_level": 0}))
    finally:
        broker.stop_if_started()


def _properties(folder: Path, port: int, secure: dict[str, int]) -> dict[str, str]:
    listeners = ",".join([f"PLAINTEXT://{HOST}:{port}", *(f"{name}://{HOST}:{at}" for name, at in secure.items())])
    controller = f"CONTROLLER://{HOST}:{port + 1}"
    found = {
        "listeners": f"{listeners},{controller}",
        "advertised.listeners": f"{listeners},{controller}",
        "listener.security.protocol.map": ",".join(
            ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:SASL_SSL" for name in secure)]
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The operator, the broker itself and the probe of its start come by the plain listener.
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    }
    for name in secure:
        prefix = f"listener.name.{name.lower()}"
        found |= {
            f"{prefix}.ssl.keystore.type": "PEM",
            f"{prefix}.ssl.keystore.location": str(folder / f"{name.lower()}.pem"),
            f"{prefix}.ssl.truststore.type": "PEM",
            f"{prefix}.ssl.truststore.location": str(folder / "ca.pem"),
            f"{prefix}.ssl.client.auth": "required",
            f"{prefix}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        }
    return found


def _certificates(folder: Path) -> None:
    """One authority that is trusted, one that is not; a good certificate, an expired one, another host's."""
    ours, strange = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(folder / "ca.pem"))
    strange.cert_pem.write_to_path(str(folder / "strange.pem"))
    past = datetime.now(UTC) - timedelta(days=1)
    certificates = {
        "secure": ours.issue_cert(HOST),
        "expired": ours.issue_cert(HOST, not_before=past - timedelta(days=1), not_after=past),
        "elsewhere": ours.issue_cert("elsewhere.test"),
    }
    for name, made in certificates.items():
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(_key(made) + chain)
    client = ours.issue_cert("client.test")
    (folder / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    (folder / "client.key").write_bytes(_key(client, KEY_PASSWORD))


def _key(made: trustme.LeafCert, password: str | None = None) -> bytes:
    """The private key as Java reads it: PKCS#8."""
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    secret = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)


def everything(pipeline: Pipeline) -> list[Grant]:
    """What one principal needs to be every role."""
    rights = together(rights_of(pipeline, *role) for role in ROLES)
    return grants(rights, *(group_of(role, pipeline, model) for role, model in ROLES))


def rendezvous(words: Sequence[str], environment: Mapping[str, str], state: Path, text: str = "") -> Ended:
    """Run the program to its end, with nothing of the test's own cluster in its environment.

    In the long form it is an interpreter of its own, as a person's: there it is told how long it takes.
    """
    own = {key: value for key, value in os.environ.items() if not key.startswith("KAFKA_")}
    env = {**own, **environment, "RENDEZVOUS_STATE": str(state)}
    since_s = time.monotonic()
    if LONG:
        command = [sys.executable, "-m", "agents", *words]
        done = subprocess.run(command, input=text, env=env, capture_output=True, text=True, timeout=60, check=False)
    else:
        done = commands.rendezvous(words, env, text=text)
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - since_s)


def assert_no_secret(text: str, state: Path) -> None:
    files = [path for path in state.rglob("*") if path.is_file()]
    everything = text.encode() + b"".join(path.read_bytes() for path in files)
    assert not [secret for secret in SECRETS if secret.encode() in everything]
