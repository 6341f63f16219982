"""Models in Python: a function, or a class with `load` and `predict`, by name from the pipeline file only.

A class's file is checked by sha256 and handed to `load` as a copy, so that what is read is what was checked; pickles
and joblib files run code when they are read, and only a class that the pipeline names may decide to.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import json

from schemas.pipeline import Model
from streams.models.artifact import ModelRefused, open_artifact
from streams.models.checked import Score
from streams.models.extras import needed


def resolve(name: str, where: str = "callable") -> Callable[..., Any]:
    """The function or class that `module:name` names; raises ModelRefused."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelRefused(f"{where} {name!r}: {error}; name a function that can be imported") from error
    except MemoryError:
        raise  # a limit is no mistake of the file
    except Exception as error:  # anybody's code runs when its module is imported
        raise ModelRefused(f"{where} {name!r}: its module raised {error!r}; mend it") from error
    if not callable(found):
        raise ModelRefused(f"{where} {name!r} is not callable; name a function")
    return found


def python_score(folder: Path, model: Model, features: tuple[str, ...]) -> Score:
    """A Python model ready to score; raises ModelRefused."""
    found = resolve(model.callable, f"model {model.name}: callable")
    if isinstance(found, type):
        predict = _loaded(folder, model, found)
    elif model.artifact:
        raise ModelRefused(
            f"model {model.name}: {model.callable} is a function, and artifact is for a class with `load`; "
            "write a class, or remove artifact and sha256"
        )
    else:
        predict = found
    if model.takes == "frame":
        pandas = needed(model, "pandas", "frame", 'takes = "frame"', ', or write takes = "matrix"')
        frame, columns = pandas.DataFrame, list(features)
        return lambda given: predict(frame(given.matrix, columns=columns))
    if model.takes == "events":
        return lambda given: predict([json.decode(event) for event in given.events])
    return lambda given: predict(given.matrix)


def _loaded(folder: Path, model: Model, kind: type) -> Callable[[Any], Any]:
    lacking = [name for name in ("load", "predict") if not callable(getattr(kind, name, None))]
    if lacking:
        raise ModelRefused(
            f"model {model.name}: class {model.callable} has no {' and no '.join(lacking)}; "
            "write load(self, path) and predict(self, x)"
        )
    try:
        instance = kind()
        if model.artifact:
            content = open_artifact(folder, model)
            with TemporaryDirectory(prefix="rendezvous-") as copies:
                copy = Path(copies, Path(model.artifact).name)
                copy.write_bytes(content)
                instance.load(copy)
        else:
            instance.load(None)
    except (ModelRefused, MemoryError):
        raise
    except Exception as error:  # anybody's code
        raise ModelRefused(f"model {model.name}: {model.callable} cannot be loaded: {error!r}; mend it") from error
    predict: Callable[[Any], Any] = instance.predict
    return predict
