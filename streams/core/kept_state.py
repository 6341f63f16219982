"""A state of the core as bytes, and back: for a process that is to go on where it was.

Values, numpy's arrays and objects of the classes that are allowed, by name; what is shared in memory is shared again.
Reading makes such objects and runs no other code. Whoever reads says by which source the state was written: one of
another program would be objects with other fields.
"""

from collections import Counter, deque
from collections.abc import Sequence
from enum import Enum
from importlib import import_module
from typing import Any

import numpy as np
from msgspec import Struct, msgpack

from schemas.errors import UNREADABLE, UnreadableRecord

PLAIN = (type(None), bool, int, float, str, bytes)
LEAST, MOST = -(1 << 63), (1 << 64) - 1
"""Integers that MessagePack has; a field of somebody's event may hold any."""
SHARED = (Struct, np.ndarray, dict, list, deque, set)


def encode_state(state: Any, modules: Sequence[str]) -> bytes:
    """A tree of objects; raises TypeError for one whose class is in none of these modules, or below them."""
    return msgpack.encode(_Writer(modules).of(state))


def decode_state(value: bytes, modules: Sequence[str]) -> Any:
    """What `encode_state` was given; raises UnreadableRecord when it is none of ours."""
    try:
        return _Reader(modules).of(msgpack.decode(value))
    except (*UNREADABLE, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError) as error:
        raise UnreadableRecord(f"no state of this program: {error}") from error


class _Writer:
    """Every value as it is, or as [kind, ...]."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._names: dict[type, str] = {}
        self._places: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is an object's own only as long as it lives

    def of(self, value: Any) -> Any:
        kind = type(value)
        if kind is int and not LEAST <= value <= MOST:
            return ["int", hex(value)]
        if kind in PLAIN:
            return value
        if isinstance(value, Enum):
            return ["enum", self._name(kind), value.value]
        if kind is tuple:
            return ["tuple", *map(self.of, value)]
        if kind is frozenset:
            return ["frozenset", *map(self.of, value)]
        if kind is slice:
            return ["slice", value.start, value.stop, value.step]
        if isinstance(value, np.generic):
            return ["number", value.dtype.str, value.tobytes()]
        if id(value) in self._places:
            return ["again", self._places[id(value)]]
        found = self._made(value, kind)
        # Numbered when it is complete, as it is read: inner ones come first.
        self._places[id(value)] = len(self._alive)
        self._alive.append(value)
        return found

    def _made(self, value: Any, kind: type) -> list[Any]:
        if kind is np.ndarray:
            if value.dtype.hasobject:
                raise TypeError(f"an array of {value.dtype} cannot be kept")
            return ["array", value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        if kind is list:
            return ["list", *map(self.of, value)]
        if kind is set:
            return ["set", *map(self.of, value)]
        if kind is deque:
            return ["deque", value.maxlen, *map(self.of, value)]
        if kind in (dict, Counter):
            return [kind.__name__, *([self.of(key), self.of(one)] for key, one in value.items())]
        named = self._name(kind)
        if isinstance(value, Struct):
            return ["struct", named, {name: self.of(getattr(value, name)) for name in value.__struct_fields__}]
        return ["object", named, {name: self.of(one) for name, one in _attributes(value).items()}]

    def _name(self, kind: type) -> str:
        """A state has many objects and few classes."""
        if (named := self._names.get(kind)) is None:
            if not _allowed(kind.__module__, self._modules):
                raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be kept")
            named = self._names[kind] = f"{kind.__module__}:{kind.__qualname__}"
        return named


class _Reader:
    """The other way."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._seen: list[Any] = []

    def of(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        kind, *rest = value
        match kind:
            case "enum":
                return self._class(rest[0])(rest[1])
            case "tuple":
                return tuple(map(self.of, rest))
            case "frozenset":
                return frozenset(map(self.of, rest))
            case "slice":
                return slice(*rest)
            case "number":
                return np.frombuffer(rest[1], np.dtype(rest[0]))[0]
            case "again":
                return self._seen[rest[0]]
            case "int":
                return int(rest[0], 16)
        found = self._made(kind, rest)
        self._seen.append(found)
        return found

    def _made(self, kind: str, rest: list[Any]) -> Any:
        match kind:
            case "array":
                return np.frombuffer(rest[2], np.dtype(rest[0])).reshape(rest[1]).copy()
            case "list":
                return list(map(self.of, rest))
            case "set":
                return set(map(self.of, rest))
            case "deque":
                return deque(map(self.of, rest[1:]), maxlen=rest[0])
            case "dict" | "Counter":
                pairs = {self.of(key): self.of(one) for key, one in rest}
                return Counter(pairs) if kind == "Counter" else pairs
            case "struct":
                return self._class(rest[0])(**{name: self.of(one) for name, one in rest[1].items()})
            case "object":
                made = object.__new__(self._class(rest[0]))
                for name, one in rest[1].items():
                    object.__setattr__(made, name, self.of(one))
                return made
        raise ValueError(f"{kind!r} is no kind of value")

    def _class(self, named: str) -> Any:
        module, _, name = named.partition(":")
        if not _allowed(module, self._modules):
            raise ValueError(f"{named} is not allowed")
        found = getattr(import_module(module), name)
        if not isinstance(found, type) or found.__module__ != module:
            raise ValueError(f"{named} is no class of that module")
        return found


def _attributes(value: Any) -> dict[str, Any]:
    if hasattr(value, "__dict__"):
        return dict(value.__dict__)
    return {name: getattr(value, name) for name in type(value).__slots__}


def _allowed(module: str, modules: Sequence[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in modules)
