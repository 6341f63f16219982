"""Consumer groups as an operator sees them: who reads a topic, and how far a group has come."""

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.kafka.admin import TIMEOUT_S, answer_of
from streams.kafka.clients import Cluster


class Groups:
    """The groups of a cluster that this principal may look at."""

    def __init__(self, cluster: Cluster) -> None:
        self._client = AdminClient(cluster.settings() | {"log_level": 0})

    def readers(self, topics: Collection[str]) -> dict[str, dict[str, list[str]]]:
        """By topic and group, the hosts of the members that have some of it assigned. Raises KafkaException.

        A static member that has ended is one for as long as its group keeps its place.
        """
        found: dict[str, dict[str, list[str]]] = {topic: {} for topic in topics}
        listed = answer_of(self._client.list_consumer_groups(request_timeout=TIMEOUT_S))
        names = [group.group_id for group in listed.valid]
        asked: Mapping[str, Any] = {}
        if names:
            asked = self._client.describe_consumer_groups(names, request_timeout=TIMEOUT_S)
        for name, answer in asked.items():
            for member in _members(answer):
                places = member.assignment.topic_partitions if member.assignment else []
                for topic in found.keys() & {place.topic for place in places}:
                    found[topic].setdefault(name, []).append(member.host)
        return found

    def committed(self, group: str, topic: str, numbers: Collection[int]) -> dict[int, int]:
        """How far a group has come in some partitions; nothing of those for which it never committed."""
        places = [TopicPartition(topic, number) for number in numbers]
        asked = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, places)], request_timeout=TIMEOUT_S
        )
        (answer,) = asked.values()
        return {
            place.partition: place.offset
            for place in answer_of(answer).topic_partitions
            if place.offset >= 0 and place.error is None
        }


def _members(asked: Future[Any]) -> list[Any]:
    """Of a group that is gone by now, or hidden from this principal, none."""
    try:
        return list(answer_of(asked).members)
    except KafkaException as error:
        if error.args[0].code() not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise
        return []
