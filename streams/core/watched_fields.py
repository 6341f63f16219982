"""The raw fields that the monitor watches, as the event has them: before any feature code of ours."""

from collections.abc import Sequence
from typing import Any

from msgspec import json

from schemas.errors import UNREADABLE
from schemas.pipeline import Pipeline
from schemas.requests import Rejection, Request
from streams.core.event_fields import value_at
from streams.core.event_shape import getter


class WatchedFields:
    """Every feature that is read from the event, and more fields by their path.

    What the router joins in from tables is not in the event: where that goes wrong, several models move and the event
    does not.
    """

    def __init__(self, pipeline: Pipeline, more: Sequence[str]) -> None:
        plain = pipeline.features_of_event
        self.names = (*(feature.name for feature in plain), *more)
        self._paths = [feature.parts for feature in plain] + [tuple(path.split(".")) for path in more]
        self._features = [(feature.name, getter(feature.parts)) for feature in plain]
        self._more = [(path, tuple(path.split("."))) for path in more]

    def of(self, request: Request | Rejection, value: bytes | None) -> dict[str, Any]:
        """The fields of a raw record; of one that is no request, what there is of them, whatever its type."""
        if isinstance(request, Rejection):
            event = _event(value)
            return {name: value_at(event, path) for name, path in zip(self.names, self._paths, strict=True)}
        fields = request.fields
        found = {name: get(fields) for name, get in self._features}
        if self._more:
            event = _event(value)
            found |= {name: value_at(event, path) for name, path in self._more}
        return found


def _event(value: bytes | None) -> Any:
    try:
        return json.decode(value or b"")
    except UNREADABLE:
        return None
