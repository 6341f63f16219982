"""A model that needs another's score: what is refused, what its rows become, and what the past makes of it."""

import json
import tomllib
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from agents.cli.past import read_past
from schemas.blocks import NotAskedBlock, RowError, Rows, ScoreBlock, offsets_of, pack_offsets
from schemas.errors import UnreadableRecord
from schemas.needs import Needing, decode_needing, encode_needing
from schemas.pipeline import Kind, Model, Pipeline, PolicyKind, Role
from schemas.requests import Request
from schemas.rights import rights_of
from schemas.roster import State
from schemas.topics import topics_of
from streams.archive.ranges import Period
from streams.core.blame import NEEDED, blame
from streams.core.coupled_past import CoupledPast
from streams.core.coupling import CATCH_UP_MS, KEPT, Coupling, Sent
from streams.core.fan_out import OVERLOADED, FanOut
from streams.core.given import Given
from streams.core.past import Way
from streams.core.pipeline_checks import mistakes_of
from streams.core.rendezvous import Rendezvous
from streams.core.roster import began
from streams.core.scored_past import Scored
from streams.models.candidate import changed_models, scoring_of
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline, read, request, scores
from tests.unit.test_roster import move, moved, staged

NEEDING = replace(pipeline().model("second"), features=("late", "first.score", "x"), needs=("first",))
AT_MS, DEADLINE_MS = 1_000, 1_100


def coupled(*models: Model) -> Pipeline:
    """The small pipeline with these in the place of their namesakes, or beside the others."""
    base = pipeline()
    changed = {model.name: model for model in models}
    kept = [changed.pop(model.name, model) for model in base.models]
    return replace(base, models=(*kept, *changed.values()))


PIPELINE = coupled(NEEDING)


def said(**models: dict[str, object]) -> list[str]:
    text = tomllib.loads(TEXT)
    text["models"] = [model | models.get(model["name"], {}) for model in text["models"]]
    return [str(one) for one in mistakes_of(msgspec.convert(text, Pipeline))]


@pytest.mark.parametrize(
    ("models", "wrong"),
    [
        (
            {"first": {"needs": ["nobody"]}},
            "needs (first): there is no model 'nobody'; name one of first, second, mirror, yardstick, or remove it",
        ),
        (
            {"first": {"needs": ["first"]}},
            "needs (first): in a circle: first needs first; let one of them do without",
        ),
        (
            {"mirror": {"needs": ["first"], "role": "decoy"}, "first": {"needs": ["mirror"]}},
            "needs (first): mirror is a decoy, which scores nothing; name another",
        ),
        (
            {"second": {"features": ["x", "first.score"]}},
            "needs (second): its feature 'first.score' is a score it does not declare; write needs = [\"first\"]",
        ),
        (
            {"second": {"features": ["x"], "needs": ["first"]}},
            'needs (second): first\'s score is no feature of it; add "first.score" to its features',
        ),
        (
            {"mirror": {"needs": ["first", "first"]}},
            "needs (mirror): 'first' stands 2 times; keep one, or rename",
        ),
    ],
)
def test_what_cannot_be_needed_is_refused_in_one_line(models: dict[str, dict[str, object]], wrong: str):
    assert wrong in said(**models)


def test_a_circle_is_told_to_everybody_in_it_and_to_nobody_else():
    found = said(first={"needs": ["mirror"]}, mirror={"needs": ["yardstick"]}, yardstick={"needs": ["first"]})
    assert len(found) == 3
    assert all("in a circle" in one for one in found)
    assert "first needs mirror needs yardstick needs first" in found[0]
    assert said(mirror={"needs": ["first", "yardstick"]}, yardstick={"needs": ["first"]}) == []


def test_no_feature_is_called_as_a_score_is():
    text = tomllib.loads(TEXT)
    text["features"][0]["name"] = "first.score"
    text["models"][1] |= {"features": ["late"]}
    (found,) = mistakes_of(msgspec.convert(text, Pipeline))
    assert "'first.score' is what a score is called" in str(found)


def test_scores_come_after_the_other_features_where_none_are_named():
    model = replace(pipeline().model("mirror"), needs=("yardstick", "first"))
    own = coupled(model)
    assert own.features_of(model) == ("x", "colour", "late", "yardstick.score", "first.score")
    assert own.own_features_of(model) == ("x", "colour", "late")
    assert [topic.name for topic in topics_of(own) if "needs" in topic.name] == ["small.needs.mirror"]


