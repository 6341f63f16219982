"""Which cluster, and the librdkafka settings of every client that is opened on it.

Only the names in `NAMES` are read, not the whole `KAFKA_` prefix, which broker images own. Each may be given
as `<name>_FILE`. Secrets are never part of a repr.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import ConfigurationRefused, KafkaUnreachable, RendezvousError
from streams.kafka.handshake import certificate_fault, speaks_tls

NAMES = {
    "KAFKA_BOOTSTRAP_SERVERS": "bootstrap.servers",
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SASL_MECHANISM": "sasl.mechanism",
    "KAFKA_SASL_USERNAME": "sasl.username",
    "KAFKA_SASL_PASSWORD": "sasl.password",
    "KAFKA_SSL_CA_LOCATION": "ssl.ca.location",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "ssl.certificate.location",
    "KAFKA_SSL_KEY_LOCATION": "ssl.key.location",
    "KAFKA_SSL_KEY_PASSWORD": "ssl.key.password",
}
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
ASK_S = 0.5
PATIENCE: Mapping[str, Any] = {
    # A connection that is open and carries nothing held a fetch, a produce and a commit for librdkafka's 60 s.
    "socket.timeout.ms": 10_000,
    # One that was opened while nothing is carried is given up soon (30 s), and the next tried soon (10 s).
    "socket.connection.setup.timeout.ms": 5_000,
    "reconnect.backoff.max.ms": 1_000,
    # The host notices what this client has nothing in flight on.
    "socket.keepalive.enable": True,
}
"""How long a client waits for a broker that does not answer, before it tries another connection."""

NO_TOPICS: Mapping[str, Any] = {"allow.auto.create.topics": False}
"""To look for a topic makes none. A producer's look does by default, where the broker lets it: a topic that was
deleted is there again within minutes, with the broker's settings instead of the pipeline's."""

REACH_S = 3.0
"""A program that is refused says so within 5 s, its own start included."""

NOT_LET_IN = (KafkaError._AUTHENTICATION, KafkaError._SSL)
DENIED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
HINTS = {
    "PLAINTEXT broker listener": "Name its TLS listener in KAFKA_BOOTSTRAP_SERVERS, or set KAFKA_SECURITY_PROTOCOL",
    "certificate required": "Set KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION",
    "expired": "Renew it on the broker",
    "mismatch": "Name the broker in KAFKA_BOOTSTRAP_SERVERS as its certificate does",
    "issuer": "Name its authority in KAFKA_SSL_CA_LOCATION",
    "self-signed": "Name its authority in KAFKA_SSL_CA_LOCATION",
    "invalid credentials": "Mend KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD",
    "supported mechanisms": "Mend KAFKA_SASL_MECHANISM",
    "Unsupported SASL mechanism": "Mend KAFKA_SASL_MECHANISM",
    "sasl.username": "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    "ssl.key.location": "Do KAFKA_SSL_KEY_LOCATION and KAFKA_SSL_KEY_PASSWORD fit each other?",
    "ssl.certificate.location": "Name a PEM file in KAFKA_SSL_CERTIFICATE_LOCATION",
    "ssl.ca.location": "Name a PEM file of authorities in KAFKA_SSL_CA_LOCATION",
}
"""A word of what was heard -> the next step."""

PLAINTEXT_ALLOWED = "KAFKA_ALLOW_SASL_PLAINTEXT"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One Kafka cluster and how to be let in."""

    bootstrap: str
    security: Mapping[str, str] = field(default_factory=dict, repr=False)

    def settings(self) -> dict[str, Any]:
        """What every client needs; a fresh dictionary."""
        return {"bootstrap.servers": self.bootstrap, **NO_TOPICS, **PATIENCE, **self.security}

    def producer_settings(self, linger_ms: float = 0) -> dict[str, Any]:
        """Confirmed by all in-sync replicas, in order, never given up: a slow broker is back-pressure."""
        return self.settings() | {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 0,
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 262_144,
            "partitioner": "murmur2_random",
        }

    def consumer_settings(self, group: str, instance: str) -> dict[str, Any]:
        """A static member of a classic group under `range`: it has its partitions back at once."""
        return self.settings() | {
            "group.id": group,
            "group.instance.id": instance,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            # It bounds how long a join may wait, for an answer or for a member that hangs; the reader polls always.
            "max.poll.interval.ms": 30_000,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 1,
            "queued.min.messages": 1,
            "queued.max.messages.kbytes": 16_384,
        }

    def reader_settings(self) -> dict[str, Any]:
        """A client that reads by `assign`, commits nothing, and belongs to no group."""
        return self.settings() | {
            "group.id": "rendezvous-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            # A full queue is asked again at once: librdkafka's own second is most of the time of a long read.
            "fetch.queue.backoff.ms": 1,
            "queued.max.messages.kbytes": 16_384,
        }

    def check_reachable(self, timeout_s: float = REACH_S) -> None:
        """Raise KafkaUnreachable unless a broker answers in time, ConfigurationRefused if it does not let us in."""
        heard: list[KafkaError] = []
        client = self._ask(heard.append)
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                client.list_topics(timeout=min(timeout_s, ASK_S))
            except KafkaException as error:
                client.poll(0)
                self._refuse(heard)
                if time.monotonic() > deadline_s:
                    raise self._unreachable(timeout_s, heard, error) from error
            else:
                return

    def _ask(self, heard: Callable[[KafkaError], None]) -> AdminClient:
        try:
            return AdminClient(self.settings() | {"log_level": 0, "error_cb": heard})
        except KafkaException as error:
            raise ConfigurationRefused(
                f"no client for Kafka at {self.bootstrap} can be made: {error.args[0].str()}. "
                f"{_hint(error.args[0].str()) or 'Mend KAFKA_SASL_* or KAFKA_SSL_*'}"
            ) from error

    def _refuse(self, heard: Sequence[KafkaError]) -> None:
        """Raise ConfigurationRefused when time will not mend what was heard."""
        for error in heard:
            said = error.str()
            if "certificate verify failed" in said and (fault := self._certificate_fault()):
                said = f"the broker's certificate does not convince: {fault}"
            hint = _hint(said)
            if error.code() in NOT_LET_IN or hint:
                raise ConfigurationRefused(
                    f"Kafka at {self.bootstrap} and this program do not let each other in: {said}. "
                    f"{hint or 'Do KAFKA_SASL_* and KAFKA_SSL_* fit it?'}"
                )

    def _certificate_fault(self) -> str | None:
        found = (certificate_fault(at, self.security.get("ssl.ca.location")) for at in self.addresses)
        return next(filter(None, found), None)

    def _unreachable(self, timeout_s: float, heard: Sequence[KafkaError], error: KafkaException) -> RendezvousError:
        if not self.security.get("security.protocol", "PLAINTEXT").endswith("SSL") and any(
            map(speaks_tls, self.addresses)
        ):
            return ConfigurationRefused(
                f"Kafka at {self.bootstrap} speaks TLS and this program does not. Set KAFKA_SECURITY_PROTOCOL to "
                "SASL_SSL or SSL, and KAFKA_SSL_CA_LOCATION"
            )
        causes = [each.str() for each in heard if each.code() != KafkaError._ALL_BROKERS_DOWN]
        return KafkaUnreachable(
            f"no Kafka at {self.bootstrap} within {timeout_s:g} s ({(causes or [error.args[0].str()])[0]}). Is it "
            "running, and do KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_* and KAFKA_SSL_* fit it?"
        )

    @property
    def addresses(self) -> list[str]:
        """Each `host:port` of the bootstrap list."""
        return [address.strip() for address in self.bootstrap.split(",")]


