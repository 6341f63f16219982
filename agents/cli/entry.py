"""`models add --entry FILE`: a model as the pipeline file would have it, one [[models]] in a file of its own.

Whatever a pipeline file can say of a model can so be said of one that comes while it runs. It is held against the
same checks; its paths are relative to its own file.
"""

import os
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from schemas.pipeline import Model, Pipeline, Role
from streams.core.mistakes import Mistake
from streams.core.model_checks import model_mistakes, resource_mistakes
from streams.models.artifact import HEX, ModelRefused
from streams.pipeline_file import read_as, refuse


class EntryFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a pipeline file that says of one model what it is."""

    models: tuple[Model, ...]


def model_in(path: Path, name: str, pipeline: Pipeline, folder: Path) -> Model:
    """The model of this name that a file describes, its paths relative to `folder`, the pipeline file's.

    Raises ConfigurationRefused with every mistake, by file and key; ModelRefused when a path leads out of `folder`.
    """
    models = read_as(path, EntryFile).models
    if [model.name for model in models] != [name]:
        found = ", ".join(model.name for model in models) or "nothing"
        refuse(path, [Mistake("models", f"describes {found}, not {name}", f"write one [[models]], of {name}")])
    (model,) = models
    key = f"models[0] ({name})"
    known = {feature.name for feature in pipeline.features}
    mistakes = [*model_mistakes(key, model, known), *resource_mistakes(key, model, pipeline.partitions)]
    if model.role is not Role.SHADOW:
        who = f"{model.role}, and who comes while it runs is a shadow first"
        mistakes.append(Mistake(f"{key}.role", f"is {who}", 'write role = "shadow", and promote it when it scores'))
    refuse(path, mistakes)
    beside = path.resolve().parent
    artifact = under(folder, beside, name, model.artifact) if model.artifact else ""
    digest = model.sha256
    if digest and not HEX(digest):
        digest = under(folder, beside, name, digest)
    return replace(model, artifact=artifact, sha256=digest)


def under(folder: Path, base: Path, name: str, written: Path | str) -> str:
    """A path that was written relative to `base`, relative to `folder`; raises ModelRefused when it leads out of it.

    It is not resolved: a link is for the check to refuse.
    """
    path = Path(os.path.normpath(base / written))
    if not path.is_relative_to(folder):
        raise ModelRefused(f"model {name}: {written} lies outside {folder}; keep models beside the pipeline file")
    return str(path.relative_to(folder))
