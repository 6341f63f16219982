"""What a model was trained on: how each field lay, which features it takes, which software; and what differs now.

A fingerprint is written beside the model when it is trained. Production is held against it with the same measures as
then against now (`streams.core.shifts`): shares of requests, and what chance alone gives.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.pipeline import Feature, FeatureType
from streams.core.event_fields import OTHERS, as_number, as_word, value_at
from streams.core.passing_values import Numbers, Words
from streams.core.shifts import Shift, chance_of_numbers, largest_difference, of_counts

LEVELS = 501
"""Quantiles kept of a number: its distribution function is known to 1 in 500."""

MOST_WORDS = 2_000
LEAST_EFFECT = 0.1
"""Share of requests from which a field is said to differ: chance knows nothing of days that differ."""

Floats = NDArray[np.float64]


class FieldPrint(Struct, frozen=True, kw_only=True):
    """How one field lay: `levels` are the quantiles of its numbers, else `words` says how often each word stood.

    `there` of the fingerprint's rows had a value.
    """

    name: str
    there: int
    levels: list[float] = []
    words: dict[str, int] = {}


class Software(Struct, frozen=True, kw_only=True):
    """What scores were computed with."""

    python: str
    libraries: dict[str, str]


class Fingerprint(Struct, frozen=True, kw_only=True):
    """One model's training. `source` says in words where the rows came from; `features` are in the model's order."""

    format: int = 1
    pipeline: str
    model: str
    version: str
    sha256: str
    made_at_ms: int
    source: str
    rows: int
    software: Software
    features: list[Feature]
    fields: list[FieldPrint]


class Difference(Struct, frozen=True, kw_only=True):
    """One thing that is not as it was in training."""

    what: str
    training: str
    production: str


def prints_of(features: Sequence[Feature], events: Iterable[object]) -> list[FieldPrint]:
    """How the fields of these decoded events lie, which are read once and not kept; a derived feature is no field."""
    fields = [(feature, _passing(feature)) for feature in features if not feature.derive]
    for event in events:
        for feature, values in fields:
            value = value_at(event, feature.parts)
            if isinstance(values, Numbers):
                number = as_number(value)
                if number == number:  # noqa: PLR0124  (it is one)
                    values.take(number)
            elif (word := as_word(value)) is not None:
                values.take(word)
    return [_print(feature.name, values) for feature, values in fields]


def _passing(feature: Feature) -> Numbers | Words:
    return Numbers() if feature.type is FeatureType.NUMBER else Words()


def _print(name: str, values: Numbers | Words) -> FieldPrint:
    if isinstance(values, Numbers):
        return FieldPrint(name=name, there=values.count, levels=values.levels(LEVELS))
    words, rest = values.frequent(MOST_WORDS)
    if rest:
        words[OTHERS] = rest
    return FieldPrint(name=name, there=values.count, words=words)


def shifts_since(then: Fingerprint, events: Sequence[object]) -> list[Shift]:
    """Each field of the training against these decoded events, the largest effect first."""
    prints = {one.name: one for one in then.fields}
    found = [
        shift_of(prints[feature.name], feature.type, then.rows, [value_at(event, feature.parts) for event in events])
        for feature in then.features
        if feature.name in prints
    ]
    return sorted(found, key=lambda shift: (-shift.effect, shift.name))


def shift_of(one: FieldPrint, kind: FeatureType, rows: int, values: Sequence[object]) -> Shift:
    """One field of a training of `rows` against these values of now."""
    if kind is not FeatureType.NUMBER:
        words = Counter(word for value in values if (word := as_word(value)) is not None)
        if OTHERS in one.words:
            words = Counter({word: count for word, count in words.items() if word in one.words}) + Counter(
                {OTHERS: sum(count for word, count in words.items() if word not in one.words)}
            )
        return of_counts(one.name, Counter(one.words), words, (rows, len(values)))
    now = np.array([as_number(value) for value in values], float)
    there = now[~np.isnan(now)]
    levels = np.array(one.levels, float)
    counts = (one.there, len(there)) if len(there) else (rows, len(now))  # all gone: as many as there might be
    absent = _share(rows - one.there, rows), _share(len(now) - len(there), len(now))
    return Shift(
        name=one.name,
        kind="number",
        effect=round(max(largest_difference(levels, there), abs(absent[0] - absent[1])), 6),
        chance=round(chance_of_numbers(*counts) + (1 / (LEVELS - 1) if len(levels) else 0.0), 6),
        word="",
        then=float(np.median(levels)) if len(levels) else None,
        now=float(np.median(there)) if len(there) else None,
        absent_then=absent[0],
        absent_now=absent[1],
    )


def _share(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0


def differs(shift: Shift) -> bool:
    """Whether a field is not as in training: beyond chance, and by a share of requests that matters."""
    return shift.beyond_chance and shift.effect >= LEAST_EFFECT


def software_differences(then: Fingerprint, now: Fingerprint) -> list[Difference]:
    """What is not as it was, of versions, of the file and of the features; `now` has no rows of its own."""
    pairs = [
        ("version", then.version, now.version),
        ("sha256 of the file", then.sha256, now.sha256),
        ("Python", then.software.python, now.software.python),
        *_libraries(then.software.libraries, now.software.libraries),
        *_features(then.features, now.features),
    ]
    return [Difference(what=what, training=one, production=other) for what, one, other in pairs if one != other]


def _libraries(then: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(name, version, now.get(name, "not installed")) for name, version in sorted(then.items())]


def _features(then: Sequence[Feature], now: Sequence[Feature]) -> list[tuple[str, str, str]]:
    one, other = {feature.name: feature for feature in then}, {feature.name: feature for feature in now}
    found = [("features, in order", ", ".join(one), ", ".join(other))]
    for name in one.keys() & other.keys():
        for key in ("type", "path", "vocabulary", "default", "derive"):
            found.append((f"feature {name}: {key}", _text(one[name], key), _text(other[name], key)))
    return sorted(found)


def _text(feature: Feature, key: str) -> str:
    value = getattr(feature, key)
    return ", ".join(value) if isinstance(value, tuple) else "none" if value in (None, "") else str(value)
