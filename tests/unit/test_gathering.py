"""Three logs become one event a request, the same whatever order they are read in."""

import random

import pytest
from msgspec.structs import replace

from schemas.blocks import NotAskedBlock, RejectionBlock, RowError, ScoreBlock, TickBlock, pack_offsets, pack_scores
from schemas.decisions import Ticket
from schemas.errors import UnreadableRecord
from schemas.pipeline import Enrich
from schemas.requests import Rejection, Request
from streams.core.gathering import (
    AFTER_MS,
    AHEAD_MS,
    LOGS,
    MOST_WAITING,
    NOWHERE,
    DecisionSeen,
    Gathered,
    Gathering,
    Places,
    ahead,
    decode_decision_seen,
    in_log_order,
)
from tests.unit.small import pipeline

PIPELINE = pipeline()
MODELS = [(model.name, model.version) for model in PIPELINE.models]
BUDGET = PIPELINE.request.budget_ms
FAR_MS = 1e9
BEGINNING = Places(0, 0, 0)


def gathering(number: int = 0, start: Places = BEGINNING) -> Gathering:
    return Gathering(PIPELINE, number, start)


def request(offset: int, at_ms: int) -> Request:
    return Request(offset, f"r{offset}", at_ms, BUDGET, None, None, None, b"{}")


def scores(model: str, version: str, offsets: dict[int, float]) -> ScoreBlock:
    return ScoreBlock(model, version, pack_offsets(list(offsets)), pack_scores(list(offsets.values())))


def decision(offset: int, *, final: bool = True, model: str = "first", number: int = 0) -> DecisionSeen:
    return DecisionSeen(Ticket(number, offset), "preferred", final, model)


def drained(one: Gathering) -> list[Gathered]:
    found = []
    while one.ready:
        found.append(one.hand_on())
    return found


def test_a_request_is_handed_on_when_every_model_and_the_decision_are_there():
    one = gathering()
    one.requested(request(0, 100), {"x": 1.0}, None)
    for position, (model, version) in enumerate(MODELS):
        assert not one.ready
        one.scored(scores(model, version, {0: position / 10}), position, 120 + position)
    assert not one.ready
    one.decided(decision(0), 0, 130)
    found = one.hand_on()
    assert found.scores == {model: place / 10 for place, (model, _) in enumerate(MODELS)}
    assert found.took_ms[MODELS[1][0]] == 21
    assert (found.outcome, found.winner, found.fields) == ("preferred", "first", {"x": 1.0})


def test_what_comes_before_its_request_is_kept_for_it():
    one = gathering()
    for position, (model, version) in enumerate(MODELS):
        one.scored(scores(model, version, {0: 1.0, 1: 2.0}), position, 120)
    one.decided(decision(1), 0, 130)
    one.requested(request(0, 100), {}, None)
    one.requested(request(1, 101), {}, None)
    assert not one.ready
    one.decided(decision(0), 1, 131)
    assert [found.scores[MODELS[0][0]] for found in drained(one)] == [1.0, 2.0]


def test_a_model_that_is_silent_is_waited_for_by_the_logs_time_and_no_longer():
    one = gathering()
    one.requested(request(0, 100), {}, None)
    one.decided(decision(0), 0, 130)
    leaves_ms = 100 + BUDGET + AFTER_MS
    for log in ("scores", "decisions"):
        one.reached(log, leaves_ms)
    assert not one.ready
    one.scored(TickBlock(0.0), 0, int(leaves_ms) + 1)
    assert not one.ready
    one.reached("decisions", leaves_ms + 1)
    assert one.ready


def test_a_score_after_that_time_is_nobodys_whenever_it_is_read():
    model, version = MODELS[0]
    late_ms = int(100 + BUDGET + AFTER_MS) + 1
    ahead, behind = gathering(), gathering()
    ahead.scored(scores(model, version, {0: 1.0}), 0, late_ms)
    ahead.requested(request(0, 100), {}, None)
    behind.requested(request(0, 100), {}, None)
    behind.scored(scores(model, version, {0: 1.0}), 0, late_ms)
    for one in (ahead, behind):
        one.reached("decisions", late_ms)
        assert one.hand_on().scores == {}


