"""A model at the door is tried on rows, and what is wrong with it is said."""

import os
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Promotion, Role
from streams.core.given import Given
from streams.models.artifact import ModelRefused, sum_of, sum_to_trust
from streams.models.attempt import TRIAL_S
from streams.models.entrance import Tried, tried
from tests.unit.small import pipeline

pytestmark = pytest.mark.usefixtures("trials")

MODEL = Model(name="new", version="1", kind=Kind.CONSTANT, value=0.5, role=Role.SHADOW)
ROWS = Given(np.ones((3, 3)))
NO_ROWS = Given(np.ones((0, 3)))


def test_a_model_is_tried_on_the_rows_there_are_or_for_practice_on_two(tmp_path: Path):
    assert tried(tmp_path, pipeline(), MODEL, ROWS) == Tried(3, 0.5, 0.5)
    assert tried(tmp_path, pipeline(), MODEL, NO_ROWS) == Tried(2, 0.5, 0.5)


def test_scores_that_are_none_or_out_of_range_are_refused(tmp_path: Path):
    strange = replace(MODEL, kind=Kind.PYTHON, value=None, callable="tests.unit.python_models:odd")
    with pytest.raises(ModelRefused, match="3 of 3 rows have no score, row 0: returned nan"):
        tried(tmp_path, pipeline(), strange, ROWS)
    with pytest.raises(ModelRefused, match=r"scores 1\.5 to 1\.5, and \[promotion\] allows 0 to 1"):
        tried(tmp_path, pipeline(promotion=Promotion(min=0, max=1)), replace(MODEL, value=1.5), ROWS)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("hanging", r"python_models:hanging does not load and score in 3 s; load less, or beforehand"),
        ("dying", r"python_models:dying aborts the loader \(signal 11\): mend it"),
        ("leaving", r"python_models:leaving ends the process that loads it, without a word; mend it"),
    ],
)
def test_code_of_others_hangs_and_dies_in_a_process_of_its_own(tmp_path: Path, function: str, said: str):
    strange = replace(MODEL, kind=Kind.PYTHON, value=None, callable=f"tests.unit.python_models:{function}")
    with pytest.raises(ModelRefused, match=said):
        tried(tmp_path, pipeline(), strange, ROWS, within_s=3 if function == "hanging" else TRIAL_S)


def test_code_of_others_prints_into_no_answer_of_ours_and_is_loaded_in_no_process_of_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    loud = replace(MODEL, kind=Kind.PYTHON, value=None, callable="tests.unit.python_models:talking")
    found = tried(tmp_path, pipeline(), loud, ROWS)
    assert (found.rows, found.least) == (3, found.most)
    assert found.least not in (0, os.getpid())
    assert capfd.readouterr() == ("", "")


def test_the_sum_is_what_is_said_else_what_stands_beside_the_file_else_the_files(tmp_path: Path):
    (tmp_path / "m.txt").write_bytes(b"model")
    model = replace(MODEL, kind=Kind.LIGHTGBM, value=None, artifact="m.txt")
    own = sum_of(b"model")
    assert sum_to_trust(tmp_path, model) == own
    assert sum_to_trust(tmp_path, replace(model, sha256=own)) == own
    with pytest.raises(ModelRefused, match="has sha256"):
        sum_to_trust(tmp_path, replace(model, sha256="0" * 64))
    (tmp_path / "m.txt.sha256").write_text(f"{'1' * 64}  m.txt\n")
    with pytest.raises(ModelRefused, match="has sha256"):
        sum_to_trust(tmp_path, model)
