"""Rows that wait for the scores their model needs, as they lie on `needs.<name>`."""

from msgspec import Struct, msgpack

from schemas.blocks import Rows, decode_rows, encode_rows
from schemas.errors import UNREADABLE, UnreadableRecord


class Needing(Struct, frozen=True):
    """Rows of one model and version, decoded; the (model, version) pairs whose scores belong into each of them."""

    version: str
    needs: tuple[tuple[str, str], ...]
    rows: Rows


class NeedingBlock(Struct, frozen=True, array_like=True, tag="needs/1"):
    """The same as bytes; `rows` is a block of rows without the scores."""

    version: str
    needs: tuple[tuple[str, str], ...]
    rows: bytes


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(NeedingBlock).decode


def encode_needing(needing: Needing) -> bytes:
    """One record of at most 256 rows."""
    return _encode(NeedingBlock(needing.version, needing.needs, encode_rows(needing.rows)))


def decode_needing(value: bytes | None) -> Needing:
    """Read such a record; raises UnreadableRecord with what is wrong."""
    if not value:
        raise UnreadableRecord("the record is empty: expected rows that wait for scores")
    try:
        block = _decode(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no rows that wait for scores (needs/1): {error}") from error
    return Needing(block.version, block.needs, decode_rows(block.rows))
