"""A batch: raw records of one partition in offset order, and what is left to do for them.

A batch is finished when the agent has asked for the next one and every record produced for it is confirmed
by the broker.
"""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message
from msgspec import Struct


class Outgoing(Struct, frozen=True, gc=False):
    """One record to produce; without `partition` the key decides. A Struct: a frozen dataclass takes 1 µs to make."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: list[tuple[str, Any]] | None = None


class Sending:
    """Records on their way to the broker for one cause."""

    __slots__ = ("failures", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self.failures: list[tuple[KafkaError, Message]] = []

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Delivery report of one record."""
        self.pending -= 1
        if error is not None:
            self.failures.append((error, message))


class Told(Sending):
    """Records somebody waits for: `done` is called once all are confirmed.

    With one that was refused they are put on `failed` instead.

    To hand them over is pending too: while a full queue is waited for, those before may all be confirmed.
    """

    __slots__ = ("done", "failed")

    def __init__(self, done: Callable[[], None], failed: list["Told"]) -> None:
        super().__init__()
        self.done = done
        self.failed = failed
        self.pending = 1

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Delivery report of one record."""
        if error is not None:
            self.failures.append((error, message))
        self.handed_over()

    def handed_over(self) -> None:
        """One less to wait for: called once when the producer has them all."""
        self.pending -= 1
        if self.pending:
            return
        if self.failures:
            self.failed.append(self)
        else:
            self.done()


class Batch(Sending):
    """Records an agent is handed at once."""

    __slots__ = ("attempt", "generation", "messages", "parent", "partition", "parts", "size", "taken", "topic")

    def __init__(
        self, topic: str, partition: int, messages: Sequence[Message], generation: int = 0, size: int = 0
    ) -> None:
        """`size`: the bytes of their values, for whoever holds batches that wait."""
        super().__init__()
        self.topic = topic
        self.partition = partition
        self.messages = messages
        self.generation = generation
        self.size = size
        self.taken = False
        self.attempt = 1
        self.parts = 0
        self.parent: Batch | None = None

    def __len__(self) -> int:
        """Records, not rows."""
        return len(self.messages)

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        last = self.messages[-1].offset()
        if last is None:
            raise ValueError(f"a record of {self.topic}/{self.partition} has no offset")
        return last + 1

    @property
    def finished(self) -> bool:
        """Taken by the agent to its end, its parts too if it was split, and all it sent confirmed."""
        return self.taken and self.pending == 0 and self.parts == 0 and not self.failures

    @property
    def owner(self) -> "Batch":
        """The batch that accounts for what is sent: the one that was read, never a part of it."""
        return self.parent or self

    def split(self) -> list["Batch"]:
        """One batch per record; this one is finished when they all are."""
        parts = []
        for message in self.messages:
            part = Batch(self.topic, self.partition, [message], self.generation, len(message))
            part.parent, part.attempt = self, self.attempt
            parts.append(part)
        self.parts = len(parts)
        self.taken = True
        return parts
