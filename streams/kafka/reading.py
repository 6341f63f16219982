"""Reading a topic from outside any group: from a place to its end, or on and on."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from schemas.errors import ConfigurationRefused
from streams.kafka.bounds import bounds_of, offsets_at, partitions_of
from streams.kafka.clients import Cluster
from streams.kafka.records import read_headers

TIMEOUT_S = 10.0
PASS_S = 0.1
RECORDS = 1000
ABSENT = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)
"""What is said of a topic that time will not bring."""


class TopicReader:
    """One topic, all its partitions; commits nothing, joins nothing."""

    def __init__(self, cluster: Cluster, topic: str, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.topic = topic
        self.positions: dict[int, int] = {}
        """By partition, the offset that was read up to, those included that are shown to no reader."""
        self._trouble: KafkaException | None = None
        self._consumer = Consumer(cluster.reader_settings() | dict(settings))
        try:
            self.partitions = partitions_of(self._consumer, topic, TIMEOUT_S)
        except KafkaException as error:
            self._consumer.close()
            cause = error.args[0]
            if cause.code() not in ABSENT:
                raise
            raise ConfigurationRefused(f"{topic}: {cause.str()}; bring the pipeline up, or mend its name") from error

    def __enter__(self) -> Self:
        """Close when done."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self._consumer.close()

    def bounds(self) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition, now."""
        return {
            number: bounds_of(self._consumer, TopicPartition(self.topic, number), TIMEOUT_S)
            for number in self.partitions
        }

    def ends_of(self, topic: str, numbers: Iterable[int]) -> dict[int, int]:
        """The next offset of some partitions of another topic, now."""
        return {number: bounds_of(self._consumer, TopicPartition(topic, number), TIMEOUT_S)[1] for number in numbers}

    def at_time(self, at_ms: int) -> dict[int, int]:
        """The first offset at or after a time (ms, broker's clock); the end where there is none."""
        asked = [TopicPartition(self.topic, number, at_ms) for number in self.partitions]
        ends = self.bounds()
        found = offsets_at(self._consumer, asked, TIMEOUT_S)
        return {number: offset if offset >= 0 else ends[number][1] for number, offset in found.items()}

    def start(self, at: Literal["beginning", "end"] | Mapping[int, int]) -> None:
        """Choose where to read from. From the end means from now: what comes later is read."""
        if at == "end":
            at = {number: end for number, (_, end) in self.bounds().items()}
        places = [
            TopicPartition(self.topic, number, OFFSET_BEGINNING if at == "beginning" else at.get(number, OFFSET_END))
            for number in self.partitions
        ]
        self.positions = {}
        self._consumer.assign(places)

    def poll(self, timeout_s: float = PASS_S) -> list[Message]:
        """What has come; empty when nothing came in time.

        Raises KafkaException for an error that came, once the records beside it were given: who goes on after it has
        missed none.
        """
        found: list[Message] = []
        if self._trouble is None:
            messages = self._consumer.consume(1, timeout_s)
            if messages:
                messages += self._consumer.consume(RECORDS, 0)
            read_headers(messages)
            found = [message for message in messages if self._is_record(message)]
        if self._trouble is not None and not found:
            trouble, self._trouble = self._trouble, None
            raise trouble
        return found

    def has_read(self, ends: Mapping[int, int]) -> bool:
        """Whether each of these partitions was read up to its end; what is shown to no reader is none of it.

        The end of a transaction takes an offset and is no record: the last record may lie well before the end.
        """
        return all(self.positions.get(number, 0) >= end for number, end in ends.items())

    def _is_record(self, message: Message) -> bool:
        number, offset, error = message.partition(), message.offset(), message.error()
        if error is None:
            if number is not None and offset is not None:
                self.positions[number] = offset + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            if number is not None and offset is not None:
                self.positions[number] = offset
            return False
        # It joins no group: what it may not know of the one in its settings is nothing to it.
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return False
        self._trouble = KafkaException(error)
        return False

    def to_end(self, at: Literal["beginning"] | Mapping[int, int] = "beginning") -> Iterator[Message]:
        """Everything from a place to what is the end at this moment; nothing of a partition without a place."""
        ends = {number: end for number, (low, end) in self.bounds().items() if end > low}
        if at != "beginning":
            ends = {number: end for number, end in ends.items() if at.get(number, end) < end}
        self.start(at)
        while not self.has_read(ends):
            for message in self.poll():
                if (message.offset() or 0) < ends.get(message.partition() or 0, 0):
                    yield message


def read_back(reader: TopicReader, since_ms: Mapping[int, float]) -> Iterator[Message]:
    """Records of some partitions from a log time of each (0: from the beginning) to their ends."""
    bounds = reader.bounds()
    starts = {number: end for number, (_, end) in bounds.items()}
    for number, at_ms in since_ms.items():
        starts[number] = reader.at_time(int(at_ms))[number] if at_ms > 0 else bounds[number][0]
    yield from reader.to_end(starts)
