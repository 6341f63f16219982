"""What the router joined into requests, as it lies on `enriched`: so that what models saw can be had again, exactly.

A block as others are: MessagePack, its tag with a version. A record that several rows share stands in it once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct, msgpack

from schemas.blocks import MAX_ROWS, offsets_of, pack_offsets
from schemas.errors import UNREADABLE, UnreadableRecord

PART_BYTES: Final = 512 << 10
"""Bytes of records that one block carries, unless those of a single row are larger."""

NOTHING: Final = -1


class JoinedColumn(Struct, frozen=True, array_like=True):
    """One table's part: `places` (int16) says for each row which of `records` was joined; -1 is none."""

    table: str
    places: bytes
    records: tuple[bytes, ...]


class EnrichedBlock(Struct, frozen=True, array_like=True, tag="enriched/1"):
    """1 to 256 requests of one raw partition, by offset."""

    offsets: bytes
    tables: tuple[JoinedColumn, ...]


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(EnrichedBlock).decode


def enriched_block(offsets: list[int], columns: Mapping[str, Sequence[bytes]]) -> EnrichedBlock:
    """Pack n offsets and, for each table, the n records that were joined; an empty one is none."""
    return EnrichedBlock(pack_offsets(offsets), tuple(_packed(name, column) for name, column in columns.items()))


def encode_enriched(block: EnrichedBlock) -> list[bytes]:
    """One record for `enriched`, or several where the joined records are large."""
    if sum(len(record) for column in block.tables for record in column.records) <= PART_BYTES:
        return [_encode(block)]
    rows = list(rows_of(block))
    if len(rows) == 1:
        return [_encode(block)]
    half, names = len(rows) // 2, [column.table for column in block.tables]
    parts = []
    for part in (rows[:half], rows[half:]):
        columns = {name: [records[name] for _, records in part] for name in names}
        parts += encode_enriched(enriched_block([offset for offset, _ in part], columns))
    return parts


def decode_enriched(value: bytes | None) -> EnrichedBlock:
    """Read a block; raises UnreadableRecord with what is wrong."""
    try:
        block = _decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(
            f"no block of enriched requests that this program reads (enriched/1): {error}"
        ) from error
    rows = len(block.offsets) // 8
    if len(block.offsets) % 8 or rows > MAX_ROWS:
        raise UnreadableRecord(
            f"a block of {len(block.offsets)} bytes of offsets; at most {MAX_ROWS} rows are allowed"
        )
    for column in block.tables:
        places = _places(column) if len(column.places) == 2 * rows else None
        if places is None or any(not NOTHING <= place < len(column.records) for place in places):
            raise UnreadableRecord(
                f"a block of {rows} rows does not say which records of {column.table!r} are theirs"
            )
    return block


def rows_of(block: EnrichedBlock) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Offset and records by table, of each row of a block that was decoded; an empty record is none."""
    places = {column.table: (_places(column), (*column.records, b"")) for column in block.tables}
    for row, offset in enumerate(offsets_of(block.offsets)):
        yield offset, {name: records[own[row]] for name, (own, records) in places.items()}


def _packed(name: str, column: Sequence[bytes]) -> JoinedColumn:
    known: dict[bytes, int] = {b"": NOTHING}
    places = [known.setdefault(record, len(known) - 1) for record in column]
    return JoinedColumn(name, np.array(places, dtype="<i2").tobytes(), tuple(known)[1:])


def _places(column: JoinedColumn) -> list[int]:
    places: list[int] = np.frombuffer(column.places, dtype="<i2").tolist()
    return places
