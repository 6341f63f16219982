"""The last input of a model that was given up: to the dead letters, by whoever gave it up."""

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.in_hand import Left
from schemas.dead_letters import DeadLetter, kept_value
from schemas.pipeline import Pipeline
from schemas.topics import DEAD_LETTER_ROOM, Topics
from streams.kafka.clients import Cluster

FLUSH_S = 10.0


def keep_last_input(cluster: Cluster, pipeline: Pipeline, model: str, left: Left, reason: str) -> str:
    """Send it, one block of rows, and wait until it is there; returns what went wrong, or nothing. Blocks."""
    topics = Topics(pipeline.name)
    letter = DeadLetter(topics.model(model), left.partition, left.offset, "scorer", "Quarantine", reason)
    value, headers = kept_value(left.rows, pipeline.record_cap_bytes + DEAD_LETTER_ROOM // 2)
    failed: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error.str())

    try:
        producer = Producer({**cluster.producer_settings(), **pipeline.kafka.producer})
        producer.produce(
            topics.dead_letters,
            value,
            partition=left.partition,
            headers=[*letter.headers(), *headers],
            on_delivery=delivered,
        )
    except KafkaException as error:
        return str(error.args[0].str())
    if producer.flush(FLUSH_S):
        return f"not confirmed within {FLUSH_S:g} s"
    return failed[0] if failed else ""
