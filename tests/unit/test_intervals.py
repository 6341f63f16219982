"""Intervals hold the truth as often as they say, equal the textbook's figures, and know weights."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.pipeline import Costs
from streams.core import intervals
from streams.core.intervals import Estimate, auc, mean, mean_gap, share
from streams.core.measures import DECILES, NO_PROBABILITIES, calibration, measures

ONES = np.ones


def test_the_examples_are_true():
    assert doctest.testmod(intervals).failed == 0


def test_wilson_is_the_textbook_s():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = share(np.arange(count) < hits, ONES(count))
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)


def test_delong_is_the_variance_by_its_definition():
    dice = np.random.default_rng(3)
    truth = dice.random(60) < 0.4
    scores = np.round(truth * 0.4 + dice.random(60), 1)  # with ties
    yes, no = scores[truth], scores[~truth]
    psi = (yes[:, None] > no[None, :]) + 0.5 * (yes[:, None] == no[None, :])
    area = psi.mean()
    variance = psi.mean(axis=1).var(ddof=1) / len(yes) + psi.mean(axis=0).var(ddof=1) / len(no)
    half = 1.959964 * variance**0.5 / (area * (1 - area))
    logit = np.log(area / (1 - area))
    found = auc(scores, truth, ONES(60))
    assert found.value == pytest.approx(area, abs=1e-6)
    assert found.low == pytest.approx(1 / (1 + np.exp(half - logit)), abs=1e-5)
    assert found.high == pytest.approx(1 / (1 + np.exp(-half - logit)), abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_the_area_is_that_of_all_pairs(rows: list[tuple[int, bool]]):
    scores, truth = np.array([float(a) for a, _ in rows]), np.array([b for _, b in rows])
    found = auc(scores, truth, ONES(len(rows)))
    pairs = [(yes > no) + (yes == no) / 2 for yes in scores[truth] for no in scores[~truth]]
    assert found.value == (pytest.approx(np.mean(pairs), abs=1e-6) if pairs else None)
    if found.low is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 4)), min_size=2, max_size=30))
@settings(deadline=None)
def test_a_row_of_weight_three_counts_as_three_rows(rows: list[tuple[float, bool, int]]):
    scores, truth = np.array([a for a, _, _ in rows]), np.array([b for _, b, _ in rows])
    weight = np.array([float(c) for _, _, c in rows])
    copies = np.repeat(np.arange(len(rows)), weight.astype(int))
    for weighted, plain in (
        (share(truth, weight), share(truth[copies], ONES(len(copies)))),
        (mean(scores, weight), mean(scores[copies], ONES(len(copies)))),
        (auc(scores, truth, weight), auc(scores[copies], truth[copies], ONES(len(copies)))),
    ):
        assert weighted.value == (None if plain.value is None else pytest.approx(plain.value, abs=2e-6))


@pytest.mark.parametrize("what", ["share", "mean", "auc"])
def test_the_interval_holds_the_truth_nineteen_times_of_twenty(what: str):
    dice, hits, tries, count = np.random.default_rng(7), 0, 600, 200
    for _ in range(tries):
        truth = dice.random(count) < 0.3
        scores = dice.normal(size=count) + truth  # two normals, one apart: the area is Phi(1 / sqrt 2)
        found, true = {
            "share": lambda truth=truth: (share(truth, ONES(count)), 0.3),
            "mean": lambda scores=scores: (mean(scores, ONES(count)), 0.3),
            "auc": lambda scores=scores, truth=truth: (auc(scores, truth, ONES(count)), 0.7602499),
        }[what]()
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / tries <= 0.98


def test_a_draw_with_unequal_chances_is_told_as_what_it_was_drawn_from():
    dice = np.random.default_rng(5)
    whole = dice.random(20_000) < 0.2
    chance = np.where(whole, 0.1, 0.02)  # truths are drawn five times as often
    inside, plain = 0, 0
    for _ in range(200):
        drawn = dice.random(len(whole)) < chance
        found = share(whole[drawn], 1 / chance[drawn])
        inside += found.low <= whole.mean() <= found.high
        plain += whole[drawn].mean()
    assert inside / 200 >= 0.9
    assert plain / 200 > 0.5  # without the weights it would have been told as more than half


def test_few_heavy_rows_are_fewer_rows():
    truth, weight = np.arange(100) % 2 == 0, np.where(np.arange(100) % 4 < 2, 1.0, 9.0)
    heavy, plain = share(truth, weight), share(truth, ONES(100))
    assert heavy.value == plain.value == 0.5
    assert heavy.high - heavy.low == pytest.approx(1.27 * (plain.high - plain.low), rel=0.01)  # as of 61 rows


def test_nothing_and_next_to_nothing_have_no_interval():
    none = np.zeros(0)
    assert share(none > 0, none) == mean(none, none) == auc(none, none > 0, none) == Estimate()
    assert mean(ONES(1), ONES(1)) == Estimate(1.0)
    assert auc(np.array([0.1, 0.9]), np.array([False, True]), ONES(2)) == Estimate(1.0)
    assert auc(ONES(4), np.array([True, True, False, False]), ONES(4)) == Estimate(0.5)


def test_measures_are_those_of_rows_with_score_and_label_only():
    scores = np.array([0.9, 0.2, 0.6, np.nan, 0.4, 0.8])
    truth = np.array([1, 0, 0, 1, 1, -1], dtype=np.int8)
    weight = np.where(truth >= 0, 1.0, 0.0)
    found = measures(scores, truth, weight, 0.5, Costs(false_no=5.0))
    assert (found.scored, found.labelled, found.coverage) == (5, 4, 0.8)
    assert found.accuracy.value == 0.5  # 0.9 and 0.2 are right, 0.6 and 0.4 are not
    assert found.brier.value == pytest.approx((0.01 + 0.04 + 0.36 + 0.36) / 4)
    expected = -np.log([0.9, 0.8, 0.4, 0.4]).mean()
    assert found.log_loss.value == pytest.approx(expected, abs=1e-6)
    assert found.cost.value == (1.0 + 5.0) / 4
    assert found.base.value == 0.5
    assert found.auc.value == 3 / 4  # 0.4 is below 0.6, the other pairs are in order


def test_calibration_has_bins_of_equal_rows_and_sees_a_model_that_is_too_sure():
    dice = np.random.default_rng(11)
    score = dice.random(10_000)
    truth = (dice.random(10_000) < score).astype(np.int8)
    good = measures(score, truth, ONES(10_000), 0.5, None)
    sure = measures(np.clip(score * 2 - 0.5, 0, 1), truth, ONES(10_000), 0.5, None)
    assert [one.rows for one in good.calibration] == [1_000] * DECILES
    assert sum(one.truth.low <= one.score <= one.truth.high for one in good.calibration) >= 8
    assert good.calibration_error.value < 0.02
    assert good.calibration_error.low == 0.0  # though the figure itself is more: gaps by chance do not cancel
    assert sure.calibration_error.low > 0.1
    few = measures(np.array([0.5, 0.5, 0.5]), np.array([1, 0, 1], dtype=np.int8), ONES(3), 0.5, None)
    assert [(one.rows, one.score) for one in few.calibration] == [(3, 0.5)]


@pytest.mark.parametrize("bent", [1.0, 0.7, 1.6], ids=["calibrated", "too sure", "too unsure"])
def test_the_calibration_error_s_interval_holds_the_truth_nineteen_times_of_twenty(bent: float):
    dice, missed, tries, plain = np.random.default_rng(17), 0, 300, []
    for _ in range(tries):
        score = dice.beta(1.0, 2.0, 500)
        likely = score**bent / (score**bent + (1 - score) ** bent)
        true = dice.random(500) < likely
        found = measures(score, true.astype(np.int8), ONES(500), 0.5, None).calibration_error
        bins = calibration(score, true, ONES(500))
        real = np.mean(
            [abs(float((likely - score)[(score >= one.low) & (score <= one.high)].mean())) for one in bins]
        )
        missed += not found.low <= real <= found.high
        plain.append(found.value - real)
    assert missed / tries <= 0.05
    assert np.mean(plain) > 0.001  # by chance it is too large, and its interval knows


def test_gaps_of_no_bins_have_no_mean_and_one_that_is_known_has_no_width():
    assert mean_gap(np.zeros(0), np.zeros(0), np.zeros(0)) == Estimate()
    assert mean_gap(np.array([-0.25, 0.05]), np.zeros(2), np.array([1.0, 3.0])) == Estimate(0.1, 0.1, 0.1)
    wide = mean_gap(np.array([0.9]), np.array([0.5]), ONES(1))
    assert (wide.low, wide.high) == (pytest.approx(0.4, abs=1e-3), 1.0)


def test_scores_that_are_no_probabilities_have_no_log_loss_and_say_why():
    found = measures(np.array([-2.0, 3.0]), np.array([0, 1], dtype=np.int8), ONES(2), 0.5, None)
    assert found.accuracy.value == 1.0
    assert found.log_loss == found.brier == Estimate()
    assert (found.calibration, found.note) == ([], NO_PROBABILITIES)
    sure = measures(np.array([0.0, 1.0]), np.array([1, 0], dtype=np.int8), ONES(2), 0.5, None)
    assert sure.log_loss.value == pytest.approx(34.538776)
