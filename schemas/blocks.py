"""Blocks: 1 to 256 rows in one record, between our own roles.

MessagePack columns; numbers as little-endian bytes, so that a block is read into numpy without a loop.
A block's tag carries kind and version ("rows/1"): an unknown one is refused by name. A row's ticket is the
record's partition with the row's offset. A model written in another language speaks JSON instead (`wire`).
"""

from collections.abc import Iterable
from itertools import repeat
from math import isfinite
from struct import unpack
from typing import Annotated, Any, Final

import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, json, msgpack
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from schemas.errors import UNREADABLE, UnreadableRecord

MAX_ROWS: Final = 256
"""Rows of one block: bounds the time one record can hold an event loop."""

REASON_CHARS: Final = 300
"""Of a reason that somebody else gave: it goes into each decision."""

Offsets = NDArray[np.int64]
Matrix = NDArray[np.float64]


class RowBlock(Struct, frozen=True, array_like=True, tag="rows/1"):
    """Rows for one model, as they lie on `model.<name>`; `deadlines` are broker times in ms.

    `events` are the raw records' values, for a model that takes them; else there are none.
    """

    model: str
    offsets: bytes
    deadlines: bytes
    features: bytes
    width: int
    events: tuple[bytes, ...] = ()


def _cut_reason(told: "RowError | NotAskedBlock") -> None:
    """Keep the beginning of a reason that is too long."""
    if len(told.reason) > REASON_CHARS:
        force_setattr(told, "reason", told.reason[:REASON_CHARS])


_Int64 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class RowError(Struct, frozen=True, array_like=True):
    """Why one row has no score."""

    offset: _Int64
    reason: str

    def __post_init__(self) -> None:
        """See to a reason that is too long."""
        _cut_reason(self)


class ScoreBlock(Struct, frozen=True, array_like=True, tag="scores/1"):
    """One model's scores, as they lie on `scores`: finite numbers, and the errors of rows without one."""

    model: str
    version: str
    offsets: bytes
    scores: bytes
    errors: tuple[RowError, ...] = ()


class RejectionBlock(Struct, frozen=True, array_like=True, tag="rejected/1"):
    """Requests the router could not read: the rendezvous answers them `rejected` at once."""

    rows: tuple[RowError, ...]


class NotAskedBlock(Struct, frozen=True, array_like=True, tag="not-asked/1"):
    """Models the router passed over for these requests, and why."""

    models: tuple[str, ...]
    offsets: bytes
    reason: str

    def __post_init__(self) -> None:
        """See to a reason that is too long."""
        _cut_reason(self)


class TickBlock(Struct, frozen=True, array_like=True, tag="tick/1"):
    """Nothing but its own log time: the rendezvous measures its clock's skew by it."""

    sent_ms: float


ScoresBlock = ScoreBlock | RejectionBlock | NotAskedBlock | TickBlock


class Rows(Struct, frozen=True):
    """Rows of one model, decoded: n offsets, n deadlines (ms, broker's clock), an n x width matrix.

    And the n raw values, for a model that takes events.
    """

    model: str
    offsets: Offsets
    deadlines_ms: Offsets
    matrix: Matrix
    events: tuple[bytes, ...] = ()

    def part(self, chosen: Any) -> "Rows":
        """Those that any index of numpy's names, in its order."""
        events = self.events
        if events:
            events = tuple(events[place] for place in np.arange(len(events))[chosen].tolist())
        return Rows(self.model, self.offsets[chosen], self.deadlines_ms[chosen], self.matrix[chosen], events)


_Event = Annotated[Raw | UnsetType, Meta(extra_json_schema={"type": "object"})]


class JsonRow(Struct, frozen=True):
    """One request for a model with `wire = "json"`, as it lies on `model.<name>`.

    `features` are the model's features in the pipeline file's order; `deadline_ms` is UTC, by the broker's clock.
    `event` is the producer's JSON object, for a model with `takes = "events"`. The answer goes to the same
    partition of `scores`, with the same `offset`.
    """

    model: str
    offset: _Int64
    deadline_ms: _Int64
    features: list[float]
    event: _Event = UNSET


class JsonScore(Struct, frozen=True):
    """One score, as any program may write it to `scores`, into the partition that its request came from.

    `model` and `version` are those of the pipeline file. Either `score`, a finite number, or `error`, the reason
    why there is none: then nobody waits for it.
    """

    model: str
    version: str
    offset: _Int64
    score: float | None = None
    error: str = ""


_encode = msgpack.Encoder().encode
_decode_rows = msgpack.Decoder(RowBlock).decode
_decode_scores = msgpack.Decoder(ScoresBlock).decode
_decode_json_row = json.Decoder(JsonRow).decode
_decode_json_score = json.Decoder(JsonScore).decode
_encode_json = json.Encoder().encode
_decode_tag = msgpack.Decoder(list).decode


def encode_rows(rows: Rows) -> bytes:
    """One block of at most 256 rows."""
    return _encode(
        RowBlock(
            rows.model,
            rows.offsets.astype("<i8", copy=False).tobytes(),
            rows.deadlines_ms.astype("<i8", copy=False).tobytes(),
            np.ascontiguousarray(rows.matrix, dtype="<f8").tobytes(),
            rows.matrix.shape[1],
            rows.events,
        )
    )


def encode_json_rows(rows: Rows) -> list[bytes]:
    """One JSON object per row, for a model with `wire = "json"`."""
    events: Iterable[Raw | UnsetType] = map(Raw, rows.events) if rows.events else repeat(UNSET, len(rows.offsets))
    return [
        _encode_json(JsonRow(rows.model, int(offset), int(deadline), features.tolist(), event))
        for offset, deadline, features, event in zip(
            rows.offsets, rows.deadlines_ms, rows.matrix, events, strict=True
        )
    ]


