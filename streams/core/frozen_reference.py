"""The frozen reference of a pipeline: which window of the past live requests are held against, set by whom, and when.

It is a person's word, never moved by a program: a reference that follows the data finds no slow change.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

LEAST_REQUESTS = 2_000
"""A watch needs so many."""


class FrozenReference(Struct, frozen=True, kw_only=True):
    """Requests decided from `since_ms` up to before `until_ms`, by log time; `models`: the versions that scored."""

    format: int = 1
    pipeline: str
    since_ms: int
    until_ms: int
    set_at_ms: int
    by: str
    why: str = ""
    requests: int
    models: dict[str, str]
    features: list[str] = []


def misfits(
    found: FrozenReference,
    models: Mapping[str, str],
    held_ms: tuple[int, int] | None,
    features: Sequence[str] = (),
) -> list[str]:
    """Why it no longer fits: `models` are those of now, {name: version}; `held_ms` the times the archive holds.

    `features` are those of now; where either side does not name them they are not compared.
    """
    why = [
        f"model {name} is {version} now, and was {found.models[name]} in it"
        for name, version in models.items()
        if name in found.models and found.models[name] != version
    ]
    why += [f"model {name} did not score in it" for name in models if name not in found.models]
    why += [f"model {name} scored in it and is gone" for name in found.models if name not in models]
    if found.features and features and set(found.features) != set(features):
        other = sorted(set(found.features) ^ set(features))
        why.append(f"the features differ: {', '.join(other)}")
    if held_ms is None or held_ms[0] > found.since_ms:  # an archive loses its old end only
        why.append("the archive does not hold all of it any more")
    return why
