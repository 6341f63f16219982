"""The three walls, each alone; what a replay keeps of a record; order and pace."""

import heapq
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigurationRefused
from schemas.requests import Rejection, Request
from schemas.topics import Topics, topics_of
from streams.core.pipeline_checks import mistakes_of
from streams.core.replay import IdField, check_target, of_run, prefix_of, replay_prefix, source_of
from streams.core.replay_order import Chunk, Pace, Schedule, Selection, Span, in_order
from streams.core.validator import MAX_HEADERS
from tests.unit.small import TEXT, pipeline, read

MARKED = [("rv-src", b"small.raw/0/41"), ("rv-orig-ts", b"5"), ("rv-replay", b"june")]
GOOD = b'{"request_id": "rp:june:a", "x": 1}'
REWRITE = IdField("id").rewriter("rp:r:")
FENCED = of_run(pipeline(), "june")


def test_a_marked_record_on_a_live_topic_is_rejected_with_a_reason_that_names_the_run():
    found = read(GOOD, [("tenant", b"1"), *MARKED])
    assert isinstance(found, Rejection)
    assert (found.error, found.request_id) == ("replay", "rp:june:a")
    assert "rv-replay: replayed by run 'june'; this pipeline takes none" in found.reason


@pytest.mark.parametrize("value", [b"june", b"", None, b"\xff", b"july"])
def test_whatever_the_mark_says_a_live_pipeline_takes_no_marked_record(value: bytes | None):
    assert isinstance(read(GOOD, [("rv-replay", value)]), Rejection)


def test_a_pipeline_takes_the_run_it_names_and_no_other():
    assert isinstance(read(GOOD, MARKED, of=FENCED), Request)
    other = read(GOOD, [*MARKED, ("rv-replay", b"july")], of=FENCED)
    assert isinstance(other, Rejection)
    assert "replayed by run 'july'; this pipeline takes only run 'june'" in other.reason


def test_a_record_that_was_rejected_as_a_replay_is_rejected_again_when_it_is_replayed():
    assert isinstance(read(GOOD, [("rv-replay", b"may"), *MARKED], of=FENCED), Rejection)


def test_what_a_replay_adds_counts_against_no_limit():
    longest = "i" * 128
    headers = [(f"h{number}", b"") for number in range(MAX_HEADERS)]
    cap = FENCED.record_cap_bytes
    value = json.dumps({"request_id": longest, "x": 1, "pad": ""}).encode()
    value = value[:-2] + b"p" * (cap - len(value)) + value[-2:]
    assert isinstance(read(value, [("budget-ms", b"50"), *headers[1:]]), Request)
    again = IdField("request_id").rewriter(replay_prefix("june"))(value)
    found = read(again, [("budget-ms", b"50"), *headers[1:], *MARKED], of=FENCED)
    assert isinstance(found, Request), found
    assert found.request_id == f"rp:june:{longest}"
    assert isinstance(read(again + b" ", MARKED, of=FENCED), Rejection), "one byte more was too large then and is now"
    assert isinstance(read(again, [*headers, ("one", b""), *MARKED], of=FENCED), Rejection)


def test_a_record_without_an_id_is_known_by_its_originals_ticket():
    assert read(b'{"x": 1}', MARKED, offset=3, of=FENCED).request_id == "rp:june:0-41"
    assert read(b"{", MARKED, offset=3, of=FENCED).request_id == "rp:june:0-41"
    assert read(b'{"x": 1}', None, offset=3, of=FENCED).request_id == "0-3"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("id", b'{"id": "a", "x": 1}', b'{"id": "rp:r:a", "x": 1}'),
        ("id", b' {"n":{"id":"a"},"id":\t"a"}', b' {"n":{"id":"a"},"id":\t"rp:r:a"}'),
        ("id", b'{"id":"a","n":{"id":"a"}}', b'{"id":"rp:r:a","n":{"id":"a"}}'),
        ("id", b'{"x":"\\"id\\":\\"a\\"","id":"a"}', b'{"x":"\\"id\\":\\"a\\"","id":"rp:r:a"}'),
        ("id", b'{"id":"q\\"\\u0061"}', b'{"id":"rp:r:q\\"\\u0061"}'),
        ("id", b'{"\\u0069d":"a","v":"id"}', b'{"\\u0069d":"rp:r:a","v":"id"}'),
        ("id", b'{"id":"first","id":"last"}', b'{"id":"first","id":"rp:r:last"}'),
        ("a.b", b'{"b":"n","a":{"c":{"b":"n"},"b":"n"}}', b'{"b":"n","a":{"c":{"b":"n"},"b":"rp:r:n"}}'),
        ("id", b'{"id":""}', b'{"id":"rp:r:"}'),
        ("id", b'{"id":null}', None),
        ("id", b'{"id":5}', None),
        ("id", b'{"x":{"id":"a"}}', None),
        ("a.b", b'{"a":null}', None),
        ("a.b", b'{"a":"b"}', None),
        ("id", b'["id"]', None),
        ("id", b'{"x":1,"id":"a"', None),
        ("id", b'{"id": "a", "v": "\\"id\\": \\"a\\""}', b'{"id": "rp:r:a", "v": "\\"id\\": \\"a\\""}'),
        ("id", b'{"id":"a","i\\u0064":"b"}', b'{"id":"a","i\\u0064":"rp:r:b"}'),
        ("id", b"\xff", None),
        ("id", b"", None),
    ],
)
def test_the_run_is_put_in_front_of_the_id_exactly_where_it_stands(path: str, value: bytes, expected: bytes | None):
    assert IdField(path).rewriter("rp:r:")(value) == (value if expected is None else expected)


