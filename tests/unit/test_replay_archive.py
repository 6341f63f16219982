"""What of an archive is replayed, and every archive and condition that is refused, with file and range."""

import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from agents.cli import when
from agents.cli.progress import progress
from agents.cli.replay import replay
from agents.replay import running
from agents.replay.checkpoint import Checkpoint, CheckpointFile, NotKept
from agents.replay.running import Asked, Replay, Report
from agents.replay.source import NothingThere, Source, parts_of
from agents.replay.where import matches
from schemas.errors import ConfigurationRefused
from schemas.requests import Headers
from streams.archive.compaction import compact
from streams.archive.layout import Layout
from streams.archive.retention import DAY_MS, retire
from streams.archive.segment import ArchiveDamaged, Record, sealed_parts
from streams.archive.writer import Limits, PartitionWriter
from streams.core.replay import IdField
from streams.core.replay_order import Chunk, Pace, Selection, Span
from streams.kafka.clients import Cluster
from tests.unit.small import TEXT, pipeline

TOPIC = "small.raw"
PER_FILE = 10


def value_of(offset: int) -> bytes | None:
    if offset % 10 == 7:
        return None
    return b"{no json" if offset % 10 == 8 else json.dumps({"request_id": f"r{offset}", "x": offset}).encode()


def record(offset: int) -> Record:
    headers: Headers | None = [("h", b"\x00"), ("h", None)] if offset % 2 else None
    return Record(offset, 1_000 + 10 * offset, 1, f"k{offset}".encode(), value_of(offset), headers)


def write(root: Path, files: int = 3, partition: int = 0, topic: str = TOPIC) -> PartitionWriter:
    writer = PartitionWriter(Layout(root, topic, partition), Limits(PER_FILE, 1 << 20, 60.0), "id", "w")
    for _ in range(files):
        writer.append([record(writer.next_offset + place) for place in range(PER_FILE)], 0.0)
        writer.close_segment()
    return writer


def read(root: Path, selection: Selection, after: int = 0, *, matched: bool = False) -> tuple[list[Chunk], Source]:
    parts = parts_of(root, TOPIC, selection)
    source = Source(selection, IdField("request_id"), matches(parts, selection.where) if matched else None)
    return [chunk for part in parts for chunk in source.chunks(part, after, lambda _: None)], source


def offsets(root: Path, after: int = 0, **selection: object) -> list[int]:
    chosen = Selection(**selection)  # type: ignore[arg-type]
    return [offset for chunk in read(root, chosen, after, matched=bool(chosen.where))[0] for offset in chunk.offsets]


def test_records_come_as_they_were_archived(tmp_path: Path):
    write(tmp_path)
    chunks, source = read(tmp_path, Selection())
    found = [
        Record(offset, at_ms, 1, key, value, None if chunk.headers is None else chunk.headers[place])
        for chunk in chunks
        for place, (offset, at_ms, key, value) in enumerate(
            zip(chunk.offsets, chunk.at_ms, chunk.keys, chunk.values, strict=True)
        )
    ]
    assert found == [record(offset) for offset in range(30)]
    assert source.selected == 30


def test_each_condition_chooses_and_all_must_hold(tmp_path: Path):
    write(tmp_path)
    assert offsets(tmp_path, since_ms=1_100, until_ms=1_130) == [10, 11, 12]
    assert offsets(tmp_path, spans=(Span(0, 9, 11),)) == [9, 10, 11]
    assert offsets(tmp_path, ids=("r5", "r21", "0-17", "0-18")) == [5, 17, 18, 21], "minted ids are ids too"
    assert offsets(tmp_path, where="cast(event->>'x' as int) between 3 and 11") == [3, 4, 5, 6, 9, 10, 11]
    assert offsets(tmp_path, where="decode(key) = 'k17' or len(headers) = 2 and kafka_offset < 4") == [1, 3, 17]
    assert offsets(tmp_path, since_ms=1_100, spans=(Span(0, 9, 14),), ids=("r12", "r9", "r15")) == [12]


def test_what_was_sent_before_is_counted_and_left_out(tmp_path: Path):
    write(tmp_path)
    chunks, source = read(tmp_path, Selection(since_ms=1_050), after=27)
    assert [chunk.offsets for chunk in chunks] == [[27, 28, 29]]
    assert source.selected == 25


