"""What one [[models]] table must fulfil, by its kind: pure checks, each with its remedy."""

import math
import re
from collections.abc import Iterator

from msgspec.structs import fields

from schemas.pipeline import SCORE_OF, Kind, Model
from streams.core.mistakes import CALLABLE, NAME, Mistake, doubles

NEEDED = {
    Kind.LIGHTGBM: ("artifact", "sha256"),
    Kind.ONNX: ("artifact", "sha256"),
    Kind.PYTHON: ("callable",),
    Kind.HTTP: ("url",),
    Kind.EXTERNAL: (),
    Kind.CONSTANT: ("value",),
}
ALLOWED = {
    Kind.ONNX: ("output", "column"),
    Kind.PYTHON: ("artifact", "sha256", "takes"),
    Kind.HTTP: ("timeout_ms", "output", "column"),
    Kind.EXTERNAL: ("takes",),
}
OF_A_KIND = {name for names in (*NEEDED.values(), *ALLOWED.values()) for name in names}
DEFAULTS = {field.name: field.default for field in fields(Model)}
URL = re.compile(r"https?://[^\s/@?#]+(/[^\s/@?#]+)*/v2/models/[^\s/@?#]+(/versions/[^\s/@?#]+)?/infer").fullmatch
MAX_TIMEOUT_MS = 10_000
"""Far under the time after which a process without progress is started again."""

MIN_MEMORY_MB = 128
"""A scorer with an empty model takes some 90 MB."""
MAX_NICE, MAX_THREADS = 19, 1024


def model_mistakes(key: str, model: Model, known: set[str]) -> Iterator[Mistake]:
    """Every contradiction in one model; `known` are the pipeline's features."""
    if not NAME(model.name):
        yield Mistake(f"{key}.name", f"{model.name!r} cannot end a topic's name", "use a-z 0-9 and -, at most 63")
    if not model.version.strip() or not model.version.isprintable() or len(model.version) > 128:
        yield Mistake(f"{key}.version", f"{model.version!r} says nothing", 'write a version, as "2013-06"')
    for feature in model.features:
        if feature not in known and not feature.endswith(SCORE_OF):  # what may be of scores: `needs_checks`
            yield Mistake(f"{key}.features", f"{feature!r} is not declared", "declare it under [[features]]")
    yield from doubles(f"{key}.features", model.features)
    if model.prepare and not CALLABLE(model.prepare):
        yield Mistake(f"{key}.prepare", f"{model.prepare!r} is no callable", 'write "module:function"')
    yield from _keys(key, model)
    if model.callable and not CALLABLE(model.callable):
        yield Mistake(f"{key}.callable", f"{model.callable!r} is no callable", 'write "module:function"')
    if model.value is not None and not math.isfinite(model.value):
        yield Mistake(f"{key}.value", "not finite", "write a number")
    if model.url and not URL(model.url):
        wrong = "no address of an inference endpoint, without a user or a query"
        yield Mistake(f"{key}.url", wrong, 'write "http://host:8000/v2/models/<name>/infer"')
    if not 1 <= model.timeout_ms <= MAX_TIMEOUT_MS:
        yield Mistake(f"{key}.timeout_ms", f"{model.timeout_ms} is out of bounds", f"write 1 to {MAX_TIMEOUT_MS}")
    if model.column is not None and model.column < 0:
        yield Mistake(f"{key}.column", f"{model.column} is no column", "write 0 for the first")


def resource_mistakes(key: str, model: Model, partitions: int) -> Iterator[Mistake]:
    """What it may not take of its machine."""
    if model.memory_mb and model.memory_mb < MIN_MEMORY_MB:
        wrong = f"{model.memory_mb} MB is less than an empty scorer takes"
        yield Mistake(f"{key}.memory_mb", wrong, f"write {MIN_MEMORY_MB} or more, or 0 for no limit")
    if not 0 <= model.nice <= MAX_NICE:
        yield Mistake(f"{key}.nice", f"{model.nice} is impossible", f"write 0 to {MAX_NICE}")
    if not 1 <= model.threads <= MAX_THREADS:
        yield Mistake(f"{key}.threads", f"{model.threads} is impossible", "write 1, or as many as help")
    if model.instances < 1:
        yield Mistake(f"{key}.instances", f"{model.instances} is impossible", "write 1, or more to share partitions")
    elif model.instances > partitions:
        yield Mistake(
            f"{key}.instances",
            f"{model.instances} processes cannot share {partitions} partition{'s' * (partitions != 1)}",
            f"write partitions = {model.instances}, or instances = {partitions}",
        )


def _keys(key: str, model: Model) -> Iterator[Mistake]:
    """Keys that its kind needs, and those that have no meaning for it."""
    needed = NEEDED[model.kind]
    given = {name for name in OF_A_KIND if getattr(model, name) != DEFAULTS[name]}
    for name in needed:
        if name not in given:
            yield Mistake(f"{key}.{name}", f"missing for kind {model.kind}", f"write {name}")
    for name in sorted(given - {*needed, *ALLOWED.get(model.kind, ())}):
        yield Mistake(f"{key}.{name}", f"has no meaning for kind {model.kind}", "remove it")
    if model.kind is Kind.PYTHON and ("artifact" in given) != ("sha256" in given):
        lacking = "sha256" if "artifact" in given else "artifact"
        yield Mistake(f"{key}.{lacking}", "missing: a class's file has both", f"write {lacking}")
    if model.kind is Kind.EXTERNAL and model.takes == "frame":
        yield Mistake(f"{key}.takes", "a frame is for Python", 'write "matrix" or "events"')
    if model.prepare and (model.kind is Kind.EXTERNAL or model.takes == "events"):
        yield Mistake(f"{key}.prepare", "is over the matrix, which this model is not given", "remove it")
