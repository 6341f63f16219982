"""A model file that is tried in another's place: checked and loaded as any other; a missing sum is taken."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Pipeline, Role
from streams.core.given import ScoreRows
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.checked import score_rows
from streams.models.loading import load
from streams.models.trees import LISTED, check_names

STANDS_FOR = "name the model it can stand for with NAME=FILE"
"""What whoever names a file in a model's place may do when it takes other features."""

FEATURE_NAMES = re.compile(rb"^feature_names=(.*)$", re.MULTILINE).search


@dataclass(frozen=True, slots=True)
class FileGiven:
    """A model file, and which model of the pipeline it stands for; empty is the champion."""

    path: Path
    instead_of: str = ""


def with_file(base: Pipeline, given: FileGiven) -> tuple[Pipeline, Model]:
    """The pipeline with that file in the model's place; its version is the file's name."""
    old = _replaced(base, given)
    try:
        digest = sum_of(given.path.read_bytes())
    except OSError as error:
        raise ModelRefused(f"{given.path}: {error.strerror}; name a LightGBM text file") from error
    beside = given.path.with_name(f"{given.path.name}.sha256")
    new = replace(
        old,
        version=given.path.stem,
        kind=Kind.LIGHTGBM,
        artifact=given.path.name,
        sha256=beside.name if beside.is_file() else digest,
        callable="",
        takes="matrix",
        url="",
        output="",
        column=None,
        value=None,
    )
    models = tuple(new if model.name == old.name else model for model in base.models)
    return replace(base, models=models), new


def _replaced(base: Pipeline, given: FileGiven) -> Model:
    if given.instead_of:
        try:
            return base.model(given.instead_of)
        except KeyError as error:
            known = ", ".join(model.name for model in base.models)
            raise ModelRefused(
                f"{given.instead_of}={given.path}: {base.name} has no model {given.instead_of!r}; it has {known}"
            ) from error
    return next(model for model in base.models if model.role is Role.CHAMPION)


def scoring_of(
    folder: Path, pipeline: Pipeline, model: Model, way_out: str = LISTED
) -> tuple[ScoreRows, tuple[int, ...]]:
    """A model of the pipeline ready to score, and its columns; raises ModelRefused (other features, damage).

    `way_out` is what the caller may do when it takes other features. The columns are those of the pipeline's features
    and, after them, of the scores it needs in the order of `needs`.
    """
    columns = columns_of(folder, pipeline, model, way_out)
    return partial(score_rows, load(folder, model, pipeline.features_of(model))), columns


def columns_of(folder: Path, pipeline: Pipeline, model: Model, way_out: str) -> tuple[int, ...]:
    """Which columns a model takes; raises ModelRefused when its file says others. Nothing is loaded.

    Loading finds other features too, but a child process would say it in LightGBM's words.
    """
    features = pipeline.features_of(model)
    if model.kind is Kind.LIGHTGBM:
        found = FEATURE_NAMES(open_artifact(folder, model))
        own = found[1].decode(errors="replace").split() if found else features
        check_names(model, own, features, way_out)
    names = [*(feature.name for feature in pipeline.features), *model.needed_features]
    return tuple(names.index(name) for name in features)


def changed_models(folder: Path, base: Pipeline, other_folder: Path, other: Pipeline) -> list[Model]:
    """Models of `other` whose scores the archive of `base` cannot hold: new, or other in file, code or features.

    So are those that need the score of one that is changed.
    """
    changed = {
        model.name
        for model in other.models
        if model.role is not Role.DECOY and not _same(folder, base, other_folder, other, model)
    }
    for _ in other.models:
        changed |= {model.name for model in other.models if changed.intersection(model.needs)}
    return [model for model in other.models if model.name in changed]


def _same(folder: Path, base: Pipeline, other_folder: Path, other: Pipeline, model: Model) -> bool:
    try:
        old = base.model(model.name)
    except KeyError:
        return False
    own = {feature.name: feature for feature in base.features}
    new = {feature.name: feature for feature in other.features}
    given = other.features_of(model)
    if base.features_of(old) != given or any(own.get(name) != new.get(name) for name in given):
        return False
    form = ("version", "kind", "needs", "callable", "takes", "url", "output", "column", "value", "prepare")
    if any(getattr(old, name) != getattr(model, name) for name in form):
        return False
    return not model.artifact or open_artifact(folder, old) == open_artifact(other_folder, model)
