"""Blocks of scores, many at a time: those that are alike in all but their numbers are read as one.

The same model, version and count of rows make the same bytes, except for the numbers. So one block tells of all the
others: where its bytes change when every number in it is inverted, there their numbers lie too, and are cut out at
once. Whatever is like no other is left to be read alone.
"""

from dataclasses import dataclass

import numpy as np
from msgspec import msgpack
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.blocks import MAX_ROWS, Offsets, ScoreBlock, ScoresBlock, decode_scores, encode_scores
from schemas.errors import UNREADABLE, UnreadableRecord

FEW = 8
"""So many blocks, or fewer, are sooner read one by one."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Values:
    """Values of records as they lie in memory, one after the other; a value of no bytes may be none at all."""

    data: Bytes
    starts: Offsets
    lengths: Offsets

    def __len__(self) -> int:
        """Values."""
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes:
        """One of them."""
        start = int(self.starts[row])
        return self.data[start : start + int(self.lengths[row])].tobytes()

    def matrix(self, rows: Offsets, length: int) -> Bytes:
        """Those of one length, one a line."""
        found: Bytes = self.data[self.starts[rows][:, None] + np.arange(length)]
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks of one model that are alike: which they are, and their numbers, as bytes, one block a line."""

    model: str
    version: str
    rows: Offsets
    offsets: Bytes
    scores: Bytes


_decode_block = msgpack.Decoder(ScoresBlock).decode


def decode_quickly(value: bytes | None) -> ScoresBlock:
    """What lies on `scores`, without a look at the numbers in it.

    Raises UnreadableRecord.
    """
    if value and value[:1] != b"{":
        try:
            block = _decode_block(value)
        except UNREADABLE:
            return decode_scores(value)  # it says what is wrong
        if not isinstance(block, ScoreBlock) or len(block.offsets) == len(block.scores) <= 8 * MAX_ROWS:
            return block
    return decode_scores(value)


def alike(values: Values) -> tuple[list[Group], Offsets]:
    """Blocks that are alike, and the rows of all other values."""
    left = np.ones(len(values), dtype=bool)
    groups: list[Group] = []
    lengths, counts = np.unique(values.lengths, return_counts=True)
    for length in lengths[counts > FEW].tolist():
        rows = np.flatnonzero(values.lengths == length)
        while len(rows) > FEW:
            group = _group(values, rows, length)
            if group is None:
                rows = rows[1:]
                continue
            groups.append(group)
            left[group.rows] = False
            rows = rows[left[rows]]
    return groups, np.flatnonzero(left)


def _group(values: Values, rows: Offsets, length: int) -> Group | None:
    """All that are like the first of these; None when that is no block of scores, or has errors in it."""
    form = values[int(rows[0])]
    try:
        block = decode_quickly(form)
    except UnreadableRecord:
        return None
    if not isinstance(block, ScoreBlock) or not block.offsets or block.errors:
        return None
    other = encode_scores(replace(block, offsets=_inverted(block.offsets), scores=_inverted(block.scores)))
    if len(other) != length:
        return None
    own = np.frombuffer(form, dtype=np.uint8)
    numbers = np.frombuffer(other, dtype=np.uint8) != own
    size = len(block.offsets)
    if int(numbers.sum()) != 2 * size:
        return None
    matrix = values.matrix(rows, length)
    same = (matrix[:, ~numbers] == own[~numbers]).all(axis=1)
    cut = matrix[same][:, numbers]
    return Group(block.model, block.version, rows[same], cut[:, :size], cut[:, size:])


def _inverted(packed: bytes) -> bytes:
    return (~np.frombuffer(packed, dtype=np.uint8)).tobytes()
