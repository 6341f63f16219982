"""Compaction, retention and `forget`: exact at every moment, and safe to kill at any step."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents.replay.source import parts_of
from schemas.blocks import RowError, decode_scores, encode_scores, offsets_of, score_block, scores_of
from schemas.dead_letters import DeadLetter
from schemas.decisions import Decision, Ticket, encode_decision
from schemas.enriched import decode_enriched, encode_enriched, enriched_block, rows_of
from schemas.errors import ConfigurationRefused
from schemas.topics import Topics
from streams.archive import compaction, reader, segment
from streams.archive.compaction import compact
from streams.archive.derived import write_derived
from streams.archive.disk import ArchiveBusy, drop_leftovers
from streams.archive.forgetting import Wanted, find, forget
from streams.archive.inspection import holding, troubles
from streams.archive.layout import Layout, partitions
from streams.archive.lives import settle
from streams.archive.marks import read_marks
from streams.archive.ranges import Period, read_period, times_held
from streams.archive.reader import read_partition, summary
from streams.archive.retention import DAY_MS, retire
from streams.archive.rewriting import alone
from streams.archive.scores import write_scores
from streams.archive.segment import ArchiveDamaged, Record, Vanished
from streams.archive.writer import Limits, PartitionWriter
from streams.core.replay_order import Selection
from streams.kill_points import BY_HAND, VARIABLE
from tests.broker.commands import python, rendezvous

LIMITS = Limits(1_000, 1 << 20, 60.0)
OLD_S = 3.0 * compaction.CLOSED_S
TOPIC = "small.raw"


def archived(root: Path, topic: str, records: list[Record], size: int, topic_id: str = "id") -> Layout:
    """These records in files of so many each."""
    writer = PartitionWriter(Layout(root, topic, 0), LIMITS, topic_id, "w")
    for start in range(0, len(records), size):
        writer.append(records[start : start + size], 0.0)
        writer.close_segment()
    return writer.layout


def plain(offset: int, value: bytes | None = None, headers: list[tuple[str, bytes | None]] | None = None) -> Record:
    raw = json.dumps({"request_id": f"r{offset}", "x": offset}).encode() if value is None else value
    return Record(offset, 1_000 * offset, 1, f"k{offset}".encode(), raw, headers)


def raws(count: int) -> list[Record]:
    return [plain(offset) for offset in range(count)]


def later(layout: Layout, **options: int) -> list[compaction.Merged]:
    return list(compact(layout, time.time() + OLD_S, **options))


def killed(code: str, point: str, folder: Path, nth: int = 1) -> bool:
    """Run this code in a process of its own; whether it died at a point, at the n-th pass."""
    done = python(code, {**os.environ, VARIABLE: f"{point}:{nth}:{folder / point}"})
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode == -9


def test_small_files_are_merged_and_every_record_stays_what_it_was(tmp_path: Path):
    records = raws(50)
    layout = archived(tmp_path, TOPIC, records, 5)
    assert list(compact(layout, time.time())) == [], "younger than an hour"
    (merged,) = later(layout)
    assert (merged.files, merged.start, merged.end) == (9, 0, 45)
    assert [path.name for path in layout.segments()] == [f"{0:019d}.parquet", f"{45:019d}.parquet"]
    assert list(read_partition(tmp_path, TOPIC, 0)) == records
    assert list(troubles(layout)) == []
    assert duckdb.sql(
        f"select count(*), count(distinct kafka_offset) from '{tmp_path}/data/**/*.parquet'"
    ).fetchall() == [(50, 50)]
    assert later(layout) == [], "nothing is left to merge"


def test_files_are_not_merged_over_a_gap_nor_beyond_the_target(tmp_path: Path):
    writer = PartitionWriter(Layout(tmp_path, TOPIC, 0), LIMITS, "id", "w")
    for start in (0, 5, 10, 20, 25, 30):
        if start == 20:
            writer.note_gap(20, "retention")
        writer.append([plain(offset) for offset in range(start, start + 5)], 0.0)
        writer.close_segment()
    one = writer.layout.segments()[0].stat().st_size
    assert [(found.start, found.end) for found in later(writer.layout, target_bytes=2 * one + one // 2)] == [
        (0, 10),
        (20, 30),
    ]
    assert later(writer.layout, target_bytes=one) == []
    assert len(list(read_partition(tmp_path, TOPIC, 0))) == 30


def test_files_that_overlap_are_read_and_merged_without_a_double(tmp_path: Path):
    layout = archived(tmp_path / "a", TOPIC, raws(10), 10)
    other = PartitionWriter(Layout(tmp_path / "b", TOPIC, 0), LIMITS, "id", "w")
    other.note_gap(5, "elsewhere")
    for end in (15, 20):
        other.append(raws(end)[5:], 0.0)
        other.close_segment()
    for path in other.layout.segments():
        layout.segment(int(path.stem)).write_bytes(path.read_bytes())
    assert [trouble.kind for trouble in troubles(layout)] == ["overlap"]
    assert list(read_partition(layout.root, TOPIC, 0)) == raws(20)
    (merged,) = later(layout)
    assert (merged.files, merged.end) == (2, 15)
    assert list(read_partition(layout.root, TOPIC, 0)) == raws(20)
    assert list(troubles(layout)) == []


def test_one_at_a_time_rewrites_a_partition(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(20), 5)
    with alone(layout), pytest.raises(ArchiveBusy, match="another process compacts or rewrites here"):
        later(layout)


def test_a_reader_that_is_overtaken_by_a_compaction_misses_and_doubles_nothing(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    reading = read_partition(tmp_path, TOPIC, 0)
    found = [next(reading) for _ in range(3)]
    later(layout)
    found += reading
    assert found == raws(50)


def test_a_compaction_between_a_footer_and_its_records_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    layout = archived(tmp_path, TOPIC, raws(40), 10)
    merged: list[compaction.Merged] = []

    def overtaken(path: Path) -> segment.Footer:
        found = segment.read_footer(path)
        merged.extend(later(layout))
        return found

    monkeypatch.setattr(reader, "read_footer", overtaken)
    assert list(read_partition(tmp_path, TOPIC, 0)) == raws(40)
    assert [one.files for one in merged] == [3]


LOOKS: dict[str, Callable[[Layout], object]] = {
    "holding": holding,
    "troubles": troubles,
    "summary": lambda layout: summary(layout.root).rows,
    "times_held": lambda layout: times_held(layout.root, layout.topic, [0]),
    "read_period": lambda layout: list(read_period(layout.root, layout.topic, 0, Period(35_000))),
    "replay": lambda layout: [part.rows for part in parts_of(layout.root, layout.topic, Selection())],
    "forget": lambda layout: find(layout.root, Topics("small"), WANTED),
}


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_at_files_that_a_compaction_takes_away_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
):
    before = LOOKS[look](archived(tmp_path / "still", TOPIC, raws(40), 10))
    layout = archived(tmp_path / "moved", TOPIC, raws(40), 10)
    merged: list[compaction.Merged] = []
    segments, busy = Layout.segments, list[str]()

    def overtaken(layout: Layout) -> list[Path]:
        listed = segments(layout)
        busy.append("listed")
        if len(busy) == (2 if look == "replay" else 1):  # it lists twice, and looks after the second time
            busy.append("")
            merged.extend(later(layout))
        return listed

    monkeypatch.setattr(Layout, "segments", overtaken)
    found = LOOKS[look](layout)
    assert [one.files for one in merged] == [3]
    if look == "holding":
        assert (found.rows, found.end, found.to_ms) == (before.rows, before.end, before.to_ms)  # type: ignore[attr-defined]
    else:
        assert found == before


def test_a_file_that_is_listed_and_never_there_is_a_loss(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(40), 10)
    layout.segments()[1].unlink()
    layout.segment(10).symlink_to(tmp_path / "nowhere")
    for look in LOOKS.values():
        with pytest.raises(Vanished, match="0000010.parquet: it is not there any more; restore it from a copy"):
            look(layout)


def test_a_reader_that_is_overtaken_by_retention_says_so(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    reading = read_partition(tmp_path, TOPIC, 0)
    assert [next(reading).offset for _ in range(5)] == [0, 1, 2, 3, 4]
    retire(layout, 14_500 + DAY_MS, 1, "w")
    with pytest.raises(ArchiveDamaged, match="offsets 5 to 14 were deleted by retention while they were read"):
        list(reading)
    assert [record.offset for record in read_partition(tmp_path, TOPIC, 0)] == list(range(15, 50))


COMPACT = (
    "import time; from pathlib import Path; from streams.archive.compaction import compact; "
    "from streams.archive.layout import Layout\n"
    "list(compact(Layout(Path({root!r}), {topic!r}, 0), time.time() + 10_000))\n"
)


@pytest.mark.parametrize("point", [point for point in BY_HAND if point.startswith("compact")])
def test_a_compaction_killed_at_any_step_leaves_the_archive_exact_and_can_be_run_again(tmp_path: Path, point: str):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    code = COMPACT.format(root=str(tmp_path), topic=TOPIC)
    assert killed(code, point, tmp_path)
    assert list(read_partition(tmp_path, TOPIC, 0)) == raws(50)
    assert {trouble.kind for trouble in troubles(layout)} <= {"overlap"}
    later(layout)
    assert list(read_partition(tmp_path, TOPIC, 0)) == raws(50)
    assert (len(layout.segments()), list(troubles(layout))) == (2, [])
    assert list(layout.staging.glob("*.part")) == []


def test_what_a_killed_compaction_had_merged_goes_even_when_nothing_more_fits(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    assert killed(COMPACT.format(root=str(tmp_path), topic=TOPIC), "compact.after_replace", tmp_path)
    assert later(layout, target_bytes=layout.segments()[0].stat().st_size) == []
    assert (len(layout.segments()), list(troubles(layout))) == (2, [])
    assert list(read_partition(tmp_path, TOPIC, 0)) == raws(50)


def test_old_files_go_whole_and_nobody_calls_it_a_gap(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    now_ms = 19_000 + 2 * DAY_MS
    assert retire(layout, now_ms, 2, "w").end == 15, "of the file 15-19 the last record is just not old enough"
    assert [record.offset for record in read_partition(tmp_path, TOPIC, 0)] == list(range(15, 50))
    assert list(troubles(layout)) == []
    assert retire(layout, now_ms, 2, "w").files == 0
    assert retire(layout, now_ms + 100 * DAY_MS, 2, "w").end == 45, "the last one stays"
    assert PartitionWriter(layout, LIMITS, "id", "w").next_offset == 50


RETIRE = (
    "from pathlib import Path; from streams.archive.retention import retire; from streams.archive.layout import Layout\n"
    "retire(Layout(Path({root!r}), {topic!r}, 0), 19_000 + 86_400_000, 1, 'w')\n"
)


def test_what_retention_has_not_deleted_yet_may_be_merged_and_is_no_overlap(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    assert killed(RETIRE.format(root=str(tmp_path), topic=TOPIC), "retire.after_delete", tmp_path)
    (merged,) = later(layout)
    assert (merged.start, merged.end) == (5, 45), "15 of them are old"
    assert list(troubles(layout)) == []
    assert [record.offset for record in read_partition(tmp_path, TOPIC, 0)] == list(range(15, 50))


@pytest.mark.parametrize("point", [point for point in BY_HAND if point.startswith("retire")])
def test_a_deletion_by_age_killed_at_any_step_can_be_run_again(tmp_path: Path, point: str):
    layout = archived(tmp_path, TOPIC, raws(50), 5)
    code = RETIRE.format(root=str(tmp_path), topic=TOPIC)
    assert killed(code, point, tmp_path)
    assert [record.offset for record in read_partition(tmp_path, TOPIC, 0)] == list(range(15, 50))
    retire(layout, 19_000 + DAY_MS, 1, "w")
    assert layout.segments()[0].name == f"{15:019d}.parquet"
    assert list(troubles(layout)) == []


def test_a_topic_made_anew_has_a_tree_of_its_own_and_the_old_one_stays_readable(tmp_path: Path):
    assert settle(tmp_path, TOPIC, "first", "w") is None
    layout = archived(tmp_path, TOPIC, raws(10), 5, "first")
    assert settle(tmp_path, TOPIC, "first", "w") is None
    assert settle(tmp_path, TOPIC, "second", "w") == 1
    assert PartitionWriter(layout, LIMITS, "second", "w").next_offset == 0
    archived(tmp_path, TOPIC, raws(3), 5, "second")
    assert settle(tmp_path, TOPIC, "third", "w") == 2
    assert list(read_partition(tmp_path, TOPIC, 0)) == []
    assert list(read_partition(tmp_path, TOPIC, 0, tree="data-1")) == raws(10)
    assert list(read_partition(tmp_path, TOPIC, 0, tree="data-2")) == raws(3)
    assert [found.tree for found in partitions(tmp_path)] == ["data-1", "data-2"]


def test_of_a_life_that_is_over_all_goes_by_age_and_nobody_calls_it_a_gap(tmp_path: Path):
    settle(tmp_path, TOPIC, "first", "w")
    archived(tmp_path, TOPIC, raws(20), 5, "first")
    settle(tmp_path, TOPIC, "second", "w")
    now = archived(tmp_path, TOPIC, raws(20), 5, "second")
    closed = Layout(tmp_path, TOPIC, 0, "data-1")
    assert retire(closed, 12_000 + DAY_MS, 1, "w").files == 2
    assert list(troubles(closed)) == []
    assert retire(closed, 100_000 + DAY_MS, 1, "w").end == 20
    assert (closed.segments(), list(troubles(closed))) == ([], [])
    assert len(now.segments()) == 4, "each life has notes of its own"


def test_a_change_of_lives_killed_between_its_two_moves_is_finished(tmp_path: Path):
    archived(tmp_path, TOPIC, raws(10), 5, "first")
    settle(tmp_path, TOPIC, "first", "w")
    (tmp_path / "staging-1").mkdir()
    (tmp_path / "staging" / TOPIC).rename(tmp_path / "staging-1" / TOPIC)
    assert settle(tmp_path, TOPIC, "second", "w") == 1
    assert list(read_partition(tmp_path, TOPIC, 0, tree="data-1")) == raws(10)


def decision(offset: int, request_id: str) -> bytes:
    return encode_decision(
        Decision(
            request_id=request_id,
            ticket=Ticket(0, offset),
            outcome="preferred",  # type: ignore[arg-type]
            final=True,
            revision=0,
            model="m",
            version="1",
            score=0.5,
            scores={},
            missing=[],
            failed={},
            not_asked={},
            budget_ms=100,
            used_ms=1.0,
            decided_at_ms=0,
            reason="",
        )
    )


def whole(root: Path) -> dict[str, Layout]:
    """Forty requests with all that became of them; number 7 (r7) came twice, and once as no JSON."""
    records = raws(40)
    records[23] = plain(23, records[7].value)
    records[30] = plain(30, rb'{"request_id": "\u00727", "x": 1}')
    records[31] = plain(31, b'{"x": "not mine: r7 stands here"}')
    blocks = [
        encode_scores(
            score_block(
                "m",
                "1",
                np.arange(n, n + 10),
                np.arange(n, n + 10) / 100,
                (RowError(7, "raised"),) if n == 20 else (),
            )
        )
        for n in (0, 10, 20, 30)
    ]
    blocks.append(encode_scores(score_block("n", "1", np.array([7]), np.array([0.5]))))
    joined = [(range(n, n + 10), {"t": [b"%d" % offset for offset in range(n, n + 10)]}) for n in (0, 10, 20, 30)]
    joined.append((range(7, 8), {"t": [b"7"]}))
    kept = [encode_enriched(enriched_block(list(offsets), columns))[0] for offsets, columns in joined]
    ids = {23: "r7", 30: "r7", 31: "0-31"}
    letter = DeadLetter("small.raw", 0, 23, "router", "invalid", "x: no").headers()
    return {
        "raw": archived(root, "small.raw", records, 10),
        "scores": archived(root, "small.scores", [plain(n, block) for n, block in enumerate(blocks)], 2),
        "enriched": archived(root, "small.enriched", [plain(n, value) for n, value in enumerate(kept)], 2),
        "decisions": archived(
            root, "small.decisions", [plain(n, decision(n, ids.get(n, f"r{n}"))) for n in range(40)], 10
        ),
        "letters": archived(
            root,
            "small.dead-letters",
            [plain(0, b"{", letter), plain(1, b"{r7", None), plain(2, b"{other", None)],
            10,
        ),
    }


WANTED = Wanted("r7", None, ("request_id",))


def left_of(layout: Layout) -> list[int]:
    return [record.offset for record in read_partition(layout.root, layout.topic, 0)]


def assert_forgotten(found: dict[str, Layout]) -> None:
    kept = [offset for offset in range(40) if offset not in {7, 23, 30}]
    assert left_of(found["raw"]) == kept
    assert left_of(found["decisions"]) == kept
    assert left_of(found["letters"]) == [2]
    blocks = [decode_scores(record.value) for record in read_partition(found["scores"].root, "small.scores", 0)]
    rows = [offset for block in blocks for offset in offsets_of(block.offsets)]  # type: ignore[union-attr]
    scores = [score for block in blocks for score in scores_of(block.scores)]  # type: ignore[union-attr]
    assert rows == kept
    assert scores == [offset / 100 for offset in kept]
    assert not any(block.errors for block in blocks)  # type: ignore[union-attr]
    assert left_of(found["scores"]) == [0, 1, 2, 3], "a block without rows goes whole"
    values = [record.value for record in read_partition(found["enriched"].root, "small.enriched", 0)]
    joined = [row for value in values for row in rows_of(decode_enriched(value))]
    assert joined == [(offset, {"t": b"%d" % offset}) for offset in kept]
    for layout in found.values():
        assert list(troubles(layout)) == []


def test_forget_takes_out_one_request_everywhere_and_nothing_else(tmp_path: Path):
    found = whole(tmp_path)
    planned = list(forget(tmp_path, "small", WANTED, "w", dry_run=True))
    assert left_of(found["raw"]) == list(range(40)), "a dry run rewrites nothing"
    done = list(forget(tmp_path, "small", WANTED, "w", dry_run=False))
    assert done == planned
    assert_forgotten(found)
    assert [mark.offset for mark in read_marks(found["raw"]).forgotten] == [7, 23, 30]
    assert list(forget(tmp_path, "small", WANTED, "w", dry_run=False)) == []
    for layout in found.values():
        assert not any(b'"r7"' in (record.value or b"") for record in read_partition(tmp_path, layout.topic, 0))


def test_forget_by_ticket_takes_out_that_one_only(tmp_path: Path):
    found = whole(tmp_path)
    list(forget(tmp_path, "small", Wanted(None, (0, 31), ("request_id",)), "w", dry_run=False))
    assert left_of(found["raw"]) == [offset for offset in range(40) if offset != 31]
    assert left_of(found["decisions"]) == [offset for offset in range(40) if offset != 31]


def test_forget_by_ticket_leaves_alone_who_had_it_in_an_earlier_life(tmp_path: Path):
    for name in ("old", "new"):
        archived(tmp_path, "small.raw", [plain(0, b'{"request_id": "%s"}' % name.encode())], 1)
        archived(tmp_path, "small.decisions", [plain(0, decision(0, name))], 1)
        for topic in ("small.raw", "small.decisions") if name == "old" else ():
            assert settle(tmp_path, topic, "second", "w") == 1
    list(forget(tmp_path, "small", Wanted(None, (0, 0), ("request_id",)), "w", dry_run=False))
    for topic in ("small.raw", "small.decisions"):
        assert left_of(Layout(tmp_path, topic, 0)) == []
        assert [record.offset for record in read_partition(tmp_path, topic, 0, tree="data-1")] == [0]


def test_an_id_that_was_minted_names_the_record_without_one(tmp_path: Path):
    found = whole(tmp_path)
    list(forget(tmp_path, "small", Wanted("0-31", None, ("request_id",)), "w", dry_run=False))
    assert left_of(found["raw"]) == [offset for offset in range(40) if offset != 31]


FORGET = (
    "from pathlib import Path; from streams.archive.forgetting import Wanted, forget\n"
    "list(forget(Path({root!r}), 'small', Wanted('r7', None, ('request_id',)), 'w', dry_run=False))\n"
)


@pytest.mark.parametrize("nth", [1, 5])
@pytest.mark.parametrize("point", [point for point in BY_HAND if point.startswith(("forget", "mark"))])
def test_a_forget_killed_at_any_step_is_finished_by_the_next(tmp_path: Path, point: str, nth: int):
    found = whole(tmp_path)
    code = FORGET.format(root=str(tmp_path))
    assert killed(code, point, tmp_path, nth)
    for layout in found.values():
        assert list(troubles(layout)) == []
    list(forget(tmp_path, "small", WANTED, "w", dry_run=False))
    assert_forgotten(found)


def test_the_last_record_of_a_file_and_all_of_a_file_may_be_forgotten(tmp_path: Path):
    layout = archived(
        tmp_path, TOPIC, [plain(n, b'{"request_id": "r7"}' if n in {5, 6, 9} else None) for n in range(10)], 2
    )
    list(forget(tmp_path, "small", WANTED, "w", dry_run=False))
    assert left_of(layout) == [0, 1, 2, 3, 4, 8]
    assert list(troubles(layout)) == []
    assert PartitionWriter(layout, LIMITS, "id", "w").next_offset == 10
    later(layout)
    assert left_of(layout) == [0, 1, 2, 3, 4, 8]
    assert holding(layout).forgotten == 4


def test_scores_become_a_table_for_sql(tmp_path: Path):
    whole(tmp_path)
    out = tmp_path / "scores.parquet"
    assert write_scores(tmp_path, "small.scores", out) == 42
    rows = duckdb.sql(
        f"select model, count(score), count(error), sum(score) from '{out}' group by model order by model"
    )
    assert rows.fetchall() == [("m", 40, 1, pytest.approx(7.8)), ("n", 1, 0, 0.5)]


def test_two_that_write_one_table_at_once_each_write_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, schema = tmp_path / "x.parquet", pa.schema([("x", pa.int64())])

    def meanwhile() -> Iterator[pa.Table]:
        yield pa.table({"x": [1]}, schema)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(os, "getpid", lambda: 1)
            assert write_derived(out, schema, [pa.table({"x": [2]}, schema)]) == 1
            assert pq.read_table(out).column("x").to_pylist() == [2]
        yield pa.table({"x": [3]}, schema)

    assert write_derived(out, schema, meanwhile()) == 2
    assert pq.read_table(out).column("x").to_pylist() == [1, 3]
    assert list(tmp_path.iterdir()) == [out]


def test_temporary_files_of_dead_writers_of_this_host_go_whatever_they_are_of(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host, dead = "a.b-c", process.pid
    names = {
        f"by=payment.amount~{host}-{dead}.tmp": False,
        f"0000000000000000007~{host}-{dead}.tmp": False,
        f"by=payment.amount~{host}-{os.getpid()}.tmp": True,
        f"0000000000000000007~b-c-{dead}.tmp": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    drop_leftovers(tmp_path, f"{host}-1")
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_table_takes_no_devices_place_and_leaves_nothing_where_it_cannot_be_written(tmp_path: Path):
    archived(tmp_path, "small.scores", [], 5)
    pipe, absent = tmp_path / "pipe", tmp_path / "absent" / "scores.parquet"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationRefused, match="pipe: it is there, and no regular file; name a file that can be"):
        write_scores(tmp_path, "small.scores", pipe)
    assert pipe.is_fifo()
    with pytest.raises(ConfigurationRefused, match="nothing is left of it: name a file that can be written"):
        write_scores(tmp_path, "small.scores", absent)
    assert not absent.parent.exists()


FILE = """
name = "small"
[[features]]
name = "x"
type = "number"
[[models]]
name = "first"
version = "1"
kind = "constant"
value = 0.9
role = "champion"
[default]
score = 0.1
[archive]
root = "kept"
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "pipeline.toml").write_text(FILE)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return rendezvous([*words, "-P", str(tmp_path / "pipeline.toml")], os.environ)

    return command


