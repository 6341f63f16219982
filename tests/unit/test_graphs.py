"""ONNX files: checked as any file, tried in a child, and held against the pipeline's features."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper

from schemas.pipeline import Kind, Model, Role
from streams.core.given import Given
from streams.models.artifact import ModelRefused
from streams.models.checked import score_rows
from streams.models.loading import load

pytestmark = pytest.mark.usefixtures("trials")

ROOT = Path(__file__).parents[2]
FEATURES = ("a", "b")
MODEL = Model(name="m", version="1", kind=Kind.ONNX, role=Role.CHAMPION, artifact="m.onnx", sha256="m.onnx.sha256")
WEIGHTS = [[1.0, -1.0], [10.0, 0.5]]


def graph(
    *, rows: object = "n", width: object = 2, columns: int = 1, kind: int = TensorProto.FLOAT, extra: bool = False
) -> bytes:
    """scores = input x weights, with an op that some inputs make NaN (the logarithm of a negative number)."""
    weights = np.array(WEIGHTS)[:, :columns].astype(helper.tensor_dtype_to_np_dtype(kind))
    inputs = [helper.make_tensor_value_info("x", kind, [rows, width])]
    if extra:
        inputs.append(helper.make_tensor_value_info("y", kind, [rows, 1]))
    outputs = [helper.make_tensor_value_info("scores", kind, [rows, columns])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    if columns == 2:
        outputs.append(helper.make_tensor_value_info("roots", kind, [rows, columns]))
        nodes.append(helper.make_node("Sqrt", ["scores"], ["roots"]))
    initial = [helper.make_tensor("w", kind, weights.shape, weights.ravel())]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, initial), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 8
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def place(folder: Path, content: bytes, **changes: object) -> Model:
    (folder / "m.onnx").write_bytes(content)
    (folder / "m.onnx.sha256").write_text(hashlib.sha256(content).hexdigest())
    return replace(MODEL, **changes)


def refusal(folder: Path, content: bytes, **changes: object) -> str:
    with pytest.raises(ModelRefused) as caught:
        load(folder, place(folder, content, **changes), FEATURES)
    assert "model m: " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_whole_file_scores_in_its_own_numbers(tmp_path: Path, kind: int):
    score = load(tmp_path, place(tmp_path, graph(kind=kind)), FEATURES)
    for rows in (1, 2, 256):
        matrix = np.arange(2.0 * rows).reshape(rows, 2)
        scores, reasons = score_rows(score, Given(matrix))
        assert reasons == {}
        assert scores.tolist() == (matrix[:, 0] + 10 * matrix[:, 1]).tolist()


def test_of_several_outputs_and_columns_the_file_says_which(tmp_path: Path):
    content = graph(columns=2)
    assert "which output holds the scores is not said; write output" in refusal(tmp_path, content)
    assert "there is no output 'no'; write output" in refusal(tmp_path, content, output="no")
    said = refusal(tmp_path, content, output="scores")
    assert "output scores has shape ['n', 2], and no column is named" in said
    assert "column = 2" in refusal(tmp_path, content, output="scores", column=2)
    score = load(tmp_path, place(tmp_path, content, output="scores", column=1), FEATURES)
    assert score_rows(score, Given(np.array([[1.0, 4.0]])))[0].tolist() == [1.0]


def test_a_row_whose_score_is_not_finite_is_that_rows_error(tmp_path: Path):
    score = load(tmp_path, place(tmp_path, graph(columns=2), output="roots", column=0), FEATURES)
    scores, reasons = score_rows(score, Given(np.array([[4.0, 0.0], [-4.0, 0.0]])))
    assert (scores[0], reasons) == (2.0, {1: "returned nan"})


def test_inputs_that_are_not_the_pipelines_features_are_refused(tmp_path: Path):
    with pytest.raises(
        ModelRefused, match=r"takes x: tensor\(float\) \['n', 2\]; the pipeline gives one matrix of n x 3"
    ):
        load(tmp_path, place(tmp_path, graph()), ("a", "b", "c"))
    assert "the number of rows open" in refusal(tmp_path, graph(rows=1))
    assert "takes x: tensor(float) ['n', 2], y: " in refusal(tmp_path, graph(extra=True))
    assert "tensor(int64)" in refusal(tmp_path, graph(kind=TensorProto.INT64))


def test_a_width_that_the_file_leaves_open_is_found_by_the_trial(tmp_path: Path):
    content = graph(width="f")
    load(tmp_path, place(tmp_path, content), FEATURES)
    with pytest.raises(ModelRefused, match="raised "):
        load(tmp_path, place(tmp_path, content), ("a", "b", "c"))


@pytest.mark.parametrize("keep", [0, 10, 60, 0.5, 0.9])
def test_a_truncated_file_with_a_sum_that_fits_is_refused(tmp_path: Path, keep: float):
    whole = graph()
    assert refusal(tmp_path, whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])


def test_a_wrong_sum_is_refused_before_anything_reads_the_file(tmp_path: Path):
    given = place(tmp_path, graph())
    (tmp_path / "m.onnx").write_bytes(graph(columns=2))
    with pytest.raises(ModelRefused, match="has sha256"):
        load(tmp_path, given, FEATURES)


@pytest.mark.parametrize("absolute", [False, True])
def test_weights_in_another_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool):
    """Only what the sum covers is read. Small weights are refused by onnxruntime's optimizer, whatever is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the child, which loads it from this folder too
    weights = np.ones((2, 1000), "<f4")
    (tmp_path / "weights.bin").write_bytes(weights.tobytes())
    tensor = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    place_of_weights = str(tmp_path / "weights.bin") if absolute else "weights.bin"
    onnx.external_data_helper.set_external_data(tensor, place_of_weights)
    tensor.ClearField("raw_data")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1000])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, [tensor]), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 8
    assert "external" in refusal(tmp_path, bytes(made.SerializeToString()), column=0).lower()
