"""A topic that somebody reads whole: followed from its beginning, for as long as it is wanted, without a group."""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

from confluent_kafka import KafkaException, Message

from streams.kafka.bounds import AWAY
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

LOOK_S = 0.5
"""How long a follower sleeps at the broker when nothing comes: it is woken by what does."""

CALM: Mapping[str, int] = {"fetch.wait.max.ms": int(LOOK_S * 1e3)}
"""A request costs the broker as much as a record: nobody asks for what rarely comes more often than this."""


def follow(
    cluster: Cluster,
    topic: str,
    told: Callable[[Sequence[Message], bool], None],
    stop: threading.Event,
    known: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Read all there is, then go on until stopped; for a thread. `told` hears of records, in the order of each log.

    By partition, `known` is how far it was read before, where it was: it is read on from there.

    And of whether all is read that was there at the start: once that is so it is said, though nothing has come. To
    whom the present is news, the past would be orders. Raises ConfigurationRefused when there is no such topic.
    """
    with TopicReader(cluster, topic, CALM) as reader:
        bounds = reader.bounds()
        starts = {number: max(low, known.get(number, low)) for number, (low, _) in bounds.items()}
        ends = {number: end for number, (_, end) in bounds.items() if end > starts[number]}
        reader.start(starts)
        said = False
        while not stop.is_set():
            try:
                messages = reader.poll(LOOK_S) if said or ends else []
            except KafkaException as error:
                if error.args[0].code() not in AWAY:
                    raise
                stop.wait(LOOK_S)
                continue
            whole = reader.has_read(ends)
            if messages or (whole and not said):
                said = said or whole
                told(messages, whole)


Folding = TypeVar("Folding")


class Folded(Generic[Folding]):
    """What the records of a topic come to, one after the other: read now, or followed.

    `begin` is what is known of none, `after` what is known with one more.
    """

    def __init__(
        self, cluster: Cluster, topic: str, begin: Callable[[], Folding], after: Callable[[Folding, Message], Folding]
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._begin = begin
        self._after = after

    def read(self) -> Folding:
        """Everything up to now; blocks. Raises ConfigurationRefused when there is no such topic."""
        known = self._begin()
        with TopicReader(self._cluster, self._topic) as reader:
            for message in reader.to_end():
                known = self._after(known, message)
        return known

    def follow(self, told: Callable[[Folding], None], stop: threading.Event) -> None:
        """Read all there is, then go on until stopped; `told` hears of it, and of every change. For a thread."""
        known = self._begin()

        def heard(messages: Sequence[Message], whole: bool) -> None:  # noqa: FBT001  a listener's own signature
            nonlocal known
            for message in messages:
                known = self._after(known, message)
            if whole:
                told(known)

        follow(self._cluster, self._topic, heard, stop)
