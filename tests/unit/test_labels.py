"""Labels: what is one, how they are sent from a file, and which of them counts for which request."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agents.cli.label import Reading
from schemas.decisions import Ticket
from schemas.errors import UnreadableRecord
from schemas.labels import Label, decode_label, encode_label
from schemas.topics import Topics
from streams.archive.forgetting import Wanted, forget
from streams.archive.layout import Layout
from streams.archive.reader import read_partition
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.labels import (
    CONTRADICTING,
    CORRECTED,
    EARLY,
    FUTURE,
    FUTURE_MS,
    MISMATCHED,
    REPEATED,
    UNMATCHED,
    UNREADABLE,
    Labels,
    Truths,
)

HOSTILE = [
    None,
    b"",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"truth": true}',
    b'{"request_id": "a"}',
    b'{"truth": "yes", "request_id": "a"}',
    b'{"truth": 2, "request_id": "a"}',
    b'{"truth": 0.5, "request_id": "a"}',
    b'{"truth": null, "request_id": "a"}',
    b'{"truth": NaN, "request_id": "a"}',
    b'{"truth": true, "request_id": ""}',
    b'{"truth": true, "request_id": 7}',
    b'{"truth": true, "request_id": "a", "weight": 0.5}',
    b'{"truth": true, "request_id": "a", "weight": 1e999}',
    b'{"truth": true, "request_id": "a", "weight": 1e200}',
    b'{"truth": true, "request_id": "a", "weight": 1000000001}',
    b'{"truth": true, "request_id": "a", "known_at_ms": -1}',
    b'{"truth": true, "ticket": "0/1"}',
    b'{"truth": true, "ticket": {"partition": -1, "offset": 1}}',
    b'{"truth": true, "ticket": {"partition": 0, "offset": 99999999999999999999999}}',
]


def joined(*records: tuple[int, Label | bytes | None], at_ms: int = 1_000) -> Truths:
    """Labels by log time, of the requests 0/10 `a`, 0/11 `b` and 0/12 `a` again."""
    labels = Labels()
    for offset, (log_ms, label) in enumerate(records):
        labels.take(0, offset, log_ms, encode_label(label) if isinstance(label, Label) else label)
    offsets = np.array([10, 11, 12])
    return labels.join(np.zeros(3, np.int64), offsets, ["a", "b", "a"], np.array([at_ms, at_ms, at_ms + 5_000]))


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_no_label_is_refused_passed_over_and_counted(value: bytes | None):
    with pytest.raises(UnreadableRecord, match="not a label"):
        decode_label(value)
    found = joined((2_000, value), (2_000, Label(True, "b")))
    assert found.counts == {UNREADABLE: 1, "labels": 1}
    assert found.truth.tolist() == [-1, 1, -1]


def test_a_label_speaks_of_every_request_of_its_id_that_was_there_before_it():
    assert joined((2_000, Label(True, "a"))).truth.tolist() == [1, -1, -1]
    assert joined((7_000, Label(True, "a"))).truth.tolist() == [1, -1, 1]
    early = joined((500, Label(True, "a")))
    assert (early.truth.tolist(), early.counts) == ([-1, -1, -1], {EARLY: 1})


def test_a_ticket_names_one_request_and_its_id_must_be_that_request_s():
    assert joined((7_000, Label(False, None, Ticket(0, 12)))).truth.tolist() == [-1, -1, 0]
    assert joined((7_000, Label(False, "a", Ticket(0, 12)))).truth.tolist() == [-1, -1, 0]
    wrong = joined((7_000, Label(False, "b", Ticket(0, 12))))
    assert (wrong.truth.tolist(), wrong.counts) == ([-1, -1, -1], {MISMATCHED: 1})


def test_labels_for_nobody_are_counted_and_no_error():
    found = joined((7_000, Label(True, "z")), (7_000, Label(True, None, Ticket(3, 10))))
    assert (found.truth.tolist(), found.counts) == ([-1, -1, -1], {UNMATCHED: 2})


def test_the_last_one_in_the_log_counts_whatever_order_it_is_read_in():
    one, other = (9_000, Label(False, "b")), (8_000, Label(True, "b"))
    found = joined(one, other)
    assert found.truth.tolist() == [-1, 0, -1]
    assert found.counts == {"labels": 2, CORRECTED: 1}
    assert found.log_ms.tolist() == [0, 9_000, 0]


def test_repeats_corrections_and_contradictions_are_told_apart():
    again = joined((7_000, Label(True, "b")), (8_000, Label(True, "b")))
    assert again.counts == {"labels": 2, REPEATED: 1}
    later = joined((7_000, Label(True, "b", known_at_ms=5)), (8_000, Label(False, "b", known_at_ms=6)))
    assert later.counts == {"labels": 2, CORRECTED: 1}
    never = joined((7_000, Label(True, "b", known_at_ms=6)), (8_000, Label(False, "b", known_at_ms=6)))
    assert never.counts == {"labels": 2, CONTRADICTING: 1}
    assert never.truth.tolist() == [-1, 0, -1]


def test_what_was_known_only_after_the_broker_had_it_is_from_the_future():
    fine = joined((7_000, Label(True, "b", known_at_ms=7_000 + FUTURE_MS)))
    wrong = joined((7_000, Label(True, "b", known_at_ms=7_001 + FUTURE_MS)))
    assert (fine.truth[1], fine.counts) == (1, {"labels": 1})
    assert (wrong.truth[1], wrong.counts) == (-1, {FUTURE: 1})


@given(st.lists(st.tuples(st.integers(0, 20_000), st.booleans(), st.sampled_from("abz")), max_size=12), st.randoms())
def test_the_order_of_reading_changes_nothing(found: list[tuple[int, bool, str]], dice):
    places = list(enumerate(found))
    first = Labels()
    second = Labels()
    for offset, (log_ms, truth, name) in places:
        first.take(0, offset, log_ms, encode_label(Label(truth, name)))
    dice.shuffle(places)
    for offset, (log_ms, truth, name) in places:
        second.take(0, offset, log_ms, encode_label(Label(truth, name)))
    rows = (np.zeros(3, np.int64), np.array([10, 11, 12]), ["a", "b", "a"], np.array([1_000, 1_000, 6_000]))
    one, other = first.join(*rows), second.join(*rows)
    assert one.truth.tolist() == other.truth.tolist()
    assert one.log_ms.tolist() == other.log_ms.tolist()
    assert one.counts == other.counts


def sent(tmp_path: Path, name: str, text: str, truth: str = "truth", id_field: str = "request_id") -> list[Label]:
    file = tmp_path / name
    file.write_text(text)
    reading = Reading(file, (truth,), id_field, "known_at_ms")
    return [decode_label(value) for value in reading.labels(None)]


def test_a_file_of_any_kind_becomes_labels(tmp_path: Path):
    lines = '{"request_id": "a", "late": true, "more": 1}\n{"ticket": "0/12", "late": 0}\n'
    assert sent(tmp_path, "l.jsonl", lines, truth="late") == [Label(True, "a"), Label(False, None, Ticket(0, 12))]
    table = "flight,late,known_at_ms\n7,yes,5\nUA8,FALSE,\n"
    assert sent(tmp_path, "l.csv", table, truth="late", id_field="flight") == [
        Label(True, "7", known_at_ms=5),
        Label(False, "UA8"),
    ]


def test_an_id_of_a_csv_is_taken_as_it_stands(tmp_path: Path):
    ids = ["9007199254740993", "1e5", "12e34", "true", "0017", "17.0"]
    table = "\n".join(["request_id,truth", *(f"{one},1" for one in ids)])
    assert sent(tmp_path, "l.csv", table) == [Label(True, one) for one in ids]


def test_a_boolean_is_no_id(tmp_path: Path):
    assert sent(tmp_path, "l.jsonl", '{"request_id": true, "truth": true}\n{"request_id": 7, "truth": true}\n') == [
        Label(True, "7")
    ]


def test_a_line_that_is_no_label_is_named_and_the_others_are_sent(tmp_path: Path):
    from agents.cli.label import label

    file, pipeline = tmp_path / "l.jsonl", tmp_path / "p.toml"
    file.write_text('{"request_id": "a", "truth": 1}\n{"request_id": "b", "truth": "perhaps"}\nnonsense\n')
    from tests.unit.small import TEXT

    pipeline.write_text(TEXT)
    found = CliRunner().invoke(label, [str(file), "-P", str(pipeline), "--dry-run"], standalone_mode=False)
    assert found.return_value == 1
    assert "l.jsonl:2: not a label" in found.stderr
    assert "l.jsonl:3: not a label" in found.stderr
    assert "1 labels would be sent to small.labels" in found.stderr
    assert "2 lines are no labels" in found.stderr


def labelled(root: Path, *names: bytes) -> Path:
    """Requests of these ids, and labels of them: of a by its id, its ticket and as no label at all, of b by its id."""
    topics = Topics("small")
    raw = [Record(offset, 1, 1, None, b'{"request_id": "%s"}' % name, None) for offset, name in enumerate(names)]
    labels = [
        Record(0, 2, 1, None, encode_label(Label(True, "a")), None),
        Record(1, 2, 1, None, encode_label(Label(True, None, Ticket(0, 0))), None),
        Record(2, 2, 1, None, b'{"a": nonsense', None),
        Record(3, 2, 1, None, encode_label(Label(True, "b")), None),
    ]
    for topic, records in ((topics.raw, raw), (topics.labels, labels)):
        writer = PartitionWriter(Layout(root, topic, 0), Limits(100, 1 << 20, 60.0), "id", "w")
        writer.append(records, 0.0)
        writer.close_segment()
    return root


def labels_left(root: Path) -> list[int]:
    return [record.offset for record in read_partition(root, Topics("small").labels, 0)]


@pytest.mark.parametrize("wanted", [Wanted("a", None, ("request_id",)), Wanted(None, (0, 0), ("request_id",))])
def test_forget_takes_a_request_s_labels_out(tmp_path: Path, wanted: Wanted):
    list(forget(labelled(tmp_path, b"a", b"b"), "small", wanted, "w", dry_run=False))
    assert labels_left(tmp_path) == [3]


def test_forget_by_ticket_leaves_the_labels_of_an_id_that_another_request_has_too(tmp_path: Path):
    wanted = Wanted(None, (0, 0), ("request_id",))
    list(forget(labelled(tmp_path, b"a", b"b", b"a"), "small", wanted, "w", dry_run=False))
    assert labels_left(tmp_path) == [0, 2, 3]
