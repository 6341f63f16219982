"""The watch over a pipeline: windows with their tickets, moves of the roster, and a reference for new models."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from msgspec import msgpack
from msgspec.structs import replace

from agents.snapshot import KEPT
from schemas.decisions import Ticket
from schemas.pipeline import MonitorSettings, Pipeline, Role
from schemas.roster import Moved, State
from schemas.verdicts import Alarm, Reported, Word
from streams.core.deployed import Change, Standing, changes, standing
from streams.core.entitlement import Entry
from streams.core.gathering import Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.probing import Probe
from streams.core.verdicts.telling import BARE
from streams.core.verdicts.trouble import trouble_of
from streams.core.watching import Watching, later
from tests.unit.small import pipeline

ROWS = 2_000
SETTINGS = MonitorSettings(reference_rows=ROWS, probes=0)
PIPELINE = pipeline()
NAMES = [model.name for model in PIPELINE.models if model.role != "decoy"]


def stream(count: int, first: int = 0, wrong: str = "", more: str = "") -> Iterator[Gathered]:
    """Requests whose models score one field each in its own way; `wrong` turns round, `more` is one more of them."""
    chance = np.random.default_rng(first)
    for number in range(first, first + count):
        x = float(chance.normal())
        names = [*NAMES, more] if more else NAMES
        scores = {name: float(1 / (1 + np.exp(-x * (1 + place / 5)))) for place, name in enumerate(names)}
        if wrong:
            scores[wrong] = 1 - scores[wrong]
        yield Gathered(
            Ticket(0, number), 10 * number, 0.0, {}, {"x": x}, None, scores, dict.fromkeys(scores, "1"), {},
            {}, "preferred", "first",
        )  # fmt: skip


def told(watching: Watching, found: Iterator[Gathered], of: Pipeline = PIPELINE) -> list[Reported]:
    return [report for one in found if (report := watching.offer(one, of)) is not None]


def fresh() -> Watching:
    return Watching(PIPELINE, SETTINGS, ("x",))


def test_each_window_has_one_record_with_its_place_in_the_log():
    watching = fresh()
    found = told(watching, stream(ROWS + 2_000))
    assert [(one.window, one.verdict, one.alarm) for one in found] == [
        (0, Word.HEALTHY, None),
        (1, Word.HEALTHY, None),
    ]
    assert [one.from_ticket.offset for one in found] == [ROWS, ROWS + 1_000]
    assert [one.said_at_ticket.offset for one in found] == [ROWS + 999, ROWS + 1_999]
    assert [one.answers for one in found] == [{"preferred": ROWS + 1_000}, {"preferred": 1_000}]
    assert found[1].winners == {"first": 1_000}
    assert found[0].watch == "0/0@0"


def test_a_model_that_turned_round_raises_an_alarm_that_says_since_when():
    watching = fresh()
    told(watching, stream(ROWS + 1_000))
    [first, *_] = told(watching, stream(1_000, ROWS + 1_000, wrong="second"))
    assert (first.verdict, first.model, first.alarm, first.alarmed) == ("code", "second", Alarm.RAISED, "code")
    assert first.since_ticket is not None
    assert abs(first.since_ticket.offset - ROWS - 1_000) <= 500


def test_when_a_trouble_began_is_remembered_however_long_it_lasts():
    watching = fresh()
    told(watching, stream(ROWS + 1_000))
    found = told(watching, stream(20_000, ROWS + 1_000, wrong="second"))
    since = {(one.since_event, one.since_ticket) for one in found if one.verdict == "code" and one.since_event}
    assert len(since) == 1, since


def test_what_nothing_was_joined_into_is_counted_and_not_judged():
    """The router was down: what the tables would have said is not known, and is not missing from them either."""
    watching = fresh()
    told(watching, stream(ROWS + 500))
    place = watching.judging.watch.place if watching.judging else 0
    assert told(watching, (replace(one, joined=None) for one in stream(300, ROWS + 500))) == []
    assert watching.judging is not None
    assert watching.judging.watch.place == place
    [report] = told(watching, stream(500, ROWS + 800))
    assert report.answers == {"preferred": ROWS + 1_300}
    assert [note for note in report.notes if "not judged" in note] == [
        "300 requests into which nothing was joined in time: they are not judged"
    ]


def test_kept_in_the_middle_it_goes_on_as_if_nothing_had_been():
    usual, kept = fresh(), fresh()
    first, rest = list(stream(ROWS + 700)), list(stream(1_500, ROWS + 700, wrong="first"))
    said = told(usual, iter(first)) + told(usual, iter(rest))
    again = told(kept, iter(first))
    kept = decode_state(encode_state(kept, KEPT), KEPT)
    assert again + told(kept, iter(rest)) == said
    assert any(one.alarm for one in said)


def test_probes_are_in_no_count():
    watching = fresh()
    told(watching, stream(ROWS))
    probe = next(stream(1))
    probe.probe = "1"
    found = told(watching, iter([probe, *stream(999, ROWS), probe, *stream(1, ROWS + 999)]))
    assert [(one.answers, one.probes, one.events) for one in found] == [({"preferred": ROWS + 1_000}, 2, 1_000)]


def entry(model: str, before: State | None, after: State, from_ms: float) -> Entry:
    record = Moved(model=model, version="1", before=before, after=after, who="somebody", at_ms=0)
    return Entry(0, from_ms - 500, from_ms, record)


def test_moves_count_from_their_time_and_to_be_staged_is_nobodys_business():
    watching = fresh()
    told(watching, stream(ROWS + 1_000))
    moves = [entry("second", State.SHADOW, State.CHALLENGER, 100.0), entry("first", None, State.STAGED, 200.0)]
    moves.append(entry("second", State.CHALLENGER, State.SHADOW, 1e6))
    assert watching.moved(moves, 150.0)
    assert not watching.moved(moves, 5_000.0)


def with_model(which: str, of: Pipeline = PIPELINE, **changes: object) -> Pipeline:
    """The pipeline with one of its models otherwise."""
    return replace(of, models=tuple(replace(one, **changes) if one.name == which else one for one in of.models))


TAKEN_OVER = with_model("second", version="2")
SHADOWED = with_model("second", role=Role.SHADOW)
PASSED_OVER = with_model("first", role=Role.SHADOW)
PROMOTED = with_model("second", with_model("first", role=Role.CHALLENGER), role=Role.CHAMPION)
WITHOUT = replace(PIPELINE, models=tuple(one for one in PIPELINE.models if one.name != "mirror"))
ONSET = ROWS + 14_000


@pytest.fixture(scope="module")
def well() -> dict[int, Watching]:
    """What is known when so many requests were watched, all well."""
    watching, found, events = fresh(), {}, stream(ONSET)
    for before, after in pairwise((0, ONSET - 11_000, ONSET - 500)):
        told(watching, islice(events, after - before))
        found[after] = deepcopy(watching)
    return found


@pytest.mark.parametrize(
    ("place", "then", "named"),
    [
        (ONSET - 9_000, TAKEN_OVER, ["second 1 -> 2"]),
        (ONSET - 11_000, TAKEN_OVER, []),
        (ONSET + 500, TAKEN_OVER, ["second 1 -> 2"]),
        (ONSET + 1_500, TAKEN_OVER, []),
        (ONSET - 500, SHADOWED, []),
        (ONSET - 500, PASSED_OVER, []),
        (ONSET - 500, PROMOTED, ["second first's place -> champion (1)"]),
        (ONSET - 500, WITHOUT, []),
    ],
)
def test_only_a_deploy_of_the_model_near_the_beginning_stands_beside_it(
    place: int, then: Pipeline, named: list[str], well: dict[int, Watching]
):
    begin = max(at for at in well if at <= place)
    watching, found = deepcopy(well[begin]), []
    for number, one in enumerate(stream(ROWS + 17_000 - begin, begin), begin):
        if number >= ONSET:
            one.scores["second"] = 1 - one.scores["second"]
        found += told(watching, iter([one]), then if number >= place else PIPELINE)
    last = [one for one in found if one.verdict == "code"][-1]
    assert (last.model, abs((last.since_event or 0) - ONSET) <= 250) == ("second", True)
    assert last.deploys == [f"{one} at event {place}" for one in named]
    assert ("It began near a deploy: " in last.sentence) is bool(named)


def test_of_several_deploys_the_nearest_to_the_beginning_is_named():
    watching = fresh()
    told(watching, stream(ROWS + 1_000))
    begins = ROWS + 4_000
    told(watching, stream(3_000, ROWS + 1_000), TAKEN_OVER)
    third = with_model("second", version="3")
    found = told(watching, stream(700, begins, wrong="second"), third)
    found += told(watching, stream(2_000, begins + 700, wrong="second"), with_model("second", version="4"))
    last = [one for one in found if one.verdict == "code"][-1]
    assert [one.partition(" at ")[0] for one in last.deploys] == ["second 2 -> 3", "second 3 -> 4", "second 1 -> 2"]
    assert "It began near a deploy: second 2 -> 3 at event" in last.sentence


def test_whoever_comes_or_goes_is_a_deploy():
    now = standing(PIPELINE, Standing())
    assert list(changes(Standing(), now)) == []
    assert list(changes(now, standing(WITHOUT, now))) == [Change("mirror", "1", "gone")]
    assert list(changes(standing(WITHOUT, now), now)) == [Change("mirror", "new", "1")]
    over = standing(PASSED_OVER, now)
    assert (over.champion, list(changes(now, over))) == ("first", [])
    assert [one.model for one in changes(now, standing(PROMOTED, over))] == ["second"]


def test_a_new_model_is_learnt_beside_the_watch_that_judges_and_then_judged():
    watching = fresh()
    told(watching, stream(ROWS + 1_000))
    grown = replace(PIPELINE, models=(*PIPELINE.models, replace(PIPELINE.models[1], name="better")))
    first = ROWS + 1_000
    between = told(watching, stream(ROWS, first, more="better"), grown)
    assert [one.watch for one in between] == ["0/0@0"] * 2
    found = told(watching, stream(2_000, first + ROWS, more="better"), grown)
    assert [one.watch for one in found][-1] == f"0/{first}@{10 * first}"
    [wrong, *_] = told(watching, stream(1_500, first + ROWS + 2_000, wrong="better", more="better"), grown)
    assert (wrong.verdict, wrong.model) == ("code", "better")


def test_a_record_is_written_after_the_last_one_and_never_again():
    watching = fresh()
    one, other = told(watching, stream(ROWS + 2_000))
    assert later(one, None)
    assert later(other, one)
    assert not later(one, one)
    assert not later(one, other)
    anew = replace(one, watch="0/5@50")
    assert not later(anew, other), "another reference tells nothing of what was told before"
    assert later(replace(anew, said_at_ms=other.said_at_ms + 1), other)


BOUNDS = {
    "streams.core.sources.MOST": 10,
    "streams.core.score_figures.MOST_VALUES": 5,
    "streams.core.verdicts.probes.MOST_KEYS": 128,
    "streams.core.verdicts.watch.MOST_DEPLOYS": 10,
    "streams.core.watched.REMEMBERED": 8,
    "streams.core.probing.CANDIDATES": 500,
}
"""What bounds the memory, and how little that is here: so all of it is met within days."""

HOUR = 60
"""Requests: one comes every minute."""


def days(watching: Watching, first: int, count: int) -> None:
    """Ever new places and senders, probes every hour of another set every six, deploys, and hours of trouble."""
    wrong = ROWS + 2_400, ROWS + 2_900
    for one in stream(count, first):
        number = one.ticket.offset
        one.at_ms = 60_000 * number
        one.fields |= {"place": f"place {number:06}", "who": f"somebody {number:06}"}
        if wrong[0] <= number < wrong[1]:
            one.scores["second"] = 1 - one.scores["second"]
        then = TAKEN_OVER if number // 100 % 2 else PIPELINE
        if number % HOUR == 0:
            for probe in asked_again(number):
                probe.at_ms, probe.probe = one.at_ms, f"{number // (6 * HOUR)}-{probe.probe}"
                watching.offer(probe, then)
        watching.probing.offer(one.ticket, Probe(None, b"%d" % number), one.fields)
        watching.offer(one, then)


def sizes(watching: Watching) -> dict[str, int]:
    """Of all that is known, piece by piece: numbers, and the letters of text."""

    def size(tree: Any) -> int:
        if isinstance(tree, list):
            return sum(map(size, tree))
        return len(tree) if isinstance(tree, str | bytes) else 1

    judging = watching.judging
    assert judging is not None
    pieces = [
        watching,
        watching.figures,
        watching.probing,
        judging,
        judging.sources,
        judging.watch,
        judging.watch.probes,
    ]
    return {
        f"{type(piece).__name__}.{name}": size(msgpack.decode(encode_state(value, KEPT)))
        for piece in pieces
        for name, value in vars(piece).items()
    }


@pytest.mark.parametrize("gone", ["", *BOUNDS])
def test_what_is_known_does_not_grow_over_days(gone: str, monkeypatch: pytest.MonkeyPatch):
    for name, bound in BOUNDS.items():
        monkeypatch.setattr(name, 1 << 40 if name == gone else bound)
    settings = replace(SETTINGS, segments=("place",), source="who", probes=16)
    watching = Watching(PIPELINE, settings, ("x", "place", "who"))
    days(watching, 0, ROWS + 2_000)
    early = sizes(watching)
    days(watching, ROWS + 2_000, 4_000)
    late = sizes(watching)
    assert watching.judging is not None
    assert watching.judging.watch.intake.last_ms > 5 * 86_400_000
    grown = {name: (early[name], now) for name, now in late.items() if now > 1.1 * early[name] + 100}
    assert bool(grown) is bool(gone), grown


def asked_again(at: int, **without: str) -> list[Gathered]:
    """A round of 16 probes, the same each time; `without` says which model has no score of the last one, and why."""
    found = []
    for number, one in enumerate(stream(16)):
        answered = {name: score for name, score in one.scores.items() if number < 15 or name not in without}
        probe = replace(one, ticket=Ticket(0, at), at_ms=10 * at, probe=f"p{number}", scores=answered)
        found.append(replace(probe, without=without if number == 15 else {}))
    return found


@pytest.mark.parametrize(
    ("without", "word", "model"),
    [
        ({"second": "error"}, Word.CODE, "second"),
        ({"second": "error", "mirror": "needed"}, Word.CODE, "second"),
        ({"second": "error", "first": "error"}, Word.UPSTREAM, "first, second"),
        ({"yardstick": "error"}, Word.CANARY, "yardstick"),
        ({"second": "skipped"}, Word.HEALTHY, None),
        ({"second": "timed out"}, Word.HEALTHY, None),
    ],
)
def test_an_error_in_the_place_of_a_score_is_another_answer_to_a_probe(
    without: dict[str, str], word: Word, model: str | None
):
    watching = fresh()
    told(watching, stream(ROWS))
    told(watching, iter(asked_again(ROWS)))
    told(watching, stream(500, ROWS))
    early = told(watching, iter(asked_again(ROWS + 500, **without)))
    found = early + told(watching, stream(500, ROWS + 500))
    assert [(one.verdict, one.model) for one in found] == [(word, model)]
    if word is not Word.HEALTHY:
        assert "1 of 16 probes answered otherwise, 1 with an error" in found[0].sentence
        assert not found[0].rescaled
        told(watching, stream(1, ROWS + 1_000))
        again = told(watching, iter([*asked_again(ROWS + 1_001), *stream(999, ROWS + 1_001)]))
        assert [one.verdict for one in again] == [Word.HEALTHY], "they answer as ever again"


def test_a_model_that_failed_on_a_probe_in_the_reference_too_has_not_changed():
    watching = fresh()
    probes = [*asked_again(0), *asked_again(10, second="error"), *asked_again(20)]
    told(watching, iter([*probes, *stream(ROWS)]))
    found = told(watching, iter([*asked_again(ROWS), *asked_again(ROWS, second="error"), *stream(1_000, ROWS)]))
    assert [one.verdict for one in found] == [Word.HEALTHY]


def two_fields(count: int, first: int, **wrong: float) -> Iterator[Gathered]:
    """Requests with one more field, that no score depends on; `wrong` is added to a field."""
    for one in stream(count, first):
        one.fields |= {"y": float(np.random.default_rng(one.ticket.offset).normal())}
        for name, more in wrong.items():
            one.fields[name] += more
        yield one


def test_another_field_is_another_trouble_with_its_own_beginning_and_alarm():
    watching = Watching(PIPELINE, SETTINGS, ("x", "y"))
    first, second = ROWS + 1_000, ROWS + 4_000
    told(watching, two_fields(ROWS + 1_000, 0))
    old = told(watching, two_fields(3_000, first, y=4.0))
    new = told(watching, two_fields(3_000, second, x=4.0))
    assert {one.field for one in old} == {"y"}
    assert [(one.field, one.alarm) for one in new if one.alarm] == [("x", Alarm.CHANGED)]
    assert {abs(one.since_event - first) <= 250 for one in old if one.since_event} == {True}
    assert {abs(one.since_event - second) <= 250 for one in new if one.field == "x" and one.since_event} == {True}
    back = told(watching, two_fields(2_000, second + 3_000, y=4.0))
    assert [one.since_event for one in back if one.field == "y"][-1] == old[0].since_event, (
        "of what wavers, the first"
    )


def placed(count: int, first: int, where: str = "") -> Iterator[Gathered]:
    """Requests from four places; second scores higher than it did in one of them."""
    for one in stream(count, first):
        one.fields["place"] = "abcd"[one.ticket.offset % 4]
        if one.fields["place"] == where:
            score = one.scores["second"]
            one.scores["second"] = float(1 / (1 + np.exp(-2) * (1 - score) / score))
        yield one


def test_where_a_field_is_declared_the_one_value_in_which_a_model_changed_is_named():
    watching = Watching(PIPELINE, replace(SETTINGS, segments=("place",)), ("x", "place"))
    told(watching, placed(ROWS + 1_000, 0))
    found = told(watching, placed(2_000, ROWS + 1_000, "a"))
    assert {(one.verdict, one.model, one.segment, one.confined) for one in found} == {
        (Word.CODE, "second", "place is a", True)
    }
    assert "(only where place is a)" in found[0].sentence
    for one in found:
        parts = {value: part.requests for value, part in one.segments["place"].items()}
        assert (parts.keys(), sum(parts.values())) == (set("abcd"), sum(one.answers.values()))


def test_one_model_in_another_segment_is_another_trouble():
    watching = Watching(PIPELINE, SETTINGS, ("x", "place"))
    told(watching, placed(ROWS + 1_000, 0))
    old = told(watching, placed(2_000, ROWS + 1_000, "a"))
    new = told(watching, placed(4_000, ROWS + 3_000, "c"))
    assert {one.segment for one in old if one.alarm} == {"place is a or b"}
    assert [(one.model, one.segment) for one in new if one.alarm] == [("second", "place is c or d")]
    [first] = {one.since_event for one in old if one.since_event}
    assert [one.since_event for one in new if one.segment == "place is c or d"][-1] > first + 500


def test_a_part_of_a_numbers_range_is_no_place_of_its_own():
    low = replace(BARE, verdict=Word.CODE, model="first", segment="x is from 1 up to 2")
    high = replace(low, segment="x is above 7.5")
    assert trouble_of(low).same(trouble_of(high))
    assert not trouble_of(replace(low, segment="x is red")).same(
        trouble_of(replace(low, segment="x is blue or grey"))
    )


GROWN = replace(PIPELINE, models=(*PIPELINE.models, replace(PIPELINE.models[1], name="better")))


def with_a_set_reference() -> Watching:
    """Judging by a reference that was set, and with one model more since 500 requests."""
    watching, past = fresh(), fresh()
    told(past, stream(ROWS))
    assert past.judging is not None
    watching.refer("this and that week, set by anna", past.judging)
    told(watching, stream(500, ROWS))
    found = told(watching, stream(2 * ROWS, ROWS + 500, more="better"), GROWN)
    assert {one.verdict for one in found} == {Word.HEALTHY}
    assert ["which are being learnt" in note for one in found for note in one.notes] == [True, True, False, False]
    return watching


def test_a_reference_that_was_set_goes_on_judging_when_a_model_is_added():
    watching = with_a_set_reference()
    first = ROWS + watching.handed
    found = told(watching, stream(1_000, first, wrong="second", more="better"), GROWN)
    assert {(one.verdict, one.model) for one in found} == {(Word.CODE, "second")}
    assert all("this and that week, set by anna" in one.evidence.reference for one in found)
    assert {one.watch for one in found} == {"0/0@0"}
    beside = f"2,000 requests from 0/{ROWS + 500}@{10 * ROWS + 5_000} on, learnt"
    assert found[0].notes == [f"better: not in the reference that was set; held against {beside}"]


def test_a_model_that_a_set_reference_lacks_is_judged_by_one_that_was_learnt():
    watching = with_a_set_reference()
    first = ROWS + watching.handed
    newer = with_model("better", GROWN, version="2")
    told(watching, stream(500, first, more="better"), newer)
    found = told(watching, stream(2_000, first + 500, wrong="better", more="better"), newer)
    named = [one for one in found if one.verdict is Word.CODE]
    assert {one.model for one in named} == {"better"}
    assert named[0].alarm is Alarm.RAISED
    assert named[0].since_event is not None
    assert named[0].since_ticket is not None
    assert abs(named[0].since_event - first - 500) <= 250
    assert abs(named[0].since_ticket.offset - first - 500) <= 500
    assert named[0].deploys == [f"better 1 -> 2 at event {first}"]
    assert named[0].deploys[0] in named[0].sentence
    assert "this and that week, set by anna" in named[0].evidence.reference
    both = decode_state(encode_state(watching, KEPT), KEPT)
    assert both.learning is not None
    anew = fresh()
    told(anew, stream(ROWS))
    assert anew.judging is not None
    both.refer("another week", anew.judging)
    assert (both.learning, both.heard) == (None, None)


def test_a_window_has_a_verdict_though_probes_tell_of_a_model_that_the_reference_lacks():
    watching = fresh()
    for one in stream(ROWS):
        told(watching, iter([replace(one, scores={name: one.scores[name] for name in NAMES if name != "mirror"})]))
    told(watching, iter(asked_again(ROWS)))
    found = told(watching, iter([*asked_again(ROWS, mirror="error"), *stream(1_000, ROWS)]))
    assert [(one.verdict, one.evidence.probes) for one in found] == [(Word.HEALTHY, "changed: mirror")]
