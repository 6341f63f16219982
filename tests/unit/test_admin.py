"""Questions to the broker: a client that says nothing in time is no other error than a broker that does not."""

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import admin
from streams.kafka.clients import explained


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