def test_an_empty_archive_and_another_pipelines_are_told_apart(tmp_path: Path):
    with pytest.raises(ConfigurationRefused, match=r"the archive holds nothing of small\.raw; it is empty: run the"):
        parts_of(tmp_path, TOPIC, Selection())
    write(tmp_path, topic="fraud.raw")
    with pytest.raises(ConfigurationRefused, match=r"it is another pipeline's, and holds fraud\.raw: name"):
        parts_of(tmp_path, TOPIC, Selection())
    write(tmp_path)
    with pytest.raises(NothingThere, match=r"no partition 4 \(offsets 4:0-\); there are 0"):
        parts_of(tmp_path, TOPIC, Selection(spans=(Span(4),)))


def test_a_file_that_lies_among_another_partitions_is_refused(tmp_path: Path):
    write(tmp_path)
    write(tmp_path, files=4, partition=1)
    Layout(tmp_path, TOPIC, 1).segment(30).rename(Layout(tmp_path, TOPIC, 0).segment(30))
    with pytest.raises(ArchiveDamaged, match=r"0030\.parquet: a file of small.raw/1, in the folder of small.raw/0"):
        parts_of(tmp_path, TOPIC, Selection())


def test_a_gap_is_refused_with_file_and_range_where_it_is_in_the_range(tmp_path: Path):
    write(tmp_path)
    Layout(tmp_path, TOPIC, 0).segment(10).unlink()

    def missing(**selection: object) -> str:
        return "".join(parts_of(tmp_path, TOPIC, Selection(**selection))[0].missing)  # type: ignore[arg-type]

    assert missing().endswith("0020.parquet: offsets 10 to 19 are missing before it")
    assert "10 to 19" in missing(spans=(Span(0, 5),))
    assert "offsets 10 to 12" in missing(spans=(Span(0, 5, 12),))
    assert "offsets 30 to 31" in missing(spans=(Span(0, 20, 31),))
    assert "10 to 19" in missing(since_ms=1_050, until_ms=1_250)
    assert not missing(spans=(Span(0, 0, 9),))
    assert not missing(spans=(Span(0, 20),))
    assert not missing(since_ms=1_201)
    assert not missing(until_ms=1_090), "what is missing is later"
    assert missing(until_ms=1_091)


def test_the_last_file_is_missed_when_it_is_gone_and_what_retention_took_is_not(tmp_path: Path):
    layout = write(tmp_path).layout
    layout.segment(20).unlink()
    assert parts_of(tmp_path, TOPIC, Selection())[0].missing[0].endswith("offsets 20 to 29 are missing at its end")
    assert parts_of(tmp_path, TOPIC, Selection(since_ms=1_000))[0].missing
    assert not parts_of(tmp_path, TOPIC, Selection(until_ms=1_190))[0].missing, "what is missing is later"
    assert retire(layout, 1_100 + DAY_MS, 1, "w").end == 10
    (part,) = parts_of(tmp_path, TOPIC, Selection(spans=(Span(0, 5, 15),)))
    assert (part.missing, part.explained[0].endswith("offsets 5 to 9 are missing before it")) == ((), True)
    assert [(one.start, one.end) for one in part.ranges] == [(10, 16)]


def test_a_compaction_meanwhile_costs_a_replay_nothing(tmp_path: Path):
    layout = write(tmp_path, files=5).layout
    (part,) = parts_of(tmp_path, TOPIC, Selection())
    chunks = Source(Selection(), IdField("request_id"), None).chunks(part, 0, lambda _: None)
    found = next(chunks).offsets
    assert list(compact(layout, time.time() + 10_000))
    for chunk in chunks:
        found += chunk.offsets
    assert found == list(range(50))


def test_a_gap_that_the_archiver_marked_is_said_and_passed(tmp_path: Path):
    writer = write(tmp_path, files=1)
    writer.note_gap(20, "retention")
    writer.append([record(20)], 0.0)
    writer.close_segment()
    (part,) = parts_of(tmp_path, TOPIC, Selection())
    assert not part.missing
    assert "offsets 10 to 19" in part.explained[0]


def test_what_retention_takes_between_choosing_and_sending_is_no_silent_loss(tmp_path: Path):
    layout = write(tmp_path).layout
    (part,) = parts_of(tmp_path, TOPIC, Selection())
    retire(layout, 1_100 + DAY_MS, 1, "w")
    with pytest.raises(ArchiveDamaged, match="offsets 0 to 9 were deleted by retention since they were chosen"):
        list(part.batches())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 4
    path.write_bytes(bytes(data))


