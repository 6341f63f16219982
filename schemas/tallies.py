"""The tally: how often each model has been right, by all labels so far; one JSON object per record on `tallies`.

Whoever answers by it reads it here and nowhere else: it counts for requests whose log time is at least `lead_ms`
after its own, so that all who answer have read it by then, and the same request meets the same tally again after any
crash and in a backtest. The next record takes its place. Never compacted: the past needs each of them.
"""

from typing import Annotated

from msgspec import Meta, Struct, json

from schemas.errors import UNREADABLE, UnreadableRecord

LEAD_MS = 2_000
"""Labels come minutes after their request: two seconds more cost nothing, and are long for a record's way."""

MAX_LEAD_MS = 60_000

Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class Counted(Struct, frozen=True, omit_defaults=True):
    """Labels for which this model and version had scored on the right side of the threshold, and on the wrong one.

    Where labels weigh differently, `right` and `wrong` are as many as equal ones would have to be to say as much, and
    `sums` holds what they are made of: the weights of the right, of the wrong, and the squares of all.
    """

    model: str
    version: str
    right: Count
    wrong: Count
    sums: tuple[float, float, float] | None = None


class Tally(Struct, frozen=True, kw_only=True):
    """Every model that a label has spoken of, and where reading goes on: the next offset of each partition of labels.

    Both stand in one record, so that no label is counted twice and none is left out, whenever its writer is killed.
    """

    counted: tuple[Counted, ...]
    labels: dict[int, Count]
    lead_ms: Annotated[int, Meta(ge=0, le=MAX_LEAD_MS)] = LEAD_MS


_encoder = json.Encoder()
_decoder = json.Decoder(Tally)


def encode_tally(tally: Tally) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(tally)


def decode_tally(value: bytes | None) -> Tally:
    """Read a tally; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    try:
        return _decoder.decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a tally: {error}") from error
