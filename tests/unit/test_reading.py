"""Reading a topic from outside any group: an error among records costs none of them."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from streams.kafka.reading import TopicReader


class Client:
    """Hands out two records with an error between them."""

    def __init__(self) -> None:
        first, last = (Message(topic="raw", partition=0, offset=number, value=b"v") for number in (4, 5))
        self.messages = [first, Message(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), last]

    def consume(self, records: int, timeout: float) -> list[Message]:
        given, self.messages = self.messages[:records], self.messages[records:]
        return given


def test_an_error_among_records_is_raised_after_them(monkeypatch: pytest.MonkeyPatch):
    reader: Any = object.__new__(TopicReader)
    reader.topic, reader.positions, reader._trouble, reader._consumer = "raw", {}, None, Client()
    assert [message.offset() for message in reader.poll(0)] == [4, 5]
    assert reader.positions == {0: 6}
    with pytest.raises(KafkaException):
        reader.poll(0)
    assert reader.poll(0) == []
