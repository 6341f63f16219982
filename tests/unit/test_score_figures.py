"""What each model did in a window: every figure against the same one counted by hand."""

import numpy as np
import pytest
from msgspec import json
from msgspec.structs import replace

from agents.cli.verdict_lines import lines_of_models, lines_of_segments
from agents.snapshot import KEPT
from schemas.decisions import Ticket
from schemas.pipeline import MonitorSettings
from schemas.verdicts import decode_verdict, encode_verdict
from streams.core.event_fields import OTHERS
from streams.core.gathering import AFTER_MS, Gathered, why_of
from streams.core.group_figures import BUCKETS, LogBuckets
from streams.core.kept_state import decode_state, encode_state
from streams.core.score_figures import MOST_VALUES, NEWEST, NEWEST_OF_PART, ScoreFigures
from streams.core.watching import Watching
from tests.unit.small import pipeline
from tests.unit.test_watching import stream

PIPELINE = pipeline()
NAMES = {model.name: model.version for model in PIPELINE.models if model.role != "decoy"}


def request(number: int, scores: dict[str, float], took_ms: dict[str, float], **more: object) -> Gathered:
    one = Gathered(Ticket(0, number), 1_000, 1_100 + AFTER_MS, NAMES, {}, None, scores, {}, took_ms)
    for name, value in more.items():
        setattr(one, name, value)
    return one


def test_every_figure_is_what_is_counted_by_hand():
    figures = ScoreFigures()
    times = dict.fromkeys(NAMES, 10.0)
    won = {"outcome": "preferred", "winner": "first", "why": "as wanted"}
    figures.take(request(0, {"first": 0.9, "second": 0.8, "mirror": 0.1, "yardstick": 0.7}, times, **won), PIPELINE)
    figures.take(request(1, {"first": 0.9, "second": 0.2}, {"first": 150.0, "second": 5.0}, outcome="fallback",
                         winner="second", why="no champion", without={"mirror": "error", "yardstick": "skipped"},
                         guarded=("first",)), PIPELINE)  # fmt: skip
    figures.take(request(2, {}, {}, outcome="default"), PIPELINE)
    figures.take(request(3, {"second": 0.4, "yardstick": 0.3}, times, **won), PIPELINE)
    found, _ = figures.told()
    first, second, mirror, yardstick = (found[f"{name} 1"] for name in ("first", "second", "mirror", "yardstick"))
    assert (first.asked, first.scored, first.late, first.guarded) == (4, 0.5, 0.25, 1)
    assert (first.wins, second.wins) == ({"as wanted": 0.5}, {"no champion": 0.25})
    assert (mirror.errors, mirror.skipped, yardstick.errors, yardstick.skipped) == (0.25, 0.0, 0.0, 0.25)
    assert (second.with_champion, mirror.with_champion, yardstick.with_champion) == (0.5, 0.0, 1.0)
    assert (first.with_canary, second.with_canary) == (1.0, 1.0)
    assert first.scores["p50"] == 0.9
    assert second.scores["p50"] == pytest.approx(0.4)
    assert second.latency_ms["p50"] == pytest.approx(10, rel=0.05)
    assert first.latency_ms["p99.9"] == pytest.approx(150, rel=0.05)
    assert figures.told() == ({}, {}), "it begins anew"


def test_quantiles_of_times_are_right_to_five_percent_and_a_sum_of_sketches_is_one_of_the_sum():
    chance = np.random.default_rng(3)
    every, parts = LogBuckets(), [LogBuckets() for _ in range(4)]
    times = np.exp(chance.normal(3, 1, 20_000)) + 1
    for place, ms in enumerate(times.tolist()):
        every.update(ms)
        parts[place % 4].update(ms)
    for share in (0.5, 0.9, 0.99, 0.999):
        assert every.quantile(share) == pytest.approx(float(np.quantile(times, share)), rel=0.07)
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].counts == every.counts
    far = LogBuckets()
    for ms in (0.0, 1e12):
        far.update(ms)
    assert (far.counts[0], far.counts[BUCKETS - 1]) == (1, 1)
    assert LogBuckets().quantile(0.5) is None


def test_what_is_remembered_does_not_grow_and_is_kept_in_a_snapshot():
    figures = ScoreFigures()
    for number in range(NEWEST + 50):
        figures.take(request(number, {"first": number / NEWEST}, {"first": 3.0}), PIPELINE)
    assert len(figures.whole.models["first", "1"].scores) == NEWEST
    again = decode_state(encode_state(figures, KEPT), KEPT)
    assert again.told() == figures.told()


