"""What a broker says of a topic, of its partitions or of a group, asked for until it can say.

A topic is told of before its partitions are led, another broker may not have heard of it yet, and a broker that comes
back does not lead at once: what is answered then passes by itself within moments, and a client does not count it as
worth another try.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

UNLED = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
AWAY = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE, *UNLED)
"""What passes when a broker comes back: a client connects again by itself."""
NOT_SAID = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._BAD_MSG,
)
"""What is said of a partition that is there by a broker which has just come back, and what a client makes of that."""
COMES_BACK = (*AWAY, *NOT_SAID)
AGAIN_S = 0.1
HEARD_S = 2.0
"""How long a topic that one broker made may be unknown to another; a name that is wrong is told of so late."""

Answer = TypeVar("Answer")


def partitions_of(client: Consumer, topic: str, within_s: float) -> Sequence[int]:
    """The partitions of a topic; blocks. Raises KafkaException when there is no such topic or nobody says."""
    passing = (*UNLED, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def ask(_: float) -> Sequence[int]:
        listed = client.list_topics(topic, timeout=within_s).topics[topic]
        if listed.error is not None:
            raise KafkaException(listed.error)
        return sorted(listed.partitions)

    return asked(ask, min(within_s, HEARD_S), passing)


def bounds_of(client: Consumer, place: TopicPartition, within_s: float) -> tuple[int, int]:
    """First and next offset of a partition, as of now; blocks. Raises KafkaException when nobody says within this."""

    def ask(left_s: float) -> tuple[int, int]:
        return client.get_watermark_offsets(place, timeout=left_s, cached=False)

    return asked(ask, within_s, COMES_BACK, heard_again(client, place.topic))


def offsets_at(client: Consumer, places: Sequence[TopicPartition], within_s: float) -> Mapping[int, int]:
    """Of each partition the first offset at or after the time (ms) in its place, below 0 where there is none; blocks.

    Raises KafkaException when nobody says within this.
    """

    def ask(left_s: float) -> Mapping[int, int]:
        found = client.offsets_for_times(list(places), timeout=left_s)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: place.offset for place in found}

    return asked(ask, within_s, COMES_BACK, heard_again(client, places[0].topic))


def heard_again(client: Consumer, topic: str) -> Callable[[float], object]:
    """A client says from memory, for minutes, what it heard of a topic, even that nobody leads it: it hears anew."""
    return lambda left_s: client.list_topics(topic, timeout=left_s)


def asked(
    ask: Callable[[float], Answer],
    within_s: float,
    passing: Sequence[int],
    before_again: Callable[[float], object] = lambda _: None,
) -> Answer:
    """The answer, asked for again as long as the error is one of those that pass; blocks. Raises KafkaException.

    Both what asks and what is done before it asks again hear how many seconds are left.
    """
    end_s, again = time.monotonic() + within_s, False
    while True:
        try:
            if again:
                before_again(max(end_s - time.monotonic(), 0.0))
            again = True
            return ask(max(end_s - time.monotonic(), 0.0))
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() + AGAIN_S > end_s:
                raise
        time.sleep(AGAIN_S)
