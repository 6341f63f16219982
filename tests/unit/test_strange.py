"""What a reference itself calls strange: each window of it judged by the others, and not by its neighbours."""

import numpy as np
import pytest

from streams.core.verdicts.fields import Coded, Column, Vocabulary, column
from streams.core.verdicts.strange import never_elsewhere, outside_elsewhere

WINDOW = 1000


def judged(values: np.ndarray) -> tuple[Column, Coded, np.ndarray]:
    coded = Coded(values, np.full(len(values), -1, np.int32), np.zeros(1, np.int64))
    return column("x", coded, Vocabulary()), coded, np.arange(len(values)) // WINDOW


@pytest.mark.parametrize("strange", [never_elsewhere, outside_elsewhere])
@pytest.mark.parametrize(("windows", "found"), [(20, {5, 6}), (7, set())])
def test_what_comes_on_one_day_is_strange_in_both_windows_it_lies_in(strange, windows: int, found: set[int]):
    values = np.random.default_rng(1).integers(0, 20, windows * WINDOW).astype(float)
    hit = np.arange(5_500, 6_500, 10)
    values[hit] = 77.0
    field, coded, window = judged(values)
    flags = strange(field, coded, window)
    assert set(window[flags].tolist()) == found  # of seven windows each stands alone
    assert flags.sum() == (len(hit) if found else 0)


@pytest.mark.parametrize("strange", [never_elsewhere, outside_elsewhere])
def test_what_comes_again_on_another_day_is_not_strange(strange):
    values = np.random.default_rng(1).integers(0, 20, 20 * WINDOW).astype(float)
    values[[5_500, 12_500]] = 77.0
    assert not strange(*judged(values)).any()


def test_a_field_that_is_there_in_two_neighbouring_windows_alone_has_no_range_to_be_held_against():
    values = np.full(20 * WINDOW, np.nan)
    values[5_000:7_000] = np.random.default_rng(1).normal(size=2_000)
    assert not outside_elsewhere(*judged(values)).any()
    assert not outside_elsewhere(*judged(np.full(20 * WINDOW, np.nan))).any()
