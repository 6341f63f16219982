"""JSON objects as one msgspec type each, built once: checked and decoded in one pass; what nobody names is skipped.

The raw event and the records of tables are read by it alike, so that a feature means the same in both.
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, defstruct

from schemas.pipeline import Feature, FeatureType

MAX_DEPTH = 16
MAX_NUMBER = 1e15
"""Beyond it a float64 no longer holds every integer; no measurement is that large."""

Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]

Fields = dict[tuple[str, ...], tuple[Any, Any]]
"""By its path: a field's type and its default (`...`: it is required)."""


class Unfit(Exception):
    """Why bytes are no JSON object of any shape: a short name, and a sentence."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


def field_of(feature: Feature) -> tuple[Any, Any]:
    """Type and default of a feature in the event type; with a default, null is absent."""
    kinds: dict[FeatureType, Any] = {FeatureType.NUMBER: Number, FeatureType.BOOLEAN: bool}
    if feature.default is not None:
        return kinds.get(feature.type, str) | None, None
    if feature.type is FeatureType.CATEGORY:
        return Literal[feature.vocabulary], ...
    return kinds[feature.type], ...


def event_type(fields: Fields) -> type[Struct]:
    """One msgspec type for (nested) paths; attributes are numbered, because a key may be any text."""
    nested: dict[str, Fields] = {}
    own: dict[str, tuple[Any, Any]] = {}
    for parts, field in fields.items():
        if len(parts) == 1:
            own[parts[0]] = field
        else:
            nested.setdefault(parts[0], {})[parts[1:]] = field
    for key, inner in nested.items():
        inner_type = event_type(inner)
        optional = all(default is None for _, default in inner.values())
        own[key] = (inner_type, inner_type()) if optional else (inner_type, ...)
    names = {key: attribute(key) for key in own}
    members: list[Any] = [
        (names[key], kind) if default is ... else (names[key], kind, default) for key, (kind, default) in own.items()
    ]
    return defstruct(
        "Event",
        members,
        rename={name: key for key, name in names.items()},
        kw_only=True,
        frozen=True,
        gc=False,
    )


def attribute(key: str) -> str:
    """The attribute that holds a JSON key: any text, made an identifier."""
    return "f_" + key.encode().hex()


def getter(parts: Sequence[str]) -> Any:
    """What reads the field at a path from a decoded event."""
    return attrgetter(".".join(map(attribute, parts)))


def all_of(paths: Sequence[Sequence[str]]) -> Callable[[Any], tuple[Any, ...]]:
    """What reads the fields at these paths, in their order."""
    names = [".".join(map(attribute, parts)) for parts in paths]
    if len(names) > 1:
        return attrgetter(*names)  # one call for all: half the time of one for each
    one_by_one = list(map(attrgetter, names))
    return lambda event: tuple(get(event) for get in one_by_one)


def check_form(value: bytes) -> None:
    """Raise Unfit for what msgspec takes and nobody else may: text that is not UTF-8, and endless nesting."""
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise Unfit("utf-8", f"byte {error.start} is not UTF-8") from error
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        _check_depth(value)


def _check_depth(value: bytes) -> None:
    """Walk the brackets outside strings; only records with many brackets come here."""
    depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', value):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Unfit("depth", f"nested deeper than {MAX_DEPTH} at byte {token.start()}")
        elif first in b"]}":
            depth -= 1


def plain(error: DecodeError | RecursionError) -> str:
    """Msgspec's message, its `$.a.b` turned into the field's name in front."""
    message = str(error)
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    before, at, path = message.partition(" - at `$")
    return f"{path.strip('.`')}: {before}" if at else message