def test_verdicts_carry_them_and_people_can_read_them():
    settings = MonitorSettings(reference_rows=2_000, probes=0, segments=("half",))
    watching = Watching(PIPELINE, settings, ("x", "half"))
    reports = []
    for bare in stream(4_000):
        one = replace(bare, expected=NAMES, leave_ms=bare.at_ms + 100 + AFTER_MS, took_ms=dict.fromkeys(NAMES, 7.0))
        one.fields["half"] = one.ticket.offset % 2
        probe = replace(one, probe="p-1", fields=dict(one.fields))
        reports += [report for each in (probe, one) if (report := watching.offer(each, PIPELINE)) is not None]
    [_, second] = reports
    asked = {one.model: one.asked for one in second.models.values()}
    assert asked == dict.fromkeys(NAMES, 1_000), "without probes"
    halves = decode_verdict(encode_verdict(second)).segments["half"]
    assert {value: one.requests for value, one in halves.items()} == {"0": 500, "1": 500}
    assert {one.models["first 1"].asked for one in halves.values()} == {500}
    lines = lines_of_segments(second, "half")
    assert "      half 0: 500 requests, 100.0% preferred" in lines
    assert sum(line.startswith("        first 1: scored 100.0% of 500; scores ") for line in lines) == 2
    [line] = [line for line in lines_of_models(second.models) if " first 1: " in line]
    assert "scored 100.0% of 1,000" in line
    assert "p99.9 7 ms" in line
    assert "with the canary on " in line


def test_a_version_that_takes_over_has_figures_of_its_own():
    figures = ScoreFigures()
    won = {"outcome": "preferred", "winner": "first", "why": "as wanted", "guarded": ("first",)}
    for number in range(10):
        expected = NAMES | {"first": "1" if number < 6 else "2"}
        score = 0.2 if number < 6 else 0.8
        figures.take(request(number, {"first": score}, {"first": 3.0}, expected=expected, **won), PIPELINE)
    found, _ = figures.told()
    assert {(one.model, one.version) for one in found.values()} == {*NAMES.items(), ("first", "2")}
    old, new = found["first 1"], found["first 2"]
    assert (old.asked, old.scores["p99"], old.wins, old.guarded) == (6, 0.2, {"as wanted": 0.6}, 6)
    assert (new.asked, new.scores["p1"], new.wins, new.guarded) == (4, 0.8, {"as wanted": 0.4}, 4)
    assert found["second 1"].asked == 10


def test_the_same_figures_by_the_values_of_declared_fields():
    figures = ScoreFigures(("place", "size"))
    for number in range(12):
        place = "ab"[number % 2] if number < 10 else None
        with_it = {"outcome": "preferred", "winner": "first", "why": "as wanted"} if place == "a" else {}
        scores = {"first": 0.9} if place == "a" else {"second": 0.1}
        fields = {"place": place, "size": number, "more": 1}
        figures.take(request(number, scores, {"first": 3.0}, fields=fields, **with_it), PIPELINE)
    whole, segments = figures.told()
    places = segments["place"]
    assert {value: one.requests for value, one in places.items()} == {"a": 5, "b": 5, "(none)": 2}
    assert (places["a"].answers, places["a"].winners) == ({"preferred": 5}, {"first": 5})
    assert (places["b"].answers, places["b"].winners) == ({"undecided": 5}, {"none": 5})
    first = places["a"].models["first 1"]
    assert (first.asked, first.scored, first.wins, first.scores["p50"]) == (5, 1.0, {"as wanted": 1.0}, 0.9)
    assert (places["b"].models["first 1"].scored, places["b"].models["second 1"].scores["p50"]) == (0.0, 0.1)
    assert (whole["first 1"].asked, len(segments["size"])) == (12, 12)
    assert sum(one.requests for one in segments["size"].values()) == 12
    assert figures.told() == ({}, {"place": {}, "size": {}})


def test_values_without_end_are_told_together_and_those_that_were_told_apart_stay_so():
    figures = ScoreFigures(("who",))
    for number in range(3 * MOST_VALUES):
        figures.take(request(number, {}, {}, fields={"who": f"user {number}"}), PIPELINE)
    _, segments = figures.told()
    assert len(segments["who"]) == MOST_VALUES + 1
    assert segments["who"][OTHERS].requests == 2 * MOST_VALUES
    for number in range(NEWEST_OF_PART + 50):
        who = "user 7" if number % 2 else f"stranger {number}"
        figures.take(request(number, {"first": 0.5}, {}, fields={"who": who}), PIPELINE)
    assert {len(own.scores) for one in figures.parts["who"].values() for own in one.models.values()} <= {0, 525}
    assert set(figures.told()[1]["who"]) == {"user 7", OTHERS}


def test_figures_of_a_program_that_knew_no_versions_are_still_read():
    watching = Watching(PIPELINE, MonitorSettings(reference_rows=2_000, probes=0), ("x",))
    for one in stream(3_000):
        one.expected = NAMES
        report = watching.offer(one, PIPELINE)
    assert report is not None
    plain = json.decode(encode_verdict(report))
    for figures in plain["models"].values():
        del figures["model"], figures["version"]
    plain["models"] = {name.split()[0]: figures for name, figures in plain["models"].items()}
    old = decode_verdict(json.encode(plain))
    assert {name: one.asked for name, one in old.models.items()} == dict.fromkeys(NAMES, 3_000)


def test_reasons_are_counted_without_the_numbers_of_the_single_case():
    assert why_of("second answered, no champion by 60 % of the budget; more") == "second answered, no champion"
    assert why_of("") == "as a fallback"