def test_a_coupler_has_the_rights_of_its_own_model_only():
    rights = rights_of(coupled(NEEDING, replace(pipeline().model("mirror"), needs=("first",))), "coupler", "second")
    read = ["small.needs.second", "small.scores", "small.roster", "small.roster-history"]
    assert [topic.name for topic in rights.reads] == read
    assert {topic.name for topic in rights.writes} == {"small.model.second", "small.scores", "small.dead-letters"}


def test_of_a_roster_whoever_enters_must_find_what_it_needs_and_who_is_there_may_lose_it():
    new = Model(name="third", version="2", kind=Kind.CONSTANT, value=0.8, role=Role.SHADOW, needs=("mirror",))
    with pytest.raises(UnreadableRecord, match="there is no model 'nobody'"):
        moved(began(PIPELINE), staged(replace(new, needs=("nobody",))), of=PIPELINE)
    there = moved(
        began(PIPELINE),
        staged(new),
        move("third", State.STAGED, State.WARMING, "2"),
        move("third", State.WARMING, State.SHADOW, "2"),
        move("mirror", State.SHADOW, State.RETIRED),
        move("third", State.SHADOW, State.CHALLENGER, "2"),
        of=PIPELINE,
    )
    assert there.state("third") is State.CHALLENGER


def test_a_decoy_that_needs_a_score_needs_a_process_too():
    decoy = replace(pipeline().model("mirror"), role=Role.DECOY)
    assert [model.name for model in began(coupled(decoy)).scored()] == ["first", "second", "yardstick"]
    needing_one = replace(decoy, needs=("first",))
    assert [model.name for model in began(coupled(needing_one)).scored()] == [
        "first",
        "second",
        "mirror",
        "yardstick",
    ]


def asked(count: int, at_ms: int = AT_MS) -> list[Request]:
    found = [read(b'{"x":%d,"colour":"red"}' % offset, offset=offset, at_ms=at_ms) for offset in range(count)]
    return [one for one in found if isinstance(one, Request)]


def test_the_router_puts_rows_aside_that_wait_for_scores_with_the_versions_entitled_then():
    fan = FanOut(PIPELINE).fan(asked(2), AT_MS + 1)
    assert [model.name for model, _ in fan.rows] == ["first", "mirror", "yardstick"]
    (needing,) = fan.needing
    assert (needing.version, needing.needs) == ("1", (("first", "1"),))
    back = decode_needing(encode_needing(needing))
    assert (back.version, back.needs, back.rows.matrix.tolist()) == ("1", (("first", "1"),), [[0, 0], [0, 1]])
    with pytest.raises(UnreadableRecord, match="no rows that wait"):
        decode_needing(b"\x91\x01")


def test_a_model_whose_need_is_retired_says_so_at_once():
    left = tuple(
        model for model in coupled(replace(NEEDING, features=(), needs=("mirror",))).models if model.name != "mirror"
    )
    fan = FanOut(replace(pipeline(), models=left)).fan(asked(2), AT_MS + 1)
    assert (fan.needing, [model.name for model, _ in fan.rows]) == ([], ["first", "yardstick"])
    (block,) = fan.lacking
    assert (block.model, block.version) == ("second", "1")
    assert block.errors == tuple(RowError(n, "needs mirror, which is not asked any more") for n in (0, 1))


def test_who_is_needed_is_passed_over_no_earlier_than_who_needs_it():
    """At 30 % of the budget shadows are passed over, but for the one that the challenger needs."""
    shadow = replace(pipeline().model("yardstick"), name="other", role=Role.SHADOW, expired="skip")
    model = replace(NEEDING, features=(), needs=("mirror",))
    fan = FanOut(coupled(model, shadow)).fan(asked(1), AT_MS + 30)
    assert [(block.models, block.reason) for block in fan.not_asked] == [(("other",), OVERLOADED)]
    fan = FanOut(coupled(model, shadow)).fan(asked(1), AT_MS + 60)
    assert {name for block in fan.not_asked for name in block.models} == {"other", "mirror", "second"}


def needing(*offsets: int, deadline_ms: int = DEADLINE_MS, version: str = "1", events: bool = False) -> Needing:
    numbers = np.array(offsets, dtype=np.int64)
    matrix = np.column_stack([np.zeros(len(offsets)), numbers * 1.0])
    values = tuple(b'{"x":%d,"first.score":"mine"}' % offset for offset in offsets) if events else ()
    rows = Rows("second", numbers, np.full(len(offsets), deadline_ms), matrix, values)
    return Needing("1", (("first", version),), rows)


