"""ONNX files, run by onnxruntime on as many threads as the model may have: one, unless the file says otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.pipeline import Model
from streams.core.given import Given
from streams.models.artifact import ModelRefused, open_artifact
from streams.models.checked import Score
from streams.models.extras import needed
from streams.models.few_rows import NO_MEMORY
from streams.models.tensors import chosen, misfit, scores_in
from streams.models.trying import Tried

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
ERRORS_ONLY = 3
NO_OTHER_FILE = ("session.model_external_initializers_file_folder_path", "/dev/null")
"""Weights may lie in files beside an ONNX file, and onnxruntime would read them, from the working directory (seen,
1.32). The sum covers none of them: they are looked for where no file can be."""


def onnx_score(folder: Path, model: Model, features: tuple[str, ...], tried: Tried) -> Score:
    """An ONNX model ready to score; raises ModelRefused.

    It has one input, n x as many floats as the pipeline gives it, and an output of n or n x k numbers.
    """
    content = open_artifact(folder, model)
    runtime = needed(model, "onnxruntime", "onnx", "kind onnx")
    tried(folder, model, features, content)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = model.threads, 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(*NO_OTHER_FILE)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen classes of its own, and protobuf more
        if NO_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        said = str(error).strip().splitlines() or [repr(error)]
        raise ModelRefused(
            f"model {model.name}: {model.artifact} does not load: {said[0]}; export it again, as a single file"
        ) from error
    name, form = _input(model, session.get_inputs(), len(features))
    output = _output(model, session.get_outputs())

    def score(given: Given) -> Any:
        return scores_in(model, session.run([output], {name: given.matrix.astype(form)})[0])

    return score


def _input(model: Model, inputs: Sequence[Any], width: int) -> tuple[str, Any]:
    """Name and number type of the one input. A width that the file leaves open is told by the trial."""
    found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
    fits = len(inputs) == 1 and inputs[0].type in FLOATS and len(inputs[0].shape) == 2
    rows, columns = inputs[0].shape if fits else (None, None)
    if not fits or isinstance(rows, int) or (isinstance(columns, int) and columns != width):
        raise ModelRefused(
            f"model {model.name}: {model.artifact} takes {found or 'nothing'}; the pipeline gives one matrix of "
            f"n x {width} floats: export it so, the number of rows open, and list its features in its order"
        )
    return inputs[0].name, FLOATS[inputs[0].type]


def _output(model: Model, outputs: Sequence[Any]) -> str:
    """Name of the output with the scores."""
    try:
        name = chosen(model, [one.name for one in outputs])
    except ValueError as error:
        raise ModelRefused(f"model {model.name}: {model.artifact}: {error}") from error
    output = next(one for one in outputs if one.name == name)
    if not output.type.startswith("tensor("):
        raise ModelRefused(
            f"model {model.name}: output {name} is a {output.type}; export plain tensors (of scikit-learn's "
            "classifiers with zipmap=False)"
        )
    if reason := misfit(model, output.shape):
        raise ModelRefused(f"model {model.name}: output {name} {reason}; write column = 1, or name another output")
    return name
