"""The fields that the monitor watches, as event and tables have them: before any feature code of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import json

from schemas.errors import UNREADABLE
from schemas.pipeline import Pipeline
from schemas.requests import Rejection, Request
from streams.core.event_fields import value_at
from streams.core.event_shape import all_of

REMEMBERED = 256
"""Records of tables that are read once; each has at most 64 KB."""


class WatchedFields:
    """Every feature that is read from the event, more fields by their path, and those of what tables say of it.

    The latter come on `enriched`, so they are known later: `names` has them last.
    """

    def __init__(self, pipeline: Pipeline, more: Sequence[str]) -> None:
        plain = pipeline.features_of_event
        features = {feature.name for feature in pipeline.features}
        more = [path for path in more if path not in features]
        self._paths = [feature.parts for feature in plain] + [tuple(path.split(".")) for path in more]
        self._own = (*(feature.name for feature in plain), *more)
        self._names = [feature.name for feature in plain]
        self._get = all_of([feature.parts for feature in plain])
        self._more = [(path, tuple(path.split("."))) for path in more]
        self._tables: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for table in pipeline.enrich:
            mine = [one for one in pipeline.features if not one.derive and one.parts[0] == table.name]
            self._tables[table.name] = [(one.name, one.parts[1:]) for one in mine]
        self.of_tables = tuple(name for mine in self._tables.values() for name, _ in mine)
        self.names = (*self._own, *self.of_tables)
        self._known: dict[tuple[str, bytes], dict[str, Any]] = {}

    def of(self, request: Request | Rejection, value: bytes | None) -> dict[str, Any]:
        """The fields of a raw record; of one that is no request, what there is of them, whatever its type."""
        if isinstance(request, Rejection):
            event = _event(value)
            return {name: value_at(event, path) for name, path in zip(self._own, self._paths, strict=True)}
        fields = request.fields
        found = dict(zip(self._names, self._get(fields), strict=True))
        if self._more:
            event = _event(value)
            found |= {name: value_at(event, path) for name, path in self._more}
        return found

    def joined(self, records: Mapping[str, bytes]) -> dict[str, Any]:
        """The fields of what was joined in, by table; where a table said nothing they are absent."""
        found: dict[str, Any] = {}
        for table, mine in self._tables.items():
            if mine:
                found |= self._of_record(table, records.get(table, b""))
        return found

    def _of_record(self, table: str, record: bytes) -> dict[str, Any]:
        """Read once: the same record is joined into many requests."""
        known = self._known.get((table, record))
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            event = _event(record)
            known = {name: value_at(event, path) for name, path in self._tables[table]}
            self._known[table, record] = known
        return known


def _event(value: bytes | None) -> Any:
    try:
        return json.decode(value or b"")
    except UNREADABLE:
        return None
