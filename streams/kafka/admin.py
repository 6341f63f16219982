"""Topics: made by an operator's command, checked by every start, never made by a role."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import ConfigurationRefused
from schemas.rights import Rights
from schemas.topics import Topic
from streams.kafka.bounds import asked
from streams.kafka.clients import DENIED, Cluster, explained

TIMEOUT_S = 15.0
ASK_S = 1.0
RETRY_S = 0.2
NO_COORDINATOR = (
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
)
"""What is heard of a group while a broker makes or loads its offsets: soon it knows."""

NO_DELETION = (*DENIED, KafkaError.TOPIC_DELETION_DISABLED)

CHECKED = ("message.timestamp.type", "max.message.bytes", "cleanup.policy")
"""Settings a pipeline cannot live without, where it asks for them; retention is the operator's to change."""


class Admin:
    """Makes and checks the topics of a pipeline."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = AdminClient(cluster.settings() | {"log_level": 0})  # its errors are raised: one line, not two

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
                "`rendezvous topics --json` prints their settings"
            )
        self._check(topics, existing)

    def check_rights(self, rights: Rights, groups: Sequence[str]) -> None:
        """Ask what this principal may, before anybody works; raises ConfigurationRefused with all that it may not."""
        options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT_S}
        names = TopicCollection([topic.name for topic in rights.topics])
        denied = []
        for name, found in self._client.describe_topics(names, **options).items():
            allowed = _allowed(found)
            wanted = [(AclOperation.READ, rights.reads), (AclOperation.WRITE, rights.writes)]
            needed = [operation for operation, topics in wanted if name in {topic.name for topic in topics}]
            denied += [f"{operation.name} on topic {name}" for operation in needed if _lacks(allowed, operation)]
        for group in groups[:1]:
            self._await_coordinator(group, rights.topics)
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

        def ask(_: float) -> set[AclOperation]:
            described = self._client.describe_consumer_groups([group], **options)[group]
            return set(answer_of(described).authorized_operations or ())

        try:
            allowed = asked(ask, TIMEOUT_S, NO_COORDINATOR)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                return False
            raise
        return not allowed or AclOperation.READ in allowed

    def partitions(self) -> dict[str, int]:
        """Every topic of the cluster with its number of partitions."""
        try:
            listed = self._client.list_topics(timeout=TIMEOUT_S)
        except KafkaException as error:
            raise explained(error) from error
        return {name: len(topic.partitions) for name, topic in listed.topics.items()}

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics, until the cluster knows of none; those that are not there are none.

        Raises ConfigurationRefused when this principal may not, or nobody may.
        """
        for name, future in self._client.delete_topics(list(names), operation_timeout=TIMEOUT_S).items():
            try:
                answer_of(future)
            except KafkaException as error:
                if error.args[0].code() in NO_DELETION:
                    raise ConfigurationRefused(
                        f"Kafka does not delete topic {name} for this principal: {error.args[0].str()}. Grant it "
                        "DELETE, and let the broker delete topics (delete.topic.enable)"
                    ) from error
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        deadline_s = time.monotonic() + TIMEOUT_S
        while set(names) & self.partitions().keys() and time.monotonic() < deadline_s:
            time.sleep(RETRY_S)

    def topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """The id of each topic: another one means that the topic was made anew."""
        described = self._client.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
        try:
            return {name: str(answer_of(future).topic_id) for name, future in described.items()}
        except KafkaException as error:
            raise explained(error) from error

    def _make(self, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        wanted = [NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config) for topic in topics]
        refused: dict[str, list[str]] = {}
        for name, future in self._client.create_topics(wanted, operation_timeout=TIMEOUT_S).items():
            try:
                answer_of(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    refused.setdefault(error.args[0].str(), []).append(name)
        if refused:
            reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in refused.items())
            raise ConfigurationRefused(
                f"this principal sees no such topic and cannot make it: {reasons}. Make it with an operator's rights "
                "(`rendezvous topics --json` prints name, partitions and settings)"
            )

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
        found: dict[str, Any] = {}
        denied = []
        for resource, future in described.items():
            try:
                found[resource.name] = answer_of(future)
            except KafkaException as error:
                if error.args[0].code() not in DENIED:
                    raise explained(error) from error
                denied.append(resource.name)
        if denied:
            raise ConfigurationRefused(
                f"Kafka does not allow this principal DESCRIBE_CONFIGS on topic {', '.join(denied)}: whether their "
                "settings keep the deadlines cannot be checked. Grant it"
            )
        return [
            f"{topic.name} has {setting}={found[topic.name][setting].value}, the pipeline needs "
            f"{topic.config[setting]}: alter the topic"
            for topic in topics
            for setting in CHECKED
            if setting in topic.config and found[topic.name][setting].value != topic.config[setting]
        ]


def answer_of(asked: Future[Any]) -> Any:
    """The answer to one question; raises KafkaException, also when the client itself says nothing in time.

    A broker that is killed while it is asked leaves both to run out at once, and either may be first.
    """
    try:
        return asked.result(TIMEOUT_S)
    except TimeoutError as error:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer in {TIMEOUT_S:g} s")) from error


def _allowed(described: Future[Any]) -> set[AclOperation] | None:
    """What the broker says this principal may; None when it does not say."""
    try:
        operations = answer_of(described).authorized_operations
    except KafkaException as error:
        if error.args[0].code() in DENIED:
            return set()
        # A coordinator that is not there yet is no refusal: who is denied for all that is told when it joins.
        return None
    return set(operations) if operations else None


def _lacks(allowed: set[AclOperation] | None, operation: AclOperation) -> bool:
    return allowed is not None and operation not in allowed
