"""Requests -> the float64 matrix that models see, column by column.

Training calls the same code, so that a model is served what it was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec import json

from schemas.blocks import Matrix
from schemas.pipeline import Feature, FeatureType
from schemas.requests import Request
from streams.core.validator import attribute

Derivation = Callable[[dict[str, Any]], float]
"""`derive = "module:function"`: the whole event -> one number."""

Column = Callable[[Sequence[Any]], Sequence[float]]


class FeatureTable:
    """The pipeline's features as columns of a matrix, in the order of the file."""

    def __init__(self, features: tuple[Feature, ...], derivations: Mapping[str, Derivation] | None = None) -> None:
        self.names = tuple(feature.name for feature in features)
        self._width = len(features)
        self._derived = [
            (index, (derivations or {})[feature.name]) for index, feature in enumerate(features) if feature.derive
        ]
        plain = [(index, feature) for index, feature in enumerate(features) if not feature.derive]
        self._columns = [(index, _column(feature)) for index, feature in plain]
        self._getters = [attrgetter(".".join(map(attribute, feature.parts))) for _, feature in plain]

    def matrix(self, requests: Sequence[Request]) -> Matrix:
        """An n x F matrix for n requests. Raises what a derivation raises."""
        matrix: Matrix = np.empty((len(requests), self._width), dtype=np.float64)
        rows = [request.fields for request in requests]
        for (index, column), getter in zip(self._columns, self._getters, strict=True):
            matrix[:, index] = column(list(map(getter, rows)))
        if self._derived:
            events = [json.decode(request.value) for request in requests]
            for index, derive in self._derived:
                matrix[:, index] = [derive(event) for event in events]
        return matrix

    def indices(self, names: Sequence[str]) -> list[int]:
        """The columns of these features; ValueError when one is not the pipeline's."""
        return [self.names.index(name) for name in names]


def _column(feature: Feature) -> Column:
    if feature.type is FeatureType.CATEGORY:
        return _category(feature)
    if feature.default is None:
        return _as_they_are
    default = float(feature.default)
    return lambda values: [default if value is None else value for value in values]


def _category(feature: Feature) -> Column:
    codes = {word: float(code) for code, word in enumerate(feature.vocabulary)}
    if feature.default is None:
        return lambda words: [codes[word] for word in words]
    default = codes[str(feature.default)]
    return lambda words: [codes.get(word, default) for word in words]


def _as_they_are(values: Sequence[Any]) -> Sequence[float]:
    return values
