"""Which numbers of a model's outputs are the scores: `output` and `column` of the pipeline file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.pipeline import Model


def chosen(model: Model, outputs: Sequence[str]) -> str:
    """The output with the scores, by name; raises ValueError with the names there are."""
    if not model.output and len(outputs) == 1:
        return outputs[0]
    if model.output in outputs:
        return model.output
    said = f"there is no output {model.output!r}" if model.output else "which output holds the scores is not said"
    raise ValueError(f'{said}; write output = "..." with one of {list(outputs)}')


def scores_in(model: Model, tensor: Any) -> Any:
    """The n scores of an n, an n x 1, or with `column` an n x k tensor; another shape as it is, to be refused."""
    array = np.asarray(tensor)
    if array.ndim == 2 and model.column is not None and model.column < array.shape[1]:
        return array[:, model.column]
    if array.ndim == 2 and model.column is None and array.shape[1] == 1:
        return array[:, 0]
    return array


def misfit(model: Model, shape: Sequence[Any]) -> str:
    """Why no scores can be read from an output of this declared shape; empty when they can."""
    width = shape[1] if len(shape) == 2 else None
    if len(shape) == 1 and model.column is None:
        return ""
    if len(shape) == 2 and not isinstance(width, int):
        return ""  # told by the first answer
    if isinstance(width, int) and (width == 1 if model.column is None else 0 <= model.column < width):
        return ""
    column = "no column is named" if model.column is None else f"column = {model.column}"
    return f"has shape {list(shape)}, and {column}: one score per row is needed"