def given_rows(sent: Sent) -> dict[int, list[float]]:
    return {
        offset: row
        for rows in sent.rows
        for offset, row in zip(rows.offsets.tolist(), rows.matrix.tolist(), strict=True)
    }


def reasons(sent: Sent) -> dict[int, str]:
    assert {(block.model, block.version) for block in sent.errors} <= {("second", "1")}
    return {error.offset: error.reason for block in sent.errors for error in block.errors}


@pytest.mark.parametrize("first_comes", ["rows", "scores"])
def test_a_row_is_sent_on_with_the_score_in_its_column(first_comes: str):
    coupling = Coupling(PIPELINE, NEEDING)
    if first_comes == "rows":
        assert coupling.rows_offered(needing(4, 5), 0, AT_MS) == Sent()
        sent = coupling.scores_offered(scores("first", 5, 4, score=0.25))
    else:
        assert coupling.scores_offered(scores("first", 5, 4, score=0.25)) == Sent()
        sent = coupling.rows_offered(needing(4, 5), 0, AT_MS)
    assert given_rows(sent) == {4: [0, 0.25, 4], 5: [0, 0.25, 5]}
    assert sent.rows[0].deadlines_ms.tolist() == [DEADLINE_MS] * 2
    assert (sent.errors, coupling.waiting) == ([], 0)


def test_only_the_version_entitled_at_its_ticket_counts():
    coupling = Coupling(PIPELINE, NEEDING)
    coupling.rows_offered(needing(4, version="2"), 0, AT_MS)
    assert coupling.scores_offered(scores("first", 4, version="1", score=0.9)) == Sent()
    assert given_rows(coupling.scores_offered(scores("first", 4, version="2", score=0.2))) == {4: [0, 0.2, 4]}


def test_an_event_has_the_score_beside_its_fields_whatever_the_producer_called_so():
    model = replace(NEEDING, takes="events")
    coupling = Coupling(coupled(model), model)
    coupling.rows_offered(needing(4, events=True), 0, AT_MS)
    sent = coupling.scores_offered(scores("first", 4, score=0.25))
    assert [json.loads(event) for rows in sent.rows for event in rows.events] == [{"x": 4, "first.score": 0.25}]


def test_a_row_without_its_score_is_an_error_that_says_whose_and_why():
    coupling = Coupling(PIPELINE, NEEDING)
    coupling.rows_offered(needing(1, 2, 3), 0, AT_MS)
    failed = ScoreBlock("first", "1", b"", b"", (RowError(1, "raised"),))
    assert reasons(coupling.scores_offered(failed)) == {1: "needs first, which has no score: raised"}
    assert blame("needs first, which has no score: raised") == NEEDED
    passed = NotAskedBlock(("first", "mirror"), pack_offsets([2]), OVERLOADED)
    assert reasons(coupling.scores_offered(passed)) == {2: f"needs first, which was not asked: {OVERLOADED}"}
    assert blame(f"needs first, which was not asked: {OVERLOADED}") == NEEDED
    assert coupling.next_due_ms == DEADLINE_MS
    assert coupling.due(DEADLINE_MS - 0.1) == Sent()
    assert reasons(last := coupling.due(DEADLINE_MS)) == {3: "needs first, whose score did not come in time"}
    assert {blame(reason) for reason in reasons(last).values()} == {NEEDED}
    assert (coupling.next_due_ms, coupling.without) == (None, 3)
    assert coupling.scores_offered(scores("first", 3)) == Sent()


def test_rows_that_are_read_late_wait_for_what_is_read_a_little_later():
    coupling = Coupling(PIPELINE, NEEDING)
    now_ms = DEADLINE_MS + 5_000.0
    coupling.rows_offered(needing(1, 2), 0, now_ms)
    assert coupling.due(now_ms) == Sent()
    assert list(given_rows(coupling.scores_offered(scores("first", 1)))) == [1]
    assert list(reasons(coupling.due(now_ms + CATCH_UP_MS))) == [2]


def test_scores_that_nobody_asks_for_are_forgotten():
    coupling = Coupling(PIPELINE, NEEDING)
    for start in range(0, KEPT + 1_000, 200):
        coupling.scores_offered(scores("first", *range(start, start + 200)))
    assert len(coupling._said) <= KEPT
    assert coupling.rows_offered(needing(0), 0, AT_MS) == Sent()
    assert list(given_rows(coupling.rows_offered(needing(KEPT), 1, AT_MS))) == [KEPT]


