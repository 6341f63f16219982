"""The monitor's tokens on Kafka: read and followed by all who meet its probes. Who writes them is `agents.prober`."""

from confluent_kafka import Message

from schemas.pipeline import Pipeline
from schemas.probes import NO_TOKENS, Tokens
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.following import Folded


class TokenLog(Folded[Tokens]):
    """Every token of one pipeline's monitors."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        super().__init__(cluster, Topics(pipeline.name).probes, lambda: NO_TOKENS, _after)


def _after(known: Tokens, message: Message) -> Tokens:
    return known.after(message.value())
