"""`models promote` holds a model against the labels that are archived, unless a file of them is named."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import json

from agents.cli import moves
from agents.cli.beside import Asked, shown
from agents.cli.known import labels_of
from schemas.decisions import Ticket
from schemas.labels import Label, encode_label
from schemas.roster import LEAD_MS
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.entitlement import History
from tests.unit.small import TEXT, pipeline

OF = pipeline()
AT_MS = 1_764_000_000_000
GATES = "\n[promotion]\nshadow_s = 0\nrequests = 1\n"


def asked(count: int) -> dict[Ticket, Asked]:
    """The champion is right about the first half, the candidate about the second; all is true."""
    half = count // 2
    return {
        Ticket(0, n): Asked(
            f"r{n}", AT_MS + n, 100, 0.2 if n < half else 0.8, AT_MS + n + 5, champion=0.8 if n < half else 0.2
        )
        for n in range(count)
    }


def archive(root: Path, labels: list[Label], log_ms: int = AT_MS + 60_000) -> None:
    writer = PartitionWriter(Layout(root, Topics("small").labels, 0), Limits(10_000, 1 << 20, 60.0), "id", "w")
    start = writer.scan()
    writer.append(
        [Record(start + n, log_ms, 1, None, encode_label(one), None) for n, one in enumerate(labels)],
        0.0,
    )
    writer.close_segment()


def test_archived_labels_are_joined_by_id_and_by_ticket_with_their_weights(tmp_path: Path):
    archive(tmp_path, [Label(True, "r0"), Label(False, "r0"), Label(True, ticket=Ticket(0, 2), weight=7.0)])
    archive(tmp_path, [Label(True, "r1")], AT_MS - 60_000)  # before its request: of another one of that name
    found = shown(asked(4), labels_of(None, tmp_path, OF))
    assert [(one.label, one.weight) for one in found] == [(False, 1.0), (None, 1.0), (True, 7.0), (None, 1.0)]


def test_a_file_of_labels_is_taken_instead_of_the_archive(tmp_path: Path):
    archive(tmp_path, [Label(True, "r0")])
    file = tmp_path / "labels.jsonl"
    file.write_text('{"request_id": "r1", "label": false}\n')
    found = shown(asked(3), labels_of(file, tmp_path, OF))
    assert [one.label for one in found] == [None, False, None]


@pytest.fixture
def promote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command, without a Kafka: what was asked of both is given."""
    file = tmp_path / "p.toml"
    file.write_text(TEXT + GATES)
    of = pipeline(TEXT + GATES)
    monkeypatch.setattr(moves, "look", lambda _: (of, None, History(of)))
    monkeypatch.setattr(moves, "asked_of", lambda *_: asked(20))
    monkeypatch.setattr(moves, "decided_since", lambda *_: 20)
    monkeypatch.setattr(moves, "oldest_ms", lambda *_: AT_MS)
    monkeypatch.setattr(moves, "beside_s", lambda *_: 1e6 + LEAD_MS)

    def command(*words: str) -> Result:
        more = ["--dry-run", "-P", str(file), "--archive", str(tmp_path / "archive"), *words]
        return CliRunner().invoke(moves.promote, ["second", *more], standalone_mode=False, catch_exceptions=False)

    return command


def test_a_model_that_the_archived_labels_speak_against_is_refused_with_their_number(tmp_path: Path, promote):
    archive(tmp_path / "archive", [Label(True, f"r{n}") for n in range(12)])
    found = promote()
    assert found.return_value == 3
    assert (
        "accuracy_loss: right on 16.67% of 12 labelled requests, the champion 83.33%; "
        "there are labels for 60.00% of what both scored"
    ) in found.stderr
    figures = json.decode(promote("--json").stdout)["figures"]
    assert (figures["labelled"], figures["coverage"]) == (12, 0.6)


def test_labels_drawn_for_the_work_list_do_not_speak_for_the_disputed_alone(tmp_path: Path, promote):
    drawn = [Label(True, f"r{n}") for n in range(4)] + [Label(True, "r15", weight=10.0)]
    archive(tmp_path / "archive", drawn)
    found = promote()
    assert found.return_value == 0, found.stderr
    assert "right on 71.43% of 5 labelled, the champion on 28.57%" in found.stderr


def test_without_an_archive_of_labels_accuracy_is_not_asked_for_and_that_is_said(promote):
    found = promote()
    assert found.return_value == 0
    assert "none of them has a label" in found.stderr
