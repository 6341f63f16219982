"""Models that no longer answer: named with the figures, as urgent as their role is, and never one that was not asked."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace

from agents.snapshot import KEPT
from schemas.pipeline import Pipeline, Role
from schemas.roster import Moved, Noted, State
from schemas.verdicts import Alarm, Evidence, Reported, Severity, Word
from streams.core.absences import with_absences
from streams.core.alarms import Alarms
from streams.core.attendance import Absence
from streams.core.entitlement import Entry
from streams.core.gathering import AFTER_MS, Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.risen import BOUND, LEAST, RISE, risen
from streams.core.verdicts.telling import BARE
from streams.core.watching import Watching
from tests.unit.test_watching import NAMES, PIPELINE, ROWS, WITHOUT, fresh, stream, told, with_model

FIRST = ROWS + 1_000
BUDGET_MS = 100


def asked(count: int, first: int, why: str = "", *models: str, share: float = 1.0) -> Iterator[Gathered]:
    """Requests of all models; so many of them without these models' scores, and why; 1 % is always an error."""
    for one in stream(count, first):
        own = replace(one, expected=dict.fromkeys(NAMES, "1"), leave_ms=one.at_ms + BUDGET_MS + AFTER_MS)
        chance = np.random.default_rng(one.ticket.offset).random()
        lacking = set(models) if why and chance < share else set()
        if chance > 0.99:
            why, lacking = why or "error", lacking or {"mirror"}
        if why == "late":
            yield replace(own, took_ms=dict.fromkeys(lacking, BUDGET_MS + 1.0))
        elif why == "guarded":
            yield replace(own, guarded=tuple(sorted(lacking)))
        else:
            scores = {name: score for name, score in own.scores.items() if name not in lacking}
            yield replace(own, scores=scores, without=dict.fromkeys(lacking, why) if why != "silent" else {})
        if chance > 0.99 and not models:
            why = ""


def ready() -> Watching:
    return deepcopy(learned())


@cache
def learned() -> Watching:
    """The same for all, and each goes on with a copy of its own."""
    watching = fresh()
    assert {one.verdict for one in told(watching, asked(FIRST, 0))} == {Word.HEALTHY}
    return watching


def verdict(watching: Watching, *given: object, of: Pipeline = PIPELINE, **more: object) -> Reported:
    [report] = told(watching, asked(1_000, FIRST, *given, **more), of)  # type: ignore[arg-type]
    return report


@pytest.mark.parametrize(
    ("why", "model", "word", "severity"),
    [
        ("error", "first", Word.CODE, Severity.PAGE),
        ("error", "second", Word.CODE, Severity.PAGE),
        ("error", "mirror", Word.CODE, Severity.NOTICE),
        ("error", "yardstick", Word.CANARY, Severity.PAGE),
        ("guarded", "first", Word.CODE, Severity.PAGE),
        ("silent", "first", Word.CODE, Severity.PAGE),
        ("silent", "mirror", Word.CODE, Severity.NOTICE),
        ("late", "first", Word.TRAFFIC, Severity.PAGE),
        ("late", "mirror", Word.TRAFFIC, Severity.NOTICE),
        ("timed out", "second", Word.TRAFFIC, Severity.PAGE),
    ],
)
def test_a_model_that_no_longer_answers_is_named(why: str, model: str, word: Word, severity: Severity):
    found = verdict(ready(), why, model, share=0.95 if why == "timed out" else 1.0)
    assert (found.verdict, found.model, found.severity, found.alarm) == (word, model, severity, Alarm.RAISED)
    assert (found.since_event, found.since_ticket and found.since_ticket.offset) == (FIRST, FIRST)
    assert " of 1,000 requests it was asked (" in found.sentence
    assert found.evidence.moved[0].of == model
    assert found.evidence.moved[0].of_threshold > 1


def test_what_a_person_reads_has_the_figures_and_what_to_do():
    assert verdict(ready(), "error", "first").sentence == (
        "first fails: an error for 1,000 of 1,000 requests it was asked (100.0 %; at most 0.0 % of a thousand in the "
        "reference). Look at its log: the reason stands in each error."
    )
    assert verdict(ready(), "silent", "first", "second").sentence.startswith(
        "first and second are silent: first no answer in time for 1,000 of 1,000 requests it was asked (100.0 %; "
    )


@pytest.mark.parametrize("why", ["skipped", "needed"])
def test_who_was_not_asked_or_lacks_a_score_that_it_needs_is_not_missed(why: str):
    assert verdict(ready(), why, "first").verdict is Word.HEALTHY


