"""Sources: rate and gaps of each, and who has fallen silent; a pause of all, and one who sends little, are no news."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace

from agents.snapshot import KEPT
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Alarm, Reported, Severity, Word
from streams.core.gathering import Gathered
from streams.core.kept_state import decode_state, encode_state
from streams.core.silences import with_silences
from streams.core.sources import LEAST, MOST, OTHERS, Silence, Sources
from streams.core.verdicts.telling import BARE
from streams.core.watching import Watching
from tests.unit.test_watching import PIPELINE, ROWS, stream, told

SHARES = {"a": 0.5, "b": 0.3, "c": 0.16, "d": 0.04}
SILENCE = Silence("b", 5_000, 50_000, 700, 7_000.0, 210.0, 30, 300.0)


def sent(count: int, without: str = "", seed: int = 1, first: int = 0) -> Iterator[tuple[str, int, float]]:
    """Sources of requests at 10 ms, by their shares; those of `without` are sent by nobody."""
    chance = np.random.default_rng(seed)
    event = first
    for name in chance.choice(list(SHARES), count, p=list(SHARES.values())).tolist():
        if name not in without:
            yield name, event, 10.0 * event
            event += 1


def learnt(rows: int = 4_000) -> Sources:
    sources = Sources("who")
    for name, event, at_ms in sent(rows):
        sources.take({"who": name}, event, at_ms)
    sources.learn()
    return sources


def heard(sources: Sources, found: Iterator[tuple[str, int, float]], later_ms: float = 0.0) -> list[list[str]]:
    """Who is silent after each request."""
    said = []
    for name, event, at_ms in found:
        sources.take({"who": name}, event, at_ms + later_ms)
        said.append([one.source for one in sources.silent()])
    return said


@pytest.mark.parametrize(("gone", "expected"), [("b", 100), ("c", 30 / 0.16), ("d", 30 / 0.04)])
def test_who_falls_silent_is_missed_when_30_of_its_own_or_three_of_its_longest_gaps_are_over(
    gone: str, expected: int
):
    sources = learnt()
    usual = sources.known[gone].usual_events
    said = heard(sources, sent(5_000, gone, 2, 4_000))
    first = next(place for place, names in enumerate(said) if names)
    assert 0.9 * max(expected, 3 * usual) <= first <= 1.2 * max(expected, 3 * usual) + usual
    assert {tuple(names) for names in said[first:]} == {(gone,)}
    [one] = sources.silent()
    assert abs(one.since_event - 4_000) <= usual
    assert one.events == sources.event - one.since_event
    assert one.of_threshold > 1


def test_nobody_is_missed_on_twenty_thousand_quiet_requests_nor_in_a_pause_of_all_nor_when_a_clock_jumps():
    sources = learnt()
    assert not any(heard(sources, sent(10_000, "", 3, 4_000)))
    assert not any(heard(sources, sent(5_000, "", 4, 14_000), later_ms=9e7))
    assert not any(heard(sources, sent(5_000, "", 5, 19_000), later_ms=-9e7))


def test_one_of_whom_the_reference_has_little_is_never_missed_and_one_who_is_back_no_longer():
    sources = Sources("who")
    for event in range(4_000):
        sources.take({"who": "rare" if event % 100 == 0 and event < 100 * (LEAST - 11) else "all"}, event, event)
    sources.learn()
    for event in range(4_000, 20_000):
        sources.take({"who": "all"}, event, event)
    assert sources.silent() == []
    back = learnt()
    heard(back, sent(2_000, "b", 2, 4_000))
    assert [one.source for one in back.silent()] == ["b"]
    back.take({"who": "b"}, back.event + 1, back.now_ms + 10)
    assert back.silent() == []


def test_rate_and_longest_gap_are_those_since_the_last_verdict():
    sources = learnt()
    for event in range(4_000, 5_000):  # in ten seconds
        if event % 10 == 0 and not 4_300 <= event < 4_500:
            sources.take({"who": "a"}, event, 10.0 * event)
        else:
            sources.take({"who": None}, event, 10.0 * event)
    found = sources.told()
    assert (found["a"].requests, found["a"].longest_gap_s) == (80, 2.1)
    assert found["a"].per_second == pytest.approx(8.0, rel=0.01)
    assert found["(none)"].requests == 920
    assert (found["b"].requests, found["b"].longest_gap_s) == (0, pytest.approx(10.0, rel=0.01))
    assert {one.requests for one in sources.told().values()} == {0}


def test_sources_without_end_are_counted_together():
    sources = Sources("who")
    for event in range(3 * MOST):
        sources.take({"who": f"user {event}"}, event, event)
    assert len(sources.known) == MOST
    assert sources.told()[OTHERS].requests == 2 * MOST


def test_without_a_declared_source_nobody_is_known():
    sources = Sources("")
    sources.take({"who": "a"}, 0, 0.0)
    sources.learn()
    assert (sources.known, sources.silent(), sources.told()) == ({}, [], {})


def test_a_silent_source_is_a_notice_and_names_itself():
    found = with_silences(BARE, [SILENCE], "who")
    assert (found.verdict, found.severity, found.segment) == (Word.TRAFFIC, Severity.NOTICE, "who is b")
    assert found.sentence.startswith("who b is silent: none of the last 700 requests (7 s), where about 210 were")
    assert (found.since_event, found.since_ms) == (5_000, 50_000)
    assert with_silences(BARE, [], "who") == BARE
    both = with_silences(BARE, [SILENCE, replace(SILENCE, source="c")], "who")
    assert both.segment == "who is b or c"


def test_where_the_mix_of_that_field_changed_it_is_why_and_beside_anything_else_it_is_a_second_cause():
    mixed = replace(BARE, verdict=Word.DATA, field="who", severity=Severity.NOTICE, sentence="who changed.")
    found = with_silences(mixed, [SILENCE], "who")
    assert (found.verdict, found.field, found.segment, found.confined) == (Word.DATA, "who", "who is b", True)
    assert found.sentence.startswith("who changed. who b is silent: ")
    code = replace(BARE, verdict=Word.CODE, model="first", severity=Severity.PAGE)
    beside = with_silences(code, [SILENCE], "who")
    assert (beside.verdict, beside.segment, [one.subject for one in beside.also]) == (Word.CODE, None, ["who b"])


def by_source(count: int, first: int, gone: str = "") -> Iterator[Gathered]:
    for one in stream(count, first):
        one.fields["who"] = "abcdefgh"[one.ticket.offset % 8]
        if one.fields["who"] != gone:
            yield one


def test_in_a_pipeline_it_is_told_once_and_its_end_too_and_kept_in_the_middle_nothing_changes():
    settings = MonitorSettings(reference_rows=ROWS, probes=0, source="who")

    def lived(kept_after: int) -> list[Reported]:
        watching = Watching(PIPELINE, settings, ("x",))  # the mix of the field itself is not watched here
        found = []
        parts = [*by_source(ROWS + 1_000, 0), *by_source(2_300, 3_000, "c"), *by_source(3_300, 5_300)]
        for number, one in enumerate(parts):
            if number == kept_after:
                watching = decode_state(encode_state(watching, KEPT), KEPT)
            found += told(watching, iter([one]))
        return found

    found = lived(-1)
    assert [(one.verdict, one.segment) for one in found if one.alarm is Alarm.RAISED] == [(Word.TRAFFIC, "who is c")]
    assert [one.alarm for one in found if one.alarm] == [Alarm.RAISED, Alarm.CLEARED]
    assert {one.verdict for one in found} == {Word.HEALTHY, Word.TRAFFIC}
    raised = next(one for one in found if one.alarm)
    assert raised.since_ticket is not None
    assert abs(raised.since_ticket.offset - 3_000) <= 250
    assert raised.sources["c"].requests == 0
    assert raised.sources["a"].requests == pytest.approx(1_000 / 7, abs=2)
    assert [replace(one) for one in lived(4_500)] == found
