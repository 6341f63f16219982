"""The label: what became of one request, one JSON object per record on `labels`, minutes or weeks later."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, json

from schemas.decisions import Ticket
from schemas.errors import UNREADABLE, UnreadableRecord

MAX_OFFSET = (1 << 63) - 1
MAX_WEIGHT = 1e9
"""No label is drawn from more requests; one that outweighs all others is all that a bandit ever learns."""


class Label(Struct, frozen=True, omit_defaults=True, gc=False):
    """The truth about one request, named by its id, its ticket or both: a ticket is never another request's.

    Labels may come in any order, and again: of those of one request the one that is last in the log counts.
    `known_at_ms` is when the truth was known (default: when the label was appended). `weight` is how many requests
    this one stands for, a billion at most, when it was drawn (`rendezvous label-next` says it); without a draw it
    is 1.
    """

    truth: bool | Literal[0, 1]
    request_id: Annotated[str, Meta(min_length=1)] | None = None
    ticket: Ticket | None = None
    known_at_ms: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] | None = None
    weight: Annotated[float, Meta(ge=1, le=MAX_WEIGHT)] = 1.0


_encoder = json.Encoder()
_decoder = json.Decoder(Label)


def encode_label(label: Label) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(label)


def decode_label(value: bytes | None) -> Label:
    """Read a label; raises UnreadableRecord with what is wrong. Fields not known here are ignored."""
    try:
        label = _decoder.decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a label: {error}") from error
    if label.request_id is None and label.ticket is None:
        raise UnreadableRecord("not a label: it names no request; write its `request_id`, or its `ticket`")
    ticket = label.ticket
    if ticket is not None and not (0 <= ticket.partition <= MAX_OFFSET and 0 <= ticket.offset <= MAX_OFFSET):
        raise UnreadableRecord(f"not a label: no request has the ticket {ticket}")
    return label
