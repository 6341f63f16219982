"""What our roles write they read back; what others write is refused by name."""

from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import (
    MAX_ROWS,
    NotAskedBlock,
    RejectionBlock,
    RowBlock,
    RowError,
    Rows,
    ScoreBlock,
    TickBlock,
    decode_rows,
    decode_scores,
    encode_json_rows,
    encode_rows,
    encode_scores,
    offsets_of,
    pack_offsets,
    score_block,
    scores_of,
)
from schemas.errors import UnreadableRecord

finite = st.floats(allow_nan=False, allow_infinity=False)
offsets = st.lists(st.integers(0, 2**62), min_size=1, max_size=20)


def rows_of(numbers: list[int], width: int) -> Rows:
    count = len(numbers)
    matrix = np.arange(count * width, dtype=np.float64).reshape(count, width)
    return Rows("m", np.array(numbers, dtype=np.int64), np.arange(count, dtype=np.int64), matrix)


@given(numbers=offsets, width=st.integers(0, 5))
def test_rows_come_back_as_they_were(numbers: list[int], width: int):
    rows = rows_of(numbers, width)
    back = decode_rows(encode_rows(rows))
    assert back.model == "m"
    assert back.offsets.tolist() == numbers
    assert back.deadlines_ms.tolist() == rows.deadlines_ms.tolist()
    assert np.array_equal(back.matrix, rows.matrix)


@given(numbers=offsets, chosen=st.data())
def test_events_come_back_with_their_rows(numbers: list[int], chosen: st.DataObject):
    events = tuple(b'{"n": %d, "text": "\xc3\xa4"}' % number for number in numbers)
    rows = replace(rows_of(numbers, 2), events=events)
    assert decode_rows(encode_rows(rows)).events == events
    assert [decode_rows(value).events for value in encode_json_rows(rows)] == [(event,) for event in events]
    mask = np.array(chosen.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers))), dtype=bool)
    part = rows.part(mask)
    assert part.events == tuple(event for event, kept in zip(events, mask, strict=True) if kept)
    assert part.offsets.tolist() == [number for number, kept in zip(numbers, mask, strict=True) if kept]
    assert rows.part(slice(1, 3)).events == events[1:3]


def test_a_json_row_says_nothing_of_an_event_that_is_not_sent():
    (value,) = encode_json_rows(rows_of([7], 1))
    assert value == b'{"model":"m","offset":7,"deadline_ms":0,"features":[0.0]}'


@given(numbers=offsets)
def test_a_row_as_json_is_a_block_of_one(numbers: list[int]):
    for place, value in enumerate(encode_json_rows(rows_of(numbers, 2))):
        back = decode_rows(value)
        assert back.offsets.tolist() == [numbers[place]]
        assert back.matrix.tolist() == [[2.0 * place, 2.0 * place + 1]]


@given(numbers=offsets, data=st.data())
def test_scores_come_back_as_they_were(numbers: list[int], data: st.DataObject):
    values = data.draw(st.lists(finite, min_size=len(numbers), max_size=len(numbers)))
    block = score_block("m", "1", np.array(numbers), np.array(values), (RowError(3, "raised"),))
    back = decode_scores(encode_scores(block))
    assert isinstance(back, ScoreBlock)
    assert (list(offsets_of(back.offsets)), list(scores_of(back.scores)), back.errors) == (
        numbers,
        values,
        block.errors,
    )


@pytest.mark.parametrize(
    "block",
    [
        RejectionBlock((RowError(1, "no"),)),
        NotAskedBlock(("a", "b"), pack_offsets([1, 2]), "overloaded"),
        TickBlock(12.5),
    ],
)
def test_every_kind_of_block_on_scores_comes_back(block: RejectionBlock | NotAskedBlock | TickBlock):
    assert decode_scores(encode_scores(block)) == block


def test_a_json_score_and_a_json_error_are_blocks_of_one():
    score = decode_scores(b'{"model": "m", "version": "1", "offset": 4, "score": 0.5}')
    assert score == score_block("m", "1", np.array([4]), np.array([0.5]))
    failed = decode_scores(b'{"model": "m", "version": "1", "offset": 4, "error": "no lookup"}')
    assert failed == ScoreBlock("m", "1", b"", b"", (RowError(4, "no lookup"),))


pack = msgspec.msgpack.encode


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"hello", "another program's bytes"),
        (b"\x00\x00\x00\x00\x07avro", "another program's bytes"),
        (pack(["rows/2", "m"]), "'rows/2' is of a version this program does not read"),
        (pack(["scores/9", "m"]), "'scores/9' is of a version"),
        (pack(["rows/1", "m"]), "a damaged block 'rows/1'"),
        (pack(RowBlock("m", b"123", b"", b"", 1)), "no whole number of 8-byte"),
        (pack(RowBlock("m", bytes(8), bytes(16), bytes(8), 1)), "2 deadlines"),
        (pack(RowBlock("m", bytes(8), bytes(8), bytes(8), -1)), "-1 features"),
        (pack(RowBlock("m", bytes(8), bytes(8), bytes(8), 1 << 40)), "1 numbers"),
        (pack(RowBlock("m", bytes(8), bytes(8), bytes(8), 1, (b"{}", b"{}"))), "1 rows has 2 events"),
        (pack(RowBlock("m", pack_offsets([-5]), bytes(8), bytes(8), 1)), "offset -5"),
        (pack(RowBlock("m", bytes(8 * (MAX_ROWS + 1)), b"", b"", 0)), "at most 256"),
        (b'{"model": "m"}', "no JSON row"),
        (b'{"model": "m", "offset": 1e300, "deadline_ms": 1, "features": []}', "no JSON row"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_by_name(value: bytes | None, says: str):
    with pytest.raises(UnreadableRecord, match=says):
        decode_rows(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "empty"),
        (b"hello", "another program's bytes"),
        (pack(["scores/2"]), "'scores/2' is of a version"),
        (pack(ScoreBlock("m", "1", bytes(8), b"")), "1 offsets has 0 scores"),
        (pack(score_block("m", "1", np.array([1]), np.array([np.nan]))), "not finite"),
        (pack(score_block("m", "1", np.array([1]), np.array([np.inf]))), "not finite"),
        (pack(NotAskedBlock(("m",), b"1", "")), "8-byte"),
        (b'{"model": "m", "version": "1", "offset": -1, "score": 0.5}', "offset"),
    ],
)
def test_scores_that_cannot_be_read_are_refused_by_name(value: bytes | None, says: str):
    with pytest.raises(UnreadableRecord, match=says):
        decode_scores(value)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"{" + tail)))
def test_no_bytes_raise_anything_else(value: bytes):
    for decode in (decode_rows, decode_scores):
        with suppress(UnreadableRecord):
            decode(value)


@given(value=st.sampled_from([encode_rows(rows_of([1, 2], 3)), encode_scores(TickBlock(1.0))]), data=st.data())
def test_no_flipped_byte_raises_anything_else(value: bytes, data: st.DataObject):
    place = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:place] + bytes([data.draw(st.integers(0, 255))]) + value[place + 1 :]
    for decode in (decode_rows, decode_scores):
        with suppress(UnreadableRecord):
            decode(damaged)
