"""One record per request: every score beside the answer that was given, equal to what the other readers tell."""

from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from agents.cli.archive import comparisons
from agents.cli.golden import golden_check
from schemas.blocks import NotAskedBlock, RejectionBlock, RowError, pack_offsets
from schemas.decisions import Decision, decode_decision, encode_decision
from schemas.errors import ConfigurationRefused
from schemas.roster import State, encode_roster
from schemas.topics import Topics
from streams.archive.comparisons import TABLE
from streams.archive.layout import Layout
from streams.archive.ranges import Period
from streams.archive.scores import write_scores
from streams.archive.segment import ArchiveDamaged, Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core import comparison
from streams.core.again import Again
from streams.core.comparison import LATE_MS, UNDECIDED_MS, Comparing, Roles
from streams.core.entitlement import always
from streams.core.lead import LEAD_MS
from tests.unit.lived import START_MS, Lived, play
from tests.unit.small import TEXT, errors, pipeline, request, scores
from tests.unit.test_backtest import pipeline_file, steady, uneven, values
from tests.unit.test_readme import README
from tests.unit.test_roster import move
from tests.unit.test_two_versions import ARRIVES, TAKES_OVER, history

SMALL = pipeline()
Rows = dict[int, dict[str, Any]]


def run(root: Path, *options: str, text: str = TEXT) -> Result:
    file = pipeline_file(root, text)
    command = ["-P", str(file), "--root", str(root), "--out", str(root / "comparisons.parquet"), *options]
    return CliRunner().invoke(comparisons, command, standalone_mode=False)


def compared(root: Path, *options: str, text: str = TEXT) -> Rows:
    """What the command writes, by offset."""
    done = run(root, *options, text=text)
    assert done.exception is None, done.exception
    table = pq.read_table(root / "comparisons.parquet")
    assert table.schema.equals(TABLE)
    return {row["raw_offset"]: row for row in table.to_pylist()}


def said(row: dict[str, Any], model: str, version: str = "1") -> dict[str, Any]:
    (found,) = [one for one in row["models"] if (one["model"], one["version"]) == (model, version)]
    return dict(found)


def finals(lived: Lived) -> dict[int, tuple[Decision, int]]:
    found: dict[int, tuple[Decision, int]] = {}
    for record in lived.decisions:
        decision = decode_decision(record.value or b"")
        if decision.final:
            found.setdefault(decision.ticket.offset, (decision, record.timestamp_ms))
    return found


def put(root: Path, topic: str, records: list[Record]) -> None:
    writer = PartitionWriter(Layout(root, topic, 0), Limits(1000, 1 << 26, 60.0), "id", "w")
    writer.append(records, 0.0)
    writer.close_segment()


@pytest.fixture(scope="module")
def lived() -> Lived:
    return play(SMALL, values(900), 1, uneven)


