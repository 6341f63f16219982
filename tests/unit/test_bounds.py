"""The bounds of a partition: asked again while nobody leads it, and no longer than one was ready to wait."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import bounds
from streams.kafka.bounds import bounds_of


class Broker:
    """Answers with each of these errors once, then with bounds."""

    def __init__(self, *codes: int) -> None:
        self.left = list(codes)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float, cached: bool) -> tuple[int, int]:
        if self.left:
            raise KafkaException(KafkaError(self.left.pop(0)))
        return 3, 7


def test_a_partition_that_nobody_leads_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "AGAIN_S", 0.001)
    broker = Broker(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    assert bounds_of(broker, TopicPartition("raw", 0), 5) == (3, 7)
    assert broker.left == []


@pytest.mark.parametrize(
    ("code", "within_s"),
    [(KafkaError.NOT_LEADER_FOR_PARTITION, 0.0), (KafkaError.TOPIC_AUTHORIZATION_FAILED, 5.0)],
)
def test_what_does_not_pass_in_time_is_raised(code: int, within_s: float):
    broker = Broker(code, code)
    with pytest.raises(KafkaException) as raised:
        bounds_of(broker, TopicPartition("raw", 0), within_s)
    assert raised.value.args[0].code() == code
    assert broker.left == [code], "asked once"
