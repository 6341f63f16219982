"""How one role meets Kafka: the settings of its clients, and the hooks of roles that hold their work."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from confluent_kafka import TopicPartition
from faust.types import TP

from streams.kafka.batch import Outgoing

Position = tuple[int, str]
"""An offset to commit or to read on from, and the commit's metadata."""

Positions = Callable[[Sequence[TopicPartition]], Mapping[TP, int]]
"""Committed offsets with their metadata (offset < 0: none) -> where to read on, for those that know better."""

Committable = Callable[[], Mapping[TP, Position]]
"""What a role that holds its work says may be committed now."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Everything the transport needs to know about one role.

    `consumer` and `producer` are librdkafka settings. Without `committable`, a batch is finished when the
    agent asks for the next one; with it, the role says itself what may be committed; `finish` is awaited before
    the last commit of a stop or a rebalance. Topics of `same_partitions` must be assigned with equal partition
    numbers; those of `from_end` are read from their present end, wherever their group once was. `ask_time` makes a
    record that is sent before all others, so that its log time tells the broker's clock: a host's own may be an hour
    off.
    """

    role: str
    consumer: Mapping[str, Any]
    producer: Mapping[str, Any]
    dead_letters: str
    dead_letter_cap: int
    start: Literal["earliest", "latest"] = "earliest"
    commit_interval_s: float = 0.25
    committable: Committable | None = None
    positions: Positions | None = None
    finish: Callable[[], Awaitable[None]] | None = None
    same_partitions: tuple[str, ...] = ()
    from_end: tuple[str, ...] = ()
    ask_time: Callable[[], Outgoing] | None = None
    max_batch_bytes: int = 256 << 10
    max_batch_records: int = 256
    pace_per_thousand_ms: float = 3.0
    pace_max_ms: float = 6.0

    def leaving(self) -> "Edge":
        """The same as a dynamic member: it leaves its group when it ends, where a static one is waited for."""
        dynamic = {name: value for name, value in self.consumer.items() if name != "group.instance.id"}
        return replace(self, consumer=dynamic)
