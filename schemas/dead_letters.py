"""Dead letters: records nobody could read, with the original bytes untouched and the story in headers.

The header names are Kafka Connect's (KIP-298) under our own prefix, so that triage tools of the field need
one prefix changed. The record's own headers stand behind them, under their own names: what is sent again is given
them back.
"""

import hashlib
from collections.abc import Iterable

from msgspec import Struct

from schemas.requests import UNREADABLE_NAME, Headers

PREFIX = "rendezvous.error."
ORIGINAL_CAP = 256
"""Bytes kept of an original that is larger than a dead letter may be."""

HEADERS_CAP = 16 << 10
"""Bytes of a record's own headers that are kept: a request may have half of that, and a replay's marks."""

LEFT_OUT = "original.headers"
"""Says why the record's own headers are not there."""


class DeadLetter(Struct, frozen=True):
    """One unreadable record: where it came from, which stage refused it, and why; `given` are its own headers."""

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    reason: str
    attempt: int = 1
    given: Headers | None = None

    def headers(self) -> Headers:
        """Kafka headers that tell the story, values in UTF-8; then the record's own, or why these are not there."""
        story = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "stage": self.stage,
            "exception.class.name": self.error,
            "exception.message": self.reason,
            "attempt": self.attempt,
        }
        told: Headers = [(PREFIX + name, str(value).encode()) for name, value in story.items()]
        own = given_headers(self.given or ())
        if any(name == UNREADABLE_NAME for name, _ in own):
            return [*told, (PREFIX + LEFT_OUT, b"the name of one is not UTF-8")]
        size = sum(len(name.encode()) + len(value or b"") for name, value in own)
        if size > HEADERS_CAP:
            return [*told, (PREFIX + LEFT_OUT, f"{size} bytes; at most {HEADERS_CAP} are kept".encode())]
        return [*told, *own]


def given_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """A record's own headers, in their order: none of ours, whoever has written them."""
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


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
