"""The tallies on Kafka: read and followed by all who answer by them. Who writes them is `agents.learner`."""

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import Message

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.learned import NOTHING, Learned
from streams.kafka.clients import Cluster
from streams.kafka.following import follow
from streams.kafka.reading import TopicReader


class TallyLog:
    """Every tally of one pipeline."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        self._cluster = cluster
        self._topic = Topics(pipeline.name).tallies

    def read(self) -> Learned:
        """Everything up to now; blocks. Raises ConfigurationRefused when there is no such topic."""
        learned = NOTHING
        with TopicReader(self._cluster, self._topic) as reader:
            for message in reader.to_end():
                learned = _after(learned, message)
        return learned

    def follow(self, told: Callable[[Learned], None], stop: threading.Event) -> None:
        """Read all there is, then go on until stopped; `told` hears of it, and of every change. For a thread."""
        learned = NOTHING

        def heard(messages: Sequence[Message], whole: bool) -> None:  # noqa: FBT001  a listener's own signature
            nonlocal learned
            for message in messages:
                learned = _after(learned, message)
            if whole:
                told(learned)

        follow(self._cluster, self._topic, heard, stop)


def _after(learned: Learned, message: Message) -> Learned:
    return learned.after(message.value(), message.timestamp()[1])