@given(some.data())
def test_every_row_is_sent_on_once_or_told_why_not_and_a_restart_reads_what_is_unconfirmed(data: some.DataObject):
    count = data.draw(some.integers(1, 12))
    parts = data.draw(some.lists(some.integers(1, 4), min_size=1, max_size=6))
    records, start = [], 0
    for size in parts:
        end = min(count, start + size)
        if end > start:
            records.append(needing(*range(start, end)))
        start = end
    count = min(count, start)
    whole = data.draw(some.sets(some.integers(0, count - 1)))
    steps = [("rows", position) for position in range(len(records))]
    for offset in data.draw(some.permutations(sorted(whole))):
        steps.insert(data.draw(some.integers(0, len(steps))), ("score", offset))
    coupling, out, lost = Coupling(PIPELINE, NEEDING), [], []
    unsent = dict(enumerate(range(len(records))))
    for what, which in steps:
        sent = (
            coupling.rows_offered(records[which], which, AT_MS)
            if what == "rows"
            else coupling.scores_offered(scores("first", which))
        )
        out += list(given_rows(sent))
        if data.draw(some.booleans()):
            coupling.confirmed(sent.positions)
        else:
            lost += sent.positions
        low = coupling.low()
        assert all(position >= low for position in lost)
    refused = list(reasons(last := coupling.due(DEADLINE_MS)))
    coupling.confirmed(last.positions)
    assert sorted(out) == sorted(whole)
    assert sorted(refused) == sorted(set(range(count)) - whole)
    coupling.confirmed(lost)
    assert (coupling.low(), coupling.waiting, bool(unsent)) == (len(records), 0, True)


def test_rows_that_were_routed_for_other_features_or_needs_are_refused_and_hold_nobody():
    coupling = Coupling(PIPELINE, NEEDING)
    wide = replace(needing(1), rows=replace(needing(1).rows, matrix=np.zeros((1, 99))))
    stranger = replace(needing(2), needs=(("nobody", "1"),))
    for position, one in enumerate((wide, stranger)):
        sent = coupling.rows_offered(one, position, AT_MS)
        assert (list(reasons(sent)), sent.rows) == ([position + 1], [])
        coupling.confirmed(sent.positions)
    assert coupling.low() == 2


def test_what_was_read_before_is_passed_over_and_a_second_copy_is_sent_no_second_time_while_it_waits():
    coupling = Coupling(PIPELINE, NEEDING, start=3)
    assert coupling.rows_offered(needing(9), 2, AT_MS) == Sent()
    coupling.rows_offered(needing(1), 3, AT_MS)
    copy = coupling.rows_offered(needing(1), 4, AT_MS)
    assert (copy.rows, copy.positions) == ([], [4])
    assert list(given_rows(coupling.scores_offered(scores("first", 1)))) == [1]


def test_a_decision_says_whose_score_was_part_of_whose_input():
    core = Rendezvous(PIPELINE, 0)
    core.requests_seen([request(0)], AT_MS)
    (reply,) = core.scores_offered(scores("first", 0), 0, AT_MS, AT_MS)
    assert reply.decision.needs == {"second": ("first",)}
    plain = Rendezvous(pipeline(), 0)
    plain.requests_seen([request(0)], AT_MS)
    assert plain.scores_offered(scores("first", 0), 0, AT_MS, AT_MS)[0].decision.needs is None


def test_a_lightgbm_model_has_the_score_as_a_column_of_that_name(tmp_path: Path):
    rng = np.random.default_rng(1)
    x = rng.random((400, 3))
    names = ["late", "first.score", "x"]
    data = lightgbm.Dataset(x, (x[:, 1] > 0.5).astype(float), feature_name=names)
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 5).save_model(tmp_path / "m.txt")
    from streams.models.artifact import sum_of

    digest = sum_of((tmp_path / "m.txt").read_bytes())
    model = replace(NEEDING, kind=Kind.LIGHTGBM, value=None, artifact="m.txt", sha256=digest)
    score, columns = scoring_of(tmp_path, coupled(model), model)
    assert columns == (2, 3, 0)
    found, errors = score(Given(np.array([[0.5, 0.1, 0.5], [0.5, 0.9, 0.5]])))
    assert (errors, found[1] > found[0]) == ({}, True)