def placed(found: Iterator[Gathered], without: str) -> Iterator[Gathered]:
    """Requests from four places; second fails on those from some of them."""
    for one in found:
        one.fields["place"] = "abcd"[one.ticket.offset % 4]
        if one.fields["place"] in without:
            one.scores.pop("second", None)
            one.without = {"second": "error"}
        yield one


@pytest.mark.parametrize(("without", "segment"), [("b", "place is b"), ("bc", None), ("abcd", None)])
def test_a_model_that_fails_in_one_segment_alone_is_said_to(without: str, segment: str | None):
    watching = Watching(PIPELINE, replace(fresh().settings, segments=("place",)), ("x", "place"))
    told(watching, placed(asked(FIRST, 0), ""))
    [found] = told(watching, placed(asked(1_000, FIRST), without))
    assert (found.verdict, found.model, found.segment) == (Word.CODE, "second", segment)
    assert found.confined is (segment is not None)
    assert ("second fails only where place is b: an error for " in found.sentence) is found.confined


def test_a_share_as_usual_or_a_little_more_is_no_alarm():
    watching = ready()
    for share in (0.02, 0.04):
        assert verdict(watching, "error", "mirror", share=share).verdict is Word.HEALTHY
    assert verdict(watching, "error", "mirror", share=0.09).verdict is Word.CODE


def test_a_model_that_was_retired_is_not_silent():
    watching = ready()
    gone = [
        replace(one, expected={name: "1" for name in NAMES if name != "mirror"}) for one in asked(700, FIRST + 300)
    ]
    found = told(watching, asked(300, FIRST, "silent", "mirror")) + told(watching, iter(gone), WITHOUT)
    assert [one.verdict for one in found] == [Word.HEALTHY]


def test_one_whose_processes_were_given_up_is_not_silent_until_it_is_back_or_another_version():
    def noted(*, quarantined: bool, at_ms: float) -> Entry:
        record = Noted(model="first", version="1", quarantined=quarantined, who="up", at_ms=0)
        return Entry(0, at_ms, at_ms, record)

    watching = ready()
    entries = [noted(quarantined=True, at_ms=10.0 * FIRST), noted(quarantined=False, at_ms=1e9)]
    assert told(watching, asked(400, FIRST, "silent", "first")) == []
    assert not watching.moved(entries, 10.0 * FIRST)
    assert [one.verdict for one in told(watching, asked(600, FIRST, "silent", "first"))] == [Word.HEALTHY]
    told(watching, asked(700, FIRST, "silent", "first"))
    watching.moved([*entries[:1], noted(quarantined=False, at_ms=10.0 * FIRST)], 10.0 * FIRST)
    assert [one.verdict for one in told(watching, asked(300, FIRST))] == [Word.HEALTHY], (
        "it was not missed while it was"
    )
    watching.quarantined["first"], watching.moves = "1", 1
    other = with_model("first", version="2")
    newer = [replace(one, expected=one.expected | {"first": "2"}) for one in asked(1_000, FIRST, "silent", "first")]
    assert [one.verdict for one in told(watching, iter(newer), other)] == [Word.CODE]
    watching.moved(entries, 2e9)
    assert [one.verdict for one in told(watching, asked(1_000, FIRST + 2_000, "silent", "first"))] == [Word.CODE]
    watching.moved([*entries, noted(quarantined=True, at_ms=2e9)], 2e9)
    assert watching.quarantined == {"first": "1"}
    gone = Moved(model="first", version="1", before=State.SHADOW, after=State.RETIRED, who="anna", at_ms=0)
    watching.moved([*entries, noted(quarantined=True, at_ms=2e9), Entry(0, 2e9, 2e9, gone)], 2e9)
    assert watching.quarantined == {}


def test_a_champion_that_is_passed_over_is_still_the_champion():
    passed_over = with_model("first", role=Role.SHADOW)
    assert verdict(ready(), "error", "first", of=passed_over).severity is Severity.PAGE


def test_several_that_fail_share_the_cause_and_several_that_are_silent_are_traffic():
    found = verdict(ready(), "error", "first", "second")
    assert (found.verdict, found.model) == (Word.UPSTREAM, "first, second")
    found = verdict(ready(), "silent", "first", "second", "yardstick")
    assert (found.verdict, found.model, found.severity) == (Word.TRAFFIC, "first, second, yardstick", Severity.PAGE)


def test_what_goes_on_keeps_its_beginning_is_told_once_and_its_end_is_told():
    watching = ready()
    found = told(watching, asked(600, FIRST)) + told(watching, asked(3_400, FIRST + 600, "error", "first"))
    assert [(one.verdict, one.alarm) for one in found] == [
        (Word.CODE, Alarm.RAISED),
        *[(Word.CODE, None)] * 3,
    ]
    assert {one.since_event for one in found} == {FIRST + 500}, "to a quarter of a window"
    found = told(watching, asked(3_000, FIRST + 4_000))
    assert [(one.verdict, one.alarm) for one in found][2:] == [(Word.HEALTHY, Alarm.CLEARED)]