def test_a_damaged_file_in_the_middle_is_named_with_its_range_after_what_came_before(tmp_path: Path):
    write(tmp_path)
    path = Layout(tmp_path, TOPIC, 0).segment(10)
    damage(path)
    (part,) = parts_of(tmp_path, TOPIC, Selection())
    source = Source(Selection(), IdField("request_id"), None)
    chunks = source.chunks(part, 0, lambda _: None)
    assert next(chunks).offsets == list(range(10))
    with pytest.raises(ArchiveDamaged, match=r"0010\.parquet: offsets 10 to 19 are not as they were sealed"):
        next(chunks)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArchiveDamaged, match=r"0010\.parquet: no readable Parquet file"):
        parts_of(tmp_path, TOPIC, Selection())


def test_no_flipped_bit_of_a_value_is_sent_on(tmp_path: Path):
    path = write(tmp_path, files=1).layout.segment(0)
    good, values = path.read_bytes(), pq.read_metadata(path).row_group(0).column(4)
    expected = read(tmp_path, Selection())[0][0].values
    refused = 0
    for place in range(values.data_page_offset, values.data_page_offset + values.total_compressed_size, 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ 2]) + good[place + 1 :])
        try:
            assert read(tmp_path, Selection())[0][0].values == expected, place
        except ArchiveDamaged:
            refused += 1
    assert refused > 20


def test_a_newer_format_is_refused_before_anything_is_read(tmp_path: Path):
    write(tmp_path)
    path = Layout(tmp_path, TOPIC, 0).segment(20)
    table = pq.read_table(path, partitioning=None)
    path.unlink()
    path.write_bytes(
        b"".join(sealed_parts(table.replace_schema_metadata({**table.schema.metadata, b"format": b"9"})))
    )
    with pytest.raises(ArchiveDamaged, match=r"0020\.parquet: format '9'; this program reads"):
        parts_of(tmp_path, TOPIC, Selection())


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("x =", "not one SQL condition: Parser Error: syntax error at or near"),
        ("kafka_offset = 3) or (true", "syntax error"),
        ("true; drop view raw", "more than one statement"),
        ("true, false", "only a single expression"),
        ("nope = 1", '"nope" not found'),
        ("(select count(*) from read_text('/etc/hostname')) > 0", "Permission Error: Cannot access file"),
        ("(select count(*) from glob('/*')) > 0", "Permission Error"),
        ("exists (select * from 'http://127.0.0.1:1/x.parquet')", "Permission Error"),
        ("exists (from read_parquet('{outside}'))", "Permission Error"),
    ],
)
def test_a_condition_that_is_none_or_looks_elsewhere_is_refused(tmp_path: Path, condition: str, says: str):
    write(tmp_path / "archive")
    outside = write(tmp_path / "other").layout.segment(0)
    with pytest.raises(ConfigurationRefused) as found:
        offsets(tmp_path / "archive", where=condition.format(outside=outside))
    assert says in str(found.value)
    assert str(found.value).startswith("--where ")


def test_a_damaged_file_is_named_although_the_condition_met_it_first(tmp_path: Path):
    write(tmp_path)
    path = Layout(tmp_path, TOPIC, 0).segment(10)
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(bytes(data))
    with pytest.raises(ArchiveDamaged, match=r"0010\.parquet"):
        offsets(tmp_path, where="event->>'x' = '3'")


def test_without_duckdb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationRefused, match=r"--where needs DuckDB.*rendezvous-kafka\[sql\]"):
        offsets(tmp_path, where="true")


def checkpoint(**changes: object) -> Checkpoint:
    fields = {"run": "r", "source": TOPIC, "target": "t", "target_id": "i", "asked": {}, "selection": Selection()}
    return Checkpoint(**{**fields, **changes})


def test_a_checkpoint_is_whole_at_every_moment_and_a_full_disk_is_said(tmp_path: Path):
    file = CheckpointFile(tmp_path, "june", "small")
    assert file.read() is None
    with file.held():
        file.write(checkpoint(following={0: 5}))
        file.path.with_suffix(".tmp").symlink_to("/dev/full")  # the kernel's own full disk
        with pytest.raises(NotKept, match=r"june\.small\.json: the checkpoint is not written: No space left"):
            file.write(checkpoint(following={0: 9}))
        with pytest.raises(ConfigurationRefused, match="another process is at this run"), file.held():
            raise AssertionError("held twice")
    found = file.read()
    assert found is not None
    assert found.following == {0: 5}
    file.path.write_bytes(b"{half")
    with pytest.raises(ConfigurationRefused, match="no readable checkpoint"):
        file.read()


def asked_of(
    root: Path, asked: dict[str, list[str]] | None = None, *, allow_gaps: bool = False, **selection: object
) -> Asked:
    return Asked(
        run="june",
        pipeline=pipeline(),
        archive=root,
        selection=Selection(**selection),  # type: ignore[arg-type]
        asked=asked or {},
        order="offset",
        pace=Pace(),
        target="replay.june.small.raw",
        allow_gaps=allow_gaps,
    )


