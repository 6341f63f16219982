"""The tallies on Kafka: read and followed by all who answer by them. Who writes them is `agents.learner`."""

from confluent_kafka import Message

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.learned import NOTHING, Learned
from streams.kafka.clients import Cluster
from streams.kafka.following import Folded


class TallyLog(Folded[Learned]):
    """Every tally of one pipeline."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        super().__init__(cluster, Topics(pipeline.name).tallies, lambda: NOTHING, _after)


def _after(known: Learned, message: Message) -> Learned:
    return known.after(message.value(), message.timestamp()[1])
