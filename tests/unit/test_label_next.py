"""The work list: disputed requests come more often, and the weights bring the truth about all of them back."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from agents.cli.backtest import backtest
from agents.cli.label_next import label_next
from agents.cli.simulate import simulate
from schemas.labels import decode_label
from streams.core import label_next as core
from streams.core.intervals import share
from streams.core.label_next import chances, draw, spread
from tests.unit.small import TEXT
from tests.unit.test_quality import SETTINGS, archived, label, told, truth_of


def test_the_examples_are_true():
    assert doctest.testmod(core).failed == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 70), st.floats(0, 1, exclude_max=True))
def test_as_many_come_as_were_asked_for_each_once(spreads: list[float], count: int, start: float):
    chance = chances(np.array(spreads), count)
    rows = draw(chance, start)
    assert ((chance > 0) & (chance <= 1)).all()
    assert chance.sum() == pytest.approx(min(count, len(spreads)))
    assert len(rows) == len(set(rows.tolist())) == min(count, len(spreads))


def test_each_request_comes_as_often_as_its_chance():
    chance = chances(np.array([0.0, 0.0, 0.1, 0.9, 0.3, 0.0, 0.7]), 3)
    starts = (np.arange(10_000) + 0.5) / 10_000
    often = np.zeros(7)
    for start in starts:
        often[draw(chance, start)] += 1
    assert often / len(starts) == pytest.approx(chance, abs=1e-3)
    assert chance[3] > chance[4] > chance[0]


def test_no_weight_is_beyond_twice_that_of_an_equal_draw():
    chance = chances(np.random.default_rng(1).random(1_000) ** 8, 100)
    assert (1 / chance).max() <= 2 * 1_000 / 100 + 1e-9


def test_the_truth_about_all_comes_back_where_the_plain_share_misleads():
    dice = np.random.default_rng(2)
    first, second = dice.random(4_000), dice.random(4_000)
    spreads = spread([first, second])
    wrong = dice.random(4_000) < spreads  # a model errs where models differ
    found, plain = [], []
    for start in np.linspace(0, 0.99, 100):
        rows = draw(chance := chances(spreads, 200), float(start))
        found.append(share(wrong[rows], 1 / chance[rows]).value)
        plain.append(wrong[rows].mean())
    assert np.mean(found) == pytest.approx(wrong.mean(), abs=0.01)
    assert np.mean(plain) > wrong.mean() + 0.05


def test_ranks_take_scales_out_and_a_model_alone_disputes_nothing():
    one = np.array([0.1, 0.2, 0.3, 0.4])
    assert spread([one, one * 1_000 - 5]).tolist() == [0, 0, 0, 0]
    assert spread([one]).tolist() == [0, 0, 0, 0]
    assert spread([one, np.array([np.nan] * 3 + [0.2])]).tolist() == [0, 0, 0, 1.0]


def listed(tmp_path: Path, *words: str) -> list[dict]:
    (tmp_path / "p.toml").write_text(TEXT + SETTINGS)
    words = (*words, "-P", str(tmp_path / "p.toml"), "--archive", str(tmp_path / "archive"))
    found = CliRunner().invoke(label_next, list(words), catch_exceptions=False)
    return [json.decode(line) for line in found.stdout.splitlines()]


def test_the_list_has_no_labelled_request_and_goes_back_as_labels(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(50)}, 2_000_000_000_000)
    found = listed(tmp_path, "40")
    assert len(found) == 40
    assert all(int(one["request_id"].removeprefix("r")) >= 50 for one in found)
    assert [one["spread"] for one in found] == sorted((one["spread"] for one in found), reverse=True)
    assert found == listed(tmp_path, "40") != listed(tmp_path, "40", "--seed", "2")
    labels = [decode_label(json.encode({**one, "truth": True})) for one in found]
    assert [one.weight for one in labels] == [one["weight"] for one in found]
    assert sum(one.weight for one in labels) == pytest.approx(150, rel=0.3)


def test_quality_backtest_and_simulate_weigh_by_what_the_list_says(tmp_path: Path):
    from streams.archive.layout import Layout
    from streams.archive.segment import Record
    from streams.archive.writer import Limits, PartitionWriter

    root = archived(tmp_path)
    found = listed(tmp_path, "60")
    writer = PartitionWriter(Layout(root, "small.labels", 0), Limits(10_000, 1 << 20, 60.0), "id", "w")
    values = [json.encode({**one, "truth": truth_of(one["ticket"]["offset"])}) for one in found]
    writer.append([Record(place, 2_000_000_000_000, 1, None, v, None) for place, v in enumerate(values)], 0.0)
    writer.close_segment()
    measures = told(tmp_path)["range"][0]["measures"]
    weights = np.array([one["weight"] for one in found])
    truth = np.array([truth_of(one["ticket"]["offset"]) for one in found])
    assert measures["base"]["value"] == pytest.approx((weights * truth).sum() / weights.sum(), abs=1e-6)
    right = np.array([(one["answer"] >= 0.5) == is_true for one, is_true in zip(found, truth, strict=True)])
    assert measures["accuracy"]["value"] == pytest.approx((weights * right).sum() / weights.sum(), abs=1e-6)
    for command, *words in ((backtest, "--budget-ms", "5"), (simulate, "--budgets", "5")):
        where = ("-P", str(tmp_path / "p.toml"), "--archive", str(root), "--json")
        done = CliRunner().invoke(command, [*words, *where], catch_exceptions=False)
        happened = json.decode(done.stdout)["ways"]["happened"]["quality"]
        assert happened["labelled"] == measures["labelled"]
        for name in ("accuracy", "auc"):
            assert happened[name] == pytest.approx(measures[name]["value"], abs=1e-6)
