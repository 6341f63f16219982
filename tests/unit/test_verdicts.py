"""Verdicts: the right word on known faults, silence on quiet and on hostile data, and each protection by its absence."""

import doctest
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import cycle, islice
from types import ModuleType, SimpleNamespace

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from streams.core.verdicts import confined, daytime, events, fields, tails
from streams.core.verdicts.cause import LASTING, Moves, Witness, find, sole
from streams.core.verdicts.events import Event, Model, Setting, read_event, read_setting
from streams.core.verdicts.fields import NONE, decimals_of
from streams.core.verdicts.order import FAR, USUAL, Order, rank_correlation
from streams.core.verdicts.probes import Probes
from streams.core.verdicts.ranks import RANKS, ranks_of
from streams.core.verdicts.reference import BLOCK, Reference, company_of, missing_alone
from streams.core.verdicts.ring import Kept, Ring
from streams.core.verdicts.shifts import STRANGE
from streams.core.verdicts.sums import Sums
from streams.core.verdicts.tails import student, z_of_log_tail
from streams.core.verdicts.wagers import wager_on
from streams.core.verdicts.watch import Watch
from streams.core.verdicts.words import SEVERITY, Severity, Verdict, Word
from tests.bench.verdicts.playing import Stage, live, play, quiet
from tests.bench.verdicts.scenarios import SCENARIOS
from tests.bench.verdicts.world import CLUSTERED, DAILY, INDEPENDENT

BY_NAME = {one.name: one for one in SCENARIOS}
SEED = 11


@pytest.fixture(scope="module")
def plain() -> Stage:
    return Stage("made", INDEPENDENT, SEED, probes=False)


@pytest.fixture(scope="module")
def probed() -> Stage:
    return Stage("made", INDEPENDENT, SEED, probes=True)


@pytest.fixture(scope="module")
def daily() -> Stage:
    return Stage("made", DAILY, SEED, probes=False)


@pytest.fixture(scope="module")
def clustered() -> Stage:
    """Days differ. Whoever changes it changes a copy."""
    return Stage("made", CLUSTERED, 13, probes=False)


@pytest.fixture(scope="module")
def other() -> Stage:
    return Stage("made", INDEPENDENT, 9002, probes=False)


@pytest.fixture(scope="module")
def quiet_events(plain: Stage) -> list[Event]:
    return list(live(plain, 4000))


def after(stage: Stage, events: Iterable[Event]) -> list[Verdict]:
    """Verdicts on these events, after the stage's reference."""
    watch = deepcopy(stage.watch)
    found = [verdict for event in events if (verdict := watch.offer(event)) is not None]
    last = watch.finish()
    return found if last is None else [*found, last]


def changed(events: list[Event], change: Callable[[int, Event], Event | None]) -> Iterator[Event]:
    for place, event in enumerate(events):
        new = change(place, event)
        if new is not None:
            yield new


def words(verdicts: Iterable[Verdict]) -> list[str]:
    return [str(verdict.verdict) for verdict in verdicts]


@pytest.mark.parametrize(
    "name",
    [
        "sudden shift of a field",
        "gradual shift of a field",
        "1 % outliers",
        "miles become kilometres",
        "5 % missing",
        "new category",
        "model file swapped",
        "wrong feature order",
        "recalibrated, order kept",
        "bug in shared feature code",
        "canary's file changed",
        "traffic x5",
        "latency x3",
        "wrong join of two fields",
        "rare encoder fault",
    ],
)
def test_a_fault_is_named_by_statistics_alone(plain: Stage, name: str):
    played = play(plain, BY_NAME[name])
    assert played.right, played
    assert played.delay is not None
    assert played.delay <= 3
    assert played.false_alarms == []


@pytest.mark.parametrize(
    "name", ["retrained twin", "bug in shared feature code", "canary's file changed", "5 % missing"]
)
def test_probes_name_whose_answers_changed_at_once(probed: Stage, name: str):
    played = play(probed, BY_NAME[name])
    assert played.right, played
    assert played.delay is not None
    assert played.delay <= 1


def test_winter_that_comes_slowly_is_data_where_days_differ(clustered: Stage):
    played = play(clustered, BY_NAME["slow season"])
    assert played.right, played
    assert played.false_alarms == []


def test_of_a_hundred_quiet_windows_one_at_most_is_called_anything_else(plain: Stage):
    played = quiet(plain, 100)
    assert played.windows == 99, "the last one ends with the stream"
    assert len(played.false_alarms) <= 1


def test_a_quiet_stream_is_healthy(plain: Stage, quiet_events: list[Event]):
    verdicts = after(plain, quiet_events)
    assert words(verdicts) == ["healthy"] * 4
    assert [one.window for one in verdicts] == [0, 1, 2, 3]
    assert [one.from_event for one in verdicts] == [20_000, 21_000, 22_000, 23_000]
    assert [one.severity for one in verdicts] == [None] * 4


def test_a_quiet_day_is_healthy_at_every_hour_because_it_is_held_against_the_same_hour(daily: Stage):
    assert daily.watch.reference is not None
    assert daily.watch.reference.by_clock.any()
    assert set(words(after(daily, live(daily, 12_000)))) == {"healthy"}
    without = deepcopy(daily)
    reference = without.watch.reference
    assert reference is not None
    assert without.watch.ring is not None
    without.watch.reference = replace(reference, by_clock=np.zeros_like(reference.by_clock))
    without.watch.ring.reference = without.watch.reference
    assert set(words(after(without, live(daily, 12_000)))) != {"healthy"}