Run = Callable[..., subprocess.CompletedProcess[str]]


def test_ls_says_what_is_there_and_check_names_every_trouble(tmp_path: Path, run: Run):
    root = tmp_path / "kept"
    layout = whole(root)["raw"]
    listed = [json.loads(text) for text in run("archive", "ls", "--json").stdout.splitlines()]
    assert [(one["topic"], one["rows"], one["start"], one["end"]) for one in listed] == [
        ("small.dead-letters", 3, 0, 3),
        ("small.decisions", 40, 0, 40),
        ("small.enriched", 5, 0, 5),
        ("small.raw", 40, 0, 40),
        ("small.scores", 5, 0, 5),
    ]
    assert (listed[3]["from_ms"], listed[3]["to_ms"], listed[3]["files"]) == (0, 39_000, 4)
    PartitionWriter(Layout(tmp_path / "kept", "small.labels", 0), LIMITS, "id", "w")
    lines = run("archive", "ls").stdout
    assert "small.raw/0: 4 files, 40 rows, " in lines
    assert "small.labels/0: no file\n" in lines
    sound = run("archive", "check")
    assert (sound.returncode, sound.stdout, sound.stderr) == (0, "", "15 files read, all sound\n")
    _, second, third, fourth = layout.segments()
    second.write_bytes(second.read_bytes()[:-5])
    fourth.unlink()
    third.rename(layout.segment(27))
    found = run("archive", "check", "--json")
    assert found.returncode == 3
    told = [json.loads(text) for text in found.stdout.splitlines()]
    assert [(one["kind"], Path(one["path"]).name[:19].lstrip("0"), one["start"], one["end"]) for one in told] == [
        ("damaged", "10", 10, 27),
        ("damaged", "27", 27, 40),
    ]
    assert run("archive", "check").stderr.endswith("2 things wrong\n")