def steady(ms: dict[str, float | None]):  # type: ignore[no-untyped-def]
    return lambda _, model: ms.get(model, 1.0)


def the_score(given: Given):  # type: ignore[no-untyped-def]
    return given.matrix[:, 1].copy(), {}


def past_scores(of: Pipeline, root: Path, scored: dict[str, Scored]) -> dict[str, list[float]]:
    way = Way("candidate", of, scored)
    seen = read_past(root, of, [way], Period(), None, 4.0)
    assert seen.ways["candidate"].model is not None
    return {name: column.tolist() for name, column in seen.own["candidate"].items()}


def test_a_backtest_gives_a_candidate_the_archived_score_of_what_it_needs(tmp_path: Path):
    count = 300
    lived = play(
        PIPELINE,
        [b'{"x":%d}' % number for number in range(count)],
        latency_ms=steady({"first": 30.0, "second": None}),
        score=lambda model, offset: offset / 1_000 if model == "first" else 0.5,
    )
    root = lived.write(tmp_path, PIPELINE.name)
    found = past_scores(PIPELINE, root, {"second": Scored("1", the_score, (2, 3, 0), 10)})
    assert found["second"] == [offset / 1_000 for offset in range(count)]


def test_a_backtest_gives_no_score_that_came_too_late_and_answers_no_earlier_than_it(tmp_path: Path):
    """`first` takes 60 ms or, on every third request, 150 of its 100: `second` says so, and never before."""
    seconds = replace(PIPELINE, policy=replace(PIPELINE.policy, kind=PolicyKind.FIRST))
    lived = play(
        seconds,
        [b'{"x":%d}' % number for number in range(90)],
        latency_ms=lambda _, model: {"first": 60.0, "second": None}.get(model, 1.0),
        score=lambda model, offset: 0.25,
    )
    for place, record in enumerate(lived.scores):
        block = msgspec.msgpack.decode(record.value or b"")
        if block[0] == "scores/1" and block[1] == "first" and offsets_of(block[3])[0] % 3 == 0:
            lived.scores[place] = replace(record, timestamp_ms=record.timestamp_ms + 90)
    lived.scores.sort(key=lambda one: one.timestamp_ms)
    lived.scores[:] = [replace(record, offset=place) for place, record in enumerate(lived.scores)]
    root = lived.write(tmp_path, seconds.name)
    found = past_scores(seconds, root, {"second": Scored("1", the_score, (2, 3, 0), 10)})
    assert [np.isnan(score) for score in found["second"]] == [offset % 3 == 0 for offset in range(90)]


def test_of_a_past_without_end_only_the_requests_that_still_wait_are_remembered():
    past = CoupledPast(PIPELINE, {"second": Scored("1", the_score, (2, 3, 0), 10)})
    found: list[float] = []
    for first in range(0, 2_000, 100):
        offsets = np.arange(first, first + 100)
        at_ms = 10 * offsets
        past.requests_seen(offsets, at_ms, at_ms + 100, np.zeros((100, len(PIPELINE.features))), (b"{}",) * 100)
        for offset in offsets.tolist():
            past.offered(scores("first", offset), 10 * offset + 5)
        if first:
            past.offered(scores("first", 0), 10 * first)  # long after its deadline
        for _, block, _ in past.made(10.0 * (first + 99)):
            found += np.frombuffer(block.scores).tolist()
    assert len(found) == 2_000
    assert past.remembered == 10
    assert not any(0 in needed for needed in past._needed_ms.values())


def test_a_needed_model_that_is_scored_anew_changes_what_needs_it(tmp_path: Path):
    lived = play(PIPELINE, [b'{"x":%d}' % number for number in range(40)], score=lambda *_: 0.5)
    root = lived.write(tmp_path, PIPELINE.name)

    def own(given: Given):  # type: ignore[no-untyped-def]
        return given.matrix[:, 0] / 10, {}

    scored = {
        "second": Scored("1", the_score, (2, 3, 0), 10),
        "first": Scored("1", own, (0, 1, 2), 5),
    }
    assert past_scores(PIPELINE, root, scored)["second"] == [number / 10 for number in range(40)]
    other = replace(
        PIPELINE, models=tuple(replace(m, value=0.1) if m.name == "first" else m for m in PIPELINE.models)
    )
    assert [model.name for model in changed_models(tmp_path, PIPELINE, tmp_path, other)] == ["first", "second"]
