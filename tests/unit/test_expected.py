"""The expected accuracy of days without labels: near what turns out, as often as its interval says."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from agents.cli.quality import quality
from schemas.blocks import Matrix
from streams.archive.figures import place_of, read_figures, store_figures
from streams.core.expected import FEWEST, accuracy, calibrated
from streams.core.intervals import Bools, Estimate
from streams.core.judged import DAY_MS, Judged, day_name
from streams.core.measures import Bin, calibration
from tests.unit.test_quality import DAY_START_MS, archived, label, told, truth_of

DAY = DAY_START_MS // DAY_MS


def likely(scores: Matrix, moved: float = 0.0) -> Matrix:
    """What is true of a score: the model is far too sure, and says yes too often."""
    logit = np.log(scores / (1 - scores))
    return 1 / (1 + np.exp(-(0.5 * logit - 0.4 + moved)))


def day(
    dice: np.random.Generator, count: int = 2_000, moved: float = 0.0, sure: tuple[float, float] = (1.0, 1.5)
) -> tuple[Matrix, Bools]:
    scores = np.clip(dice.beta(*sure, count), 1e-6, 1 - 1e-6)
    return scores, dice.random(count) < likely(scores, moved)


def deciles(scores: Matrix, true: Bools) -> list[Bin]:
    return calibration(scores, true, np.ones(len(scores)))


def misses(trials: int, mature: int, unlike: float, sure: tuple[float, float]) -> tuple[float, float]:
    """The share of days whose accuracy was outside the interval, and the mean of how far it was off."""
    dice, outside, gaps = np.random.default_rng(7), 0, []
    for _ in range(trials):
        days = [deciles(*day(dice, moved=dice.normal() * unlike)) for _ in range(mature)]
        scores, true = day(dice, moved=dice.normal() * unlike, sure=sure)
        found = accuracy(scores, 0.5, days)
        right = ((scores >= 0.5) == true).mean()
        outside += not found.low <= right <= found.high  # type: ignore[operator]
        gaps.append(found.value - right)  # type: ignore[operator]
    return outside / trials, float(np.mean(gaps))


@pytest.mark.parametrize("sure", [(1.0, 1.5), (0.5, 0.5), (4.0, 2.0)], ids=["same", "surer", "shifted"])
def test_the_interval_holds_what_turns_out_though_scores_are_of_another_mix(sure: tuple[float, float]):
    missed, gap = misses(100, 5, 0.0, sure)
    assert missed <= 0.1
    assert abs(gap) < 0.01


def test_scores_as_they_are_would_have_been_far_off():
    scores, true = day(np.random.default_rng(1), 20_000)
    plain = np.maximum(scores, 1 - scores).mean()
    right = ((scores >= 0.5) == true).mean()
    assert plain - right > 0.05
    mature = [deciles(*day(np.random.default_rng(seed), 20_000)) for seed in (2, 3)]
    assert accuracy(scores, 0.5, mature).value == pytest.approx(right, abs=0.01)


def test_days_that_are_unlike_widen_the_interval():
    missed, _ = misses(60, 12, 0.3, (1.0, 1.5))
    assert missed <= 0.12
    dice = np.random.default_rng(3)
    scores, _ = day(dice)
    alike = accuracy(scores, 0.5, [deciles(*day(dice)) for _ in range(12)])
    unlike = accuracy(scores, 0.5, [deciles(*day(dice, moved=dice.normal() * 0.6)) for _ in range(12)])
    assert width(unlike) > 1.5 * width(alike)


def width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_a_drifted_concept_is_not_seen_as_is_said():
    dice = np.random.default_rng(4)
    mature = [deciles(*day(dice)) for _ in range(5)]
    scores, true = day(dice, moved=2.0)
    found = accuracy(scores, 0.5, mature)
    assert not found.low <= ((scores >= 0.5) == true).mean() <= found.high  # type: ignore[operator]


def test_a_model_that_always_says_the_same_is_expected_to_be_as_right_as_it_was():
    scores = np.full(1_000, 0.7)
    bins = deciles(scores, np.arange(1_000) % 4 == 0)
    assert len(calibrated(bins * 3).x) == 1
    assert accuracy(scores, 0.5, [bins]).value == pytest.approx(0.25, abs=1e-3)
    assert accuracy(scores, 0.8, [bins]).value == pytest.approx(0.75, abs=1e-3)


def test_scores_that_are_nearer_to_0_and_1_than_any_share_can_tell_are_one_point_at_either_end():
    dice = np.random.default_rng(5)
    scores = dice.choice([0.0, 1e-12, 2e-6, 3e-6, 1 - 1e-9, 1.0], 3_000)
    true = dice.random(3_000) < np.where(scores < 0.5, 0.1, 0.8)
    mature = [deciles(scores, true)]
    assert accuracy(scores, 0.5, mature).value == pytest.approx(((scores > 0.5) == true).mean(), abs=0.005)
    lonely = accuracy(np.array([0.5]), 0.5, mature)
    assert 0 <= lonely.low <= lonely.value <= lonely.high <= 1  # type: ignore[operator]


def test_beyond_the_scores_that_were_seen_the_last_share_holds():
    half = deciles(np.array([0.2] * 500 + [0.9] * 500), np.array([True] * 100 + [False] * 500 + [True] * 400))
    found = calibrated(half)
    assert found.at(np.array([0.0, 0.2, 0.9, 1.0])) == pytest.approx([0.2, 0.2, 0.8, 0.8], abs=1e-3)
    assert 0.2 < found.at(np.array([0.5]))[0] < 0.8


@pytest.fixture
def yesterday(tmp_path: Path) -> list[Judged]:
    """An archive of one day without labels, and the stored figures of the day before: of requests like these."""
    other = tmp_path / "other"
    other.mkdir()
    label(archived(other, 300), {f"r{number}": truth_of(number) for number in range(300)}, DAY_START_MS + 2 * DAY_MS)
    told(other)
    figures = read_figures(place_of(other / "archive", "small", day_name(DAY), "")) or []
    root = archived(tmp_path, 300)
    return store_figures(root, "small", "w", [replace(row, day=day_name(DAY - 1), stored=False) for row in figures])


def test_a_day_without_labels_is_expected_to_be_as_its_scores_say(tmp_path: Path, yesterday: list[Judged]):
    found = {row["model"]: row for row in told(tmp_path)["expected"]}
    measured = {row.model: row.measures for row in yesterday if row.measures.labelled >= FEWEST}
    assert set(found) == set(measured)
    assert "first" in found
    for model, row in found.items():
        assert (row["day"], row["kind"], row["mature_days"]) == (day_name(DAY), "estimate", 1)
        assert row["labelled"] == row["scored"] == measured[model].scored
        assert row["accuracy"]["value"] == pytest.approx(measured[model].accuracy.value, abs=0.03)
        assert row["accuracy"]["low"] < measured[model].accuracy.value < row["accuracy"]["high"]
        assert row["outside"] == 0
    words = ["-P", str(tmp_path / "p.toml"), "--archive", str(tmp_path / "archive")]
    assert "expected accuracy: an estimate without labels" in CliRunner().invoke(quality, words).stdout


def test_a_mature_day_is_measured_and_not_estimated_nor_is_one_without_an_earlier_day(
    tmp_path: Path, yesterday: list[Judged]
):
    assert told(tmp_path, "--by", "colour")["expected"] == []
    label(tmp_path / "archive", {f"r{number}": truth_of(number) for number in range(300)}, DAY_START_MS + 2 * DAY_MS)
    assert told(tmp_path)["expected"] == []
    alone = tmp_path / "alone"
    alone.mkdir()
    archived(alone, 300)
    assert told(alone)["expected"] == []


def test_another_version_s_mature_days_say_nothing(tmp_path: Path, yesterday: list[Judged]):
    root = tmp_path / "archive"
    place_of(root, "small", day_name(DAY - 1), "").unlink()
    others = [replace(row, version="0", stored=False) for row in yesterday]
    store_figures(root, "small", "w", others)
    assert told(tmp_path)["expected"] == []
