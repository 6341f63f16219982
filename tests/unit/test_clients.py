"""Which cluster: read from the environment, secrets kept, contradictions refused."""

from pathlib import Path

import pytest

from schemas.errors import ConfigurationRefused, KafkaUnreachable
from streams.kafka.clients import Cluster, cluster_of

SECRET = "canary-in-the-coal-mine"
SECURE = {
    "KAFKA_BOOTSTRAP_SERVERS": "k:9093",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": SECRET,
}


def test_nothing_named_means_the_local_broker():
    assert cluster_of({"KAFKA_LISTENERS": "a broker image's own"}) is None


def test_security_reaches_every_client_and_no_repr():
    cluster = cluster_of(SECURE)
    assert cluster is not None
    for settings in (
        cluster.settings(),
        cluster.producer_settings(),
        cluster.consumer_settings("g", "g.0"),
        cluster.reader_settings(),
    ):
        assert settings["sasl.password"] == SECRET
        assert settings["security.protocol"] == "SASL_SSL"
        assert settings["bootstrap.servers"] == "k:9093"
    assert SECRET not in repr(cluster)
    assert SECRET not in str(cluster)


def test_no_client_makes_a_topic_by_looking_for_it():
    cluster = Cluster("k:9093")
    for settings in (
        cluster.settings(),
        cluster.producer_settings(),
        cluster.consumer_settings("g", "g.0"),
        cluster.reader_settings(),
    ):
        assert settings["allow.auto.create.topics"] is False


def test_a_secret_may_lie_in_a_file(tmp_path: Path):
    (tmp_path / "password").write_text(f"{SECRET}\n")
    named = {k: v for k, v in SECURE.items() if k != "KAFKA_SASL_PASSWORD"}
    cluster = cluster_of({**named, "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password")})
    assert cluster is not None
    assert cluster.settings()["sasl.password"] == SECRET


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL: 'TLS' is none of"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "password in the clear"),
        ({"KAFKA_SASL_MECHANISM": ""}, "KAFKA_SASL_MECHANISM: missing"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_SASL_"),
        ({"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.pem"}, "KAFKA_SSL_CA_LOCATION: there is no file"),
        ({"KAFKA_SASL_PASSWORD_FILE": "/nowhere/p"}, "KAFKA_SASL_PASSWORD_FILE"),
    ],
)
def test_a_contradiction_is_refused_by_name_without_the_secret(changes: dict[str, str], says: str):
    with pytest.raises(ConfigurationRefused, match=says) as refused:
        cluster_of({**SECURE, **changes})
    assert SECRET not in str(refused.value)


def test_a_password_in_the_clear_needs_a_word():
    changes = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_ALLOW_SASL_PLAINTEXT": "1"}
    assert cluster_of({**SECURE, **changes}) is not None


def test_no_broker_is_one_clear_line():
    with pytest.raises(KafkaUnreachable, match=r"no Kafka at 127.0.0.1:9 within 0.5 s"):
        Cluster("127.0.0.1:9").check_reachable(0.5)
