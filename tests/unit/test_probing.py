"""Probes: which records they are, whose requests they are not, and that a token nobody announced marks nothing."""

import json

import numpy as np
import pytest

from schemas.decisions import Ticket
from schemas.enriched import encode_enriched, enriched_block
from schemas.errors import UnreadableRecord
from schemas.probes import (
    JOINED_CAP,
    JOINED_MARK,
    NO_TOKENS,
    PROBE_MARK,
    decode_token,
    encode_token,
    joined_of,
    marked,
    sum_of,
)
from streams.core.kept_state import decode_state, encode_state
from streams.core.probing import CANDIDATES, MOST_PROBES, Candidate, Probe, Probing, Renaming, choose
from streams.core.validator import MAX_HEADER_BYTES


def candidates(count: int = 1_000) -> list[Candidate]:
    chance = np.random.default_rng(3)
    found = []
    for number in range(count):
        fields = {
            "x": float(chance.normal()) if number % 100 != 7 else None,
            "colour": f"C{int(chance.zipf(1.7)) % 30}",
            "open": bool(chance.random() < 0.01),
            "name": f"n{number}",
        }
        found.append(Candidate(Probe(None, json.dumps({"id": number} | fields).encode()), fields))
    return found


def fields_of(chosen: list[Probe]) -> list[dict[str, object]]:
    return [json.loads(one.value) for one in chosen]


@pytest.mark.parametrize("least", [16, 64])
def test_every_category_every_null_and_every_part_of_a_range_is_among_them(least: int):
    every = candidates()
    chosen = fields_of(choose(every, least))
    assert len(chosen) == len({one["id"] for one in chosen})
    assert least <= len(chosen) <= 64, "as many as it takes, and those that are asked for"
    assert {one["colour"] for one in chosen} == {one.fields["colour"] for one in every}
    assert {one["open"] for one in chosen} == {True, False}
    assert any(one["x"] is None for one in chosen)
    numbers = sorted(one.fields["x"] for one in every if one.fields["x"] is not None)
    parts = {np.searchsorted(numbers, one["x"]) * 8 // len(numbers) for one in chosen if one["x"] is not None}
    assert parts >= set(range(8))


def test_the_same_records_are_chosen_whatever_order_they_come_in():
    every = candidates()
    assert {one.value for one in choose(every, 64)} == {one.value for one in choose(every[::-1], 64)}
    assert choose(every[:5], 16) == choose(every[:5], 5)
    assert choose([], 16) == []


def test_where_there_is_more_to_show_than_256_can_the_rare_come_first():
    rows = [f"often {number}" for number in range(200) for _ in range(4)] + [
        f"once {number}" for number in range(250)
    ]
    every = [Candidate(Probe(None, json.dumps({"word": word}).encode()), {"word": word}) for word in rows]
    chosen = [str(one["word"]) for one in fields_of(choose(every, 16))]
    assert len(chosen) == MOST_PROBES
    assert sum(word.startswith("once") for word in chosen) == 250


def test_they_are_chosen_once_and_a_request_that_is_read_again_is_not_offered_again():
    probing = Probing(16)
    for _ in range(2):
        for number, one in enumerate(candidates(CANDIDATES // 2)):
            probing.offer(Ticket(0, number), one.probe, one.fields)
    assert not probing.chosen
    for number, one in enumerate(candidates(CANDIDATES // 2)):
        probing.offer(Ticket(1, number), one.probe, one.fields)
    assert {one.value for one in probing.probes} == {one.value for one in choose(candidates(CANDIDATES // 2) * 2, 16)}
    assert (probing.candidates, len(probing.name)) == ([], 8)
    kept = decode_state(encode_state(probing, ("streams.core.probing",)), ("streams.core.probing",))
    assert (kept.probes, kept.name) == (probing.probes, probing.name)


def test_large_records_do_not_fill_the_memory():
    probing = Probing(16)
    number = 0
    while not probing.chosen:
        probing.offer(Ticket(0, number), Probe(None, b"x" * (1 << 18)), {"x": number})
        number += 1
    assert number == 32
    joined = Probing(16)
    for number in range(40):
        joined.offer(Ticket(0, number), Probe(None, b"x", {"t": b"y" * JOINED_CAP}), {"x": number})
    joined.offer(Ticket(0, 40), Probe(None, b"x", {"t": b"y" * JOINED_CAP, "u": b"y"}), {"x": 0})
    assert joined.bytes == 40 * (JOINED_CAP + 1), "what no header holds is no candidate"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("id", b'{"id": "a", "x": 1}', b'{"id": "probe:1", "x": 1}'),
        ("id", b'{"x": "a",  "id":"a"}', b'{"x": "a",  "id":"probe:1"}'),
        ("a.id", b'{"id": "a", "a": {"id": "a"}}', b'{"id": "a", "a": {"id": "probe:1"}}'),
        ("id", b'{"x": 1}', b'{"x": 1}'),
        ("id", b"no json", b"no json"),
    ],
)
def test_a_probe_has_an_id_of_its_own_and_no_other_byte_is_changed(path: str, value: bytes, says: bytes):
    assert Renaming(path).renamed(value, "probe:1") == says


def test_only_a_token_that_was_announced_marks_a_probe():
    tokens = NO_TOKENS
    key, value = encode_token("mine")
    assert key.decode() == sum_of("mine")
    assert b"mine" not in value
    for record in (value, None, b"garbage", b'{"sum": 3}'):
        tokens = tokens.after(record)
    assert tokens.read == 4
    assert tokens.probe_of(marked("mine", "set-7")) == "set-7"
    assert tokens.probe_of(marked("another", "set-7")) is None
    assert tokens.probe_of([(PROBE_MARK, None)]) is None
    assert tokens.probe_of([(PROBE_MARK, b"\xff/1")]) is None
    assert tokens.probe_of([("other", b"mine/1")]) is None
    assert tokens.probe_of(None) is None


def test_a_probe_brings_along_what_was_joined_into_it():
    records = {"weather": b'{"wind": 3}', "customer": b""}
    assert joined_of(marked("mine", "set-7", records)) == records
    assert joined_of(marked("mine", "set-7")) is None
    assert joined_of(None) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "no block of enriched"),
        (b"\xff" * 100, "no block of enriched"),
        (b"x" * (JOINED_CAP + 5_000), "at most"),
        (encode_enriched(enriched_block([], {}))[0], "0 rows"),
        (encode_enriched(enriched_block([1, 2], {"t": [b"{}", b"{}"]}))[0], "2 rows"),
    ],
)
def test_what_a_probe_cannot_have_brought_along_is_refused(value: bytes, says: str):
    with pytest.raises(UnreadableRecord, match=says):
        joined_of([(JOINED_MARK, value)])


def test_what_is_no_token_is_refused():
    with pytest.raises(UnreadableRecord, match="no token"):
        decode_token(b"{}")


def test_what_a_probe_brings_along_fits_into_what_a_request_may_carry():
    headers = marked("t" * 64, "p-255", {"a": b"x" * JOINED_CAP, "b": b""})
    assert sum(len(name) + len(value) for name, value in headers) <= MAX_HEADER_BYTES