def test_a_null_value_stays_null():
    assert IdField("id").rewriter("rp:r:")(None) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a", "id "]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(rest=st.dictionaries(st.sampled_from(["a", "x", "id2"]), _json), own=st.text(max_size=5), ascii_=st.booleans())
def test_nothing_but_the_id_changes_whatever_the_payload_is(rest: dict[str, object], own: str, ascii_: bool):
    value = json.dumps({**rest, "id": own}, ensure_ascii=ascii_).encode()
    found = REWRITE(value)
    assert found is not None
    assert json.loads(found) == {**rest, "id": f"rp:r:{own}"}
    assert found.replace(b'"rp:r:', b'"', 1) == value


def test_a_target_outside_the_runs_own_topics_is_refused_unless_forced():
    check_target("june", "replay.june.small.raw", forced=False)
    for target in ("small.raw", "replay.july.small.raw", "replay.junes", "xreplay.june.raw"):
        with pytest.raises(ConfigurationRefused, match=f"{target} does not lie under replay.june."):
            check_target("june", target, forced=False)
        check_target("june", target, forced=True)


def test_the_pipeline_of_a_run_has_topics_of_its_own_and_answers_nobody_else():
    live = pipeline(TEXT + '[output]\nreply_to_prefix = "small.replies."\n[archive]\nroot = "kept"\n')
    fenced = of_run(live, "june")
    assert not mistakes_of(fenced)
    assert all(topic.name.startswith("replay.june.small.") for topic in topics_of(fenced))
    assert {topic.config["message.timestamp.type"] for topic in topics_of(fenced)} == {"LogAppendTime"}
    assert (fenced.output.reply_to_prefix, fenced.archive.root, fenced.start) == ("", "", "earliest")
    raw, live_raw = topics_of(fenced)[0], topics_of(live)[0]
    assert raw.name == Topics(prefix_of("june") + "small").raw
    assert int(raw.config["max.message.bytes"]) > int(live_raw.config["max.message.bytes"]), "marks need room"
    with pytest.raises(ConfigurationRefused, match="is a replay's already"):
        of_run(fenced, "june")
    with pytest.raises(ConfigurationRefused, match="use a-z 0-9 and -"):
        of_run(live, "June.1")


def test_a_live_pipeline_that_names_a_run_is_a_mistake_and_so_is_the_form_without_one():
    def wrong(name: str, run: str) -> list[str]:
        import msgspec

        return [str(one) for one in mistakes_of(msgspec.structs.replace(pipeline(), name=name, replay=run))]

    assert wrong("replay.june.small", "june") == []
    assert "a live pipeline takes no replay" in wrong("small", "june")[0]
    assert "cannot begin a topic's name" in wrong("replay.june.small", "")[0]
    assert "cannot begin a topic's name" in wrong("replay.june.", "june")[0]
    assert "names no run" in wrong("replay.A.small", "A")[0]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("rv-src", b"t/0/1")],
        [("rv-replay", b"r"), ("rv-src", b"t")],
        [("rv-replay", b"r"), ("rv-src", b"t/a/b")],
    ],
)
def test_marks_that_cannot_be_read_are_none(headers):
    assert source_of(headers) is None


def chunks(partition: int, times: list[int], size: int = 3) -> Iterator[Chunk]:
    for start in range(0, len(times), size):
        part = times[start : start + size]
        offsets = list(range(start, start + len(part)))
        yield Chunk(partition, offsets, part, [None] * len(part), [None] * len(part), None)


def flat(order, parts: list[list[int]], size: int = 3) -> list[tuple[int, int, int]]:
    runs = in_order(order, [chunks(number, times, size) for number, times in enumerate(parts)])
    return [
        (c.at_ms[place], c.partition, c.offsets[place]) for c, start, stop in runs for place in range(start, stop)
    ]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=4), st.integers(1, 4))
def test_by_time_is_the_heap_merge_of_the_partitions_and_sorts_inside_none(parts: list[list[int]], size: int):
    heads = [(times[0], number, 0) for number, times in enumerate(parts) if times]
    heapq.heapify(heads)
    expected = []
    while heads:
        at_ms, number, offset = heapq.heappop(heads)
        expected.append((at_ms, number, offset))
        if offset + 1 < len(parts[number]):
            heapq.heappush(heads, (parts[number][offset + 1], number, offset + 1))
    assert flat("time", parts, size) == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=4))
def test_by_offset_is_each_partition_in_its_own_order(parts: list[list[int]]):
    found = flat("offset", parts)
    for number, times in enumerate(parts):
        assert [(at, offset) for at, own, offset in found if own == number] == [(at, o) for o, at in enumerate(times)]


def test_due_times_are_absolute_so_that_a_late_record_delays_no_other():
    schedule = Schedule(Pace(speed=10), started_s=100.0)
    assert [schedule.due_s(at_ms) for at_ms in (5_000, 6_000, 15_000)] == [100.0, 100.1, 101.0]
    schedule.sent(100.1, 107.0)
    schedule.sent(101.0, 101.2)
    assert schedule.worst_s == pytest.approx(6.9)
    assert schedule.due_s(25_000) == 102.0
    rated = Schedule(Pace(rate=4), started_s=1.0)
    assert [rated.due_s(0) for _ in range(5)] == [1.0, 1.25, 1.5, 1.75, 2.0]


def test_a_range_that_ends_before_it_begins_is_refused():
    for start, end in ((5, 5), (6, 5)):
        with pytest.raises(ConfigurationRefused, match="before it begins"):
            Selection(since_ms=start, until_ms=end)
    with pytest.raises(ConfigurationRefused, match="offsets 1:5-4: the range ends before it begins"):
        Selection(spans=(Span(1, 5, 4),))
    with pytest.raises(ConfigurationRefused, match="partition 1 is given twice"):
        Selection(spans=(Span(1, 0, 4), Span(1, 6, 9)))