def test_a_rescaled_model_is_code_with_its_order_kept_and_a_swapped_one_is_not(
    plain: Stage, quiet_events: list[Event]
):
    def bend(place: int, event: Event) -> Event:
        scores = dict(event.scores)
        scores["champion"] = scores["champion"] ** 2
        return replace(event, scores=scores)

    first = next(one for one in after(plain, changed(quiet_events, bend)) if not one.quiet)
    assert (first.verdict, first.model, first.rescaled, first.severity) == (
        Word.CODE,
        "champion",
        True,
        Severity.PAGE,
    )
    assert "rescaled, order unchanged" in first.sentence
    assert first.effect.endswith(f"; order the same in {first.said_at_event - 19_999:,} requests")

    def swap(place: int, event: Event) -> Event:
        scores = dict(event.scores)
        scores["champion"] = quiet_events[(place + 7) % 4000].scores["champion"]
        return replace(event, scores=scores)

    first = next(one for one in after(plain, changed(quiet_events, swap)) if not one.quiet)
    assert (first.verdict, first.model, first.rescaled) == (Word.CODE, "champion", False)


def test_a_model_that_was_trained_anew_has_nearly_its_old_order_and_is_not_called_rescaled(
    plain: Stage, quiet_events: list[Event]
):
    def anew(place: int, event: Event) -> Event:
        mixed = 0.8 * event.scores["champion"] + 0.2 * event.scores["challenger"]
        return replace(event, scores=event.scores | {"champion": mixed})

    old, new = ([one.scores["champion"] for one in events] for events in (quiet_events, changed(quiet_events, anew)))
    assert rank_correlation(np.array(old), np.array(new)) > 0.98
    found = [one for one in after(plain, changed(quiet_events, anew)) if not one.quiet]
    assert {(one.verdict, one.model, one.rescaled) for one in found} == {(Word.CODE, "champion", False)}
    assert not any("rescaled" in one.sentence for one in found)


def test_what_is_bent_and_blurred_as_well_is_not_called_rescaled(plain: Stage, quiet_events: list[Event]):
    def said(blur: float) -> set[tuple[Word, str | None, bool]]:
        def bent(place: int, event: Event) -> Event:
            other = event.scores["champion"] ** 3 + blur * np.sin(977.0 * event.features["amount"])
            return replace(event, scores=event.scores | {"champion": float(other)})

        found = after(plain, changed(quiet_events, bent))
        return {(one.verdict, one.model, one.rescaled) for one in found if not one.quiet}

    assert said(0.0) == {(Word.CODE, "champion", True)}
    assert said(0.01) == {(Word.CODE, "champion", False)}


@pytest.mark.parametrize(("explained", "says"), [(0.9, {"order kept": True, "order lost": False}), (0.02, {})])
def test_of_a_model_of_which_nothing_is_known_beforehand_it_is_not_said_that_its_order_was_kept(
    explained: float, says: dict[str, bool]
):
    rng = np.random.default_rng(5)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        """What is expected of events, and what they get beyond it."""
        return np.sqrt(explained) * rng.normal(size=count), np.sqrt(1 - explained) * rng.normal(size=count)

    left = drawn(10_000)[1]
    sizes = np.minimum(left**2 / left.var(), FAR)
    quantiles = np.quantile(left, (np.arange(USUAL) + 0.5) / USUAL)
    one = [np.array([value]) for value in (left.var(), sizes.mean(), 0.0, sizes.var(), quantiles)]
    order = Order([0], *one)
    known, beyond = drawn(500)
    same = known + beyond
    lost = rng.permutation(same)
    for what, ranks in (("order lost", lost + 3), ("order kept", same + 3)):  # the margin has moved either way
        assert order.kept(0, np.exp(ranks), ranks, known) is says.get(what, False), what


def test_what_came_before_a_deploy_is_no_part_of_whether_the_order_was_kept(plain: Stage, quiet_events: list[Event]):
    def bend(place: int, event: Event, told: bool) -> Event:
        fresh = place >= 1130  # in the middle of a block
        scores = event.scores | ({"champion": event.scores["champion"] ** 2} if fresh else {})
        versions = dict.fromkeys(event.scores, "1") | ({"champion": "2"} if fresh and told else {})
        return replace(event, scores=scores, versions=versions)

    def first(told: bool) -> Verdict:
        events = changed(quiet_events, lambda place, event: bend(place, event, told))
        return next(one for one in after(plain, events) if not one.quiet)

    assert first(told=True).rescaled
    assert first(told=True).said_at_event == first(told=False).said_at_event
    assert not first(told=False).rescaled  # half of what is looked at is as ever: that is no rescaling


def test_where_it_is_is_said_in_bounds_a_person_reads():
    labels = ["below 0", "0 to 0.01", "0.01 to 2", "2 to 7", "7 to 9", "above 9"]
    nothing = np.empty(0)
    rain = fields.Column(name="rain", kind="number", edges=nothing, known=nothing, words={}, labels=labels)
    assert [rain.coarse_label(place, 2) for place in range(4)] == [
        "rain is below 0.01", "rain is 0.01 to 7", "rain is above 7", "rain is missing",
    ]  # fmt: skip
    assert [rain.coarse_label(place, 1) for place in (0, 3, 5)] == [
        "rain is below 0",
        "rain is 2 to 7",
        "rain is above 9",
    ]
    assert rain.coarse_label(0, 8) == "rain is there"