def decode_rows(value: bytes | None) -> Rows:
    """Read a block of rows, or one JSON row; raises UnreadableRecord with what is wrong."""
    if not value:
        raise UnreadableRecord("the record is empty: expected a block of rows")
    if value[:1] == b"{":
        return _rows_of_json(value)
    try:
        block = _decode_rows(value)
    except UNREADABLE as error:
        raise UnreadableRecord(_refusal(value, "rows/1", error)) from error
    offsets = _offsets(block.offsets)
    deadlines = np.frombuffer(_whole(block.deadlines), dtype="<i8")
    features = np.frombuffer(_whole(block.features), dtype="<f8")
    if len(deadlines) != len(offsets) or block.width < 0 or len(features) != len(offsets) * block.width:
        raise UnreadableRecord(
            f"a block of {len(offsets)} rows of {block.width} features has {len(deadlines)} deadlines "
            f"and {len(features)} numbers"
        )
    if len(block.events) not in (0, len(offsets)):
        raise UnreadableRecord(f"a block of {len(offsets)} rows has {len(block.events)} events")
    return Rows(block.model, offsets, deadlines, features.reshape(len(offsets), block.width), block.events)


def encode_scores(block: ScoresBlock) -> bytes:
    """One record for `scores`."""
    return _encode(block)


def score_block(
    model: str, version: str, offsets: Offsets, scores: Matrix, errors: tuple[RowError, ...] = ()
) -> ScoreBlock:
    """Pack n offsets and their n finite scores."""
    return ScoreBlock(
        model,
        version,
        offsets.astype("<i8", copy=False).tobytes(),
        scores.astype("<f8", copy=False).tobytes(),
        errors,
    )


def decode_scores(value: bytes | None) -> ScoresBlock:
    """Read what lies on `scores`, or one JSON score; raises UnreadableRecord with what is wrong."""
    if not value:
        raise UnreadableRecord("the record is empty: expected a block of scores")
    if value[:1] == b"{":
        return _score_of_json(value)
    try:
        block = _decode_scores(value)
    except UNREADABLE as error:
        raise UnreadableRecord(_refusal(value, "scores/1, rejected/1, not-asked/1, tick/1", error)) from error
    if isinstance(block, ScoreBlock):
        _check_offsets(block.offsets)
        if len(block.offsets) != len(_whole(block.scores)):
            rows, scores = len(block.offsets) // 8, len(block.scores) // 8
            raise UnreadableRecord(f"a block of {rows} offsets has {scores} scores")
        if not all(map(isfinite, scores_of(block.scores))):
            raise UnreadableRecord(f"a block of scores of {block.model!r} holds a number that is not finite")
    elif isinstance(block, NotAskedBlock):
        _check_offsets(block.offsets)
    return block


def offsets_of(packed: bytes) -> tuple[int, ...]:
    """Offsets of a block that was decoded; for a few rows `struct` is quicker than numpy."""
    return unpack(f"<{len(packed) >> 3}q", packed)


def scores_of(packed: bytes) -> tuple[float, ...]:
    """Scores of a block that was decoded."""
    return unpack(f"<{len(packed) >> 3}d", packed)


def pack_offsets(offsets: list[int]) -> bytes:
    """Offsets as a block carries them."""
    return np.array(offsets, dtype="<i8").tobytes()


def pack_scores(scores: list[float]) -> bytes:
    """Scores as a block carries them."""
    return np.array(scores, dtype="<f8").tobytes()


def _rows_of_json(value: bytes) -> Rows:
    try:
        row = _decode_json_row(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no JSON row: {error}") from error
    return Rows(
        row.model,
        np.array([row.offset], dtype=np.int64),
        np.array([row.deadline_ms], dtype=np.int64),
        np.array([row.features], dtype=np.float64),
        () if row.event is UNSET else (bytes(row.event),),
    )


def _score_of_json(value: bytes) -> ScoreBlock:
    try:
        row = _decode_json_score(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no JSON score: {error}") from error
    if row.score is None:
        return ScoreBlock(row.model, row.version, b"", b"", (RowError(row.offset, row.error or "no score"),))
    return ScoreBlock(
        row.model, row.version, pack_offsets([row.offset]), np.array([row.score], dtype="<f8").tobytes()
    )


def _offsets(packed: bytes) -> Offsets:
    _check_offsets(packed)
    return np.frombuffer(packed, dtype="<i8")


def _check_offsets(packed: bytes) -> None:
    rows = len(_whole(packed)) // 8
    if rows > MAX_ROWS:
        raise UnreadableRecord(f"a block of {rows} rows; at most {MAX_ROWS} are allowed")
    if rows and (lowest := min(offsets_of(packed))) < 0:
        raise UnreadableRecord(f"a block names offset {lowest}; offsets start at 0")


def _whole(packed: bytes) -> bytes:
    if len(packed) % 8:
        raise UnreadableRecord(f"a column of {len(packed)} bytes is no whole number of 8-byte values")
    return packed


def _refusal(value: bytes, readable: str, error: Exception) -> str:
    """Name the version of a block we cannot read; anything else is another program's bytes."""
    try:
        fields = _decode_tag(value)
    except UNREADABLE:
        fields = []
    tag = fields[0] if fields and isinstance(fields[0], str) else None
    if tag is None:
        return f"another program's bytes, no block: {error}"
    if tag in readable.split(", "):
        return f"a damaged block {tag!r}: {error}"
    return f"block {tag[:64]!r} is of a version this program does not read (it reads {readable}): upgrade it"
