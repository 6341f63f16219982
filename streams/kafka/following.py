"""A log of one partition that everybody reads whole: followed from its beginning, for as long as it is wanted."""

import threading
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Message

from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

LOOK_S = 0.5
"""How long a follower sleeps at the broker when nothing comes: it is woken by what does."""

AWAY = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE)
"""What a follower waits out: its client connects again by itself."""

CALM: Mapping[str, int] = {"fetch.wait.max.ms": int(LOOK_S * 1e3)}
"""A request costs the broker as much as a record: nobody asks for what rarely comes more often than this."""


def follow(
    cluster: Cluster,
    topic: str,
    take: Callable[[Message], None],
    told: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Read all there is, then go on until stopped; `told` hears of it, and of every change. For a thread."""
    with TopicReader(cluster, topic, CALM) as reader:
        end = reader.bounds()[0][1]
        reader.start("beginning")
        while not stop.is_set():
            try:
                messages = reader.poll(LOOK_S)
            except KafkaException as error:
                if error.args[0].code() not in AWAY and not error.args[0].retriable():
                    raise
                stop.wait(LOOK_S)
                continue
            for message in messages:
                take(message)
            # Not of what was before: to whom the present is news, the past would be orders.
            if messages and (messages[-1].offset() or 0) >= end - 1:
                told()
