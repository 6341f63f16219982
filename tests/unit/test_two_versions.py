"""Two versions of one name: the new one scores beside the old, takes over at a ticket, and can be taken back."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from agents import supervisor as supervising
from agents.cli.golden import golden_check
from agents.cli.roster import told
from agents.given_up import note_started_anew
from agents.supervisor import Supervisor
from schemas.blocks import RowError
from schemas.decisions import Outcome, decode_decision
from schemas.errors import UnreadableRecord
from schemas.pipeline import BreakerSettings, Kind, Model, Role
from schemas.rights import group_of
from schemas.roster import LEAD_MS, Began, Moved, Noted, State, definition_of, encode_roster
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.breaker import Breaker
from streams.core.entitlement import History
from streams.core.gathering import Gathering, Places
from streams.core.moves import refusal
from streams.core.rendezvous import Rendezvous
from streams.core.roster import Roster, began
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from tests.unit.lived import START_MS, play
from tests.unit.small import pipeline, read, request, scores
from tests.unit.test_cast import cast, child, until
from tests.unit.test_roster import move, moved, promoted

NEXT = Model(name="first", version="2", kind=Kind.CONSTANT, value=0.6, role=Role.SHADOW)
ENTERS = move("first", None, State.STAGED, "2", definition=definition_of(NEXT))
ARRIVES = (
    ENTERS,
    move("first", State.STAGED, State.WARMING, "2"),
    move("first", State.WARMING, State.SHADOW, "2"),
)
TAKES_OVER = move("first", State.SHADOW, State.CHAMPION, "2", replaces="1")
BACK = move("first", State.SHADOW, State.CHAMPION, "1", replaces="2", undoes=True)


def versions(roster: Roster) -> dict[str, str]:
    return {model.name: model.version for model in roster.entitled(pipeline()).models}


def beside(roster: Roster) -> dict[str, tuple[str, State]]:
    return {name: (member.model.version, member.state) for name, member in roster.beside.items()}


def test_a_new_version_scores_beside_the_old_one_until_it_takes_over_and_nobody_else_moves():
    there = moved(began(pipeline()), *ARRIVES)
    assert versions(there)["first"] == "1"
    assert beside(there) == {"first": ("2", State.SHADOW)}
    assert [model.version for model in there.others()] == ["2"]
    after = moved(there, TAKES_OVER)
    assert (versions(after)["first"], after.champion, after.state("first")) == ("2", "first", State.CHAMPION)
    assert beside(after) == {"first": ("1", State.SHADOW)}
    assert {**versions(after), "first": "1"} == versions(there)


def test_a_takeover_is_taken_back_by_one_word_and_again_taken_over():
    there = moved(began(pipeline()), *ARRIVES, TAKES_OVER)
    back = moved(there, BACK)
    assert (versions(back)["first"], beside(back), back.promotions) == ("1", {"first": ("2", State.SHADOW)}, ())
    assert versions(moved(back, TAKES_OVER))["first"] == "2"


def test_the_old_version_goes_when_it_is_retired_and_then_nothing_is_left_to_take_back():
    gone = moved(began(pipeline()), *ARRIVES, TAKES_OVER, move("first", State.SHADOW, State.RETIRED, "1"))
    assert (beside(gone), gone.promotions, versions(gone)["first"]) == ({}, (), "2")
    assert "somebody else was first" in refusal(gone, BACK)
    other = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first"), *ARRIVES)
    challenger = replace(TAKES_OVER, after=State.CHALLENGER)
    there = moved(other, challenger, move("first", State.SHADOW, State.RETIRED, "1"))
    assert [(one.model, one.displaced) for one in there.promotions] == [("second", "first")]


def test_a_version_takes_a_champions_place_that_is_passed_over():
    there = moved(began(pipeline()), *ARRIVES, move("first", State.CHAMPION, State.PASSED_OVER))
    assert moved(there, TAKES_OVER).state("first") is State.CHAMPION


@pytest.mark.parametrize(
    ("before", "tried", "said"),
    [
        ((), replace(ENTERS, version="1"), "first is champion, not new"),
        ((), move("first", None, State.STAGED, "2"), "with its definition"),
        (ARRIVES, replace(ENTERS, version="3"), "first has version 2 beside 1: retire one first"),
        (ARRIVES[:2], replace(TAKES_OVER, before=State.WARMING), "is warming: it takes over when it scores"),
        (ARRIVES, replace(TAKES_OVER, replaces="7"), "would take over from 7, and 1 is champion"),
        (ARRIVES, replace(TAKES_OVER, after=State.CHALLENGER), "and 1 is champion"),
        (ARRIVES, replace(TAKES_OVER, undoes=True), "the last promotion is not one over first 2"),
        (
            ARRIVES,
            move("first", State.SHADOW, State.CHALLENGER, "2"),
            "it may become retired, or take over from that",
        ),
        ((*ARRIVES, TAKES_OVER), TAKES_OVER, "is champion, not shadow"),
        ((*ARRIVES, TAKES_OVER, BACK), BACK, "first is champion, not shadow"),
    ],
)
def test_what_no_version_may_is_refused_with_the_reason(before: tuple[Moved, ...], tried: Moved, said: str):
    assert said in refusal(moved(began(pipeline()), *before), tried)


def test_the_yardstick_stays_what_it_is_and_rows_that_differ_need_a_name_of_their_own():
    canary = replace(NEXT, name="yardstick")
    entry = move("yardstick", None, State.STAGED, "2", definition=definition_of(canary))
    assert "yardstick is canary: a version comes beside one that is shadow" in refusal(began(pipeline()), entry)
    other = replace(NEXT, features=("x",))
    entry = replace(ENTERS, definition=definition_of(other))
    assert "its features differ from those of 1, and one topic has the rows of both" in refusal(
        began(pipeline()), entry
    )


def test_of_two_versions_each_is_in_quarantine_and_out_of_it_by_itself(monkeypatch: pytest.MonkeyPatch):
    found = History(pipeline())
    began_ = Began(models=tuple(map(definition_of, pipeline().models)), who="ann", at_ms=1)
    notes = [
        Noted(model="first", version=version, quarantined=True, who="supervisor", at_ms=1, why=f"{version} dies")
        for version in ("1", "2")
    ]
    for place, record in enumerate((began_, *ARRIVES, *notes)):
        assert found.take(encode_roster(record), place, 1_000.0 * place) == ""
    shown = [told(member, found).get("quarantine") for member in (*found.roster.members.values(),)[:1]]
    shown += [told(member, found).get("quarantine") for member in found.roster.beside.values()]
    assert shown == ["1 dies", "2 dies"]
    anew: list[tuple[str, str, bool]] = []
    monkeypatch.setattr(RosterLog, "read", lambda _: found)
    monkeypatch.setattr(RosterLog, "note", lambda _, one: anew.append((one.model, one.version, one.quarantined)))
    assert note_started_anew(Cluster("nowhere:9"), pipeline()) == ""
    assert anew == [("first", "1", False), ("first", "2", False)]
    gone = move("first", State.SHADOW, State.RETIRED, "2")
    assert found.take(encode_roster(gone), 9, 9_000.0) == ""
    assert list(found.quarantined) == [("first", "1")]


def test_a_name_is_retired_when_it_has_one_version_only():
    shadow = replace(NEXT, name="mirror")
    there = moved(began(pipeline()), move("mirror", None, State.STAGED, "2", definition=definition_of(shadow)))
    assert "mirror 2 is beside it: retire that version first" in refusal(
        there, move("mirror", State.SHADOW, State.RETIRED)
    )
    gone = moved(there, move("mirror", State.STAGED, State.RETIRED, "2"), move("mirror", State.SHADOW, State.RETIRED))
    assert gone.state("mirror") is State.RETIRED


def test_a_version_that_no_pipeline_file_could_hold_is_refused():
    wrong = replace(NEXT, value=float("nan"))
    with pytest.raises(UnreadableRecord, match="not finite"):
        moved(began(pipeline()), replace(ENTERS, definition=definition_of(wrong)))


def history(*moves: Moved, at_ms: float = 0.0) -> History:
    """The pipeline's own models from the beginning, then these moves, one each second."""
    found = History(pipeline())
    begins = Began(models=tuple(map(definition_of, pipeline().models)), who="ann", at_ms=1)
    for position, record in enumerate((begins, *moves)):
        assert found.take(encode_roster(record), position, at_ms + 1_000.0 * position) == ""
    return found