def test_a_verdict_says_since_when_how_much_and_on_what_evidence(plain: Stage, quiet_events: list[Event]):
    def miles(place: int, event: Event) -> Event:
        factor = 1.609 if place >= 1500 else 1.0
        return replace(event, features=event.features | {"amount": event.features["amount"] * factor})

    found = [one for one in after(plain, changed(quiet_events, miles)) if not one.quiet]
    assert {one.verdict for one in found} == {Word.DATA}
    first = found[0]
    assert first.field == "amount"
    assert first.severity is Severity.NOTICE
    assert first.since_event is not None
    assert abs(first.since_event - 21_500) <= 250
    assert "median" in first.effect
    assert first.evidence.moved[0].of == "amount"
    assert first.evidence.moved[0].of_threshold >= 1
    assert all(abs(one.of_threshold) < 1 for one in first.evidence.unmoved)
    assert {one.since_event for one in found} == {first.since_event}  # the same trouble keeps its beginning
    assert first.said_at_event < first.to_event  # before the window ends


def test_every_window_has_one_verdict_even_when_it_was_said_early(plain: Stage, quiet_events: list[Event]):
    def broken(place: int, event: Event) -> Event:
        return replace(event, features=event.features | {"age": 0.0}) if place >= 600 else event

    verdicts = after(plain, changed(quiet_events, broken))
    assert [one.window for one in verdicts] == [0, 1, 2, 3]


def test_two_models_are_enough_to_tell_whose_fault_it_is(plain: Stage):
    setting = Setting({"champion": Model("champion"), "yardstick": Model("canary")}, 5000, plain.world.fields)
    events = list(live(plain, 9000))

    def noisy(place: int, event: Event) -> Event:
        other = events[(place + 3) % 9000].scores
        scores = event.scores | ({"champion": other["champion"]} if place >= 6000 else {})
        return replace(event, scores={name: scores[name] for name in setting.models})

    watch = Watch(setting)
    found = [one for event in changed(events, noisy) if (one := watch.offer(event)) and not one.quiet]
    assert (found[0].verdict, found[0].model) == (Word.CODE, "champion")


def test_without_raw_fields_models_are_still_compared(plain: Stage):
    setting = replace(plain.watch.setting, features=(), reference_rows=5000)
    events = list(live(plain, 8000))

    def shuffled(place: int, event: Event) -> Event:
        scores = event.scores | ({"shadow": events[place - 5].scores["shadow"]} if place >= 6000 else {})
        return replace(event, scores=scores, features={})

    watch = Watch(setting)
    found = [one for event in changed(events, shuffled) if (one := watch.offer(event)) and not one.quiet]
    assert (found[0].verdict, found[0].model) == (Word.CODE, "shadow")


def spoiled_scores(place: int, event: Event) -> Event:
    bad = (float("nan"), "0.3", None, float("inf"), True, [1])[place % 6]
    return replace(event, scores=event.scores | ({"champion": bad} if place % 50 == 0 else {}))


def vanished(place: int, event: Event) -> Event:
    return replace(event, scores={name: score for name, score in event.scores.items() if name != "shadow"})


def appeared(place: int, event: Event) -> Event:
    return replace(event, scores=event.scores | {"stranger": 0.5})


def jumping(place: int, event: Event) -> Event:
    day_ms = 86_400_000.0
    return replace(
        event, ts_ms=event.ts_ms + (90 * day_ms if 500 <= place < 1500 else -day_ms if place >= 2500 else 0)
    )


def timeless(place: int, event: Event) -> Event:
    return replace(event, ts_ms=float("nan")) if place % 3 == 0 else event


