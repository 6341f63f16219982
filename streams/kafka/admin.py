"""Topics: made by an operator's command, checked by every start, never made by a role."""

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import ConfigurationRefused, KafkaUnreachable
from schemas.topics import Topic
from streams.kafka.clients import Cluster

TIMEOUT_S = 15.0
NEEDED = (AclOperation.READ, AclOperation.WRITE)
ASK_S = 1.0
RETRY_S = 0.2
NO_COORDINATOR = (
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
)
"""What is heard of a group while a broker makes or loads its offsets: soon it knows."""

CHECKED = ("message.timestamp.type", "max.message.bytes")
"""Settings a pipeline cannot live without; retention is the operator's to change."""


class Admin:
    """Makes and checks the topics of a pipeline."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = AdminClient(cluster.settings())

    def ensure(self, topics: Sequence[Topic]) -> list[str]:
        """Make what is missing, check what is there; returns the names that were made.

        Raises ConfigurationRefused with every contradiction, KafkaUnreachable when no broker answers.
        """
        existing = self.partitions()
        missing = [topic for topic in topics if topic.name not in existing]
        self._check(topics, existing)
        self._make(missing)
        return [topic.name for topic in missing]

    def require(self, topics: Sequence[Topic]) -> None:
        """Check what a role that makes no topics needs. Raises as `ensure` does, also for what is missing."""
        existing = self.partitions()
        missing = [topic.name for topic in topics if topic.name not in existing]
        if missing:
            raise ConfigurationRefused(
                f"no topic {', '.join(missing)} that this principal may see; `rendezvous up` makes them, "
                "`rendezvous topics` prints their settings"
            )
        self._check(topics, existing)

    def check_rights(self, topics: Sequence[Topic], groups: Sequence[str]) -> None:
        """Ask what this principal may, before anybody works; raises ConfigurationRefused with all that it may not."""
        names = TopicCollection([topic.name for topic in topics])
        options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT_S}
        described = self._client.describe_topics(names, **options)
        denied = []
        for name, found in described.items():
            allowed = set(found.result(TIMEOUT_S).authorized_operations or ())
            lacking = [operation.name for operation in NEEDED if allowed and operation not in allowed]
            denied += [f"{operation} on topic {name}" for operation in lacking]
        for group in groups[:1]:
            self._await_coordinator(group, topics)
        denied += [f"READ on group {group}" for group in groups if not self._may_read(group)]
        if denied:
            raise ConfigurationRefused(f"Kafka does not allow this principal: {', '.join(denied)}. Grant it")

    def _await_coordinator(self, group: str, topics: Sequence[Topic]) -> None:
        """Wait, bounded, until a cluster that has just started has made the topic of its groups' offsets.

        A consumer can wait for that. An admin client asks thrice, then is silent, and when its time is over it may
        abort the process (`eonce->refcnt > 0`, librdkafka 2.16.1). What is denied is asked for by name next.
        """
        consumer = Consumer(self._cluster.settings() | {"group.id": group, "log_level": 0})
        places = [TopicPartition(topic.name, 0) for topic in topics]
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                consumer.committed(places, timeout=ASK_S)
            except KafkaException as error:
                heard = consumer.poll(0)
                denied = heard is not None and heard.error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED
                if not denied and error.args[0].code() == KafkaError._TIMED_OUT:
                    continue
            break
        consumer.close()

    def _may_read(self, group: str) -> bool:
        """Ask for one group, again while its coordinator loads what it knows of it."""
        options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT_S}
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            asked = self._client.describe_consumer_groups([group], **options)[group]
            try:
                allowed = set(asked.result(TIMEOUT_S).authorized_operations or ())
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    return False
                if code not in NO_COORDINATOR or time.monotonic() > deadline_s:
                    raise
                time.sleep(RETRY_S)
            else:
                return not allowed or AclOperation.READ in allowed

    def partitions(self) -> dict[str, int]:
        """Every topic of the cluster with its number of partitions."""
        try:
            listed = self._client.list_topics(timeout=TIMEOUT_S)
        except KafkaException as error:
            raise KafkaUnreachable(f"no Kafka at {self._cluster.bootstrap}: {error.args[0].str()}") from error
        return {name: len(topic.partitions) for name, topic in listed.topics.items()}

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics; those that are not there are none."""
        for future in self._client.delete_topics(list(names), operation_timeout=TIMEOUT_S).values():
            try:
                future.result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise

    def topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """The id of each topic: another one means that the topic was made anew."""
        described = self._client.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
        return {name: str(future.result(TIMEOUT_S).topic_id) for name, future in described.items()}

    def _make(self, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        wanted = [NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config) for topic in topics]
        for name, future in self._client.create_topics(wanted, operation_timeout=TIMEOUT_S).items():
            try:
                future.result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                raise ConfigurationRefused(
                    f"{name} cannot be made: {error.args[0].str()}. Make it with an operator's rights "
                    "(`rendezvous topics` prints name, partitions and settings)"
                ) from error

    def _check(self, topics: Sequence[Topic], existing: dict[str, int]) -> None:
        wrong = [
            f"{topic.name} has {existing[topic.name]} partitions, the pipeline says {topic.partitions}: "
            "tickets would part ways. Use a new pipeline name, or delete the topic"
            for topic in topics
            if topic.name in existing and existing[topic.name] != topic.partitions
        ]
        present = [topic for topic in topics if topic.name in existing]
        wrong += self._wrong_settings(present)
        if wrong:
            raise ConfigurationRefused("\n".join(wrong))

    def _wrong_settings(self, topics: Sequence[Topic]) -> list[str]:
        if not topics:
            return []
        resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
        described = self._client.describe_configs(resources, request_timeout=TIMEOUT_S)
        found = {resource.name: future.result(TIMEOUT_S) for resource, future in described.items()}
        return [
            f"{topic.name} has {setting}={found[topic.name][setting].value}, the pipeline needs "
            f"{topic.config[setting]}: alter the topic"
            for topic in topics
            for setting in CHECKED
            if found[topic.name][setting].value != topic.config[setting]
        ]
