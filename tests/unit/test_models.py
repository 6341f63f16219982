"""A model's file is trusted by its sha256 alone, tried where a crash is harmless, and refused by name."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from msgspec.structs import replace

from schemas.blocks import MAX_ROWS, Matrix
from schemas.pipeline import Kind, Model, Role
from streams.core.given import Given
from streams.models import trying
from streams.models.artifact import MAX_BYTES, ModelRefused
from streams.models.checked import score_rows
from streams.models.few_rows import FEW, BoosterRows
from streams.models.loading import load as load_given

MODEL = Model(name="m", version="1", kind=Kind.LIGHTGBM, role=Role.CHAMPION, artifact="m.txt", sha256="m.txt.sha256")
FEATURES = ("a", "b")


def load(
    folder: Path, model: Model, features: tuple[str, ...], tried: Collection[str] = ()
) -> Callable[[Matrix], Any]:
    score = load_given(folder, model, features, tried=tried)
    return lambda matrix: score(Given(matrix))


@pytest.fixture(scope="module")
def trained() -> bytes:
    rng = np.random.default_rng(1)
    rows = rng.random((200, 2))
    data = lightgbm.Dataset(rows, rows[:, 0] > 0.5, feature_name=list(FEATURES))
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(settings, data, 5).model_to_string().encode()


def place(folder: Path, content: bytes) -> Model:
    (folder / "m.txt").write_bytes(content)
    (folder / "m.txt.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  m.txt\n")
    return MODEL


def refusal(folder: Path, model: Model = MODEL, features: tuple[str, ...] = FEATURES) -> str:
    with pytest.raises(ModelRefused) as caught:
        load(folder, model, features)
    assert "model m" in str(caught.value)
    return str(caught.value)


def test_a_whole_file_scores(tmp_path: Path, trained: bytes):
    score = load(tmp_path, place(tmp_path, trained), FEATURES)
    low, high = score(np.array([[0.1, 0.5], [0.9, 0.5]]))
    assert low < 0.5 < high


@pytest.mark.parametrize("objective", ["binary", "regression", "poisson"])
def test_blocks_of_any_size_are_scored_as_the_booster_would(objective: str):
    rng = np.random.default_rng(2)
    rows = rng.random((500, 7))
    data = lightgbm.Dataset(rows, rows[:, 0] > 0.5)
    booster = lightgbm.train({"objective": objective, "verbose": -1, "num_threads": 1, "num_leaves": 7}, data, 9)
    score = BoosterRows(lightgbm, booster)
    for size in (*range(1, FEW + 3), 64, MAX_ROWS, MAX_ROWS + 1):
        matrix = rng.random((size, 7))
        found = score(matrix)
        assert np.array_equal(found, booster.predict(matrix, num_threads=1)), size
        score(rng.random((size, 7)))
        assert np.array_equal(found, booster.predict(matrix, num_threads=1)), "the next block overwrites no score"
    by_column = np.asfortranarray(rng.random((3, 7)))
    assert np.array_equal(score(by_column), booster.predict(by_column, num_threads=1))
    with pytest.raises(lightgbm.basic.LightGBMError, match="7"):
        score(rng.random((2, 8)))


def test_a_model_of_several_scores_a_row_fails_row_by_row():
    rng = np.random.default_rng(3)
    rows = rng.random((300, 2))
    settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, rng.integers(0, 3, 300)), 3)
    score = BoosterRows(lightgbm, booster)
    _, reasons = score_rows(lambda given: score(given.matrix), Given(rows[:3]))
    assert set(reasons) == {0, 1, 2}
    assert "(3, 3) for 3 rows" in reasons[0]


def test_only_the_very_bytes_that_were_tried_are_not_tried_again(
    tmp_path: Path, trained: bytes, monkeypatch: pytest.MonkeyPatch
):
    tries: list[str] = []
    monkeypatch.setattr(trying, "try_in_child", lambda attempt: tries.append(attempt.model.name))
    model = place(tmp_path, trained)
    load(tmp_path, model, FEATURES, tried={hashlib.sha256(trained).hexdigest()})
    assert tries == []
    load(tmp_path, model, FEATURES, tried={hashlib.sha256(trained + b" ").hexdigest()})
    assert tries == ["m"]


def test_lightgbm_starts_without_data_frames_and_a_fortran_compiler_and_leaves_them_to_others():
    program = (
        "import sys, numpy; from streams.models.trees import import_lightgbm; import_lightgbm();"
        "assert not {'pandas', 'numpy.f2py', 'numpy.testing'} & set(sys.modules);"
        "import pandas; numpy.testing.assert_array_equal(1, 1); assert numpy.f2py.__name__ == 'numpy.f2py'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_file_a_wrong_sum_and_a_damaged_sum_are_named(tmp_path: Path, trained: bytes):
    assert "No such file" in refusal(tmp_path)
    place(tmp_path, trained)
    flipped = bytearray(trained)
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "m.txt").write_bytes(flipped)
    assert "has sha256" in refusal(tmp_path)
    (tmp_path / "m.txt.sha256").write_text("not a sum")
    assert "does not begin with a sha256" in refusal(tmp_path)
    (tmp_path / "m.txt.sha256").unlink()
    assert "neither 64 hex digits nor a readable file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "m.txt.sha256")
    assert "neither 64 hex digits nor a readable file" in refusal(tmp_path), "it waits for nobody"


@pytest.mark.parametrize("keep", [0, 10, 400, 0.5, 0.9])
def test_a_truncated_file_with_a_sum_that_fits_is_refused_by_the_trial(tmp_path: Path, trained: bytes, keep: float):
    place(tmp_path, trained[: int(keep * len(trained)) if keep < 1 else int(keep)])
    assert refusal(tmp_path)


def test_other_features_than_the_pipelines_are_refused(tmp_path: Path, trained: bytes):
    place(tmp_path, trained)
    said = refusal(tmp_path, features=("b", "a"))
    assert "model m: m.txt takes ['a', 'b'], the pipeline gives ['b', 'a']; train it on the same features" in said
    assert said.endswith("list those of the pipeline's that it takes, in its order, as the model's `features`")
    assert refusal(tmp_path, features=("a",))


def test_a_file_elsewhere_a_link_a_folder_and_a_pipe_are_refused(tmp_path: Path, trained: bytes):
    inside = tmp_path / "pipeline"
    inside.mkdir()
    place(tmp_path, trained)
    assert "lies outside" in refusal(inside, replace(MODEL, artifact="../m.txt"))
    (inside / "m.txt").symlink_to(tmp_path / "m.txt")
    assert refusal(inside)
    (inside / "own.txt").write_bytes(trained)
    assert "lies outside" in refusal(inside, replace(MODEL, artifact="own.txt", sha256="../m.txt.sha256"))
    (inside / "folder").mkdir()
    assert refusal(inside, replace(MODEL, artifact="folder"))
    assert "lies outside" in refusal(inside, replace(MODEL, artifact="m\0.txt"))
    with (inside / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "no regular file of at most 512 MB" in refusal(inside, replace(MODEL, artifact="large"))
    os.mkfifo(inside / "pipe")
    assert "no regular file" in refusal(inside, replace(MODEL, artifact="pipe"))


def test_callables_and_constants():
    python = Model(name="m", version="1", kind=Kind.PYTHON, role=Role.CHAMPION, callable="tests.broker.models:double")
    assert load(Path(), python, FEATURES)(np.array([[0.5, 0.0]])).shape == (1,)
    assert "no_such" in refusal(Path(), replace(python, callable="tests.broker.models:no_such"))
    assert "nowhere" in refusal(Path(), replace(python, callable="nowhere:score"))
    assert "not callable" in refusal(Path(), replace(python, callable="sys:path"))
    constant = Model(name="m", version="1", kind=Kind.CONSTANT, role=Role.CHAMPION, value=0.25)
    assert load(Path(), constant, FEATURES)(np.zeros((3, 2))).tolist() == [0.25] * 3