def test_bad_archives_are_named(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    for command in ("ls", "check", "compact"):
        nothing = run("archive", command)
        assert (nothing.returncode, "the archive holds nothing of small; it is empty" in nothing.stderr) == (5, True)
    archived(tmp_path / "kept", "other.raw", raws(10), 5)
    other = run("archive", "check")
    assert (other.returncode, "it is another pipeline's, and holds other.raw" in other.stderr) == (5, True)
    layout = archived(tmp_path / "kept", TOPIC, raws(10), 5)
    newer = layout.segments()[0]
    monkeypatch.setattr(segment, "FORMAT", "2")
    newer.write_bytes(archived(tmp_path / "newer", TOPIC, raws(10), 5).segments()[0].read_bytes())
    monkeypatch.undo()
    found = run("archive", "check")
    assert found.returncode == 3
    assert f"{newer}: format '2'; this program reads format 1: upgrade it" in found.stdout
    with pytest.raises(ArchiveDamaged, match="format '2'"):
        list(read_partition(tmp_path / "kept", TOPIC, 0))


def test_a_file_in_the_folder_of_another_topic_is_refused(tmp_path: Path):
    layout = archived(tmp_path, TOPIC, raws(10), 5)
    foreign = archived(tmp_path, "other.raw", raws(5), 5)
    layout.segments()[0].write_bytes(foreign.segments()[0].read_bytes())
    with pytest.raises(ArchiveDamaged, match=r"a file of other.raw/0, in the folder of small.raw/0"):
        list(read_partition(tmp_path, TOPIC, 0))


def test_compact_and_forget_by_command(tmp_path: Path, run: Run):
    found = whole(tmp_path / "kept")
    before = summary(tmp_path / "kept").files
    done = run("archive", "compact", "--closed-s", "0", "--json")
    assert done.returncode == 0, done.stderr
    merged = [json.loads(text)["files"] for text in done.stdout.splitlines()]
    assert summary(tmp_path / "kept").files == before - sum(merged) + len(merged)
    assert run("archive", "compact", "--closed-s", "0").stderr == "nothing to merge\n"
    dry = run("forget", "r7", "--dry-run")
    assert (dry.returncode, "would be rewritten" in dry.stderr) == (0, True)
    asked = run("forget", "r7")
    assert asked.returncode == 1, "nobody answered the question"
    assert asked.stderr.endswith("nothing was changed; --yes does not ask\n")
    assert left_of(found["raw"]) == list(range(40))
    done = run("forget", "r7", "--yes")
    assert (done.returncode, "2 records taken out" in done.stdout) == (0, True)
    assert_forgotten(found)
    assert run("forget", "r7", "--yes").returncode == 3
    table = run("archive", "scores", "--out", str(tmp_path / "scores.parquet"))
    assert (table.returncode, "scores.parquet: 37 rows" in table.stderr) == (0, True)
    assert all(a.end <= b.start for a, b in pairwise(map(holding, layouts_of(tmp_path / "kept", "small.raw"))))


def test_a_word_that_is_an_id_and_a_ticket_is_asked_about(tmp_path: Path, run: Run):
    records = [plain(n, b'{"request_id": "0/%d"}' % (n + 1)) for n in range(3)]
    layout = archived(tmp_path / "kept", "small.raw", records, 3)
    asked = run("forget", "0/1", "--yes")
    assert (asked.returncode, "--as id or --as ticket" in asked.stderr) == (5, True), asked.stderr
    assert left_of(layout) == [0, 1, 2]
    assert run("forget", "0/1", "--yes", "--as", "id").returncode == 0
    assert left_of(layout) == [1, 2]
    assert run("forget", "0/1", "--yes").returncode == 0, "now it can be the ticket only"
    assert left_of(layout) == [2]
    assert run("forget", "0/3", "--yes", "--as", "ticket").returncode == 3
    assert run("forget", "r7", "--yes", "--as", "ticket").returncode == 2


def test_forget_says_what_a_monitor_may_have_kept_of_it(tmp_path: Path, run: Run):
    archived(tmp_path / "kept", "small.raw", raws(3), 3)
    assert "probes" not in run("forget", "r1", "--yes").stderr
    file = tmp_path / "pipeline.toml"
    file.write_text(FILE + "[monitor]\nprobes = 17\n")
    done = run("forget", "r2", "--yes")
    assert "one of its 17 probes" in done.stderr
    assert ".rendezvous/small/monitor/snapshot" in done.stderr


def layouts_of(root: Path, topic: str) -> list[Layout]:
    return [layout for layout in partitions(root) if layout.topic == topic]
