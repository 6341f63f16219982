"""A model ready to score, whatever it is made of. Each kind's library is imported by its scorer alone."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Pipeline
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.attempt import Attempt
from streams.models.callables import python_score, resolve
from streams.models.checked import Score
from streams.models.trial_forks import several
from streams.models.trying import try_in_child, unless_tried

IN_A_CHILD = (Kind.LIGHTGBM, Kind.ONNX, Kind.PYTHON)

__all__ = ["Score", "load", "refused_models", "resolve"]


def load(folder: Path, model: Model, features: tuple[str, ...], *, tried: Collection[str] = ()) -> Score:
    """Load one model; raises ModelRefused with what is wrong and the next step.

    `tried`: sha256 of files that a child process has loaded before: none is asked to load them again.
    """
    match model.kind:
        case Kind.LIGHTGBM:
            from streams.models.trees import lightgbm_score

            score = lightgbm_score(folder, model, features, unless_tried(tried))
        case Kind.ONNX:
            from streams.models.graphs import onnx_score

            score = onnx_score(folder, model, features, unless_tried(tried))
        case Kind.PYTHON:
            score = python_score(folder, model, features)
        case Kind.HTTP:
            from streams.models.endpoint import http_score

            score = http_score(model, features)
        case Kind.EXTERNAL:
            raise ModelRefused(
                f"model {model.name}: another program scores it, and only that can; name another model"
            )
        case Kind.CONSTANT:
            score = _constant(model)
    if not model.prepare:
        return score
    prepare = resolve(model.prepare, f"model {model.name}: prepare")
    return lambda given: score(replace(given, matrix=prepare(given.matrix)))


def refused_models(folder: Path, pipeline: Pipeline) -> dict[str, ModelRefused]:
    """The models of a pipeline that cannot be loaded, and why. What runs their code is tried in child processes."""
    models = [model for model in pipeline.models if model.has_scorer]

    def attempt(model: Model) -> ModelRefused | None:
        features = pipeline.features_of(model)
        try:
            if model.kind in IN_A_CHILD:
                sums = (sum_of(open_artifact(folder, model)),) if model.artifact else ()
                try_in_child(Attempt(str(folder), model, features, sums))
            else:
                load(folder, model, features)
        except ModelRefused as error:
            return error
        return None

    with several(), ThreadPoolExecutor(2) as pool:
        found = dict(zip((model.name for model in models), pool.map(attempt, models), strict=True))
    return {name: error for name, error in found.items() if error is not None}


def _constant(model: Model) -> Score:
    value = float(model.value or 0.0)
    return lambda given: np.full(len(given.matrix), value)
