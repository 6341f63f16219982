"""LightGBM text files."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from schemas.pipeline import Model
from streams.models.artifact import ModelRefused, open_artifact
from streams.models.checked import Score
from streams.models.few_rows import NO_MEMORY, BoosterRows
from streams.models.trying import Tried

UNUSED = ("pandas", "pyarrow", "sklearn", "matplotlib", "graphviz", "dask")
NAMED_ONLY = ("f2py", "testing")
"""Of numpy: scipy, which LightGBM imports, takes over all of its names, and these are half of what that imports."""
END_OF_TREES = b"\nend of trees\n"
LISTED = "list those of the pipeline's that it takes, in its order, as the model's `features`"
"""What whoever names a model in a file may do when it takes other features."""


def lightgbm_score(folder: Path, model: Model, features: tuple[str, ...], tried: Tried) -> Score:
    """A LightGBM model ready to score; raises ModelRefused."""
    content = open_artifact(folder, model)
    if END_OF_TREES not in content:
        # LightGBM itself loads what is left of the trees.
        raise ModelRefused(f"model {model.name}: {model.artifact} ends in the middle; train or copy it again")
    tried(folder, model, features, content)
    lightgbm = import_lightgbm()
    try:
        booster = lightgbm.Booster(model_str=content.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        if NO_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise ModelRefused(f"model {model.name}: {model.artifact}: {error}; train or copy it again") from error
    check_names(model, booster.feature_name(), features)
    if booster.num_trees() < 1:
        raise ModelRefused(f"model {model.name}: {model.artifact} has no trees; train or copy it again")
    rows = BoosterRows(lightgbm, booster, model.threads)
    return lambda given: rows(given.matrix)


def import_lightgbm() -> Any:
    """LightGBM without the data frames it would also take: they are half of the time a scorer takes to start."""
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent, cast("ModuleType", None)))  # None: "cannot be imported"
    late = [name for name in NAMED_ONLY if name not in vars(np)]
    for name in late:
        setattr(np, name, None)  # numpy imports them when they are asked for
    try:
        return importlib.import_module("lightgbm")
    finally:
        for name in late:
            delattr(np, name)
        for name in absent:
            sys.modules.pop(name, None)


def check_names(model: Model, own: Sequence[str], features: tuple[str, ...], way_out: str = LISTED) -> None:
    """Hold the names in a file against what the pipeline gives; raises ModelRefused. A file may have none.

    `way_out`: what may be done about it but train another, where the model was named.
    """
    generic = all(name.startswith("Column_") for name in own)
    if len(own) != len(features) or not (generic or tuple(own) == features):
        raise ModelRefused(
            f"model {model.name}: {model.artifact} takes {list(own)}, the pipeline gives {list(features)}; "
            f"train it on the same features, or {way_out}"
        )
