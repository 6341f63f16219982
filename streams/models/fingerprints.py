"""Fingerprints as files beside their models: `MODEL.txt.fingerprint.json`, whole or not at all."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import ValidationError, json
from msgspec.structs import replace

from schemas.errors import UNREADABLE, ConfigurationRefused
from schemas.pipeline import Model, Pipeline
from schemas.verdicts import NotMadeAsTrained
from streams.core.fingerprint import Difference, Fingerprint, prints_of, software_differences
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.software import software
from streams.state_file import write_atomically

FORMAT = 1
SUFFIX = ".fingerprint.json"
INSTEAD = "write it with `rendezvous fingerprint MODEL --events FILE`, where the model was trained"


def place_of(folder: Path, model: Model) -> Path:
    """The file of a model's fingerprint; raises ConfigurationRefused for a model without a file of its own."""
    if not model.artifact:
        raise ConfigurationRefused(
            f"model {model.name} has no file (kind {model.kind}), so nothing to keep a fingerprint beside; "
            "name a model with an artifact"
        )
    return folder / f"{model.artifact}{SUFFIX}"


def as_it_is(folder: Path, pipeline: Pipeline, model: Model) -> Fingerprint:
    """The model and the software as they are here and now, without any rows; raises ModelRefused for its file."""
    features = {feature.name: feature for feature in pipeline.features}
    return Fingerprint(
        format=FORMAT,
        pipeline=pipeline.name,
        model=model.name,
        version=model.version,
        sha256=sum_of(open_artifact(folder, model)) if model.artifact else "",
        made_at_ms=int(time.time() * 1e3),
        source="",
        rows=0,
        software=software(model.kind),
        features=[features[name] for name in pipeline.own_features_of(model)],
        fields=[],
    )


def fingerprint_of(
    folder: Path, pipeline: Pipeline, model: Model, events: Iterable[object], source: str | Callable[[], str]
) -> Fingerprint:
    """The fingerprint of a model that was trained on these decoded events, which are read once, and not kept.

    `source` may be asked for when all of them were read.
    """
    bare = as_it_is(folder, pipeline, model)
    rows = 0

    def counted() -> Iterator[object]:
        nonlocal rows
        for event in events:
            rows += 1
            yield event

    fields = prints_of(bare.features, counted())
    return replace(bare, source=source if isinstance(source, str) else source(), rows=rows, fields=fields)


def write_fingerprint(folder: Path, model: Model, found: Fingerprint) -> Path:
    """Put it beside the model; returns where."""
    path = place_of(folder, model)
    write_atomically(path, json.format(json.encode(found), indent=1) + b"\n")
    return path


def fingerprints_of(folder: Path, pipeline: Pipeline) -> tuple[dict[str, Fingerprint], list[str]]:
    """Those that lie beside the models of a pipeline, by model, and why one that lies there is not taken."""
    found: dict[str, Fingerprint] = {}
    why: list[str] = []
    for model in pipeline.models:
        if model.artifact and place_of(folder, model).exists():
            try:
                one = read_fingerprint(folder, model)
            except ConfigurationRefused as error:
                why.append(str(error))
                continue
            if one.version == model.version:
                found[model.name] = one
            else:
                other = f"of version {one.version}, and {model.name} is {model.version}"
                why.append(f"{place_of(folder, model)}: {other}; {INSTEAD}")
    return found, why


def unlike_training(folder: Path, pipeline: Pipeline, prints: Mapping[str, Fingerprint]) -> list[NotMadeAsTrained]:
    """What is not as in training of software, files and features, as they are here and now; each with its models."""
    models: dict[Difference, list[str]] = {}
    for name, then in prints.items():
        for one in _differences(folder, pipeline, name, then):
            models.setdefault(one, []).append(name)
    return [NotMadeAsTrained(one.what, found, one.training, one.production) for one, found in models.items()]


def _differences(folder: Path, pipeline: Pipeline, name: str, then: Fingerprint) -> list[Difference]:
    try:
        return software_differences(then, as_it_is(folder, pipeline, pipeline.model(name)))
    except ModelRefused as error:
        return [Difference(what="the file", training=f"sha256 {then.sha256}", production=str(error))]


def marks_of(folder: Path, pipeline: Pipeline) -> list[tuple[str, int, int]]:
    """Age and size of each model's file and fingerprint that are there: another one has another mark."""
    own = [model for model in pipeline.models if model.artifact]
    paths = [path for model in own for path in (folder / model.artifact, place_of(folder, model))]
    found = [(path, path.stat()) for path in paths if path.exists()]
    return [(str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found]


def read_fingerprint(folder: Path, model: Model) -> Fingerprint:
    """The one beside a model; raises ConfigurationRefused that says what is wrong with it."""
    path = place_of(folder, model)
    try:
        found = json.decode(path.read_bytes(), type=Fingerprint)
    except OSError as error:
        raise ConfigurationRefused(f"{path}: {error.strerror}: no fingerprint; {INSTEAD}") from error
    except (*UNREADABLE, ValidationError) as error:
        raise ConfigurationRefused(f"{path}: no fingerprint: {error}; {INSTEAD}") from error
    if found.format != FORMAT:
        raise ConfigurationRefused(f"{path}: a fingerprint of format {found.format}, and {FORMAT} is read; {INSTEAD}")
    return found
