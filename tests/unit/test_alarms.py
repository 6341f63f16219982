"""People are told once of each change, are reminded, and hear of the end when it has lasted."""

from msgspec.structs import replace

from schemas.verdicts import Alarm, Evidence, Severity, Verdict, Word
from streams.core.alarms import Alarms
from streams.core.verdicts.trouble import trouble_of
from streams.core.verdicts.words import SEVERITY

BARE = Verdict(
    window=0,
    verdict=Word.HEALTHY,
    sentence="",
    from_event=0,
    to_event=0,
    from_ms=0,
    to_ms=0,
    said_at_event=0,
    said_at_ms=0,
    events=0,
    evidence=Evidence([], [], "none"),
)
MINUTE_MS = 60_000


def heard(
    *words: str, quiet_windows: int = 3, remind_s: float = 3_600, probes: str = "none", probed: bool = False
) -> list[Alarm | None]:
    """What a verdict a minute comes to; `code:full` names the model, `data:/x` the field, `code:full@a` the segment."""
    alarms = Alarms(quiet_windows, remind_s, probed=probed)
    found = []
    for number, text in enumerate(words):
        word, _, subject = text.partition(":")
        subject, _, segment = subject.partition("@")
        model, _, field = subject.partition("/")
        at = replace(BARE, verdict=Word(word), severity=SEVERITY.get(Word(word)), model=model or None)
        at = replace(at, field=field or None, segment=segment or None)
        at = replace(at, evidence=Evidence([], [], probes))
        found.append(alarms.heard(replace(at, said_at_ms=number * MINUTE_MS)))
    return found


def test_the_same_trouble_is_told_once_and_its_end_after_three_quiet_windows():
    words = ["healthy", "code:full", "code:full", "healthy", "healthy", "code:full", "healthy", "healthy", "healthy"]
    assert heard(*words) == [None, Alarm.RAISED, *[None] * 6, Alarm.CLEARED]


def test_no_answer_is_news_of_neither_kind():
    assert heard("data", "too-few", "too-few", "too-few", "healthy", "healthy") == [Alarm.RAISED, *[None] * 5]


def test_another_cause_has_to_be_said_twice_in_a_row():
    assert heard("data", "traffic", "data", "traffic", "traffic") == [Alarm.RAISED, None, None, None, Alarm.CHANGED]


def test_another_model_is_another_cause():
    assert heard("code:full", "code:fast", "code:fast") == [Alarm.RAISED, None, Alarm.CHANGED]


def test_a_page_after_a_notice_counts_at_once_and_a_notice_after_a_page_does_not():
    assert SEVERITY[Word.CODE] is Severity.PAGE
    assert heard("data", "code:full", "data", "data") == [Alarm.RAISED, Alarm.CHANGED, None, Alarm.CHANGED]


def test_what_lasts_is_said_again_by_the_verdicts_own_times():
    found = heard(*["data"] * 130, remind_s=3_600)
    assert [number for number, alarm in enumerate(found) if alarm] == [0, 60, 120]
    assert found[60] is Alarm.REMINDER


def test_a_new_trouble_after_the_end_is_raised_anew():
    words = ["data", "healthy", "healthy", "healthy", "data"]
    assert heard(*words) == [Alarm.RAISED, None, None, Alarm.CLEARED, Alarm.RAISED]


def test_where_there_are_probes_a_change_of_code_that_only_statistics_see_has_to_be_seen_again():
    assert heard("code:full", "healthy", "code:full", "code:full", probed=True) == [None, None, None, Alarm.RAISED]
    assert heard("code:full", probed=True, probes="changed: full") == [Alarm.RAISED]
    assert heard("data", probed=True) == [Alarm.RAISED]
    assert heard("data", "code:full", "data", probed=True) == [Alarm.RAISED, None, None]
    assert heard("data", "code:full", "code:full", probed=True) == [Alarm.RAISED, None, Alarm.CHANGED]


def test_another_field_is_another_cause_and_so_is_another_segment():
    assert heard("data:/x", "data:/y", "data:/y") == [Alarm.RAISED, None, Alarm.CHANGED]
    assert heard("code:full@a", "code:full@b", "code:full@b") == [Alarm.RAISED, None, Alarm.CHANGED]


def test_one_of_several_fields_and_what_is_not_said_are_no_other_cause():
    assert heard("data:/x", "data:/x, y", "data:/x, y", "data:/x") == [Alarm.RAISED, None, None, None]
    assert heard("code:full", "code:full@b", "code:full", "code:full@b") == [Alarm.RAISED, None, None, None]
    assert heard("data", "data:/x", "data:/y", "data:/y") == [Alarm.RAISED, None, None, Alarm.CHANGED]
    assert heard("code:full", *["code:full@a"] * 2, *["code:full@b"] * 2) == [
        Alarm.RAISED,
        *[None] * 3,
        Alarm.CHANGED,
    ]


def test_a_place_that_begins_with_a_digit_is_a_place_and_a_numbers_range_is_none():
    verdict = replace(BARE, verdict=Word.TRAFFIC, segment="store is 17", confined=True)
    assert trouble_of(verdict).segment == "store is 17"
    assert not trouble_of(verdict).same(trouble_of(replace(verdict, segment="store is 18")))
    assert trouble_of(replace(verdict, confined=False)).segment is None
