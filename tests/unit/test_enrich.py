"""What a table says of a request, which of its records counts, and what is kept of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.cli.send import send
from agents.router import join
from schemas.blocks import pack_offsets
from schemas.enriched import (
    PART_BYTES,
    EnrichedBlock,
    JoinedColumn,
    decode_enriched,
    encode_enriched,
    enriched_block,
    rows_of,
)
from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.pipeline import Enrich, Pipeline
from schemas.probes import JOINED_MARK, NO_TOKENS, encode_token, marked
from schemas.requests import Headers, Rejection, Request
from schemas.topics import TABLE_CAP, Topics, topics_of
from streams.core.enriched_past import EnrichedPast
from streams.core.enrichment import Enrichment, event_of
from streams.core.fan_out import FanOut
from streams.core.features import FeatureTable
from streams.core.table import PURGED_AT_ONCE, RECENT_MS, Table, time_of
from streams.pipeline_file import load
from tests.unit.small import TEXT, pipeline, read

LATEST = """
[[features]]
name = "limit"
path = "customer.limit.day"
type = "number"
default = -1

[[enrich]]
name = "customer"
key = "who.id"
"""
AS_OF = """
[[features]]
name = "wind"
path = "weather.wind"
type = "number"
default = 10.5

[[enrich]]
name = "weather"
key = "airport"
as_of = "t_ms"
since = "from_ms"
keep_hours = 2
"""
BY_TABLE = """
[policy]
kind = "weighted"
by = "customer.tier"
cohorts = [{model = "first", weight = 1}]
"""
HOUR_MS = 3_600_000


def of(*parts: str, **changes: object) -> Pipeline:
    return pipeline(TEXT + "".join(parts), **changes)


def asked(own: Pipeline, at_ms: int = 10_000, offset: int = 0, **fields: object) -> Request:
    found = read(json.dumps({"x": 1, **fields}).encode(), of=own, at_ms=at_ms, offset=offset)
    assert isinstance(found, Request), found
    return found


def table(own: Pipeline) -> Table:
    return Table(own.enrich[0], own.features)


def said(found: Table, request: Request) -> object:
    record = found.find(request).record
    return json.loads(record) if record else None


def latest() -> tuple[Pipeline, Table]:
    own = of(LATEST)
    return own, table(own)


def test_a_record_counts_for_requests_half_a_second_later_at_any_router():
    own, found = latest()
    found.take(b"7", b'{"limit": {"day": 1}}', 1_000)
    found.take(b"7", b'{"limit": {"day": 2}}', 2_000)
    days = [said(found, asked(own, at_ms, who={"id": 7})) for at_ms in (1_499, 1_500, 2_499, 2_500, 90_000)]
    assert days == [None, *[{"limit": {"day": day}} for day in (1, 1, 2, 2)]]
    again = table(own)  # rebuilt from a topic that was compacted meanwhile, but not that far
    again.take(b"7", b'{"limit": {"day": 2}}', 2_000)
    assert said(again, asked(own, 2_500, who={"id": 7})) == {"limit": {"day": 2}}


@pytest.mark.parametrize(
    ("who", "known"),
    [
        ({"id": 7}, True),
        ({"id": "7"}, True),
        ({"id": 7.0}, True),
        ({"id": 7.5}, False),
        ({"id": True}, False),
        ({"id": None}, False),
        ({"id": [7]}, False),
        ({"id": ""}, False),
        ({}, False),
    ],
)
def test_a_key_is_text_or_a_whole_number_and_anything_else_is_missing_never_rejected(who: object, known: bool):
    own, found = latest()
    for key in (b"7", b"1", b"True", b"None"):
        found.take(key, b'{"limit": {"day": 1}}', 0)
    assert (found.find(asked(own, who=who)) is not found.nothing) is known
    assert found.missing == (not known)


def test_what_is_replaced_is_let_go_when_nobody_can_ask_for_it():
    _, found = latest()
    for second in range(0, 200_000, 1_000):
        found.take(b"7", b'{"limit": {"day": 1}}', second)
    assert found.records == RECENT_MS // 1_000 + 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b'{"limit": {"day": "much"}}', "limit.day: Expected `float | null`, got `str`"),
        (b'{"limit": {"day": 1e16}}', "limit.day: Expected `float`"),
        (b'{"limit": 5}', "limit: Expected `object`, got `int`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"5", "Expected `object`, got `int`"),
        (b"{", "truncated"),
        (b"", "the value is empty"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 16"),
        (b'{"a": "' + b"a" * TABLE_CAP + b'"}', f"the cap is {TABLE_CAP}"),
    ],
)
def test_a_record_of_the_wrong_shape_is_refused_with_its_reason_and_the_old_one_stays(value: bytes, says: str):
    own, found = latest()
    found.take(b"7", b'{"limit": {"day": 3}}', 0)
    with pytest.raises(UnreadableRecord, match=r".") as caught:
        found.take(b"7", value, 1)
    assert says in str(caught.value)
    assert said(found, asked(own, who={"id": 7})) == {"limit": {"day": 3}}
    with pytest.raises(UnreadableRecord, match="without a key"):
        found.take(None, b"{}", 2)


def test_a_deleted_key_is_missing_from_then_on_and_may_come_back_at_once():
    own, found = latest()
    found.take(b"7", b'{"limit": {"day": 1}}', 1_000)
    found.take(b"7", None, 2_000)
    found.take(b"7", b'{"limit": {"day": 2}}', 2_000)
    found.take(b"7", None, 3_000)
    days = [said(found, asked(own, at_ms, who={"id": 7})) for at_ms in (1_500, 2_500, 3_499, 3_500)]
    assert days[1:] == [{"limit": {"day": 2}}, {"limit": {"day": 2}}, None]
    found.take(b"8", b"{}", 3_001 + RECENT_MS)
    assert (found.records, said(found, asked(own, 200_000, who={"id": 7}))) == (1, None)
    found.take(b"none", None, 3_002 + RECENT_MS)


def windy(*hours: float) -> tuple[Pipeline, Table]:
    own = of(AS_OF)
    found = table(own)
    for hour in hours:
        found.take(b"EWR", json.dumps({"from_ms": hour * HOUR_MS, "wind": hour}).encode(), 0)
    return own, found


def wind(own: Pipeline, found: Table, hour: float | None, at_ms: int = 10_000) -> object:
    t_ms = None if hour is None else hour * HOUR_MS
    told = said(found, asked(own, at_ms, airport="EWR", t_ms=t_ms))
    return told["wind"] if isinstance(told, dict) else None


def test_as_of_event_time_the_last_record_that_held_then_counts_never_a_later_one():
    own, found = windy(3, 1, 2)
    assert [wind(own, found, hour) for hour in (0.9, 1, 1.9, 2, 3, 4.9)] == [None, 1, 1, 2, 3, 3]
    assert wind(own, found, None) is None


def test_as_of_event_time_a_record_older_than_is_kept_says_nothing_any_more():
    own, found = windy(1)
    assert [wind(own, found, hour) for hour in (3, 3.01)] == [1, None]
    own, found = windy(1, 2, 3, 4, 5)
    assert (found.records, wind(own, found, 2.5)) == (3, None)
    young = of(AS_OF + "max_age_hours = 1\n")
    found = table(young)
    found.take(b"EWR", b'{"from_ms": 0, "wind": 3}', 0)
    assert [wind(young, found, hour) for hour in (1, 1.01)] == [3, None]


def test_a_record_with_a_time_far_ahead_spoils_nothing_for_those_after_it():
    own, found = windy(1, 1_000_000, 2, 3)
    assert [wind(own, found, hour) for hour in (2, 3, 4.5)] == [2, 3, 3]


def test_a_correction_counts_from_its_own_log_time_on():
    own, found = windy(1, 2)
    found.take(b"EWR", json.dumps({"from_ms": HOUR_MS, "wind": 50}).encode(), 5_000)
    assert [wind(own, found, 1, at_ms) for at_ms in (5_499, 5_500)] == [1, 50]
    found.take(b"EWR", json.dumps({"from_ms": HOUR_MS, "wind": 60}).encode(), 5_001 + RECENT_MS)
    assert found.records == 3, "what was replaced long ago is gone: the one before this is needed still"


def test_what_was_deleted_before_does_not_hide_what_came_after():
    own, found = windy(1, 2)
    found.take(b"EWR", None, 1_000)
    found.take(b"EWR", json.dumps({"from_ms": HOUR_MS, "wind": 9}).encode(), 1_000)
    assert wind(own, found, 2, 1_499) == 2
    assert wind(own, found, 2, 1_500) == 9


def test_a_hundred_thousand_deletions_are_carried_out_a_few_with_each_record():
    own = of(LATEST)
    found = table(own)
    for number in range(100):
        found.take(b"%d" % number, b'{"limit": {"day": 8}}', 0)
    for number in range(100):
        found.take(b"%d" % number, None, 1)
    left = []
    for number in range(3):
        found.take(b"x%d" % number, b"{}", 2 + RECENT_MS)
        left.append(found.records - number - 1)
        assert said(found, asked(own, who={"id": 99}, at_ms=2 + RECENT_MS)) is None, "deleted is deleted"
    assert left == [100 - PURGED_AT_ONCE * (number + 1) for number in range(3)]


def test_a_time_of_hundreds_of_digits_is_none():
    assert time_of(10**400) is None


def test_a_second_deletion_does_not_hide_the_first():
    own, found = windy(1)
    for at_ms in (1_000, 1_001):
        found.take(b"EWR", None, at_ms)
    assert wind(own, found, 2, 1_500) is None
    assert wind(own, found, 2, 1_499) == 1


@pytest.mark.parametrize("parts", [(LATEST,), (AS_OF,)])
def test_a_table_holds_no_more_than_it_may(parts: tuple[str, ...]):
    own = of(parts[0] + "max_records = 3\n")
    found = table(own)
    for number in range(3):
        found.take(b"%d" % number, b'{"from_ms": 0}', number)
    with pytest.raises(UnreadableRecord, match="full with 3 records: raise max_records"):
        found.take(b"9", b'{"from_ms": 0}', 4)
    assert found.records == 3
    if parts == (LATEST,):
        found.take(b"1", b'{"limit": {"day": 8}}', 5)  # a known key is never left behind
        assert said(found, asked(own, who={"id": 1})) == {"limit": {"day": 8}}


@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 6), st.one_of(st.none(), st.integers(0, 5))), max_size=25
    ),
    st.integers(0, 80_000),
    st.one_of(st.none(), st.integers(0, 7)),
)
def test_what_counts_is_what_a_search_through_all_of_the_log_finds(
    log: list[tuple[int, int, int | None]], at_ms: int, hour: int | None
):
    own = of(AS_OF)
    found, now_ms, records = table(own), 0, []
    for step_ms, since, what in log:
        now_ms += step_ms
        records.append((now_ms, since, what))
        value = None if what is None else json.dumps({"from_ms": since * HOUR_MS, "wind": what}).encode()
        found.take(b"EWR", value, now_ms)
    if at_ms - 500 < now_ms - RECENT_MS:
        return  # nobody asks that late
    best = None
    for log_ms, since, what in records:
        if log_ms > at_ms - 500 or hour is None:
            break
        if what is None:
            best = None
        elif hour - 2 <= since <= hour and (best is None or since >= best[0]):
            best = (since, what)
    newest = max((since for _, since, what in records if what is not None), default=0)
    if hour is not None and hour < newest:
        return  # what is kept goes back from the newest record
    assert wind(own, found, hour, at_ms) == (None if best is None else best[1])


def joined(own: Pipeline, *requests: Request) -> tuple[Enrichment, list[Request]]:
    enrichment = Enrichment(own)
    enrichment.tables["customer"].take(b"7", b' {"limit": {"day": 4}, "name": "\xc3\xa4"} ', 0)
    enrichment.tables["weather"].take(b"EWR", b'{"from_ms": 0, "wind": 2}', 0)
    return enrichment, enrichment.join(requests)


def both() -> Pipeline:
    return of(LATEST, AS_OF)


def test_every_model_sees_the_same_and_a_producers_own_field_of_that_name_is_nobodys():
    own = both()
    first = asked(own, who={"id": 7}, airport="EWR", t_ms=0, customer={"limit": {"day": 99}}, weather="fine")
    _, found = joined(own, first, asked(own, offset=1, weather="fine"))
    matrix = FeatureTable(own.features, {}, own.enrich).matrix(found)
    assert matrix[:, -2:].tolist() == [[4, 2], [-1, 10.5]]
    rows = [
        rows.matrix[:, -2:].tolist() for _, rows in FanOut(own).fan(found, 10_000).rows if rows.matrix.shape[1] == 5
    ]
    assert rows == [[[4, 2], [-1, 10.5]]] * 3
    names = ["customer", "weather"]
    events = [json.loads(event_of(request, names)) for request in found]
    assert events[0]["customer"] == {"limit": {"day": 4}, "name": "ä"}
    assert events[0]["weather"] == {"from_ms": 0, "wind": 2}
    assert events[1] == {"x": 1}
    assert event_of(first, []) is first.value


def test_a_derivation_is_given_the_event_with_what_the_tables_say():
    own = both()
    derived = '\n[[features]]\nname = "customer"\ntype = "number"\nderive = "a:b"\n'  # its name is no path
    own = of(LATEST, AS_OF, derived)
    _, found = joined(own, asked(own, who={"id": 7}), asked(own))
    matrix = FeatureTable(
        own.features, {"customer": lambda event: len(event.get("customer", ()))}, own.enrich
    ).matrix(found)
    assert matrix[:, -1].tolist() == [2, 0]


def test_an_event_is_rejected_for_the_same_reasons_with_and_without_the_tables():
    """So that the rendezvous rejects it with the router dead; it knows no table."""
    own = both()
    for value in (b'{"x": "no"}', b"{}", b"[]", b'{"x": 1, "who": 5}', b'{"x": 1, "weather": 5}', b'{"x": 1}'):
        found = read(value, of=own)
        plain = read(value)
        if b"who" in value:
            assert isinstance(found, Rejection)
            assert "who: Expected `object`" in found.reason
        else:
            assert type(found) is type(plain)


def matrix_of(own: Pipeline, requests: Sequence[Request]) -> list[list[float]]:
    found: list[list[float]] = FeatureTable(own.features, {}, own.enrich).matrix(requests).tolist()
    return found


def blocks(values: Sequence[bytes]) -> list[tuple[int, dict[str, bytes]]]:
    return [row for value in values for row in rows_of(decode_enriched(value))]


records = st.sampled_from([b"", b"{}", b'{"a": 1}', b'{"b": [1, 2]}'])


@given(st.lists(st.tuples(st.integers(0, 2**62), records, records), min_size=1, max_size=256))
def test_what_was_joined_comes_back_as_it_was(rows: list[tuple[int, bytes, bytes]]):
    offsets = [offset for offset, _, _ in rows]
    columns = {"a": [one for _, one, _ in rows], "b-c": [one for _, _, one in rows]}
    wanted = [(offset, {"a": one, "b-c": other}) for offset, one, other in rows]
    assert blocks(encode_enriched(enriched_block(offsets, columns))) == wanted


def test_large_records_are_cut_into_blocks_that_a_topic_takes():
    large = [b"%06d" % number + b"a" * (TABLE_CAP - 6) for number in range(100)]
    values = encode_enriched(enriched_block(list(range(100)), {"t": large}))
    assert max(map(len, values)) < PART_BYTES + 4 * TABLE_CAP
    assert blocks(values) == [(number, {"t": record}) for number, record in enumerate(large)]
    shared = enriched_block(list(range(256)), {"t": [large[0]] * 256})
    assert len(encode_enriched(shared)) == 1


@pytest.mark.parametrize(
    "block",
    [
        EnrichedBlock(b"1234567", ()),
        EnrichedBlock(pack_offsets(list(range(257))), ()),
        EnrichedBlock(pack_offsets([1]), (JoinedColumn("t", b"", ()),)),
        EnrichedBlock(pack_offsets([1]), (JoinedColumn("t", np.array([1], "<i2").tobytes(), (b"{}",)),)),
        EnrichedBlock(pack_offsets([1]), (JoinedColumn("t", np.array([-2], "<i2").tobytes(), (b"{}",)),)),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(block: EnrichedBlock):
    with pytest.raises(UnreadableRecord, match="a block of"):
        decode_enriched(msgspec.msgpack.encode(block))
    for value in (None, b"", b"\x93", b"{}"):
        with pytest.raises(UnreadableRecord, match="no block of enriched requests"):
            decode_enriched(value)


def test_of_two_records_for_one_request_the_first_counts_wherever_chunks_end():
    def block(start: int, end: int, word: bytes) -> bytes:
        return encode_enriched(enriched_block(list(range(start, end)), {"t": [word] * (end - start)}))[0]

    log = [block(0, 5, b"1"), b"nonsense", block(3, 8, b"2"), block(8, 9, b"3"), block(6, 12, b"4")]
    wanted = b"111112223444"
    for size in (1, 2, 5, 12):
        past, found = EnrichedPast(iter(log)), dict[int, bytes]()
        for start in range(0, 12, size):
            part = past.through(min(11, start + size - 1))
            assert all(start <= offset < start + size for offset in part)
            found |= {offset: records["t"] for offset, records in part.items()}
        assert b"".join(found[offset] for offset in range(12)) == wanted
        assert (past.last, past.unreadable) == (11, 1)


def test_a_candidate_with_other_features_reads_the_kept_records_its_own_way():
    own = both()
    enrichment, found = joined(own, asked(own, who={"id": 7}), asked(own, offset=1))
    kept = dict(rows_of(decode_enriched(encode_enriched(enrichment.block(found))[0])))
    again = Enrichment(own).rejoin(found, kept)
    assert [one.record for request in again for one in request.joined] == [
        one.record for request in found for one in request.joined
    ]
    assert matrix_of(own, again) == matrix_of(own, found)
    other = of(
        LATEST.replace("limit.day", "name")
        .replace('"number"', '"category"\nvocabulary = ["", "ä"]')
        .replace("default = -1", 'default = ""'),
        AS_OF,
    )
    assert [row[-2] for row in matrix_of(other, Enrichment(other).rejoin(found, kept))] == [1, 0]
    assert Enrichment(own).rejoin(found, {})[0].joined[0].record == b""


def refusal(tmp_path: Path, *parts: str) -> str:
    (tmp_path / "p.toml").write_text(TEXT + "".join(parts))
    with pytest.raises(ConfigurationRefused) as caught:
        load(tmp_path / "p.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "customer"', 'name = "scores"', "enrich[0] (scores).name: 'scores' is a topic of every pipeline"),
        ('name = "customer"', 'name = "model"', "'model' is a topic of every pipeline; choose another name"),
        ('name = "customer"', 'name = "A b"', "enrich[0] (A b).name: 'A b' cannot end a topic's name; use a-z"),
        ('name = "customer"', 'name = "../b"', "enrich[0] (../b).name: '../b' cannot end a topic's name; use a-z"),
        ('key = "who.id"', "", "enrich[0].key: missing"),
        ('key = "who.id"', 'key = ""', "enrich[0] (customer).key: '' is no path; write"),
        ('key = "who.id"', 'key = "customer.id"', "enrich[0] (customer).key: stands in a table, not in the event"),
        ('key = "who.id"', 'key = "x.id"', "enrich[0] (customer).key: its path and that of x run through each other"),
        ('key = "who.id"', 'key = "who"\nas_of = "t"', "enrich[0] (customer).since: missing: times of event and"),
        ('key = "who.id"', 'key = "who"\nsince = "t"', "enrich[0] (customer).as_of: missing"),
        ('key = "who.id"', 'key = "who"\nkeep_hours = 0', "enrich[0] (customer).keep_hours: must be positive"),
        (
            'key = "who.id"',
            'key = "who"\nmax_age_hours = 1',
            "max_age_hours: has no meaning without as_of; remove it",
        ),
        ('key = "who.id"', 'key = "who"\nafter_ms = -1', "enrich[0] (customer).after_ms: -1 is out of bounds"),
        ('key = "who.id"', 'key = "who"\nmax_records = 0', "enrich[0] (customer).max_records: must be positive"),
        ('key = "who.id"', 'key = "who"\nkey_path = 1', "enrich[0].key_path: unknown key"),
        ("default = -1", "", "features (limit).default: customer may say nothing of an event, and no default is"),
        (
            'path = "customer.limit.day"',
            'path = "customer"',
            "features (limit): customer is a table, not a value; wr",
        ),
        ('path = "customer.limit.day"', 'path = "client.limit"', "enrich[0] (customer): no feature reads it; write"),
        (
            "[[enrich]]",
            BY_TABLE + "[[enrich]]",
            "policy.by: 'customer.tier' stands in a table, which only models see",
        ),
        (
            "[[enrich]]",
            '[labels]\nsegments = ["customer.a"]\n[[enrich]]',
            "labels.segments (customer.a): 'customer.a'",
        ),
        ("[[enrich]]", '[[enrich]]\nname = "customer"\nkey = "x"\n[[enrich]]', "enrich: 'customer' stands 2 times"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_what_to_write_instead(old: str, new: str, says: str, tmp_path: Path):
    assert says in refusal(tmp_path, LATEST.replace(old, new))


def test_all_mistakes_of_tables_are_told_at_once(tmp_path: Path):
    told = refusal(
        tmp_path, LATEST.replace('"who.id"', '"a..b"').replace("default = -1", ""), AS_OF.replace("= 2", "= 0")
    )
    assert len(told.splitlines()) == 3


def test_tables_are_topics_of_their_own_and_only_where_there_are_any():
    plain = {topic.name for topic in topics_of(pipeline())}
    found = {topic.name: topic for topic in topics_of(both())}
    assert found.keys() - plain == {"small.customer", "small.weather", "small.enriched"}
    assert Topics("small").enriched not in plain
    assert found["small.weather"].config["cleanup.policy"] == "compact"
    assert found["small.weather"].config["min.compaction.lag.ms"] == str(2 * HOUR_MS)
    assert found["small.customer"].partitions == 1
    many = pipeline(TEXT.replace("[request]", "partitions = 3\n[request]", 1) + LATEST)
    assert [topic.partitions for topic in topics_of(many) if topic.name.endswith(("enriched", "customer"))] == [1, 3]


def test_a_table_takes_defaults_from_what_is_written_here():
    assert (Enrich(name="a", key="b").after_ms, Enrich(name="a", key="b").keep_hours) == (500, 24)


def test_records_are_sent_to_a_table_by_name_with_the_field_that_is_their_key(tmp_path: Path):
    (tmp_path / "p.toml").write_text(TEXT + AS_OF)
    (tmp_path / "r.jsonl").write_text('{"airport": "EWR", "from_ms": 0}\n')
    words = [str(tmp_path / "r.jsonl"), "-P", str(tmp_path / "p.toml"), "--dry-run"]
    told = CliRunner().invoke(send, [*words, "--table", "weather", "--key", "airport"])
    assert (told.exit_code, "1 events would be sent to small.weather" in told.output) == (0, True), told.output
    for wrong, says in ((["--table", "wether"], "small has weather"), (["--table", "weather"], "Say --key")):
        refused = CliRunner().invoke(send, [*words, *wrong])
        assert (refused.exit_code, says in refused.output) == (2, True), refused.output


def test_a_probe_is_given_what_it_brings_and_an_unknown_token_brings_nothing():
    own = of(LATEST)
    enrichment = Enrichment(own)
    enrichment.tables["customer"].take(b"7", b'{"limit": {"day": 250}}', 1_000)
    tokens = NO_TOKENS.after(encode_token("mine")[1])
    records = {"customer": b'{"limit": {"day": 9}}'}

    def given(headers: Headers) -> tuple[list[bytes], list[str]]:
        found, refused = join(enrichment, [replace(asked(own, who={"id": 7}), headers=headers)], tokens)
        return [one.joined[0].record for one in found], [f"{name}: {row.reason}" for name, row in refused]

    now = b'{"limit": {"day": 250}}'
    assert given(marked("mine", "p-1", records)) == ([records["customer"]], [])
    assert given(marked("mine", "p-1", {"customer": b""})) == ([b""], []), "nothing, as it was then"
    assert given(marked("another", "p-1", records)) == ([now], [])
    assert given(marked("mine", "p-1")) == ([now], []), "a monitor from before tables were probed"
    assert given([(JOINED_MARK, b"garbage")]) == ([now], [])
    for headers, says in (
        ([*marked("mine", "p-1"), (JOINED_MARK, b"garbage")], "no block of enriched"),
        (marked("mine", "p-1", {"other": b"{}"}), "records of other; the tables are customer"),
        (marked("mine", "p-1", {"customer": b'{"limit": {"day": "much"}}'}), "limit.day: Expected"),
    ):
        [], [why] = given(headers)
        assert why.startswith("probe: the header rv-joined of a probe: ")
        assert says in why
