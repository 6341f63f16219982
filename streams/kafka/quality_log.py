"""The figures of mature days on Kafka: followed by the monitor. Who writes them is `agents.told_days`."""

from confluent_kafka import Message

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.mature_days import NO_DAYS, MatureDays
from streams.kafka.clients import Cluster
from streams.kafka.following import Folded


class QualityLog(Folded[MatureDays]):
    """What labels say of the mature days of one pipeline."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        super().__init__(cluster, Topics(pipeline.name).quality, lambda: NO_DAYS, _after)


def _after(known: MatureDays, message: Message) -> MatureDays:
    return known.after(message.value(), message.offset() or 0)
