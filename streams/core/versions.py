"""The files that a model has had, by the roster: what a second look at the same input can be taken with.

A model of one name may come back with another file once it was retired; then both versions can be asked the same.
"""

from collections.abc import Iterable

from msgspec import Struct

from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline, Role
from schemas.roster import Began, Moved, Noted, model_of
from schemas.verdicts import Verdict, Word


class Version(Struct, frozen=True):
    """A model as it was: its version, and its file as the pipeline file would name it."""

    version: str
    artifact: str


def last_two(
    model: str, records: Iterable[Began | Moved | Noted], pipeline: Pipeline
) -> tuple[Version, Version] | None:
    """The file before the last one, and the last one, of a model's name; None when there was only one.

    The pipeline is that of its file, with which the roster began.
    """
    found: list[Version] = []
    given = [one for one in pipeline.models if one.name == model]
    for one in (*given, *_defined(model, records)):
        if one.artifact and (not found or found[-1].artifact != one.artifact):
            found.append(Version(one.version, one.artifact))
    return (found[-2], found[-1]) if len(found) > 1 else None


def _defined(model: str, records: Iterable[Began | Moved | Noted]) -> Iterable[Model]:
    for record in records:
        if isinstance(record, Moved) and record.model == model and record.definition is not None:
            try:
                yield model_of(record.definition, Role.SHADOW)
            except UnreadableRecord:  # of another program; a roster that is read has none
                continue


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
