"""The roster: lawful moves, two operators at once, rollback, and who was entitled at which time."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import json
from msgspec.structs import replace

from agents.cli.roster import event, line, row, told
from agents.given_up import note_given_up, note_started_anew
from schemas.errors import UnreadableRecord
from schemas.pipeline import Kind, Model, Pipeline, Policy, PolicyKind, Role
from schemas.roster import LEAD_MS, Began, Moved, Noted, State, decode_roster, definition_of, encode_roster, model_of
from streams.core.entitlement import ALWAYS, History, PerSpan
from streams.core.fan_out import FanOut
from streams.core.moves import NEXT, after, refusal, rolled_back
from streams.core.policy_branches import plan_of
from streams.core.rendezvous import Rendezvous
from streams.core.roster import FIRST, Promotion, Roster, began
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from tests.unit.small import errors, pipeline, read, request, scores

NEW = Model(name="third", version="2", kind=Kind.CONSTANT, value=0.8, role=Role.SHADOW)


def move(model: str, before: State | None, to: State, version: str = "1", **more: object) -> Moved:
    return Moved(
        **{"model": model, "version": version, "before": before, "after": to, "who": "ann", "at_ms": 1, **more}
    )  # type: ignore[arg-type]


def staged(model: Model = NEW, before: State | None = None) -> Moved:
    return move(model.name, before, State.STAGED, model.version, definition=definition_of(model))


def promoted(model: str, before: State, over: str, version: str = "1") -> Moved:
    return move(model, before, State.CHAMPION, version, displaced=over, displaced_to=State.CHALLENGER)


def taken_back(roster: Roster) -> Moved:
    last = rolled_back(roster)
    if not last.displaced:
        return move(last.model, State.CHALLENGER, State.SHADOW, roster.members[last.model].model.version, undoes=True)
    old = roster.members[last.displaced]
    more = {"displaced": last.model, "displaced_to": last.before, "undoes": True}
    return move(last.displaced, old.state, State.CHAMPION, old.model.version, **more)


def moved(roster: Roster, *moves: Moved, of: Pipeline | None = None) -> Roster:
    for place, one in enumerate(moves):
        roster = after(roster, one, of or pipeline(), 1000.0 * (place + 1), place + 1)
    return roster


def roles(roster: Roster) -> dict[str, str]:
    return {model.name: str(model.role) for model in roster.entitled(pipeline()).models}


START = {"first": "champion", "second": "challenger", "mirror": "shadow", "yardstick": "canary"}


def test_the_roster_begins_with_the_models_of_the_file():
    assert roles(began(pipeline())) == START
    record = Began(models=tuple(map(definition_of, pipeline().models)), who="ann", at_ms=1)
    assert began(pipeline(), record).entitled(pipeline()).models == pipeline().models


def test_a_new_model_is_asked_when_it_is_a_shadow_and_not_before():
    waiting = moved(began(pipeline()), staged(), move("third", State.STAGED, State.WARMING, "2"))
    assert roles(waiting) == START
    assert [model.name for model in waiting.scored()] == ["first", "second", "mirror", "yardstick", "third"]
    assert roles(moved(waiting, move("third", State.WARMING, State.SHADOW, "2"))) == {**START, "third": "shadow"}


def test_who_is_promoted_takes_the_champions_place_and_that_one_stands_behind():
    found = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first"))
    assert roles(found) == {**START, "first": "challenger", "second": "champion"}
    assert plan_of(found.entitled(pipeline())).wanted == "second"


def test_a_shadow_may_come_to_the_front_in_one_move_and_goes_back_to_the_shadows():
    found = moved(began(pipeline()), promoted("mirror", State.SHADOW, "first"))
    assert found.champion == "mirror"
    assert roles(moved(found, taken_back(found))) == START


def test_rollbacks_take_back_one_promotion_after_the_other():
    found = moved(
        began(pipeline()),
        promoted("second", State.CHALLENGER, "first"),
        promoted("mirror", State.SHADOW, "second"),
    )
    found = moved(found, taken_back(found))
    assert found.champion == "second"
    found = moved(found, taken_back(found))
    assert roles(found) == START
    with pytest.raises(UnreadableRecord, match="no promotion is there"):
        rolled_back(found)


JOINS = move("mirror", State.SHADOW, State.CHALLENGER)
STEPS_BACK = move("mirror", State.CHALLENGER, State.SHADOW, undoes=True)


def test_a_promotion_to_challenger_is_taken_back_before_an_older_one_of_a_champion():
    older = promoted("second", State.CHALLENGER, "first")
    found = moved(began(pipeline()), older, JOINS)
    assert rolled_back(found) == Promotion("mirror", State.SHADOW, "")
    found = moved(found, STEPS_BACK)
    assert roles(found) == {**START, "first": "challenger", "second": "champion"}
    assert roles(moved(found, taken_back(found))) == START
    assert "mirror is shadow, not challenger: somebody else was first" in refusal(found, STEPS_BACK)
    found = moved(began(pipeline()), JOINS, older)
    assert "the last promotion is not that of mirror to challenger" in refusal(found, STEPS_BACK)


def test_a_challenger_comes_to_the_front_and_all_is_taken_back_step_by_step():
    found = moved(began(pipeline()), JOINS, promoted("mirror", State.CHALLENGER, "first"))
    assert "mirror is champion, not challenger" in refusal(found, STEPS_BACK)
    found = moved(found, taken_back(found))
    assert roles(found) == {**START, "mirror": "challenger"}
    assert roles(moved(found, STEPS_BACK)) == START


def test_who_is_out_of_the_schedule_otherwise_leaves_no_promotion_to_take_back():
    joined = moved(began(pipeline()), JOINS)
    for out in (replace(STEPS_BACK, undoes=False), move("mirror", State.CHALLENGER, State.RETIRED)):
        with pytest.raises(UnreadableRecord, match="no promotion is there"):
            rolled_back(moved(joined, out))


def test_a_rollback_that_counted_before_promotions_to_challenger_were_taken_back_counts_still():
    found = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first"), JOINS)
    back = move("first", State.CHALLENGER, State.CHAMPION, displaced="second", displaced_to=State.CHALLENGER)
    found = moved(found, replace(back, undoes=True))
    assert roles(found) == {**START, "mirror": "challenger"}
    assert roles(moved(found, STEPS_BACK)) == START


def test_of_two_rollbacks_at_once_the_later_is_refused():
    found = moved(
        began(pipeline()),
        promoted("second", State.CHALLENGER, "first"),
        promoted("mirror", State.SHADOW, "second"),
    )
    twice = taken_back(found)
    found = moved(found, twice)
    assert "was first" in refusal(found, twice)
    assert found.champion == "second"


def test_a_rollback_is_of_the_last_promotion_and_of_nothing_else():
    found = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first"))
    for wrong in (
        move("mirror", State.SHADOW, State.CHAMPION, displaced="second", displaced_to=State.CHALLENGER, undoes=True),
        replace(taken_back(found), displaced_to=State.RETIRED),
        replace(taken_back(found), after=State.SHADOW),
    ):
        assert "the last promotion is that of second over first" in refusal(found, wrong)


def test_of_two_operators_who_move_one_model_at_once_the_later_is_refused():
    before = began(pipeline())
    found = moved(before, move("second", State.CHALLENGER, State.RETIRED))
    with pytest.raises(UnreadableRecord, match="second is retired, not challenger: somebody else was first"):
        moved(found, promoted("second", State.CHALLENGER, "first"))


def test_of_two_operators_who_promote_two_models_at_once_the_later_is_refused():
    found = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first"))
    with pytest.raises(UnreadableRecord, match="the champion is second, not first: somebody else was first"):
        moved(found, promoted("mirror", State.SHADOW, "first"))


def test_a_move_of_another_version_is_refused():
    assert "version 1, not 9" in refusal(began(pipeline()), promoted("second", State.CHALLENGER, "first", "9"))


@pytest.mark.parametrize("to", [State.CHAMPION, State.CHALLENGER, State.SHADOW])
def test_a_canary_is_never_promoted(to: State):
    wanted = move("yardstick", State.CANARY, to, displaced="first", displaced_to=State.CHALLENGER, forced=("x",))
    assert "never" in refusal(began(pipeline()), wanted)


def test_a_canary_is_stopped_by_force_only():
    assert "--force" in refusal(began(pipeline()), move("yardstick", State.CANARY, State.RETIRED))
    found = moved(began(pipeline()), move("yardstick", State.CANARY, State.RETIRED, forced=("canary",)))
    assert "yardstick" not in roles(found)


def test_the_champion_is_not_retired():
    said = refusal(began(pipeline()), move("first", State.CHAMPION, State.RETIRED))
    assert "promote another, or roll its promotion back" in said


PASSED = move("first", State.CHAMPION, State.PASSED_OVER, why="late")
BACK = move("first", State.PASSED_OVER, State.CHAMPION)


def test_a_champion_that_is_passed_over_scores_on_and_comes_back():
    found = moved(began(pipeline()), PASSED)
    assert roles(found) == {**START, "first": "shadow"}
    assert (found.champion, found.members["first"].why) == ("first", "late")
    assert "first" in [model.name for model in found.scored()]
    assert roles(moved(found, BACK)) == START


def test_nobody_but_the_champion_is_passed_over_and_nobody_makes_room_for_that():
    with pytest.raises(UnreadableRecord, match="from there it may become"):
        moved(began(pipeline()), move("second", State.CHALLENGER, State.PASSED_OVER))
    with pytest.raises(UnreadableRecord, match="nobody makes room"):
        moved(began(pipeline()), PASSED, replace(BACK, displaced="second", displaced_to=State.CHALLENGER))
    with pytest.raises(UnreadableRecord, match="somebody else was first"):
        moved(began(pipeline()), PASSED, PASSED)


def test_while_the_champion_is_passed_over_others_come_and_take_its_place():
    found = moved(began(pipeline()), PASSED, staged(), move("third", State.STAGED, State.WARMING, "2"))
    found = moved(found, promoted("second", State.CHALLENGER, "first"))
    assert roles(found) == {**START, "first": "challenger", "second": "champion"}
    assert roles(moved(found, taken_back(found))) == START


def test_no_move_but_a_promotion_lets_another_make_room():
    wanted = move("second", State.CHALLENGER, State.RETIRED, displaced="first", displaced_to=State.SHADOW)
    assert "nobody makes room" in refusal(began(pipeline()), wanted)
    entry = replace(staged(), displaced="first", displaced_to=State.SHADOW)
    assert "nobody makes room" in refusal(began(pipeline()), entry)


def test_a_name_that_is_taken_is_no_new_models():
    taken = staged(replace(NEW, name="second", version="1"), State.CHALLENGER)
    assert "second 1 is challenger: give this one a version, or a name, of its own" in refusal(
        began(pipeline()), taken
    )


def test_a_retired_name_is_free_for_another_version_and_a_version_never_means_two_models():
    found = moved(began(pipeline()), staged(), move("third", State.STAGED, State.RETIRED, "2"))
    other = replace(NEW, value=0.9)
    with pytest.raises(UnreadableRecord, match="was another model before"):
        moved(found, staged(other, State.RETIRED))
    found = moved(found, staged(replace(other, version="3"), State.RETIRED))
    assert found.members["third"].model.version == "3"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": ("nowhere",)}, "not declared"),
        ({"name": "../third"}, "topic's name"),
        ({"name": "a" * 64}, "topic's name"),
        ({"value": None}, "missing for kind"),
    ],
)
def test_a_model_that_no_pipeline_file_could_hold_is_refused(changes: dict[str, object], said: str):
    with pytest.raises(UnreadableRecord, match=said):
        moved(began(pipeline()), staged(replace(NEW, **changes)))


def test_a_combination_keeps_as_many_members_as_it_needs():
    of = pipeline(policy=Policy(kind=PolicyKind.COMBINE, least=2))
    with pytest.raises(UnreadableRecord, match="1 models would be left to combine"):
        moved(began(of), move("second", State.CHALLENGER, State.RETIRED), of=of)


def test_a_policy_passes_over_a_model_that_was_retired():
    of = pipeline(policy=Policy(kind=PolicyKind.BEST, order=("second",)))
    found = moved(began(of), move("second", State.CHALLENGER, State.RETIRED), of=of).entitled(of)
    assert plan_of(found).choose(0.5, {"first"}, set()) == "first"


@given(
    some.lists(
        some.tuples(some.sampled_from([*START, "third"]), some.sampled_from(State), some.booleans()), max_size=40
    )
)
def test_whatever_is_tried_there_is_one_champion_and_the_canary_stays(tries: list[tuple[str, State, bool]]):
    roster = moved(began(pipeline()), staged(), move("third", State.STAGED, State.WARMING, "2"))
    for name, to, undoes in tries:
        before = roster.state(name)
        version = roster.members[name].model.version
        champion = to is State.CHAMPION and before is not State.PASSED_OVER
        wanted = move(
            name,
            before,
            to,
            version,
            displaced=roster.champion if champion else "",
            displaced_to=State.CHALLENGER if champion else None,
            undoes=undoes,
        )
        try:
            roster = after(roster, taken_back(roster) if undoes else wanted, pipeline(), 1.0, 1)
        except UnreadableRecord:
            continue
    assert sum(member.state in FIRST for member in roster.members.values()) == 1
    assert roles(roster)["yardstick"] == "canary"
    assert NEXT[State.CHAMPION] == (State.PASSED_OVER,)


# The history ------------------------------------------------------------------------------------------------


def records(*moves: Moved) -> Iterator[bytes]:
    yield encode_roster(Began(models=tuple(map(definition_of, pipeline().models)), who="ann", at_ms=1))
    yield from map(encode_roster, moves)


def history(*moves: Moved) -> History:
    found = History(pipeline())
    for position, value in enumerate(records(*moves)):
        assert found.take(value, position, 1_000.0 * position) == ""
    return found


def test_a_move_counts_from_its_lead_on():
    spans = history(promoted("second", State.CHALLENGER, "first")).spans
    champions = [plan_of(spans.at(at_ms)).wanted for at_ms in (0, 1_000 + LEAD_MS - 1, 1_000 + LEAD_MS, 1e15)]
    assert champions == ["first", "first", "second", "second"]


def test_moves_count_in_the_order_of_their_log_whatever_their_leads():
    found = history(
        replace(promoted("second", State.CHALLENGER, "first"), lead_ms=10_000),
        replace(promoted("first", State.CHALLENGER, "second"), lead_ms=0),
    )
    assert [span.from_ms for span in found.spans.spans] == [ALWAYS, 11_000, 11_000]
    assert plan_of(found.spans.at(11_000)).wanted == "first"


def test_a_roster_begins_once():
    found = history(promoted("second", State.CHALLENGER, "first"))
    (again,) = records()
    assert found.take(again, 2, 2_000) == "the roster has begun before"
    assert found.roster.champion == "second"


def test_an_empty_history_is_the_pipeline_file():
    found = History(pipeline())
    assert not found.begun
    assert found.spans.at(5) == pipeline()


def noted(model: str, *, quarantined: bool, why: str = "") -> Noted:
    return Noted(model=model, version="1", quarantined=quarantined, who="supervisor", at_ms=1, why=why)


def test_a_quarantine_stands_in_the_history_moves_nobody_and_does_not_begin_the_roster():
    found = History(pipeline())
    assert found.take(encode_roster(noted("second", quarantined=True, why="it dies")), 0, 1_000) == ""
    assert not found.begun
    assert found.spans.at(1e15) == pipeline()
    assert [(which, one.why) for which, one in found.quarantined.items()] == [(("second", "1"), "it dies")]
    for place, value in enumerate(records(promoted("second", State.CHALLENGER, "first")), 1):
        assert found.take(value, place, 1_000.0 * place) == ""
    assert found.roster.champion == "second", "it is asked as before: to pass it over is somebody's move"
    assert found.take(encode_roster(noted("second", quarantined=False)), 3, 3_000) == ""
    assert found.quarantined == {}
    assert [entry.position for entry in found.entries] == [0, 1, 2, 3]


def test_a_retired_model_is_in_quarantine_no_more():
    found = history()
    assert found.take(encode_roster(noted("mirror", quarantined=True)), 1, 1_000) == ""
    assert found.take(encode_roster(move("mirror", State.SHADOW, State.RETIRED)), 2, 2_000) == ""
    assert found.quarantined == {}


def test_a_new_model_that_its_scorer_refuses_is_shown_until_it_is_tried_again_arrives_or_is_retired(
    monkeypatch: pytest.MonkeyPatch,
):
    found, sent = history(staged(), move("third", State.STAGED, State.WARMING, "2", why="a process loads it")), []

    def taken(value: bytes | Moved) -> dict[str, object]:
        value = value if isinstance(value, bytes) else encode_roster(value)
        assert found.take(value, found.position + 1, 9_000.0) == ""
        return told(found.roster.members["third"], found)

    monkeypatch.setattr(RosterLog, "read", lambda _: found)
    monkeypatch.setattr(RosterLog, "note", lambda _, record: sent.append(encode_roster(record)))
    of = (Cluster("nowhere:9"), pipeline())
    assert note_given_up(*of, "third", "2", "model third: no such file", refused=True) == ""
    assert taken(sent[-1])["refused"] == "model third: no such file"
    assert row(found.roster.members["third"], found).endswith("Z: model third: no such file")
    assert "third 2 is refused: model third" in line(event(found.entries[-1]))
    assert note_started_anew(*of) == ""
    assert "refused" not in taken(sent[-1])
    assert "third 2 is tried again: the pipeline was started anew" in line(event(found.entries[-1]))
    assert "refused" in taken(sent[0])
    assert "refused" not in taken(move("third", State.WARMING, State.SHADOW, "2")), "another host had its file"
    assert "refused" in taken(sent[0])
    assert "refused" not in taken(move("third", State.SHADOW, State.RETIRED, "2"))


HOSTILE = [
    None,
    b"",
    b"null",
    b"\xff\xfe",
    b'{"kind": "moved"}',
    b'{"kind": "other"}',
    b"[" * 100_000,
    json.encode({"kind": "began", "models": [{"name": "x"}], "who": "", "at_ms": 1}),
    json.encode({"kind": "began", "models": [], "who": "", "at_ms": 1}),
    encode_roster(replace(promoted("second", State.CHALLENGER, "first"), who="\x1b[2J")),
    encode_roster(promoted("nobody", State.CHALLENGER, "first")),
    json.encode({**json.decode(encode_roster(staged())), "lead_ms": 10**12}),
    json.encode(
        {**json.decode(encode_roster(staged())), "definition": {"name": "third", "version": "2", "kind": "run"}}
    ),
    json.encode({**json.decode(encode_roster(staged())), "definition": {"name": "third", "value": "x" * 300_000}}),
    json.encode({**json.decode(encode_roster(staged())), "sha256": "../../etc/passwd"}),
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_record_of_another_program_is_passed_over_and_counted(value: bytes | None):
    found = history()
    assert found.take(value, 1, 5_000) != ""
    assert found.take(encode_roster(promoted("second", State.CHALLENGER, "first")), 2, 6_000) == ""
    assert [position for position, _ in found.refused] == [1]
    assert found.roster.champion == "second"
    early = History(pipeline())
    assert early.take(value, 0, 0) != ""
    assert early.spans.at(5) == pipeline()


@given(
    some.binary(max_size=200)
    | some.recursive(some.none() | some.text() | some.integers(), some.lists).map(json.encode)
)
def test_no_bytes_are_more_than_unreadable(value: bytes):
    with pytest.raises(UnreadableRecord):
        decode_roster(value)


def test_a_field_of_a_newer_program_is_passed_over():
    entry = {**definition_of(NEW), "of_tomorrow": 7}
    value = json.encode({**json.decode(encode_roster(staged())), "definition": entry, "of_tomorrow": [1]})
    assert decode_roster(value).model == "third"  # type: ignore[union-attr]
    assert model_of(entry, Role.SHADOW) == NEW


def test_what_is_made_of_a_span_is_made_once_and_follows_the_history():
    made: list[str] = []
    found = history()
    per = PerSpan(found.spans, lambda of: made.append(plan_of(of).wanted) or plan_of(of).wanted)
    assert [per.at(5), per.at(6)] == ["first", "first"]
    found.take(encode_roster(promoted("second", State.CHALLENGER, "first")), 1, 1_000)
    per.follow(found.spans)
    assert [per.at(1_499), per.at(1_500), per.at(1_499), per.at(9_000)] == ["first", "second", "first", "second"]
    assert made == ["first", "second"]


def test_what_was_known_of_the_file_gives_way_to_a_roster_that_began_with_other_models():
    per = PerSpan(History(pipeline()).spans, lambda of: plan_of(of).wanted)
    assert per.at(5) == "first"
    other = moved(began(pipeline()), promoted("second", State.CHALLENGER, "first")).entitled(pipeline())
    found = History(pipeline())
    found.take(encode_roster(Began(models=tuple(map(definition_of, other.models)), who="a", at_ms=1)), 0, 0)
    per.follow(found.spans)
    assert per.at(5) == "second"


# At work ----------------------------------------------------------------------------------------------------

T = 1_000 + LEAD_MS
"""When the first move of a history counts."""


def desk(*moves: Moved, known: bool = True) -> Rendezvous:
    found = Rendezvous(pipeline(), 0)
    if known:
        found.entitle(history(*moves).spans)
    return found


def test_a_request_is_answered_by_the_champion_of_its_time():
    found = desk(promoted("second", State.CHALLENGER, "first"))
    found.requests_seen([request(0, T - 1), request(1, T)], T)
    replies = found.scores_offered(scores("second", 0, 1), 0, T + 5, T + 5)
    replies += found.scores_offered(scores("first", 0, 1), 1, T + 6, T + 6)
    assert [(r.request.offset, r.decision.model, r.decision.outcome) for r in replies] == [
        (1, "second", "preferred"),
        (0, "first", "preferred"),
    ]


def test_while_the_champion_is_passed_over_nobody_waits_for_it():
    found = desk(PASSED)
    assert found.requests_seen([request(0, T)], T) == []
    assert found.scores_offered(scores("first", 0), 0, T + 3, T + 3) == []
    (reply,) = found.scores_offered(scores("second", 0), 1, T + 5, T + 5)
    assert (reply.decision.model, reply.decision.outcome) == ("second", "fallback")
    assert reply.decision.reason == "the champion is passed over; second answered after 5 ms"


def test_the_history_says_who_is_passed_over_and_from_when():
    spans = history(PASSED, BACK).spans.spans
    assert [span.passed_over for span in spans] == ["", "first", ""]


def test_what_is_moved_while_a_request_waits_changes_nothing_for_it():
    found = desk(known=False)
    found.requests_seen([request(0, T - 1)], T - 1)
    found.entitle(history(promoted("second", State.CHALLENGER, "first")).spans)
    assert found.scores_offered(scores("second", 0), 0, T + 5, T + 5) == []
    (reply,) = found.scores_offered(scores("first", 0), 1, T + 6, T + 6)
    assert reply.decision.model == "first"


def test_a_retired_model_is_not_believed_and_not_missed_from_its_time_on():
    found = desk(move("second", State.CHALLENGER, State.RETIRED))
    found.requests_seen([request(0, T - 1), request(1, T)], T)
    assert found.scores_offered(scores("second", 0, 1), 0, T + 1, T + 1) == []
    assert found.counts.untrusted == 1
    both = {r.request.offset: r.decision for r in found.due(T + 200)}
    assert (both[0].model, both[1].model) == ("second", None)
    assert both[1].missing == ["first", "mirror", "yardstick"]


def test_a_score_that_is_there_before_its_request_is_believed_by_the_time_of_the_request():
    for block, untrusted in ((scores("second", 1), 1), (errors("second", 1), 0)):
        found = desk(move("second", State.CHALLENGER, State.RETIRED))
        found.requests_seen([request(0, T - 1)], T - 1)
        found.scores_offered(block, 0, T, T)
        found.requests_seen([request(1, T)], T)
        (decision,) = [r.decision for r in found.due(T + 200) if r.request.offset == 1]
        assert (decision.scores, decision.failed, found.counts.untrusted) == ({}, {}, untrusted)


def test_of_two_versions_of_a_name_the_one_of_the_time_is_believed():
    steps = [State.STAGED, State.WARMING, State.SHADOW, State.CHALLENGER]
    found = desk(
        move("second", State.CHALLENGER, State.RETIRED),
        staged(replace(NEW, name="second"), State.RETIRED),
        *(move("second", before, to, "2") for before, to in pairwise(steps)),
    )
    late = T + 6_000
    found.requests_seen([request(0, T - 1, 100_000), request(1, late, 100_000)], late)
    for version in ("1", "2"):
        found.scores_offered(scores("second", 0, 1, version=version), int(version), late, late)
    found = {r.request.offset: r.decision for r in found.due(late + 200_000)}
    assert [(found[n].model, found[n].version) for n in (0, 1)] == [("second", "1"), ("second", "2")]


@given(some.integers(0, 4_000), some.integers(0, 4_000), some.lists(some.integers(0, 1), max_size=3))
def test_no_decision_is_by_a_model_that_was_not_entitled(first_ms: int, second_ms: int, undo: list[int]):
    moves = [promoted("second", State.CHALLENGER, "first"), promoted("mirror", State.SHADOW, "second")]
    told = history(*moves[: len(undo)])
    found = Rendezvous(pipeline(), 0, spans=told.spans)
    ages = sorted((first_ms, second_ms))
    replies = found.requests_seen([request(n, at_ms) for n, at_ms in enumerate(ages)], ages[1])
    for place, name in enumerate(("mirror", "second", "first", "yardstick")):
        replies += found.scores_offered(scores(name, 0, 1), place, ages[1] + 1, ages[1] + 1)
    replies += found.due(1e9)
    assert len(replies) == 2
    for reply in replies:
        assert told.spans.unentitled(reply.decision, ages[reply.request.offset]) == ""


def test_a_decision_by_whoever_was_not_entitled_is_told():
    spans = history(promoted("second", State.CHALLENGER, "first")).spans
    found = desk(known=False)
    found.requests_seen([request(0)], 1_000)
    (reply,) = found.scores_offered(scores("first", 0), 0, 1_005, 1_005)
    said = [
        spans.unentitled(replace(reply.decision, model=model, version=version), 1_000)
        for model, version in (("first", "1"), ("first", "2"), ("mirror", "1"), ("nobody", "1"), (None, None))
    ]
    assert said == ["", "first was version 1", "mirror was a shadow", "nobody was not there", ""]


def test_a_model_is_asked_for_the_requests_of_its_time():
    shadow = [
        staged(),
        move("third", State.STAGED, State.WARMING, "2"),
        move("third", State.WARMING, State.SHADOW, "2"),
    ]
    told = history(*shadow, move("second", State.CHALLENGER, State.RETIRED))
    fan_out = FanOut(pipeline())
    fan_out.entitle(told.spans)
    third_ms, second_ms = (span.from_ms for span in told.spans.spans[1:])
    asked = [
        read(b'{"x": 1, "limits": {"ms": 100000}}', offset=n, at_ms=int(at_ms))
        for n, at_ms in enumerate((third_ms - 1, third_ms, second_ms - 1, second_ms))
    ]
    rows: dict[str, list[int]] = {}
    for model, block in fan_out.fan(asked, second_ms).rows:  # type: ignore[arg-type]
        rows.setdefault(model.name, []).extend(block.offsets.tolist())
    assert rows == {
        "first": [0, 1, 2, 3],
        "second": [0, 1, 2],
        "mirror": [0, 1, 2, 3],
        "yardstick": [0, 1, 2, 3],
        "third": [1, 2, 3],
    }