def _hint(said: str) -> str:
    return next((hint for word, hint in HINTS.items() if word in said), "")


def explained(error: KafkaException) -> RendezvousError:
    """What a person is told of an error that a client raised in the middle of its work."""
    cause = error.args[0]
    if cause.code() in DENIED:
        return ConfigurationRefused(f"Kafka does not allow this principal: {cause.str()}. Grant it")
    return KafkaUnreachable(f"Kafka does not answer as it should: {cause.str()}. Try again, or look at the broker")


def cluster_of(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster the environment names, None when it names none; raises ConfigurationRefused."""
    found = {setting: value for name, setting in NAMES.items() if (value := _value(environment, name))}
    bootstrap = found.pop("bootstrap.servers", None)
    if bootstrap is None:
        return None
    _check(found, environment)
    return Cluster(bootstrap, found)


def _value(environment: Mapping[str, str], name: str) -> str | None:
    path = environment.get(f"{name}_FILE")
    if path is None:
        return environment.get(name)
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationRefused(f"{name}_FILE: {path}: {error.strerror}; name a readable file") from error


def _check(security: Mapping[str, str], environment: Mapping[str, str]) -> None:
    protocol = security.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in PROTOCOLS:
        raise ConfigurationRefused(
            f"KAFKA_SECURITY_PROTOCOL: {protocol!r} is none of {', '.join(PROTOCOLS)}; set one of them"
        )
    if protocol == "SASL_PLAINTEXT" and not environment.get(PLAINTEXT_ALLOWED):
        raise ConfigurationRefused(
            f"KAFKA_SECURITY_PROTOCOL: SASL_PLAINTEXT sends the password in the clear; use SASL_SSL, or set "
            f"{PLAINTEXT_ALLOWED}=1 if you mean it"
        )
    if protocol.startswith("SASL") and "sasl.mechanism" not in security:
        raise ConfigurationRefused(f"KAFKA_SASL_MECHANISM: missing for {protocol}; set SCRAM-SHA-512 or its like")
    if not protocol.startswith("SASL") and any(name.startswith("sasl.") for name in security):
        raise ConfigurationRefused(
            f"KAFKA_SASL_*: given, but KAFKA_SECURITY_PROTOCOL is {protocol}; set it to SASL_SSL"
        )
    for name, setting in NAMES.items():
        if setting.endswith(".location") and setting in security and not Path(security[setting]).is_file():
            raise ConfigurationRefused(f"{name}: there is no file {security[setting]}; name an existing one")
