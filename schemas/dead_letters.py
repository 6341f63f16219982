"""Dead letters: records nobody could read, with the original bytes untouched and the story in headers.

The header names are Kafka Connect's (KIP-298) under our own prefix, so that triage tools of the field need
one prefix changed.
"""

import hashlib
from collections.abc import Iterable

from msgspec import Struct

PREFIX = "rendezvous.error."
ORIGINAL_CAP = 256
"""Bytes kept of an original that is larger than a dead letter may be."""


class DeadLetter(Struct, frozen=True):
    """One unreadable record: where it came from, which stage refused it, and why."""

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    reason: str
    attempt: int = 1

    def headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers that tell the story; values are UTF-8."""
        story = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "stage": self.stage,
            "exception.class.name": self.error,
            "exception.message": self.reason,
            "attempt": self.attempt,
        }
        return [(PREFIX + name, str(value).encode()) for name, value in story.items()]


def kept_value(value: bytes | None, cap: int) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    """What is kept of an original, and the headers that identify one larger than `cap` bytes."""
    if value is None or len(value) <= cap:
        return value, []
    digest = hashlib.sha256(value).hexdigest()
    sizes = [(PREFIX + "original.bytes", str(len(value)).encode()), (PREFIX + "original.sha256", digest.encode())]
    return value[:ORIGINAL_CAP], sizes


def origin_of(headers: Iterable[tuple[str, bytes | None]]) -> tuple[str, int, int] | None:
    """Topic, partition and offset that a dead letter names; None when it names no place.

    The offset is -1 for a record that no broker took.
    """
    told = {name.removeprefix(PREFIX): value or b"" for name, value in headers if name.startswith(PREFIX)}
    try:
        topic, partition, offset = told["topic"].decode(), int(told["partition"]), int(told["offset"])
    except (KeyError, ValueError):
        return None
    return (topic, partition, offset) if topic and partition >= -1 and offset >= -1 else None
