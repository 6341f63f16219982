"""Which moves of the roster are deploys: a model comes or goes, a version takes over, or another model answers first.

Everything else (who is a challenger now, who was displaced or is passed over for a while) changes no score, and is
not why scores changed.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from schemas.pipeline import Pipeline, Role
from schemas.roster import Began, Moved, Noted, State
from streams.core.latest import Latest

PREPARING = (State.STAGED, State.WARMING)
"""States in which nothing is asked of a model yet."""


class Standing(Struct, frozen=True):
    """The version that stands for each name, by name, and whoever was the champion last."""

    versions: Mapping[str, str] = {}
    champion: str = ""


class Change(Struct, frozen=True):
    """One deploy but for another version of a name, which each watch knows by its versions."""

    model: str
    before: str
    after: str


def changes_who_is_asked(record: Began | Moved | Noted) -> bool:
    """Whether others are asked than before, or in another role, from when this record of the history counts."""
    return isinstance(record, Moved) and record.after not in PREPARING


def standing(pipeline: Pipeline, before: Standing) -> Standing:
    """How things stand with these models. While the champion is passed over it is still the champion."""
    now = _now.of(pipeline)
    return now if now.champion else Standing(now.versions, before.champion)


def _of(pipeline: Pipeline) -> Standing:
    versions = {model.name: model.version for model in pipeline.models if model.role is not Role.DECOY}
    return Standing(versions, next((model.name for model in pipeline.models if model.role is Role.CHAMPION), ""))


_now = Latest(_of)


def changes(before: Standing, now: Standing) -> Iterator[Change]:
    """What was deployed between the two; nothing before the first."""
    if not before.versions or before == now:
        return
    for name in sorted(now.versions.keys() - before.versions.keys()):
        yield Change(name, "new", now.versions[name])
    for name in sorted(before.versions.keys() - now.versions.keys()):
        yield Change(name, before.versions[name], "gone")
    if now.champion != before.champion:
        yield Change(now.champion, f"{before.champion}'s place", f"champion ({now.versions[now.champion]})")
