"""The monitor's tokens on Kafka: read and followed by all who meet its probes. Who writes them is `agents.prober`."""

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import Message

from schemas.pipeline import Pipeline
from schemas.probes import NO_TOKENS, Tokens
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.following import follow
from streams.kafka.reading import TopicReader


class TokenLog:
    """Every token of one pipeline's monitors."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        self._cluster = cluster
        self._topic = Topics(pipeline.name).probes

    def read(self) -> Tokens:
        """Everything up to now; blocks. Raises ConfigurationRefused when there is no such topic."""
        tokens = NO_TOKENS
        with TopicReader(self._cluster, self._topic) as reader:
            for message in reader.to_end():
                tokens = tokens.after(message.value())
        return tokens

    def follow(self, told: Callable[[Tokens], None], stop: threading.Event) -> None:
        """Read all there is, then go on until stopped; `told` hears of it, and of every change. For a thread."""
        tokens = NO_TOKENS

        def heard(messages: Sequence[Message], whole: bool) -> None:  # noqa: FBT001  a listener's own signature
            nonlocal tokens
            for message in messages:
                tokens = tokens.after(message.value())
            if whole:
                told(tokens)

        follow(self._cluster, self._topic, heard, stop)