@pytest.fixture(scope="module")
def root(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived.write(tmp_path_factory.mktemp("lived"), SMALL.name)


@pytest.fixture(scope="module")
def rows(root: Path) -> Rows:
    return compared(root)


def test_every_request_has_one_record_with_the_answer_that_was_given(lived: Lived, rows: Rows):
    answers = finals(lived)
    assert list(rows) == list(range(900)), "in the order of raw"
    for offset, (decision, log_ms) in answers.items():
        row = rows[offset]
        assert row["request_id"] == decision.request_id
        assert (row["outcome"], row["winner"], row["version"], row["score"]) == (
            decision.outcome,
            decision.model,
            decision.version,
            decision.score,
        )
        assert (row["decided_ms"], row["used_ms"], row["reason"]) == (log_ms, decision.used_ms, decision.reason)
        assert row["log_time_ms"] == lived.raw[offset].timestamp_ms
        repeated = decision.duplicate_of
        assert row["duplicate_of"] == (None if repeated is None else repeated.offset)
        seen = {one["model"]: one["score"] for one in row["models"] if one["seen"]}
        assert seen == {model: one.score for model, one in decision.scores.items()}
    assert {row["outcome"] for row in rows.values()} == {"preferred", "fallback", "default"}
    assert any(row["duplicate_of"] is not None for row in rows.values())


def test_every_archived_score_and_error_is_in_it_late_ones_too(root: Path, rows: Rows):
    out = root / "scores.parquet"
    write_scores(root, f"{SMALL.name}.scores", out)
    columns = "partition, raw_offset, model, version, score, error, log_time_ms"
    archived = duckdb.sql(f"select {columns} from '{out}' order by all").fetchall()
    told = duckdb.sql(
        f"""with each as (select *, unnest(models) as said from '{root / "comparisons.parquet"}')
        select partition, raw_offset, said.model, said.version, said.score, said.error, log_time_ms + said.took_ms
        from each where said.took_ms is not null order by all"""
    ).fetchall()
    assert told == archived
    assert len(told) > 3_000


def test_who_is_late_failed_or_never_answers_is_told_apart(rows: Rows):
    late = silent = failed = 0
    for row in rows.values():
        assert [(one["model"], one["role"]) for one in row["models"]] == [
            ("first", "champion"),
            ("second", "challenger"),
            ("mirror", "shadow"),
            ("yardstick", "canary"),
        ]
        for one in row["models"]:
            took_ms = one["took_ms"]
            assert one["late"] == (took_ms is None or took_ms > row["budget_ms"])
            silent += took_ms is None
            late += one["score"] is not None and one["late"]
            failed += one["error"] == "raised"
    assert min(late, silent, failed) > 50


def test_what_each_policy_step_saw_ends_with_who_won_where_the_answer_is_the_written_one(
    lived: Lived, root: Path, rows: Rows
):
    told = [row for row in rows.values() if row["duplicate_of"] is None]
    for row in told:
        assert row["as_written"] == (
            tuple(row["again"][name] for name in ("outcome", "winner", "version", "score"))
            == (row["outcome"], row["winner"], row["version"], row["score"])
        )
        last = row["trace"][-1]
        assert row["trace"][0]["what"] == "read"
        assert (last["what"], last["chosen"]) == (
            ("final, by default", None) if row["again"]["winner"] is None else ("final", row["again"]["winner"])
        )
        # In the order of what has come: the steps name the very scores that are beside them.
        scores = {one["model"]: one["score"] for one in row["models"]}
        for step in row["trace"]:
            model, _, score = step["what"].partition(" scores ")
            assert not score or float(score) == scores[model]
    assert {row["as_written"] for row in told} == {True, False}, "timers that were late decided otherwise"
    equal = golden_check(root, SMALL, Period())
    assert equal.ok
    assert sum(row["as_written"] for row in rows.values()) == equal.equal + equal.equal_all_the_same


def test_a_request_that_asked_for_its_trace_was_told_the_same_steps(tmp_path: Path):
    lived = play(SMALL, values(100, repeats=False), 2, steady(first=20.0), headers=lambda _: [("diagnostics", b"1")])
    found = compared(lived.write(tmp_path, SMALL.name))
    for offset, (decision, _) in finals(lived).items():
        assert decision.trace is not None
        assert [step["what"] for step in found[offset]["trace"]][-1] == decision.trace[-1].what
        assert {step.what for step in decision.trace} <= {
            *(step["what"] for step in found[offset]["trace"]),
            *(f"{one['model']} scores {one['score']}" for one in found[offset]["models"]),
        }


def test_an_answer_that_is_not_the_one_given_again_says_both(lived: Lived, tmp_path: Path):
    """As one is that was recovered after a restart, or written by a standby in its own time."""
    own = Lived(lived.raw, lived.scores, list(lived.decisions))
    place, one = next(
        (place, one)
        for place, record in enumerate(own.decisions)
        if (one := decode_decision(record.value or b"")).outcome == "preferred" and one.duplicate_of is None
    )
    changed = replace(one, outcome="default", model=None, version=None, score=0.1, recovered=True, standby=True)
    own.decisions[place] = replace(own.decisions[place], value=encode_decision(changed))
    row = compared(own.write(tmp_path, SMALL.name))[one.ticket.offset]
    assert (row["outcome"], row["recovered"], row["standby"], row["as_written"]) == ("default", True, True, False)
    assert (row["again"]["outcome"], row["again"]["winner"], row["again"]["score"]) == (
        "preferred",
        "first",
        one.score,
    )


def test_of_two_final_decisions_and_a_revision_the_first_final_one_counts(lived: Lived, tmp_path: Path):
    decision, _ = finals(lived)[7]
    own = Lived(lived.raw, lived.scores, list(lived.decisions))
    place = next(n for n, one in enumerate(own.decisions) if decode_decision(one.value or b"").ticket.offset == 7)
    before = own.decisions[place]
    own.decisions[place : place + 1] = [
        replace(before, value=encode_decision(replace(decision, score=0.123, final=False))),
        before,
        replace(before, value=encode_decision(replace(decision, score=0.456))),
    ]
    own.decisions = [replace(record, offset=number) for number, record in enumerate(own.decisions)]
    row = compared(own.write(tmp_path, SMALL.name))[7]
    assert (row["outcome"], row["score"]) == (decision.outcome, decision.score)


def test_the_range_is_that_of_raw_and_a_repeat_finds_its_first_before_it(tmp_path: Path):
    lived = play(SMALL, [b'{"request_id":"r%d","x":1}' % n for n in (*range(200), *range(100))], 1, steady(first=9.0))
    root = lived.write(tmp_path, SMALL.name)
    since, until = lived.raw[200].timestamp_ms, lived.raw[280].timestamp_ms
    found = compared(root, "--since", str(since), "--until", str(until))
    assert sorted(found) == [n for n in range(300) if since <= lived.raw[n].timestamp_ms < until]
    assert [found[n]["duplicate_of"] for n in range(210, 220)] == list(range(10, 20))
    assert all(row["as_written"] for row in found.values())


def test_the_monitors_own_requests_are_left_out(lived: Lived, tmp_path: Path):
    own = Lived(lived.raw, lived.scores, list(lived.decisions))
    for place, record in enumerate(own.decisions):
        decision = decode_decision(record.value or b"")
        if decision.ticket.offset % 10 == 3:
            own.decisions[place] = replace(record, value=encode_decision(replace(decision, probe=True)))
    found = compared(own.write(tmp_path, SMALL.name))
    assert sorted(found) == [n for n in range(900) if n % 10 != 3]


def test_each_versions_place_is_that_of_the_requests_own_time(tmp_path: Path):
    """Version 2 comes beside the champion, takes over, hangs and is passed over."""
    over = move("first", State.CHAMPION, State.PASSED_OVER, "2")
    moves = history(*ARRIVES, TAKES_OVER, over, at_ms=START_MS - 2_000.0)
    lived = play(
        SMALL,
        [b'{"request_id":"r%d","x":%d}' % (n, n) for n in range(2_000)],
        latency_ms=lambda _, model: 20.0,
        score=lambda model, offset: offset / 10_000,
        beside={"first": "2"},
        spans=moves.spans,
    )
    root = lived.write(tmp_path, SMALL.name)
    records = [
        Record(one.position, int(one.log_ms), 1, None, encode_roster(one.record), None) for one in moves.entries
    ]
    put(root, Topics(SMALL.name).roster_history, records)
    found = compared(root)
    begins = [(START_MS + ms + 500, place) for ms, place in ((1_000, 1), (2_000, 2), (3_000, 3))]
    roles = [("champion", None), ("champion", "beside"), ("beside", "champion"), ("beside", "passed-over")]
    told = set()
    for row in found.values():
        place = max((place for from_ms, place in begins if row["log_time_ms"] >= from_ms), default=0)
        assert (said(row, "first")["role"], said(row, "first", "2")["role"]) == roles[place]
        assert said(row, "first", "2")["score"] == 0.5 + said(row, "first")["score"] / 2
        assert said(row, "first", "2")["seen"] == (place == 2) or place == 3
        told.add(place)
    assert told == {0, 1, 2, 3}


def test_every_reader_opens_it_and_the_query_of_the_readme_holds_a_shadow_against_the_champion(
    root: Path, rows: Rows
):
    out = root / "comparisons.parquet"
    query = README.split("### One record per request")[1].split("```sql")[1].split("```")[0]
    found = duckdb.sql(query.replace("comparisons.parquet", str(out)).replace("better", "mirror")).fetchall()
    wanted = [
        row["raw_offset"]
        for row in rows.values()
        if (champion := said(row, "first")["score"]) is not None
        and (shadow := said(row, "mirror")["score"]) is not None
        and (champion >= 0.5) != (shadow >= 0.5)
    ]
    assert len(found) == len(wanted) > 100
    assert len(pandas.read_parquet(out)) == 900
    frame = polars.read_parquet(out).explode("models").unnest("models", separator=".")
    assert frame.filter(polars.col("models.role") == "shadow").height == 900


def test_a_range_without_requests_and_a_gap_are_refused_and_leave_nothing(lived: Lived, tmp_path: Path):
    root = lived.write(tmp_path, SMALL.name, rows=300)
    empty = run(root, "--since", str(START_MS + 10_000_000))
    assert isinstance(empty.exception, ConfigurationRefused)
    assert "no request of small.raw in" in str(empty.exception)
    (gone,) = (root / "data").glob("topic=small.raw/partition=0/*0300.parquet") or [None]
    gone.unlink()
    damaged = run(root)
    assert isinstance(damaged.exception, ArchiveDamaged)
    assert not [*root.glob("*comparisons.parquet*")]


def test_what_the_archive_does_not_tell_of_its_end_is_left_out_and_said(lived: Lived, tmp_path: Path):
    cut_ms = lived.raw[600].timestamp_ms
    own = Lived(
        lived.raw,
        [record for record in lived.scores if record.timestamp_ms < cut_ms],
        [record for record in lived.decisions if record.timestamp_ms < cut_ms],
    )
    root = own.write(tmp_path, SMALL.name)
    done = run(root)
    found = pq.read_table(root / "comparisons.parquet").column("raw_offset").to_pylist()
    assert f"{900 - len(found)} requests at the end left out" in done.stderr
    assert f"{len(found)} rows" in done.stderr
    assert 500 < len(found) <= 600
    assert all(lived.raw[offset].timestamp_ms < cut_ms for offset in found)


# One partition's core, without files.


def comparing(**more: Any) -> Comparing:
    again = Again(SMALL, 0, 0, LEAD_MS, traced=True)
    return Comparing(0, again, Roles(always(SMALL)), **more)


def decided(offset: int, at_ms: int = 1_000) -> Decision:
    return Decision(
        f"r{offset}", replace(FIRST.ticket, offset=offset), FIRST.outcome, True, 0, "first", "1", 0.7, {}, [], {}, {},
        100, 5.0, at_ms + 5, "because",
    )  # fmt: skip


def _first() -> Decision:
    lived = play(SMALL, values(1), 1, steady(first=5.0))
    return decode_decision(lived.decisions[0].value or b"")


FIRST = _first()


def all_said(one: Comparing, offset: int, log_ms: int, but: str = "") -> None:
    for place, model in enumerate(SMALL.models):
        if model.name != but:
            one.scores_offered(scores(model.name, offset), 4 * offset + place, log_ms)


def test_a_record_is_closed_when_all_is_there_or_at_last_a_minute_after_its_deadline():
    one = comparing()
    one.requests_seen([request(0), request(1, 1_001), request(2, 1_002)])
    for offset, but in enumerate(("", "mirror", "")):
        all_said(one, offset, 1_010, but)
        one.decided(decided(offset), 1_011)
    one.end_of_raw()
    assert [row.offset for row in one.ready(1_000 + 100 + 1_000)] == []
    assert [row.offset for row in one.ready(1_000 + 100 + 1_001)] == [0]
    assert list(one.ready(1_001 + 100 + LATE_MS)) == []
    assert one.waiting
    silent, whole = one.ready(1_001 + 100 + LATE_MS + 1)
    assert [said.late for said in silent.said.values()] == [False, False, True, False]
    assert whole.offset == 2
    one.scores_offered(scores("mirror", 1), 99, 70_000)
    assert one.closed == 1


def test_a_request_that_nobody_decides_is_waited_for_longer_and_told_without_an_answer():
    one = comparing()
    one.requests_seen([request(0)])
    all_said(one, 0, 1_010)
    assert list(one.ready(1_100 + UNDECIDED_MS)) == []
    (found,) = one.ready(1_100 + UNDECIDED_MS + 1)
    assert (found.decision, found.as_written) == (None, None)


def test_what_comes_before_its_request_is_kept_and_what_is_nobodys_is_not():
    one = comparing()
    all_said(one, 1, 1_010)
    one.decided(decided(1), 1_011)
    one.scores_offered(scores("mirror", 3, 1 << 40), 50, 1_010)
    one.requests_seen([request(0), request(1, 1_005), request(5, 1_006)])
    assert not one._ahead
    one.end_of_raw()
    one.scores_offered(scores("mirror", 6), 51, 1_012)
    assert not one._ahead
    rest = {row.offset: row for row in one.rest(9_000, 9_000)}
    assert rest[1].whole
    assert rest[1].decision == decided(1)
    assert rest[0].decision is None


def test_of_a_model_the_first_score_counts_and_an_error_stays_beside_it():
    one = comparing()
    one.requests_seen([request(0)])
    one.scores_offered(errors("mirror", 0), 0, 1_020)
    one.scores_offered(scores("mirror", 0, score=0.2), 1, 1_300)
    one.scores_offered(scores("mirror", 0, score=0.3), 2, 1_310)
    one.scores_offered(errors("mirror", 0), 3, 1_320)
    one.scores_offered(scores("stranger", 0), 4, 1_330)
    one.decided(decided(0), 1_005)
    one.end_of_raw()
    (found,) = one.rest(9_000, 9_000)
    mirror, stranger = found.said["mirror", "1"], found.said["stranger", "1"]
    assert (mirror.error, mirror.score, mirror.took_ms, mirror.late) == ("raised", 0.2, 300, True)
    assert (stranger.role, stranger.score) == ("", 0.7)


def test_who_was_not_asked_is_not_late_and_a_request_that_was_refused_has_nobody():
    one = comparing()
    one.requests_seen([request(0), request(1)])
    one.scores_offered(NotAskedBlock(("mirror", "second"), pack_offsets([0]), "overloaded"), 0, 1_005)
    one.scores_offered(RejectionBlock((RowError(1, "no"),)), 1, 1_005)
    for offset in (0, 1):
        one.decided(decided(offset), 1_006)
    one.end_of_raw()
    rest = list(one.rest(9_000, 9_000))
    assert [(said.not_asked, said.late) for said in rest[0].said.values()] == [
        (None, True),
        ("overloaded", False),
        ("overloaded", False),
        (None, True),
    ]
    assert rest[1].said == {}


@pytest.mark.parametrize(("silent", "most"), [("", 120), ("mirror", 6_110)])
def test_only_what_is_open_is_held(silent: str, most: int):
    """At a request each 10 ms: a second and the budget, or a minute where a model is silent."""
    one, held, count, told = comparing(), 0, 7_000, 0
    for start in range(0, count, 100):
        offsets, end_ms = range(start, start + 100), 1_000 + 10 * (start + 100)
        one.requests_seen([request(offset, 1_000 + 10 * offset) for offset in offsets])
        for model in SMALL.models:
            if model.name != silent:
                one.scores_offered(scores(model.name, *offsets), 0, end_ms)
        for offset in offsets:
            one.decided(decided(offset), end_ms)
        told += sum(1 for _ in one.ready(end_ms))
        held = max(held, len(one._open))
    assert held <= most + 100
    assert told + len(one._open) == count


def test_for_a_silent_model_no_more_than_so_many_are_held_and_one_that_is_not_decided_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
):
    """At a request each 10 ms a minute is 6,000 of them."""
    monkeypatch.setattr(comparison, "HELD", 500)
    one, told = comparing(), list[int]()
    for start in range(0, 3_000, 100):
        offsets, end_ms = range(start, start + 100), 1_000 + 10 * (start + 100)
        one.requests_seen([request(offset, 1_000 + 10 * offset) for offset in offsets])
        for model in SMALL.models[:2]:
            one.scores_offered(scores(model.name, *offsets), 0, end_ms)
        for offset in offsets:
            if offset != 1_500:
                one.decided(decided(offset), end_ms)
        told += [row.offset for row in one.ready(end_ms)]
        assert start >= 1_500 or len(one._open) <= 500
    assert told == list(range(1_500)), "in the order of raw"
    one.scores_offered(scores("mirror", 7), 1, 31_000)
    assert one.closed == 1, "what comes for one that was closed is counted"
    one.decided(decided(1_500), 31_000)
    assert [row.offset for row in one.ready(31_000)] == list(range(1_500, 2_500))