def redeployed(place: int, event: Event) -> Event:
    return replace(event, versions=dict.fromkeys(event.scores, str(place // 100)))


def strange_latency(place: int, event: Event) -> Event:
    return replace(event, latency_ms={"champion": (None, -1, "fast", 7.0)[min(place % 40, 3)]})


@pytest.mark.parametrize(
    "hostile", [spoiled_scores, vanished, appeared, jumping, timeless, redeployed, strange_latency]
)
def test_hostile_events_raise_no_alarm(
    plain: Stage, quiet_events: list[Event], hostile: Callable[[int, Event], Event]
):
    verdicts = after(plain, changed(quiet_events, hostile))
    assert words(verdicts) == ["healthy"] * 4


def test_what_is_hostile_is_said(plain: Stage, quiet_events: list[Event]):
    def notes(hostile: Callable[[int, Event], Event]) -> str:
        return " ".join(note for one in after(plain, changed(quiet_events, hostile)) for note in one.notes)

    assert "champion: 13 of 1000 scores are no finite numbers" in notes(spoiled_scores)
    assert "shadow scored 0 of 1000 events" in notes(vanished)
    assert "jumps of the clock" in notes(jumping)
    assert "events without a time" in notes(timeless)
    assert "latencies that are no time" in notes(strange_latency)


def test_a_field_that_changes_type_is_data_and_no_page(plain: Stage, quiet_events: list[Event]):
    def as_text(place: int, event: Event) -> Event:
        return replace(event, features=event.features | {"amount": str(event.features["amount"])})

    verdicts = after(plain, changed(quiet_events, as_text))
    assert {(one.verdict, one.field, one.severity) for one in verdicts} == {(Word.DATA, "amount", Severity.NOTICE)}
    assert "another type" in verdicts[0].effect


def test_a_field_of_lists_and_objects_does_not_crash(plain: Stage, quiet_events: list[Event]):
    def nested(place: int, event: Event) -> Event:
        odd = [1, 2] if place % 2 else {"a": 10**400}
        return replace(event, features=event.features | {"amount": odd, "country": odd, "age": 10**400})

    assert {one.severity for one in after(plain, changed(quiet_events, nested))} <= {Severity.NOTICE, None}


def test_the_last_window_is_too_few_below_500_events(plain: Stage, quiet_events: list[Event]):
    assert words(after(plain, quiet_events[:1])) == ["too-few"]
    assert words(after(plain, quiet_events[:1499])) == ["healthy", "too-few"]
    assert words(after(plain, quiet_events[:1500])) == ["healthy", "healthy"]


@pytest.mark.parametrize("rows", [0, 10, 1999])
def test_a_reference_that_is_too_small_gives_no_answer(plain: Stage, quiet_events: list[Event], rows: int):
    watch = Watch(replace(plain.watch.setting, reference_rows=rows))
    verdicts = [one for event in quiet_events if (one := watch.offer(event))]
    assert set(words(verdicts)) == {"too-few"}
    assert "reference" in verdicts[0].sentence


def test_a_reference_without_scores_gives_no_answer(plain: Stage, quiet_events: list[Event]):
    watch = Watch(replace(plain.watch.setting, reference_rows=2000))
    verdicts = [one for event in quiet_events if (one := watch.offer(replace(event, scores={})))]
    assert words(verdicts) == ["too-few"] * 2


def test_identifiers_and_counters_are_not_watched(plain: Stage):
    watch = Watch(replace(plain.watch.setting, reference_rows=3000, features=("amount", "id", "number", "never")))
    for place, event in enumerate(live(plain, 6000)):
        features = event.features | {"id": f"r{place}", "number": place}
        verdict = watch.offer(replace(event, features=features))
        assert verdict is None or verdict.verdict is Word.HEALTHY
    assert watch.reference is not None
    assert [field.name for field in watch.reference.fields] == ["amount"]
    assert len([note for note in watch.reference.notes if "not watched" in note]) == 3


def test_the_same_events_give_the_same_verdicts(plain: Stage, quiet_events: list[Event]):
    def broken(place: int, event: Event) -> Event:
        return replace(event, scores=event.scores | {"champion": 0.5}) if place >= 1700 else event

    once, again = (msgspec.json.encode(after(plain, changed(quiet_events, broken))) for _ in range(2))
    assert once == again
    assert b'"code"' in once


def test_memory_does_not_grow_with_the_stream(plain: Stage, quiet_events: list[Event]):
    watch = deepcopy(plain.watch)
    for _ in range(6):
        for event in quiet_events:
            watch.offer(event)
    assert watch.ring is not None
    assert len(watch.ring.blocks) == 16
    assert sum(len(kept.events) for kept in watch.ring.blocks) == 1000
    assert len(watch.ring.before) <= 9
    assert watch.recorder is None


def shifted(events: Sequence[Event], logits: float) -> list[Event]:
    """The champion's score of each moved by so much on the scale of logits."""
    found = []
    for event in events:
        odds = np.exp(logits) * event.scores["champion"] / (1 - event.scores["champion"])
        found.append(replace(event, scores=event.scores | {"champion": float(odds / (1 + odds))}))
    return found


def test_of_a_tenth_of_a_logit_pairs_tell_in_200_events_what_a_models_own_scores_do_not_in_a_thousand(
    plain: Stage, quiet_events: list[Event]
):
    reference, intake = plain.watch.reference, deepcopy(plain.watch.intake)
    assert reference is not None
    own = [reference.shifts.groups[name].start for name in ("score quantiles", "score place")]
    pairs = [
        reference.shifts.groups["pair"].start + place
        for place, pair in enumerate(reference.expected.pairs)
        if reference.models.index("champion") in pair
    ]

    def seen(statistics: list[int], events: int, logits: float) -> int:
        """In how many stretches of so many events one of these is beyond the threshold of a block, the lowest."""
        count = 0
        for start in range(0, len(quiet_events), events):
            rows = intake.rows(shifted(quiet_events[start : start + events], logits))
            sums = reference.summing.sum(reference.block(rows))
            z = reference.z(sums, reference.beside([0.0]))
            count += bool((np.abs(reference.thresholds.ratios(z, 1)[statistics]) >= 1).any())
        return count

    assert reference.models[0] == "champion"
    assert seen(pairs, 200, 0.1) == 20, "each of twenty"
    assert seen(pairs, 200, 0.0) == 0
    assert seen(own, 200, 0.1) == 0
    assert seen(own, 1000, 0.1) == 0


def test_a_model_with_randomness_is_not_called_changed(plain: Stage):
    chance = np.random.default_rng(3)
    watch = Watch(replace(plain.watch.setting, reference_rows=2000))
    events = list(live(plain, 4000))
    asked = events[:30]
    said = []
    for place, event in enumerate(events):
        if place % 250 == 0:
            for key, probe in enumerate(asked):
                scores = {name: score + 0.01 * chance.normal() for name, score in probe.scores.items()}
                said.append(watch.offer(replace(probe, scores=scores, probe=f"p{key}")))
        said.append(watch.offer(event))
    assert {one.verdict for one in said if one} == {Word.HEALTHY}
    assert watch.probes.answers["champion"].noise > 0


def test_probes_are_no_events(probed: Stage):
    count = len(list(islice(live(probed, 1000), None)))
    assert count > 1000
    verdicts = after(probed, live(probed, 2000))
    assert [one.events for one in verdicts] == [1000, 1000]
    assert all(one.probes > 0 for one in verdicts)


def test_more_decimals_than_ever_are_another_unit_though_the_values_are_as_large_as_before(
    plain: Stage, quiet_events: list[Event]
):
    def finer(place: int, event: Event) -> Event:
        return replace(event, features=event.features | {"distance": event.features["distance"] + 0.0123})

    first = next(one for one in after(plain, changed(quiet_events, finer)) if not one.quiet)
    assert (first.verdict, first.field) == (Word.DATA, "distance")
    assert "more decimals than ever (1) in 100.0 % of events, such as" in first.effect
    assert decimals_of(np.array([1.0, 2.25, 1e9])) == 2
    assert decimals_of(np.array([1.0, 1 / 3])) is None


def test_what_is_missing_alone_is_told_from_an_outage_that_takes_its_company_too():
    gone = np.zeros((100, 3), np.intp)
    gone[:10, 0] = gone[:10, 1] = NONE  # two fields of one weather station
    company = company_of(gone)
    assert company.tolist() == [1, 0, 2]
    assert missing_alone(gone, company).sum(0).tolist() == [0, 0, 0]
    gone[50:55, 0] = NONE
    gone[60:70, 2] = NONE
    assert missing_alone(gone, company).sum(0).tolist() == [5, 0, 0]
    assert company_of(np.zeros((10, 1), np.intp)).tolist() == [0]


def test_two_models_that_answer_alike_are_said_to(plain: Stage, quiet_events: list[Event]):
    def twins(place: int, event: Event) -> Event:
        versions = {"champion": "2" if place >= 1200 else "1", "challenger": "1", "shadow": "1", "yardstick": "1"}
        scores = event.scores | ({"champion": event.scores["challenger"]} if place >= 1200 else {})
        return replace(event, scores=scores, versions=versions)

    first = next(one for one in after(plain, changed(quiet_events, twins)) if not one.quiet)
    assert (first.verdict, first.model) == (Word.CODE, "champion")
    assert "same answers" in {one.what for one in first.evidence.moved}
    assert "champion answers exactly as challenger does" in first.effect


def test_of_two_models_that_only_differ_from_each_other_the_one_just_deployed_changed():
    between = np.zeros((3, 3))
    between[0, 1] = between[1, 0] = 5.0
    still = {"own": np.zeros(3), "alone": np.zeros(3), "leaning": np.zeros(3), "leaning_between": between}
    named = [sole(SimpleNamespace(between=between, deployed=who, **still)) for who in ((), (0,), (1,), (2,), (0, 1))]
    assert named == [None, 0, 1, None, None]


def capital_of(plain: Stage, z: np.ndarray) -> np.ndarray:
    """The largest ratio that bets on a model come to after each of (blocks, statistics of the bets) z."""
    reference = plain.watch.reference
    assert reference is not None
    wager, found = wager_on(reference, 0, 0), []
    every = np.zeros(reference.shifts.size)
    for block in z:
        every[wager.statistics] = block * wager.spread
        wager.take(every)
        found.append(np.abs(wager.ratios()).max())
    return np.array(found)


def test_bets_on_a_fair_game_win_no_more_often_than_they_may(plain: Stage):
    dice = np.random.default_rng(5)
    bets = len(wager_on(plain.watch.reference, 0, 0).statistics)
    won = sum(bool((capital_of(plain, dice.normal(size=(16, bets))) >= 1).any()) for _ in range(1000))
    assert won <= 4  # one is expected at most: Ville


def test_bets_win_on_what_goes_on_though_no_block_shows_much(plain: Stage):
    dice = np.random.default_rng(6)
    bets = len(wager_on(plain.watch.reference, 0, 0).statistics)
    drift = np.zeros(bets)
    drift[3] = 1.5
    when = [np.flatnonzero(capital_of(plain, dice.normal(size=(16, bets)) + drift) >= 1) for _ in range(20)]
    assert sum(len(one) > 0 for one in when) >= 15
    assert np.median([one[0] for one in when if len(one)]) <= 12


def test_bets_have_won_while_their_capital_is_there_and_one_block_alone_wins_none(plain: Stage):
    bets = len(wager_on(plain.watch.reference, 0, 0).statistics)

    def won(*z: float) -> list[bool]:
        """After each block, when one statistic showed these spreads."""
        shown = np.zeros((len(z), bets))
        shown[:, 3] = z
        return [bool(one) for one in capital_of(plain, shown) >= 1]

    assert won(*[3.0] * 4) == [False, False, True, True]
    assert won(*[3.0] * 4, *[-1.0] * 3)[3:] == [True, True, False, False]
    assert won(30.0, *[0.0] * 15) == [False] * 16
    assert won(30.0, 30.0) == [False, True]


def bet_on(reference: Reference, place: int, spreads: Sequence[float]) -> Ring:
    """A ring after a deploy of the first model, and blocks in which one statistic showed so many spreads."""
    ring = Ring(reference)
    ring.deployed(0, 0)
    nothing = np.zeros(reference.shifts.size)
    for block, size in enumerate(spreads):
        z = nothing.copy()
        z[place] = size * reference.thresholds.widest[place]
        sums = Sums(reference.summing.layout)
        ring.blocks.append(Kept(block * BLOCK, 0.0, [], np.empty(0), np.empty(0), sums, 0.0, z))
        ring._wagered(nothing)
    return ring


def test_bets_go_on_when_their_time_is_up_only_while_they_are_told_to_be_winning(plain: Stage):
    """Calmer scores count for less: bets that such have won by a little are not told, and are over in time."""
    reference = plain.watch.reference
    assert reference is not None
    place = reference.shifts.groups["unexplained size"].start

    def after_blocks(spreads: float, blocks: int) -> tuple[bool, bool]:
        """Whether bets have won, and whether they go on, when one statistic showed so many spreads in each block."""
        ring = bet_on(reference, place, [spreads] * blocks)
        return bool(ring.won), bool(ring.wagers)

    assert after_blocks(0.5, 15) == (False, True)
    assert after_blocks(0.5, 16) == (False, False)
    assert after_blocks(1.35, 40) == (True, True)
    assert after_blocks(-1.35, 40) == (False, False)


def test_what_bets_stood_at_a_block_ago_was_there_before(plain: Stage):
    reference = plain.watch.reference
    assert reference is not None
    place = reference.shifts.groups["unexplained size"].start

    def lasting(*spreads: float) -> float:
        return float(np.abs(bet_on(reference, place, spreads).lasting()).max())

    assert lasting(9.0) == 0.0
    assert lasting(3.5, 3.5) >= LASTING
    assert lasting(3.5, -9.0) == 0.0


def noise_after(place: int, event: Event, versions: dict[str, str] | None, size: float) -> Event:
    """From event 1,000 on the champion answers a little otherwise, as a model trained anew does."""
    if place < 1000:
        return event
    other = float(event.scores["champion"] + size * np.sin(977.0 * event.features["amount"]))
    return replace(event, scores=event.scores | {"champion": other}, versions=versions)


def test_what_follows_a_deploy_is_bet_against_and_named_where_windows_see_nothing(
    plain: Stage, quiet_events: list[Event]
):
    new = dict.fromkeys(plain.world.models, "1") | {"champion": "2"}

    def said(versions: dict[str, str] | None, size: float) -> list[Verdict]:
        events = changed(quiet_events, lambda place, event: noise_after(place, event, versions, size))
        return [one for one in after(plain, events) if not one.quiet]

    assert {(one.verdict, one.model) for one in said(new, 0.012)} == {(Word.CODE, "champion")}
    assert said(None, 0.012) == []
    assert said(new, 0.0) == []


def test_bets_that_have_won_are_told_at_once_and_windows_wait_for_more(other: Stage):
    reference = other.watch.reference
    assert reference is not None
    ratios = np.zeros(reference.shifts.size)
    ratios[reference.shifts.groups["unexplained"].start] = 1.05

    def word(won: tuple[int, ...], final: bool) -> Word | None:
        moves = Moves(reference, ratios, ratios, ratios, (0,), won)
        found = find(reference, moves, Probes(list(reference.models)), final=final, witness=Witness.NONE)
        return found and found.word

    assert word((), final=False) is None
    assert word((0,), final=False) is word((), final=True) is Word.CODE


def test_probes_asked_before_a_change_do_not_acquit_it():
    """The change comes right after a round, in a block whose beginning the round is still in."""
    played = play(Stage("made", INDEPENDENT, 9002, probes=True), BY_NAME["bug in shared feature code"])
    assert played.right, played


def test_what_chance_may_have_done_to_scores_or_fields_is_looked_at_once_more(other: Stage):
    reference = other.watch.reference
    assert reference is not None
    pair = reference.shifts.groups["pair size"].start
    still = np.zeros(reference.shifts.size)
    slight, much = still.copy(), still.copy()
    slight[pair], much[pair] = 1.3, 1.6
    own = reference.shifts.groups["unexplained"].start + reference.expected.pairs[0][0]
    slight[own] = much[own] = 1.05
    no_probes = Probes(list(reference.models))

    def word(ratios: np.ndarray, lasting: np.ndarray) -> Word | None:
        moves = Moves(reference, ratios, ratios, lasting, (reference.expected.pairs[0][0],))
        found = find(reference, moves, no_probes, final=True, witness=Witness.NONE)
        return found and found.word

    assert word(slight, still) is Word.HEALTHY  # though it follows a deploy
    assert word(slight, -slight / 2) is Word.CODE
    assert word(much, still) is Word.CODE
    for group in ("nulls", "joint"):
        slight, much = still.copy(), still.copy()
        slight[reference.shifts.groups[group].start], much[reference.shifts.groups[group].start] = 1.3, 1.6
        assert word(slight, still) is Word.HEALTHY
        assert word(slight, slight / 2) is Word.DATA
        assert word(much, still) is Word.DATA


def timed(events: Iterable[Event], since_ms: float, gaps_ms: tuple[float, ...], took_ms: float) -> Iterator[Event]:
    """The same events, so far apart again and again, each answered after so long."""
    at_ms = since_ms
    for event, gap_ms in zip(events, cycle(gaps_ms)):
        at_ms += gap_ms
        yield replace(event, ts_ms=at_ms, latency_ms=took_ms)


@pytest.mark.parametrize(
    ("gaps_ms", "took_ms", "word"),
    [
        ((100.0,), 8.0, "healthy"),
        ((80.0,), 8.0, "healthy"),
        ((1.0,) * 9 + (971.0,), 8.0, "healthy"),  # bursts of as many as ever
        ((100.0,), 8.4, "healthy"),
        ((40.0,), 8.0, "traffic"),
        ((100.0,), 12.0, "traffic"),
    ],
)
def test_traffic_is_twice_the_rate_or_a_third_more_latency_however_even_both_were_before(
    gaps_ms: tuple[float, ...], took_ms: float, word: str, plain: Stage, quiet_events: list[Event]
):
    watch = Watch(replace(plain.world.setting(), reference_rows=4000))
    for event in timed(islice(plain.reference_events(), 4000), 0.0, (100.0,), 8.0):
        watch.offer(event)
    said = [watch.offer(event) for event in timed(quiet_events[:2000], 400_000.0, gaps_ms, took_ms)]
    assert words(one for one in said if one is not None) == [word] * 2


def test_one_unusual_day_is_no_alarm_and_four_are(clustered: Stage):
    events = list(live(clustered, 6000))

    def unusual(days: int) -> Iterator[Event]:
        for place, event in enumerate(events):
            add = 25 if 1000 <= place < 1000 * (1 + days) else 0
            yield replace(event, features=event.features | {"age": event.features["age"] + add})

    assert set(words(after(clustered, unusual(1)))) == {"healthy"}
    found = [one for one in after(clustered, unusual(4)) if not one.quiet]
    assert {(one.verdict, one.field) for one in found} == {(Word.DATA, "age")}
    without = deepcopy(clustered)
    assert without.watch.ring is not None
    without.watch.ring.thrice[:] = False
    assert set(words(after(without, unusual(1)))) != {"healthy"}


def test_a_strange_day_is_believed_at_once_when_another_strange_day_bears_it_out(clustered: Stage):
    reference = clustered.watch.reference
    assert reference is not None
    groups, restless = reference.shifts.groups, reference.thresholds.restless(reference.shifts)
    field, other = np.flatnonzero(restless)[:2]

    def believed(what: str, now: float, before: float, windows: int = 2) -> bool:
        """A field shows `now` of its threshold, and so many windows ago another one showed `before`."""
        ring, still = Ring(reference), np.zeros(reference.shifts.size)
        past, last = still.copy(), still.copy()
        past[groups["place"].start + other] = before
        last[groups[what].start + field] = now
        for ratios in (past, *[still] * (4 * windows - 1)):
            ring._confirmed(ratios)
        return ring._confirmed(last)[groups[what].start + field] == now

    assert believed("range", now=8.0, before=0.6)
    assert not believed("range", now=8.0, before=0.4)
    assert not believed("range", now=8.0, before=0.0)
    assert not believed("range", now=5.0, before=2.0)
    assert not believed("range", now=8.0, before=1.0, windows=1)  # the same day may lie in both
    assert not believed("nulls", now=8.0, before=1.0)  # an outage is no weather


def test_what_was_believed_for_another_days_sake_and_went_is_not_believed_so_again(clustered: Stage):
    reference = clustered.watch.reference
    assert reference is not None
    groups, restless = reference.shifts.groups, reference.thresholds.restless(reference.shifts)
    statistic = groups["range"].start + int(np.flatnonzero(restless)[0])
    strange = np.zeros(reference.shifts.size)
    strange[statistic] = 8.0

    def told(ring: Ring, days: str) -> list[bool]:
        """Whether each of these windows is believed to be strange: `s` is, and `.` is not."""
        found = []
        for day in days:
            for _ in range(4):
                ratios = ring._confirmed(strange if day == "s" else np.zeros(reference.shifts.size))
            found.append(abs(float(ratios[statistic])) >= 1)
        return found

    ring = Ring(reference)
    assert told(ring, "s.s.") == [False, False, True, False]
    assert told(ring, "s.s.") == [False] * 4
    assert told(ring, "sss") == [False, False, True]  # three in a row are
    assert told(Ring(reference), "s.sss") == [False, False, True, False, True]


@pytest.mark.parametrize("module", [confined, daytime, events, fields, tails])
def test_examples_of_the_docstrings_are_true(module: ModuleType):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_fewer_strange_values_than_the_reference_had_are_no_news(plain: Stage):
    ring, reference = plain.watch.ring, plain.watch.reference
    assert ring is not None
    assert reference is not None
    for name in STRANGE:
        ratios = np.zeros(reference.shifts.size)
        ratios[reference.shifts.groups[name]] = -2.0
        assert not ring._calmer(ratios).any()
        assert (ring._calmer(-ratios) == -ratios).all()


def test_a_handful_of_new_values_of_a_restless_number_is_no_news_and_many_are(clustered: Stage):
    stage = deepcopy(clustered)
    reference = stage.watch.reference
    assert reference is not None
    restless = reference.thresholds.restless(reference.shifts)
    names = [one.name for one, often in zip(reference.fields, restless, strict=True) if often and len(one.known)]
    assert "age" in names
    events = list(live(stage, 4000))

    def found(every: int) -> set[tuple[str, str | None]]:
        def odd(place: int, event: Event) -> Event:
            new = event.features["age"] + 0.5 if place % every == 0 else event.features["age"]
            return replace(event, features=event.features | {"age": new})

        return {(one.verdict, one.field) for one in after(stage, changed(events, odd))}

    assert found(every=33) == {(Word.HEALTHY, None)}
    assert (Word.DATA, "age") in found(every=10)
    without = stage.watch.ring
    assert without is not None
    without.handfuls[:] = False
    assert (Word.DATA, "age") in found(every=33)


def test_nothing_is_bet_on_a_deploy_where_days_differ(clustered: Stage, plain: Stage):
    for stage, bet in ((clustered, False), (plain, True)):
        assert stage.watch.reference is not None
        ring = Ring(stage.watch.reference)
        ring.deployed(0, 20_000)
        assert bool(ring.wagers) is bet


def test_clustered_days_must_be_seen_twice(clustered: Stage):
    assert clustered.watch.reference is not None
    assert clustered.watch.reference.thresholds.clustered
    verdicts = after(clustered, live(clustered, 15_000))
    assert sum(not one.quiet for one in verdicts) <= 1


def test_every_alarm_has_a_severity_and_only_code_that_answers_pages():
    assert set(SEVERITY) == set(Word) - {Word.HEALTHY, Word.TOO_FEW}
    assert {word for word, severity in SEVERITY.items() if severity is Severity.PAGE} == {Word.CODE, Word.UPSTREAM}


def test_tails_agree_with_tables():
    assert student(0.05, 10) == pytest.approx(2.228, rel=0.01)
    assert student(9.7346e-7, 20) == pytest.approx(6.94, rel=0.005)
    assert z_of_log_tail(np.log([6.33e-5, 5.73e-7])).tolist() == pytest.approx([4.0, 5.0], abs=0.02)


@pytest.mark.parametrize(
    "given",
    [None, [], {}, {"models": {}}, {"models": {"a": {}}}, {"models": {"a": {}}, "reference_rows": "9"},
     {"models": {"a": {}}, "reference_rows": 9, "features": [1]}],
)  # fmt: skip
def test_a_setting_that_says_too_little_is_refused_with_what_to_write(given: object):
    with pytest.raises(ValueError, match="write"):
        read_setting(given)


@pytest.mark.parametrize("given", [None, 3, [], {}, {"features": 3, "scores": {}}, {"features": {}, "scores": [1]}])
def test_what_is_no_event_says_why(given: object):
    assert isinstance(read_event(given), str)


def test_a_block_read_as_a_whole_is_what_its_columns_are_one_by_one(plain: Stage, quiet_events: list[Event]):
    reference, watch = plain.watch.reference, deepcopy(plain.watch)
    assert reference is not None
    odd = (None, "2", float("nan"), float("inf"), 1e308, True, 10**400, [], "another")
    block = [replace(event, features=dict(event.features)) for event in quiet_events[:BLOCK]]
    for event, value, field in zip(block, cycle(odd), cycle(reference.fields), strict=False):
        event.features[field.name] = value
        event.features.pop(reference.fields[event.ts_ms.as_integer_ratio()[0] % len(reference.fields)].name, None)
    rows = watch.intake.rows(block)
    found = reference.block(rows)
    for place, field in enumerate(reference.fields):
        bins, *counts = field.encode([event.features.get(field.name) for event in block])
        assert found.bins[:, place].tolist() == bins.tolist()
        assert [found.odd[place], found.unseen[place], found.outside[place]] == counts
    assert found.odd.sum() > 0
    assert found.unseen.sum() > 0


@pytest.mark.parametrize("odd", [None, "2", float("nan"), 1e308, True, 10**400, [], 3])
def test_columns_that_are_read_together_say_what_each_says_alone(odd: object):
    given = events.columns([{"a": 1.5, "b": odd}, {"a": 2, "b": 0.5}, {"b": None}], ["a", "b", "c"])
    assert given == [(1.5, 2, None), (odd, 0.5, None), (None, None, None)]
    found, counts = events.matrix(given)
    for column, mine, count in zip(given, found, counts, strict=True):
        alone, odd_ones = events.numbers(column)
        assert np.array_equal(mine, alone, equal_nan=True)
        assert count == odd_ones
    assert events.columns([{"a": 1}, {}], ["a"]) == [(1, None)]


def test_ranks_of_ties_lie_in_the_middle_of_them():
    table = ranks_of(np.repeat([0.1, 0.2, 0.3], 4000)[:, None])
    found = table.of(np.array([[0.05], [0.1], [0.15], [0.2], [0.3], [0.35], [np.nan]]))[:, 0]
    quantiles = table.quantiles[0]
    for value, rank in zip([0.05, 0.1, 0.15, 0.2, 0.3, 0.35], found, strict=False):
        both = np.searchsorted(quantiles, value, "left") + np.searchsorted(quantiles, value, "right")
        assert rank == min(both / (2 * RANKS + 1), 1.0)
    assert np.isnan(found[-1])