def test_in_each_partition_the_first_ticket_after_the_lead_is_the_new_versions():
    spans = history(*ARRIVES, TAKES_OVER).spans
    boundary_ms = 4_000.0 + LEAD_MS
    assert [span.from_ms for span in spans.spans] == [float("-inf"), boundary_ms], (
        "beside changes nobody's entitlement"
    )
    assert spans.at(boundary_ms - 1).model("first").version == "1"
    assert spans.at(boundary_ms).model("first").version == "2"


def test_each_request_is_answered_by_the_version_that_is_entitled_at_its_ticket():
    core = Rendezvous(pipeline(), 0, spans=history(*ARRIVES, TAKES_OVER).spans)
    boundary_ms = 4_000 + LEAD_MS
    core.requests_seen([request(0, boundary_ms - 1), request(1, boundary_ms)], boundary_ms)
    assert core.scores_offered(scores("first", 0, 1, version="2", score=0.6), 0, boundary_ms, boundary_ms) != []
    (reply,) = core.scores_offered(scores("first", 0, 1, version="1", score=0.9), 1, boundary_ms, boundary_ms)
    assert (reply.decision.ticket.offset, reply.decision.version, reply.decision.score) == (0, "1", 0.9)


def test_an_error_of_the_other_version_is_nobodys_before_and_after_its_request_is_read():
    spans = history(*ARRIVES, TAKES_OVER).spans
    failed = replace(scores("first", version="2"), errors=(RowError(0, "raised"), RowError(1, "raised")))
    core = Rendezvous(pipeline(), 0, spans=spans)
    core.requests_seen([request(0, 1_000)], 1_000)
    assert core.scores_offered(failed, 0, 1_001, 1_001) == []
    core.requests_seen([request(1, 1_002)], 1_002)
    replies = core.scores_offered(scores("first", 0, 1), 1, 1_003, 1_003)
    assert [(one.decision.outcome, one.decision.failed) for one in replies] == [(Outcome.PREFERRED, {})] * 2


