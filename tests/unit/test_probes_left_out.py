"""The monitor's own requests are in nobody's count: not in readers, checks, labels, reports, backtests, simulations."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agents.cli.columns import read_columns
from agents.cli.decisions import first_finals
from agents.cli.past import UNCHANGED, read_past
from agents.cli.races import read_races
from agents.replay.running import Asked, Replay, Report
from schemas.decisions import decode_answer, decode_decision, encode_decision
from schemas.probes import PROBE_MARK
from schemas.requests import Headers
from streams.archive.layout import Layout
from streams.archive.ranges import Period
from streams.core.audit import Audit
from streams.core.lead import LEAD_MS
from streams.core.past import Way
from streams.core.replay_order import Pace, Selection
from tests.unit.lived import Lived, play
from tests.unit.small import pipeline

SMALL = pipeline()
COUNT, EVERY = 200, 10
CUSTOMERS = [number for number in range(COUNT) if number % EVERY]
STRANGER = 55
WAYS = [Way(UNCHANGED, SMALL)]


def header_of(number: int) -> Headers | None:
    """Two lives of the monitor have a token each; a stranger invents one."""
    if number % EVERY == 0:
        return [("other", b"x"), (PROBE_MARK, b"%s/%d" % (b"first" if number < COUNT / 2 else b"second", number))]
    return [(PROBE_MARK, b"invented/1")] if number == STRANGER else None


@pytest.fixture(scope="module")
def lived() -> Lived:
    values = [b'{"request_id": "r%d", "x": %d}' % (number, number) for number in range(COUNT)]
    found = play(SMALL, values, headers=header_of)
    for place, record in enumerate(found.decisions):
        decision = decode_decision(record.value or b"")
        if decision.ticket.offset % EVERY == 0:
            found.decisions[place] = replace_value(record, encode_decision(replace(decision, probe=True)))
    return found


def replace_value(record: Any, value: bytes) -> Any:
    return type(record)(record.offset, record.timestamp_ms, record.timestamp_type, record.key, value, record.headers)


@pytest.fixture(scope="module")
def archive(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived.write(tmp_path_factory.mktemp("archive"), SMALL.name)


class Said:
    """A record of decisions as a consumer's client hands it out."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


def test_who_reads_decisions_is_shown_none_unless_all_are_asked_for(lived: Lived):
    messages: list[Any] = [Said(record.value or b"") for record in lived.decisions]
    shown = [decision.ticket.offset for _, decision in first_finals(messages)]
    assert sorted(shown) == CUSTOMERS
    assert len(list(first_finals(messages, everything=True))) == COUNT


def test_the_checker_counts_them_apart(lived: Lived):
    audit = Audit()
    for record in lived.raw:
        audit.accepted(record.offset, record.timestamp_ms, record.offset)
    for record in lived.decisions:
        audit.decided(decode_answer(record.value or b""), record.timestamp_ms)
    found = audit.close(archive=False)
    assert (found.accepted, found.decided, found.probes) == (COUNT, len(CUSTOMERS), COUNT - len(CUSTOMERS))
    assert (found.lost, found.ok) == (0, True)


def test_one_without_an_answer_is_lost_as_any_request_is(lived: Lived):
    audit = Audit()
    for record in lived.raw:
        audit.accepted(record.offset, record.timestamp_ms, record.offset)
    for record in lived.decisions:
        decision = decode_answer(record.value or b"")
        if decision.ticket.offset != EVERY:
            audit.decided(decision, record.timestamp_ms)
    assert audit.close(archive=False).lost == 1


def test_quality_work_list_and_report_read_the_customers_only(archive: Path):
    races = read_races(archive, SMALL, Period(None, None), ("x",)).races
    assert races.offsets.tolist() == CUSTOMERS
    assert {len(column) for column in (*races.scores.values(), *races.segments.values(), races.ids)} == {
        len(CUSTOMERS)
    }


def test_a_backtest_and_a_simulation_leave_them_out(archive: Path):
    seen = read_past(archive, SMALL, WAYS, Period(None, None), None, LEAD_MS)
    assert seen.offsets.tolist() == CUSTOMERS
    columns, _ = read_columns(archive, SMALL, WAYS, Period(None, None), None, LEAD_MS)
    assert columns.offsets.tolist() == CUSTOMERS
    assert seen.happened is not None
    assert len(seen.happened) == len(CUSTOMERS)


def replayed(root: Path, **selection: Any) -> Report:
    asked = Asked(
        run="june", pipeline=SMALL, archive=root, selection=Selection(**selection), asked={}, order="offset",
        pace=Pace(), target="replay.june.small.raw",
    )  # fmt: skip
    return Replay(asked, None, root / "state").look()


def test_a_replay_leaves_them_out_and_says_how_many(archive: Path):
    report = replayed(archive)
    assert (report.selected, report.sent, report.probes, report.unproved) == (len(CUSTOMERS), 180, 20, 0)
    assert replayed(archive, ids=(f"r{STRANGER}", "r50")).sent == 1, "who invents a token has asked a request"


def test_one_decision_speaks_for_a_token_and_without_any_records_are_requests_and_that_is_said(
    lived: Lived, tmp_path: Path
):
    """The decisions of all of the first life's probes but one are not archived, and none of the second's."""
    told = [decode_decision(one.value or b"").ticket.offset for one in lived.decisions]
    kept = [one for one, offset in zip(lived.decisions, told, strict=True) if offset % EVERY or offset == 30]
    decisions = [replace(one, offset=place) for place, one in enumerate(kept)]
    Lived(lived.raw, [], decisions).write(tmp_path, SMALL.name, rows=50)
    report = replayed(tmp_path)
    assert (report.sent, report.probes, report.unproved, report.why) == (len(CUSTOMERS) + 10, 10, 10, "")
    file = Layout(tmp_path, f"{SMALL.name}.decisions", 0).segments()[0]
    file.write_bytes(file.read_bytes()[:-9])
    report = replayed(tmp_path)
    assert (report.sent, report.probes, report.unproved) == (COUNT, 0, 21)
    assert file.name in report.why
