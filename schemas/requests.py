"""A raw record after the validator has read it: a request, or the reason why it is none."""

from typing import Any

from msgspec import Struct

Headers = list[tuple[str, bytes | None]]

UNREADABLE_NAME = "rv-unreadable-name"
"""The one header of a record that has a header whose name is no UTF-8: to Kafka a name is bytes, to a client text."""


class Joined(Struct, frozen=True, gc=False):
    """What a table said of a request: its record as it was written, and its features as a decoder holds them.

    Where it said nothing the record is empty, and the fields are all absent.
    """

    fields: Any
    record: bytes = b""


class Request(Struct, frozen=True, gc=False):
    """A well-formed request.

    `at_ms` is raw's log time, by the broker's clock. `fields` are its decoded features, as the validator's
    own type holds them; `streams.core.features` turns them into columns. `value` is the original. `joined` is what
    each of the pipeline's tables says of it, once the router has looked.
    """

    offset: int
    request_id: str
    at_ms: int
    budget_ms: int
    key: bytes | None
    headers: Headers | None
    fields: Any
    value: bytes
    joined: tuple[Joined, ...] = ()


class Rejection(Struct, frozen=True, gc=False):
    """A raw record that is no request: what to answer (`rejected`) and why.

    `error` is a short name for machines, `reason` a sentence that names the field.
    """

    offset: int
    request_id: str
    at_ms: int
    budget_ms: int
    key: bytes | None
    headers: Headers | None
    error: str
    reason: str
