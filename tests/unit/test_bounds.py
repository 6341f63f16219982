"""What a broker says of a topic: asked again while it cannot say, and no longer than one was ready to wait."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import bounds
from streams.kafka.bounds import bounds_of, offsets_at, partitions_of


class Broker:
    """Answers with each of these errors once, then with bounds."""

    def __init__(self, *codes: int) -> None:
        self.left = list(codes)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float, cached: bool) -> tuple[int, int]:
        if self.left:
            raise KafkaException(KafkaError(self.left.pop(0)))
        return 3, 7

    def list_topics(self, topic: str, timeout: float) -> None:
        assert topic == "raw"


@pytest.mark.parametrize(
    "codes",
    [
        (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE),
        (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN),
        (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._BAD_MSG),
    ],
    ids=["not led yet", "away", "just come back"],
)
def test_a_partition_of_which_nobody_can_say_yet_is_asked_again(codes: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "AGAIN_S", 0.001)
    broker = Broker(*codes)
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


def test_what_a_client_remembers_of_a_topic_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch):
    """librdkafka says of a topic it heard of while nobody led it that the partition is unknown, and asks nobody."""
    monkeypatch.setattr(bounds, "AGAIN_S", 0.001)

    class Remembers(Broker):
        def get_watermark_offsets(self, place: TopicPartition, timeout: float, cached: bool) -> tuple[int, int]:
            if self.left:
                raise KafkaException(KafkaError(self.left[0]))
            return 3, 7

        def list_topics(self, topic: str, timeout: float) -> None:
            self.left.pop()

    broker = Remembers(KafkaError._UNKNOWN_PARTITION)
    assert bounds_of(broker, TopicPartition("raw", 0), 1) == (3, 7)


def test_a_topic_that_one_broker_made_is_heard_of_by_the_other_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "AGAIN_S", 0.001)

    class Lists:
        def __init__(self, *codes: int) -> None:
            self.left = list(codes)

        def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
            error = KafkaError(self.left.pop(0)) if self.left else None
            return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions={1: None, 0: None})})

    unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
    assert partitions_of(Lists(unknown, KafkaError.LEADER_NOT_AVAILABLE), "raw", 5) == [0, 1]
    with pytest.raises(KafkaException, match="Unknown topic"):
        partitions_of(Lists(*[unknown] * 10), "raw", 0.001)


def test_a_partition_that_nobody_leads_is_not_taken_for_one_without_a_later_record(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "AGAIN_S", 0.001)
    unled = SimpleNamespace(partition=0, offset=-1, error=KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
    answers = [[unled], [SimpleNamespace(partition=0, offset=12, error=None)]]
    client = SimpleNamespace(
        offsets_for_times=lambda places, timeout: answers.pop(0), list_topics=lambda topic, timeout: None
    )
    assert offsets_at(client, [TopicPartition("raw", 0, 1_000)], 5) == {0: 12}