def test_what_is_gathered_and_judged_of_a_request_is_of_the_version_entitled():
    gathering = Gathering(pipeline(), 0, Places(0, 0, 0))
    one = read(b'{"x":1,"colour":"red"}')
    gathering.requested(one, {}, None)
    failed = replace(scores("first", version="2"), errors=(RowError(0, "raised"),))
    gathering.scored(failed, 0, 1_001)
    gathering.scored(scores("first", 0, version="1", score=0.9), 1, 1_002)
    head = gathering.head
    assert head is not None
    assert (head.scores, head.without) == ({"first": 0.9}, {})

    breaker = Breaker(BreakerSettings(requests=1), [], "first", "1", over=False, now_ms=0)
    breaker.asked(0, [request(0, 1_000)])
    breaker.offered(0, failed, 1_001)
    breaker.offered(0, scores("first", 0), 1_002)
    assert breaker.turn(5_000) is None


def test_each_version_has_a_group_of_its_own():
    first = pipeline()
    second = replace(first, models=tuple(replace(m, version="2") if m.name == "first" else m for m in first.models))
    assert {group_of("scorer", one, "first") for one in (first, second)} == {
        "small.scorer.first.1",
        "small.scorer.first.2",
    }


def test_both_versions_have_processes_and_the_old_ones_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervising, "IDLE_S", 0.01)
    started: list[str] = []

    async def run() -> None:
        old = child(tmp_path, "scorer.first")
        keeper, found = Supervisor([old], {}), cast(tmp_path, started)
        await keeper.start()
        first = pipeline().model("first")
        found.scored([first, NEXT], keeper)
        await until(lambda: keeper.ready)
        names = ["scorer.first", "scorer.first@2", "scorer.first.1@2"]
        assert [one.name for one in keeper.children] == names
        pids = [one.pid for one in keeper.children]
        found.scored([NEXT, first], keeper)
        found.scored([NEXT], keeper)
        await until(lambda: [one.name for one in keeper.children] == names[1:])
        assert (old.pid, [one.pid for one in keeper.children]) == (None, pids[1:])
        await keeper.stop()

    asyncio.run(run())
    assert started == ["first 2"]


def test_the_past_of_a_takeover_is_answered_again_as_it_was(tmp_path: Path):
    """Both versions score everything; after two of four seconds the new one takes over."""
    own, begins_ms = pipeline(), START_MS - 2_000.0
    moves = history(*ARRIVES, TAKES_OVER, at_ms=begins_ms)
    lived = play(
        own,
        [b'{"request_id":"r%d","x":%d}' % (n, n) for n in range(2_000)],
        latency_ms=lambda _, model: 20.0,
        score=lambda model, offset: offset / 10_000,
        beside={"first": "2"},
        spans=moves.spans,
    )
    answers = [decode_decision(record.value or b"") for record in lived.decisions]
    assert {one.version for one in answers if one.model == "first"} == {"1", "2"}
    root = lived.write(tmp_path, own.name)
    writer = PartitionWriter(Layout(root, Topics(own.name).roster_history, 0), Limits(1000, 1 << 26, 60.0), "id", "w")
    writer.append(
        [Record(one.position, int(one.log_ms), 1, None, encode_roster(one.record), None) for one in moves.entries],
        0.0,
    )
    writer.close_segment()
    found = golden_check(root, own, Period())
    assert found.mismatches == []
    assert found.compared > 1_000
