"""Questions to the broker: a client that says nothing in time is no other error than a broker that does not."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from schemas.errors import ConfigurationRefused
from streams.kafka import admin
from streams.kafka.clients import Cluster, explained


def test_a_client_that_never_answers_is_a_broker_that_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admin, "TIMEOUT_S", 0.01)
    silent: Future[Any] = Future()
    with pytest.raises(KafkaException) as raised:
        admin.answer_of(silent)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
    assert "no answer in 0.01 s. Try again" in str(explained(raised.value))


def test_what_the_broker_says_is_handed_on():
    well: Future[Any] = Future()
    well.set_result(3)
    assert admin.answer_of(well) == 3
    refused: Future[Any] = Future()
    refused.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)))
    with pytest.raises(KafkaException) as raised:
        admin.answer_of(refused)
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS


def answering(code: int) -> type:
    """A client that answers every deletion with this error, and knows of no topic."""

    class Client:
        def __init__(self, _: object) -> None: ...

        def delete_topics(self, names: list[str], **_: object) -> dict[str, Future[Any]]:
            found: Future[Any] = Future()
            found.set_exception(KafkaException(KafkaError(code)))
            return dict.fromkeys(names, found)

        def list_topics(self, **_: object) -> Any:
            return SimpleNamespace(topics={})

    return Client


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_DELETION_DISABLED])
def test_who_may_not_delete_a_topic_is_told_which_and_what_to_do(monkeypatch: pytest.MonkeyPatch, code: int):
    monkeypatch.setattr(admin, "AdminClient", answering(code))
    with pytest.raises(ConfigurationRefused, match=r"Kafka does not delete topic t\.model\.x .*Grant it DELETE"):
        admin.Admin(Cluster("nowhere:9")).delete(["t.model.x"])


def test_a_topic_that_is_gone_is_deleted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admin, "AdminClient", answering(KafkaError.UNKNOWN_TOPIC_OR_PART))
    admin.Admin(Cluster("nowhere:9")).delete(["t.model.x"])
