"""The pipeline file: TOML in, a `Pipeline` out, or every mistake at once.

Each mistake names the file, the key, what is wrong and what to write instead.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from streams.core.mistakes import Mistake
from streams.core.pipeline_checks import mistakes_of

Shape = TypeVar("Shape", bound=msgspec.Struct)


def load(path: Path) -> Pipeline:
    """Read one pipeline file; raises ConfigurationRefused with all its mistakes."""
    pipeline = read_as(path, Pipeline)
    refuse(path, mistakes_of(pipeline))
    return pipeline


def read_as(path: Path, shape: type[Shape]) -> Shape:
    """Read a TOML file of this shape; raises ConfigurationRefused with every key that does not fit."""
    table = _table(path)
    refuse(path, _shape_mistakes(table, shape, ""))
    return msgspec.convert(table, shape)


def refuse(path: Path, mistakes: Sequence[Mistake]) -> None:
    """Raise ConfigurationRefused for the mistakes of a file, if there are any."""
    if mistakes:
        raise ConfigurationRefused("\n".join(f"{path}: {mistake}" for mistake in mistakes))


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationRefused(f"{path}: {error.strerror}; name a pipeline file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationRefused(f"{path}: no TOML: {error}") from error


def _shape_mistakes(value: object, kind: Any, where: str) -> list[Mistake]:
    """Unknown and missing keys and wrong types, down to the leaves, all of them."""
    if isinstance(kind, UnionType):  # a table that may be left out
        kind = next((one for one in get_args(kind) if _is_table(one)), kind)
    if _is_table(kind):
        return _table_mistakes(value, kind, where)
    if get_origin(kind) is tuple and isinstance(value, list):
        inner = get_args(kind)[0]
        found = [_shape_mistakes(item, inner, f"{where}[{place}]") for place, item in enumerate(value)]
        return [mistake for part in found for mistake in part]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [Mistake(where, str(error).replace("`", "'"), f"write {_form(kind)}")]
    return []


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _table_mistakes(value: object, kind: type[msgspec.Struct], where: str) -> list[Mistake]:
    if not isinstance(value, Mapping):
        return [Mistake(where, f"is {value!r}, not a table", "write it as a [table] with keys")]
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    prefix = f"{where}." if where else ""
    mistakes = []
    for key, inner in value.items():
        if key in fields:
            mistakes += _shape_mistakes(inner, fields[key].type, prefix + key)
        else:
            near = difflib.get_close_matches(key, fields, 1)
            instead = f"write {near[0]}" if near else f"the keys here are {', '.join(fields)}"
            mistakes.append(Mistake(prefix + key, "unknown key", instead))
    mistakes += [
        Mistake(prefix + name, "missing", f"write {name} = {_form(field.type)}")
        for name, field in fields.items()
        if field.required and name not in value
    ]
    return mistakes


def _form(kind: Any) -> str:
    """What a value of this type looks like in TOML."""
    if hasattr(kind, "__members__"):
        return " or ".join(f'"{member.value}"' for member in kind)
    words = [argument for argument in get_args(kind) if isinstance(argument, str)]
    if words:
        return " or ".join(f'"{word}"' for word in words)
    forms = {str: '"text"', int: "a whole number", float: "a number", bool: "true or false"}
    if kind in forms:
        return forms[kind]
    if get_origin(kind) is tuple:
        return f"[{_form(get_args(kind)[0])}, ...]"
    inner = [forms[argument] for argument in get_args(kind) if argument in forms]
    return " or ".join(inner) or "a table"
