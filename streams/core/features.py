"""Requests -> the float64 matrix that models see, column by column.

Training calls the same code, so that a model is served what it was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import json

from schemas.blocks import Matrix
from schemas.pipeline import Enrich, Feature, FeatureType
from schemas.requests import Request
from streams.core.enrichment import event_of
from streams.core.event_shape import getter

Derivation = Callable[[dict[str, Any]], float]
"""`derive = "module:function"`: the whole event -> one number."""

Column = Callable[[Sequence[Any]], Sequence[float]]


class FeatureTable:
    """The pipeline's features as columns of a matrix, in the order of the file.

    With tables in `enrich`, requests are to be joined with them first (`streams.core.enrichment`).
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        derivations: Mapping[str, Derivation] | None = None,
        enrich: tuple[Enrich, ...] = (),
    ) -> None:
        self.names = tuple(feature.name for feature in features)
        self._width = len(features)
        self._tables = [table.name for table in enrich]
        self._derived = [
            (index, (derivations or {})[feature.name]) for index, feature in enumerate(features) if feature.derive
        ]
        plain = [(index, feature) for index, feature in enumerate(features) if not feature.derive]
        self._of_event = [
            (index, getter(one.parts), _column(one)) for index, one in plain if one.parts[0] not in self._tables
        ]
        self._of_table = [
            (index, self._tables.index(one.parts[0]), getter(one.parts[1:]), _column(one))
            for index, one in plain
            if one.parts[0] in self._tables
        ]

    def matrix(self, requests: Sequence[Request]) -> Matrix:
        """An n x F matrix for n requests. Raises what a derivation raises."""
        matrix: Matrix = np.empty((len(requests), self._width), dtype=np.float64)
        rows = [request.fields for request in requests]
        for index, get, column in self._of_event:
            matrix[:, index] = column(list(map(get, rows)))
        for index, table, get, column in self._of_table:
            matrix[:, index] = column([get(request.joined[table].fields) for request in requests])
        if self._derived:
            events = [json.decode(event_of(request, self._tables)) for request in requests]
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
