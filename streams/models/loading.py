"""A model ready to score, whatever it is made of.

A LightGBM file is first loaded by a child process: its parser aborts the process on some damaged files, and a
child that dies is an answer.
"""

import importlib
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from schemas.blocks import Matrix
from schemas.pipeline import Kind, Model, Pipeline, Role
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.few_rows import NO_MEMORY, BoosterRows

TRIAL_S = 60
UNUSED = ("pandas", "pyarrow", "sklearn", "matplotlib", "graphviz", "dask")
END_OF_TREES = b"\nend of trees\n"
Score = Callable[[Matrix], Matrix]
"""n rows -> n scores."""


def load(folder: Path, model: Model, features: tuple[str, ...], *, tried: Collection[str] = ()) -> Score:
    """Load one model; raises ModelRefused with what is wrong and the next step.

    `tried`: sha256 of files that a child process has loaded before: none is asked to load them again.
    """
    match model.kind:
        case Kind.LIGHTGBM:
            score = _lightgbm(folder, model, features, tried)
        case Kind.PYTHON:
            score = _python(model)
        case Kind.CONSTANT:
            score = _constant(model)
    if not model.prepare:
        return score
    prepare = resolve(model.prepare, f"model {model.name}: prepare")
    return lambda matrix: score(prepare(matrix))


def refused_models(folder: Path, pipeline: Pipeline) -> dict[str, ModelRefused]:
    """The models of a pipeline that cannot be loaded, and why."""
    models = [model for model in pipeline.models if model.role is not Role.DECOY]

    def attempt(model: Model) -> ModelRefused | None:
        try:
            load(folder, model, pipeline.features_of(model))
        except ModelRefused as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip((model.name for model in models), pool.map(attempt, models), strict=True))
    return {name: error for name, error in found.items() if error is not None}


def resolve(name: str, where: str = "callable") -> Callable[..., Any]:
    """The function that `module:function` names; raises ModelRefused."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelRefused(f"{where} {name!r}: {error}; name a function that can be imported") from error
    if not callable(found):
        raise ModelRefused(f"{where} {name!r} is not callable; name a function")
    return found


def _lightgbm(folder: Path, model: Model, features: tuple[str, ...], tried: Collection[str]) -> Score:
    content = open_artifact(folder, model)
    if END_OF_TREES not in content:
        # LightGBM itself loads what is left of the trees.
        raise ModelRefused(f"model {model.name}: {model.artifact} ends in the middle; train or copy it again")
    if sum_of(content) not in tried:
        _try_in_child(model, content, len(features))
    lightgbm = import_lightgbm()
    try:
        booster = lightgbm.Booster(model_str=content.decode())
    except lightgbm.basic.LightGBMError as error:
        raise MemoryError(str(error)) if NO_MEMORY in str(error) else error from None
    _check_names(model, booster.feature_name(), features)
    return BoosterRows(lightgbm, booster, model.threads)


def import_lightgbm() -> Any:
    """LightGBM without the data frames it would also take: they are half of the time a scorer takes to start."""
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent, cast("ModuleType", None)))  # None: "cannot be imported"
    try:
        return importlib.import_module("lightgbm")
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _try_in_child(model: Model, content: bytes, width: int) -> None:
    command = [sys.executable, "-m", "streams.models.trial", str(width)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelRefused(f"model {model.name}: {model.artifact} does not load in {TRIAL_S} s") from error
    if done.returncode < 0:
        raise ModelRefused(
            f"model {model.name}: {model.artifact} aborts the loader (signal {-done.returncode}): it is damaged; "
            "train or copy it again"
        )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelRefused(f"model {model.name}: {model.artifact}: {said[-1] if said else 'does not load'}")


def _check_names(model: Model, own: list[str], features: tuple[str, ...]) -> None:
    generic = all(name.startswith("Column_") for name in own)
    if len(own) != len(features) or not (generic or tuple(own) == features):
        raise ModelRefused(
            f"model {model.name}: the file takes {own}, the pipeline gives {list(features)}; "
            "list the model's features in its order"
        )


def _python(model: Model) -> Score:
    score = resolve(model.callable, f"model {model.name}: callable")
    return lambda matrix: np.asarray(score(matrix), dtype=np.float64)


def _constant(model: Model) -> Score:
    value = float(model.value or 0.0)
    return lambda matrix: np.full(len(matrix), value)