def look(
    root: Path, asked: dict[str, list[str]] | None = None, *, allow_gaps: bool = False, **selection: object
) -> Report:
    return Replay(asked_of(root, asked, allow_gaps=allow_gaps, **selection), None, root / "state").look()


def test_a_dry_run_says_what_would_be_sent(tmp_path: Path):
    write(tmp_path)
    write(tmp_path, partition=1, files=1)
    report = look(tmp_path, since_ms=1_250)
    assert (report.sent, report.selected, report.dry_run) == (5, 5, True)
    assert {number: (one.first, one.last, one.records) for number, one in report.partitions.items()} == {
        0: (25, 29, 5)
    }
    assert look(tmp_path, ids=("r3", "nobody")).unknown_ids == ["nobody"]
    with pytest.raises(NothingThere, match=r"no record of small\.raw fits --since 9"):
        look(tmp_path, {"--since": ["9"]}, since_ms=9_999)


def test_a_gap_is_passed_only_when_that_is_said(tmp_path: Path):
    write(tmp_path)
    Layout(tmp_path, TOPIC, 0).segment(10).unlink()
    with pytest.raises(ArchiveDamaged, match="say --allow-gaps"):
        look(tmp_path)
    report = look(tmp_path, allow_gaps=True)
    assert report.sent == 20
    assert "offsets 10 to 19" in report.gaps[0]


def test_a_run_is_held_to_what_it_was_asked_for(tmp_path: Path):
    write(tmp_path)
    file = CheckpointFile(tmp_path / "state", "june", "small")
    file.path.parent.mkdir()
    file.write(
        checkpoint(target="replay.june.small.raw", asked={"--since": ["2h"]}, selection=Selection(since_ms=1_200))
    )
    with pytest.raises(ConfigurationRefused, match="run june was asked for --since 2h .* and now for --since 3h"):
        look(tmp_path, {"--since": ["3h"]})
    report = look(tmp_path, {"--since": ["2h"]}, since_ms=1_290)
    assert report.sent == 10, "2h ago is what it was at the first time"


def test_what_is_written_down_as_sent_is_confirmed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setattr(running, "ends_of", lambda *_: calls.append("looked") or {})
    monkeypatch.setattr(CheckpointFile, "write", lambda *_: calls.append("written"))
    of = Replay(asked_of(tmp_path), Cluster("nowhere:1"), tmp_path)
    of._keep(SimpleNamespace(flush=lambda: calls.append("confirmed")), checkpoint())  # type: ignore[arg-type]
    assert calls == ["confirmed", "looked", "written"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "2013-07-02", "--until", "2013-07-01"], "the range ends before it starts: 2013-07-02T00:00"),
        (["--since", "soon"], "--since 'soon': no instant"),
        (["--offsets", "0:9-1"], "the range ends before it begins"),
        (["--offsets", "all"], "write PARTITION:START-END"),
        (["--speed", "0"], "--speed '0'"),
        (["--speed", "nan"], "--speed 'nan'"),
        (["--speed", "2", "--rate", "5"], "give one of them"),
        (["--speed", "2", "--order", "offset"], "say --order time"),
        (["--rate", "-1"], "above 0"),
        (["--rate", "nan"], "above 0"),
    ],
)
def test_wrong_use_is_exit_2_with_what_to_write(tmp_path: Path, arguments: list[str], says: str):
    file = tmp_path / "small.toml"
    file.write_text(TEXT)
    found = CliRunner().invoke(replay, ["-P", str(file), *arguments])
    assert found.exit_code == 2, found.output
    assert says in found.stderr


def test_instants_are_written_in_three_ways(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    assert when.instant("2013-07-01T05:00", "") == when.instant("2013-07-01T07:00+02:00", "") == 1_372_654_800_000
    assert when.instant("1372654800000", "") == 1_372_654_800_000
    assert (when.instant("2h", ""), when.instant("1.5d", "")) == (992_800_000, 870_400_000)


def test_on_a_terminal_a_replay_shows_how_far_it_is_how_fast_and_how_long_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with progress("replayed", 1_000) as advance:
        advance(250)
    assert capsys.readouterr().err == "", "nothing where nobody looks"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "100", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with progress("replayed", 1_000) as advance:
        for _ in range(3):
            advance(250)
            time.sleep(0.15)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"replayed .* 750/1000 [\d,]+/s 0:00:0\d", shown), shown
