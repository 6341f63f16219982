"""What a watch is given: who the models are, and one event at a time, as it came from outside."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix

CANARY = "canary"
PLAIN = frozenset((float, int))
WHOLE = frozenset((float, int, type(None)))
LARGEST = 1e300


class Model(Struct, frozen=True):
    """One model as its pipeline calls it."""

    role: str = ""
    version: str = ""


class Setting(Struct, frozen=True):
    """Whose scores are watched, which raw fields, and how many events are the frozen reference.

    `segments` are those of the fields by whose values it is asked where a change lies.
    """

    models: dict[str, Model]
    reference_rows: int
    features: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()


class Event(Struct):
    """One request: raw fields, every model's score. Nothing in it is trusted; a probe has a key.

    `failed` are models that answered it with an error of their own: late, not asked or silent is none.
    """

    ts_ms: float
    features: dict[str, Any]
    scores: dict[str, Any]
    versions: dict[str, Any] | None = None
    latency_ms: Any = None
    probe: str | None = None
    failed: tuple[str, ...] = ()


def read_setting(given: object) -> Setting:
    """The first line of a file; raises ValueError that says what is wrong and what to write."""
    instead = 'write {"models": {NAME: {"role": ..., "version": ...}}, "reference_rows": N, "features": [...]}'
    if not isinstance(given, dict):
        raise ValueError(f"the first line is no JSON object: {instead}")  # noqa: TRY004 (one error for all mistakes)
    models, rows, features = given.get("models"), given.get("reference_rows"), given.get("features", [])
    segments = given.get("segments", [])
    if not isinstance(models, dict) or not models:
        raise ValueError(f"the first line names no models: {instead}")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        raise ValueError(f"reference_rows is {rows!r}, which is no number of events: {instead}")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise ValueError(f"features is no list of names: {instead}")
    if not isinstance(segments, list) or not all(name in features for name in segments):
        raise ValueError("segments is no list of names that features has, too: leave it out, or name some of them")
    named = {}
    for name, about in models.items():
        about = about if isinstance(about, dict) else {}  # noqa: PLW2901 (a model without a description is one)
        named[str(name)] = Model(str(about.get("role", "")), str(about.get("version", "")))
    return Setting(named, rows, tuple(dict.fromkeys(features)), tuple(dict.fromkeys(segments)))


def read_event(given: object) -> Event | str:
    """One event, or why it is none. A missing time is NaN: the watch takes the time before."""
    if not isinstance(given, dict):
        return "no JSON object"
    features, scores = given.get("features"), given.get("scores")
    if features is None and scores is None:
        return "neither features nor scores"
    if not all(part is None or isinstance(part, dict) for part in (features, scores)):
        return "features or scores are no object"
    at = given.get("ts_ms")
    at_ms = float("nan")
    if isinstance(at, int | float) and not isinstance(at, bool) and abs(at) < 1e15:
        at_ms = float(at)
    versions = given.get("versions")
    probe = given.get("probe")
    return Event(
        at_ms,
        features or {},
        scores or {},
        versions if isinstance(versions, dict) else None,
        given.get("latency_ms"),
        _key(probe, features or {}) if probe else None,
    )


def _key(probe: object, features: dict[str, Any]) -> str:
    """A probe is known by its own name, else by its input, which never changes."""
    if isinstance(probe, bool):
        return repr(sorted(features.items(), key=lambda pair: pair[0]))
    return str(probe)


def number(value: Any) -> float | None:
    """The finite number that this is, or None.

    >>> [number(value) for value in (2, 0.5, True, "2", None, float("inf"))]
    [2.0, 0.5, None, None, None, None]
    """
    return float(value) if type(value) in PLAIN and abs(value) < LARGEST else None


def columns(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Of each name its values, one a row; None where a row has none.

    Each row is asked for all names at once: its values lie together, and a block's do not all fit near the processor.

    >>> columns([{"a": 1, "b": 2}, {"b": 3}], ["a", "b"])
    [(1, None), (2, 3)]
    """
    if len(names) < 2:  # of one name an itemgetter makes no tuple
        return [tuple(row.get(name) for row in rows) for name in names]
    get, found = itemgetter(*names), []
    for row in rows:
        try:
            found.append(get(row))
        except KeyError:
            found.append(tuple(map(row.get, names)))
    return list(zip(*found, strict=True))


def matrix(given: Sequence[Sequence[Any]]) -> tuple[Matrix, list[int]]:
    """Columns of as many values each: their finite numbers (columns, rows), NaN elsewhere; and what `numbers` counts.

    >>> matrix([(1, None), (2, 3.5)])
    (array([[1. , nan],
           [2. , 3.5]]), [0, 0])
    """
    kinds = frozenset(map(type, chain.from_iterable(given)))
    if not given or not kinds <= WHOLE:
        return _column_by_column(given)
    try:
        found = np.array(given, np.float64)
    except OverflowError:
        return _column_by_column(given)
    bad = ~(np.abs(found) < LARGEST)
    if not bad.any():
        return found, [0] * len(given)
    found[bad] = np.nan
    odd: list[int] = bad.sum(1).tolist()
    if type(None) in kinds:
        odd = [count - column.count(None) for count, column in zip(odd, given, strict=True)]
    return found, odd


def _column_by_column(given: Sequence[Sequence[Any]]) -> tuple[Matrix, list[int]]:
    each = [numbers(column) for column in given]
    return np.array([found for found, _ in each]), [odd for _, odd in each]


def numbers(values: Sequence[Any]) -> tuple[Matrix, int]:
    """Finite numbers, NaN elsewhere; and how many values are there without being one (None is not there).

    >>> numbers([1, None, 1e308]), numbers([1, None, 1e308, "2"])
    ((array([ 1., nan, nan]), 1), (array([ 1., nan, nan, nan]), 2))
    """
    kinds = frozenset(map(type, values))
    if kinds <= WHOLE:
        try:
            found = np.array(values, np.float64)
        except OverflowError:
            return _one_by_one(values)
        bad = ~(np.abs(found) < LARGEST)  # as `number` has it
        if not bad.any():
            return found, 0
        found[bad] = np.nan
        return found, int(bad.sum()) - (values.count(None) if type(None) in kinds else 0)
    return _one_by_one(values)


def _one_by_one(values: Sequence[Any]) -> tuple[Matrix, int]:
    found = np.full(len(values), np.nan)
    odd = 0
    for place, value in enumerate(values):
        finite = number(value)
        if finite is not None:
            found[place] = finite
        elif value is not None:
            odd += 1
    return found, odd