def test_what_is_over_when_the_window_ends_is_a_notice():
    watching = ready()
    found = told(watching, asked(300, FIRST, "error", "first")) + told(watching, asked(700, FIRST + 300))
    assert [(one.verdict, one.severity) for one in found] == [(Word.CODE, Severity.NOTICE)]
    assert ", and it is over by now. " in found[0].sentence


def test_an_unknown_model_is_given_the_benefit_of_the_doubt_up_to_a_half():
    watching = ready()
    new = with_model("mirror", name="new", role=Role.CHALLENGER)
    for share, word in ((0.4, Word.HEALTHY), (0.7, Word.CODE)):
        rows = asked(1_000, FIRST, "error", "mirror", share=share)
        given = [
            replace(
                one,
                expected={name.replace("mirror", "new"): "1" for name in one.expected},
                without={name.replace("mirror", "new"): why for name, why in one.without.items()},
            )
            for one in rows
        ]
        for one in given:
            if "new" not in one.without:
                one.scores["new"] = one.scores["mirror"]
        assert [one.verdict for one in told(watching, iter(given), new)] == [word]


def test_kept_in_the_middle_of_a_window_nothing_is_counted_twice_or_lost():
    kept = ready()
    usual = decode_state(encode_state(kept, KEPT), KEPT)
    rows = list(asked(1_000, FIRST, "error", "first", share=0.3))
    said = told(usual, iter(rows))
    told(kept, iter(rows[:700]))
    assert told(decode_state(encode_state(kept, KEPT), KEPT), iter(rows[700:])) == said
    assert said[0].verdict is Word.CODE


def absence(model: str = "first", kind: str = "failed", **more: object) -> Absence:
    found = Absence(model, kind, 5, 50, 900, 1_000, 0.01, over=False, silent=False)
    return replace(found, **more)


def test_the_graver_of_two_troubles_is_the_verdict_and_the_other_stands_beside_it():
    roles = {"first": Role.CHAMPION, "mirror": Role.SHADOW}
    data = replace(BARE, verdict=Word.DATA, severity=Severity.NOTICE, field="x", sentence="x changed")
    found = with_absences(data, [absence()], roles)
    assert (found.verdict, found.field, found.severity) == (Word.CODE, None, Severity.PAGE)
    assert [(one.verdict, one.subject) for one in found.also] == [(Word.DATA, "x")]
    found = with_absences(data, [absence("mirror")], roles)
    assert (found.verdict, found.sentence) == (Word.DATA, "x changed")
    assert [(one.verdict, one.subject) for one in found.also] == [(Word.CODE, "mirror")]
    guessed = replace(data, verdict=Word.UPSTREAM, severity=Severity.PAGE, model="second, mirror", field=None)
    assert with_absences(guessed, [absence()], roles).model == "first"
    probed = replace(guessed, verdict=Word.CODE, model="first", evidence=Evidence([], [], "changed: first"))
    assert with_absences(probed, [absence()], roles) == probed, "the same once"
    both = with_absences(BARE, [absence("mirror"), absence(kind="late")], roles)
    assert (both.verdict, both.model) == (Word.TRAFFIC, "first"), "a page before a notice"
    assert [(one.verdict, one.subject) for one in both.also] == [(Word.CODE, "mirror")]


def test_what_is_counted_is_told_at_once_though_there_are_probes():
    found = with_absences(BARE, [absence()], {"first": Role.CHAMPION})
    assert Alarms(3, 3_600, probed=True).heard(found) is Alarm.RAISED
    guessed = replace(found, evidence=Evidence([], [], "none"))
    assert Alarms(3, 3_600, probed=True).heard(guessed) is None


@pytest.mark.parametrize("usual", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_a_share_as_usual_passes_the_rule_less_often_than_it_says(usual: float):
    chance = np.random.default_rng(7)
    for asked_for in (LEAST, 1_000):
        counts = chance.binomial(asked_for, usual, 200_000)
        assert not any(risen(int(count), asked_for, usual) for count in np.unique(counts))
    assert BOUND * 200_000 < 1
    assert not risen(int(1_000 * (usual + RISE)) - 1, 1_000, usual)
    assert risen(int(1_000 * min(1.0, usual + 0.12)), 1_000, usual)
    assert not risen(LEAST - 1, LEAST - 1, usual)