def test_errors_models_not_asked_and_refusals_are_not_waited_for():
    one = gathering()
    for offset in range(3):
        one.requested(request(offset, 100), {}, None)
        one.decided(decision(offset), offset, 110)
    first, *others = MODELS
    one.scored(NotAskedBlock(tuple(name for name, _ in others), pack_offsets([0, 1]), "too late"), 0, 105)
    one.scored(ScoreBlock(*first, b"", b"", (RowError(0, "broken"),)), 1, 106)
    assert (found := one.hand_on()).scores == {}
    assert found.without == {first[0]: "error"} | {name: "skipped" for name, _ in others}
    assert not one.ready
    one.scored(scores(*first, {1: 0.5}), 2, 107)
    one.scored(RejectionBlock((RowError(2, "no"),)), 3, 108)
    assert [len(found.scores) for found in drained(one)] == [1, 0]


def test_of_an_error_and_a_score_of_one_model_the_first_counts():
    model, version = MODELS[0]
    one = gathering()
    one.requested(request(0, 100), {}, None)
    one.scored(ScoreBlock(model, version, b"", b"", (RowError(0, "broken"),)), 0, 106)
    one.scored(scores(model, version, {0: 1.0}), 1, 107)
    for log in ("scores", "decisions"):
        one.reached(log, FAR_MS)
    assert one.hand_on().scores == {}


def test_a_rejection_waits_for_its_decision_only():
    one = gathering()
    one.requested(Rejection(0, "r0", 100, BUDGET, None, None, "invalid", "x: expected a number"), {"x": "one"}, None)
    assert not one.ready
    one.decided(DecisionSeen(Ticket(0, 0), "rejected", True), 0, 101)
    assert one.hand_on().outcome == "rejected"


def test_only_models_and_versions_that_are_entitled_count_and_of_each_the_first_score():
    model, version = MODELS[0]
    one = gathering()
    one.requested(request(0, 100), {}, None)
    one.scored(scores("stranger", "1", {0: 9.0}), 0, 110)
    one.scored(scores(model, "another", {0: 9.0}), 1, 110)
    one.scored(scores(model, version, {0: 1.0}), 2, 110)
    one.scored(scores(model, version, {0: 9.0}), 3, 111)
    one.decided(decision(0, final=False, model="nobody"), 0, 112)
    one.decided(decision(0), 1, 113)
    one.decided(decision(0, model="second"), 2, 114)
    for log in ("scores", "decisions"):
        one.reached(log, FAR_MS)
    found = one.hand_on()
    assert (found.scores, found.winner) == ({model: 1.0}, "first")


def test_partitions_are_judged_in_the_order_of_log_times():
    one, other = gathering(0), gathering(1)
    one.requested(request(0, 100), {}, None)
    one.requested(request(1, 300), {}, None)
    for each in (one, other):
        for log in ("scores", "decisions"):
            each.reached(log, FAR_MS)
    assert in_log_order([one, other]) is None, "nobody knows what the other one still has"
    other.requested(request(0, 200), {}, None)
    found = []
    while (first := in_log_order([one, other])) is not None:
        found.append(first.hand_on().at_ms)
    assert found == [100, 200], "the one at 300 ms may have an earlier one beside it"
    other.reached("raw", 301)
    assert in_log_order([one, other]) is one


@pytest.mark.parametrize("seed", range(20))
def test_whatever_order_the_logs_are_read_in_the_events_are_the_same(seed: int):
    chance = random.Random(seed)
    raw, lies, said = logs(random.Random(7))
    usual = played(raw, lies, said, None)
    assert [event.ticket.offset for event in usual] == [offset for offset, _ in raw]
    assert played(raw, lies, said, chance) == usual


