"""What the reading thread makes of being fenced. Its client is a stand-in: what a broker does is tested on Kafka."""

from collections.abc import Mapping

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from faust.types import TP

from schemas.errors import Paused, Superseded
from streams.kafka.batch import Batch
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge
from streams.kafka.reader import Reader

FENCED = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by other consumer")


class Nobody:
    """The event loop's side, which has nothing to say."""

    def assigned(self, positions: Mapping[TP, int], generation: int) -> None: ...
    def deliver(self, batches: list[Batch]) -> None: ...
    def died(self, error: BaseException) -> None: ...
    def lost(self, partitions: set[TP]) -> None: ...
    def revoked(self, partitions: set[TP]) -> list[TopicPartition]:
        return []


class Client:
    """Hands out one error."""

    def __init__(self) -> None:
        self.commits = 0

    def consume(self, records: int, timeout: float) -> list[Message]:
        return [Message(error=FENCED)] if records == 1 else []

    def commit(self, **_: object) -> None:
        self.commits += 1

    def unassign(self) -> None: ...


@pytest.fixture
def reader() -> Reader:
    cluster = Cluster("127.0.0.1:9")
    consumer = cluster.consumer_settings("g", "g.0") | {"log_level": 0}
    made = Reader(Edge("router", consumer, cluster.producer_settings(), "t.dead-letters", 1024), Nobody())
    made.close()
    made.client = Client()
    return made


def test_a_member_without_partitions_hears_that_it_is_fenced(reader: Reader):
    with pytest.raises(Superseded, match=r"g\.0: another process runs under this name"):
        reader._pass()


def test_a_member_that_lost_its_session_is_fenced_by_itself_and_starts_again(reader: Reader):
    reader._lose(reader.client, [])
    with pytest.raises(Paused, match=r"g\.0: it lost its session 0 s ago"):
        reader._pass()


def test_what_was_to_be_committed_before_a_rebalance_is_not_committed_after_it(reader: Reader):
    answers: list[KafkaError | None] = []
    for let_go in (reader._lose, reader._revoke):
        reader.commit([TopicPartition("t", 0, 7)], answers.append)
        let_go(reader.client, [])
    reader._serve_commits()
    assert reader.client.commits == 0
    assert [answer.code() for answer in answers if answer] == [KafkaError._ASSIGNMENT_LOST] * 2
