"""A table on Kafka, followed: everything that is there, then every record as it comes."""

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException, Message

from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import AWAY, CALM, LOOK_S


def follow(
    cluster: Cluster, topic: str, told: Callable[[Sequence[Message], bool], None], stop: threading.Event
) -> None:
    """Read a topic from its beginning until stopped; for a thread. `told` hears of records in the order of each log.

    And whether everything is read that was there at the start: once it is, it is said, though nothing has come.
    Raises ConfigurationRefused when there is no such topic.
    """
    with TopicReader(cluster, topic, CALM) as reader:
        left = {number: end for number, (low, end) in reader.bounds().items() if end > low}
        reader.start("beginning")
        if not left:
            told([], True)
        while not stop.is_set():
            try:
                messages = reader.poll(LOOK_S)
            except KafkaException as error:
                if error.args[0].code() not in AWAY and not error.args[0].retriable():
                    raise
                stop.wait(LOOK_S)
                continue
            if messages:
                _note(left, messages)
                told(messages, not left)


def _note(left: dict[int, int], messages: Sequence[Message]) -> None:
    for message in messages:
        number = message.partition() or 0
        if number in left and (message.offset() or 0) >= left[number] - 1:
            del left[number]