@pytest.mark.parametrize("seed", range(20))
def test_from_its_places_a_second_life_gathers_what_the_first_had_not_handed_on(seed: int):
    chance = random.Random(seed)
    raw, lies, said = logs(random.Random(seed))
    usual = played(raw, lies, said, None)
    first = gathering()
    handed = []
    for step in order(raw, lies, said, chance)[: chance.randrange(10, 150)]:
        step(first)
        handed += drained(first)
    places = first.places()
    second = gathering(0, places)
    rest = [(offset, at_ms) for offset, at_ms in raw if offset >= places.raw]
    for step in order(rest, lies[places.scores :], said[places.decisions :], chance, places):
        step(second)
        handed += drained(second)
    for log in ("scores", "decisions"):
        second.reached(log, FAR_MS)
    assert [as_told(one) for one in handed + drained(second)] == [as_told(one) for one in usual]


def as_told(one: Gathered) -> tuple[object, ...]:
    return one.ticket, one.scores, one.versions, one.took_ms, one.without, one.outcome, one.winner


Lies = list[tuple[ScoreBlock, int]]


def logs(chance: random.Random) -> tuple[list[tuple[int, int]], Lies, list[tuple[DecisionSeen, int]]]:
    """60 requests 10 ms apart; models score them in blocks, some late, some never; a hole in raw."""
    raw = [(offset, 10 * offset) for offset in range(60) if offset != 30]
    lies: Lies = []
    for model, version in MODELS:
        for offset, at_ms in raw:
            if chance.random() < 0.9:
                lies.append((scores(model, version, {offset: chance.random()}), at_ms + chance.choice([5, 50, 5000])))
    lies.sort(key=lambda pair: pair[1])
    said = sorted(
        ((decision(offset), at_ms + chance.choice([9, 90])) for offset, at_ms in raw), key=lambda pair: pair[1]
    )
    return raw, lies, said


def order(raw, lies, said, chance, places=BEGINNING):
    """Steps that feed all three logs, each in its own order, interleaved by chance."""
    steps = [
        [lambda to, one=one: to.requested(request(*one), {}, None) for one in raw],
        [lambda to, at=at, one=one: to.scored(one[0], at, one[1]) for at, one in enumerate(lies, places.scores)],
        [lambda to, at=at, one=one: to.decided(one[0], at, one[1]) for at, one in enumerate(said, places.decisions)],
    ]
    if chance is None:
        return [step for log in steps for step in log]
    which = [log for log, own in enumerate(steps) for _ in own]
    chance.shuffle(which)
    following = [iter(own) for own in steps]
    return [next(following[log]) for log in which]


def played(raw, lies, said, chance):
    one, found = gathering(), []
    for step in order(raw, lies, said, chance):
        step(one)
        found += drained(one)
    for log in ("scores", "decisions"):
        one.reached(log, FAR_MS)
    return [replaced(event) for event in found + drained(one)]


def replaced(event: Gathered) -> Gathered:
    event.at = NOWHERE
    return event


def test_what_is_no_decision_is_refused():
    with pytest.raises(UnreadableRecord, match="not a decision"):
        decode_decision_seen(b'{"ticket": 3}')


def test_when_many_wait_only_the_slowest_logs_are_read_on():
    one, other = gathering(0), gathering(1)
    both = [one, other]
    for each in both:
        for log in LOGS:
            each.reached(log, 1_000.0)
    for offset in range(MOST_WAITING - 1):
        one.requested(request(offset, 100_000), {}, None)
    assert ahead(both) == frozenset()
    one.requested(request(MOST_WAITING, 100_000), {}, None)
    assert ahead(both) == {(0, "raw")}
    for each, log in ((one, "scores"), (one, "decisions"), (other, "raw"), (other, "scores"), (other, "decisions")):
        each.reached(log, 100_000.0 - AHEAD_MS)
    assert ahead(both) == frozenset()


def test_an_offset_that_nobody_has_holds_nothing_back_for_ever():
    one = gathering(start=Places(-2, 0, 0))  # raw is read from its beginning, wherever that is
    one.scored(scores(*MODELS[0], {5_000_000: 0.5, 1 << 60: 0.5}), 0, 1_000)
    one.scored(scores(*MODELS[1], {5_000_000: 0.6}), 1, 1_000)
    one.requested(request(5_000_000, 990), {}, None)
    one.scored(scores(*MODELS[0], {1 << 61: 0.5}), 2, 1_010)
    assert one.places() == Places(5_000_000, 0, 0)
    one.decided(decision(5_000_000), 0, 1_020)
    for log in LOGS:
        one.reached(log, FAR_MS)
    (found,) = drained(one)
    assert set(found.scores) == {MODELS[0][0], MODELS[1][0]}
    assert one.places() == Places(5_000_001, 3, 1)
    assert one.waiting == 0


