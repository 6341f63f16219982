"""What each model was trained on, beside what comes now: fields that are not as they were then.

That is no alarm: a model may serve well on other data than its training's. It is said beside every verdict, for
whoever asks why a model is worse than it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.json import encode

from schemas.pipeline import FeatureType
from schemas.verdicts import NotAsTrained
from streams.core.fingerprint import FieldPrint, Fingerprint, differs, shift_of

FEWEST = 500
"""Requests under which nothing is said."""


class Training:
    """The fingerprints of some models; of those that were trained on the same, each field is compared once."""

    def __init__(self, prints: Mapping[str, Fingerprint]) -> None:
        self.models = tuple(prints)
        self._fields: dict[bytes, tuple[FieldPrint, FeatureType, int, list[str]]] = {}
        for model, print_ in prints.items():
            types = {feature.name: feature.type for feature in print_.features}
            for one in print_.fields:
                if one.name in types:
                    known = encode((one, types[one.name], print_.rows))
                    self._fields.setdefault(known, (one, types[one.name], print_.rows, []))[3].append(model)

    def beside(self, rows: Sequence[Mapping[str, Any]]) -> list[NotAsTrained]:
        """Fields of these requests, by name, that differ from training beyond chance and by a tenth of them."""
        if len(rows) < FEWEST:
            return []
        found = []
        for one, kind, count, models in self._fields.values():
            if one.name not in rows[0]:
                continue
            shift = shift_of(one, kind, count, [row.get(one.name) for row in rows])
            if differs(shift):
                found.append(
                    NotAsTrained(one.name, models, round(shift.effect, 3), shift.then, shift.now, shift.word)
                )
        return sorted(found, key=lambda one: (-one.effect, one.field))
