"""What a kind of model needs beyond the plain installation, imported when such a model is there."""

import importlib
from typing import Any

from schemas.pipeline import Model
from streams.models.artifact import ModelRefused


def needed(model: Model, module: str, extra: str, by: str, otherwise: str = "") -> Any:
    """The module; raises ModelRefused that says which extra to install, or what to do `otherwise`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelRefused(
            f"model {model.name}: {by} needs {module}; pip install 'rendezvous-kafka[{extra}]'{otherwise}"
        ) from error