def test_a_request_that_asks_for_more_time_than_usual_is_not_late_by_the_usual():
    one = gathering()
    asks = replace(request(0, 1_000), budget_ms=3 * BUDGET)
    one.requested(asks, {}, None)
    one.scored(scores(*MODELS[0], {0: 0.5}), 0, 1_000 + 2 * BUDGET)
    assert not one.ready
    one.decided(decision(0), 0, 1_000 + 2 * BUDGET)
    for log in LOGS:
        one.reached(log, FAR_MS)
    (found,) = drained(one)
    assert found.budget_ms == 3 * BUDGET > found.took_ms[MODELS[0][0]]


def test_a_log_is_known_as_far_as_it_was_asked_only_when_it_was_read_to_its_end():
    one = gathering(0, Places(-2, -2, -2))
    one.requested(request(0, 100), {}, None)
    leaves_ms = 100 + BUDGET + AFTER_MS
    assert not one.overdue(leaves_ms)
    assert one.overdue(leaves_ms + 1)
    one.bounded("decisions", 7, 7, leaves_ms + 1)  # empty: there never was one, or its retention is over
    one.bounded("scores", 0, 2, leaves_ms + 1)
    assert not one.ready, "two records on scores are not read yet"
    one.scored(TickBlock(0.0), 0, 50)
    one.bounded("scores", 0, 2, leaves_ms + 1)
    assert not one.ready
    one.scored(TickBlock(0.0), 1, 60)
    one.bounded("scores", 0, 2, leaves_ms)
    assert not one.ready, "at that time something could still come"
    one.bounded("scores", 0, 2, leaves_ms + 1)
    assert one.ready


def test_a_batch_that_is_handed_over_again_changes_nothing():
    one = gathering()
    for _ in range(2):
        for offset in range(2):
            one.requested(request(offset, 100), {}, None)
        for position, (model, version) in enumerate(MODELS):
            one.scored(scores(model, version, {0: 1.0, 1: 2.0}), position, 120)
        one.decided(decision(0), 0, 130)
        one.passed(1, 131)
        one.decided(decision(1), 2, 132)
    assert [found.ticket.offset for found in drained(one)] == [0, 1]
    assert one.places() == Places(2, len(MODELS), 3)


def test_a_request_waits_for_what_was_joined_into_it_and_the_first_word_counts():
    enriched = replace(PIPELINE, enrich=(Enrich(name="weather", key="colour"),))
    one = Gathering(enriched, 0, BEGINNING)
    one.joined([(0, {"weather": b"{}"})], 0, 104)
    one.requested(request(0, 100), {}, None, (b"k", b"v"))
    one.requested(request(1, 100), {}, None)
    one.requested(Rejection(2, "r2", 100, BUDGET, None, None, "invalid", "x: expected a number"), {}, None)
    for position, (model, version) in enumerate(MODELS):
        one.scored(scores(model, version, {0: 1.0, 1: 2.0}), position, 120)
    for offset in range(3):
        one.decided(decision(offset), offset, 130)
    one.joined([(0, {"weather": b"later"})], 1, 140)
    first = one.hand_on()
    assert (first.joined, first.record, first.at[2]) == ({"weather": b"{}"}, (b"k", b"v"), 0)
    assert not one.ready, "of the second it is not known what models were given"
    assert one.places() == Places(1, 0, 1, 2)
    second_ends_ms = 100 + BUDGET + AFTER_MS
    one.joined([(1, {"weather": b"too late"})], 2, int(second_ends_ms) + 1)
    for log in ("scores", "decisions"):
        one.reached(log, FAR_MS)
    assert [found.joined for found in drained(one)] == [None, {}], "a rejected one waits for nothing"
    assert one.places().enriched == 3
