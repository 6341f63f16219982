"""The files of a model before and after a takeover: what a second look at the same input can be taken with.

Only of versions that answered under that name, one after the other, near where the trouble began: two files that
differ always score differently, and what was deployed long ago, or never, is no cause.
"""

from msgspec import Struct

from schemas.pipeline import Kind, Pipeline, Role
from schemas.verdicts import Verdict, Word
from streams.core.entitlement import Spans


class Version(Struct, frozen=True):
    """A model as it was: its version, and its file as the pipeline file would name it."""

    version: str
    artifact: str


def files_of(model: str, versions: tuple[str, str], spans: Spans) -> tuple[Version, Version] | None:
    """The files of two versions of a name, each as it was entitled; None without two different ones.

    Of LightGBM's, which is what a file is taken for that is tried in another's place.
    """
    found: dict[str, Version] = {}
    for span in spans.spans:
        for one in span.pipeline.models:
            if one.name == model and one.artifact and one.kind == Kind.LIGHTGBM:
                found[one.version] = Version(one.version, one.artifact)
    old, new = (found.get(version) for version in versions)
    return (old, new) if old and new and old.artifact != new.artifact else None


def suspected(verdict: Verdict, pipeline: Pipeline) -> str | None:
    """The model whose versions are to be asked the same: the one that is named, or for new data the champion."""
    if verdict.verdict is Word.CODE and verdict.model in {model.name for model in pipeline.models}:
        return verdict.model
    if verdict.verdict is Word.DATA:
        return next((model.name for model in pipeline.models if model.role is Role.CHAMPION), None)
    return None


class Replay(Struct, frozen=True):
    """What `rendezvous diff --json` finds, so far as it is told on."""

    class Found(Struct, frozen=True):
        """Rows that were asked, that differ, that one refused; the largest difference; the order's correlation."""

        rows: int
        differ: int
        refused: int
        largest: float
        order: float | None

    input: str
    found: Found


def sentence(model: str, old: Version, new: Version, told: Replay) -> str:
    """What the replay proves, with its figures."""
    found, both = told.found, f"{model} {old.version} ({old.artifact}) and {new.version} ({new.artifact})"
    if not found.differ and not found.refused:
        return f"same input, same score: {both} answer {found.rows:,} archived requests alike; {told.input}"
    order = "" if found.order is None else f", rank correlation {found.order:.3f}"
    return (
        f"same input, different score: {both} answer {found.differ + found.refused:,} of {found.rows:,} archived "
        f"requests otherwise, by up to {found.largest:.4g}{order}; {told.input}"
    )
