"""What a world of events must give: raw fields, times, scores as functions of raw fields; and events made of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import ClassVar

import numpy as np

from streams.core.verdicts.events import Event, Model, Setting

INDEPENDENT, DAILY, CLUSTERED = "independent", "daily", "clustered"
KINDS = (INDEPENDENT, DAILY, CLUSTERED)
PER_DAY = {INDEPENDENT: 20_000.0, DAILY: 10_000.0, CLUSTERED: 1_000.0}
REFERENCE = 20_000
Columns = dict[str, np.ndarray]


class World(ABC):
    """Raw fields and models; deterministic for a seed."""

    fields: ClassVar[tuple[str, ...]]
    models: ClassVar[dict[str, str]]
    changed_model: ClassVar[str]
    canary: ClassVar[str]

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int, kind: str, start_day: float, rate: float = 1.0) -> Columns:
        """`count` events from this day on, so many times as fast: raw fields by name, and `at_ms`."""

    @abstractmethod
    def score(self, model: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores of a model, or of a file it might be swapped for."""

    def setting(self) -> Setting:
        """As the first line of a file has it."""
        models = {name: Model(role, "1") for name, role in self.models.items()}
        return Setting(models, REFERENCE, self.fields)


def take(columns: Mapping[str, np.ndarray], part: slice | np.ndarray) -> Columns:
    """Some of the events."""
    return {name: values[part] for name, values in columns.items()}


def events(
    columns: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    latency_ms: Mapping[str, np.ndarray],
    versions: list[dict[str, str]] | None,
    fields: tuple[str, ...],
) -> Iterator[Event]:
    """Events as they would come; NaN becomes null."""
    return map(
        Event,
        columns["at_ms"].tolist(),
        _tables({name: columns[name] for name in fields}),
        _tables(scores),
        versions or repeat(None),
        _tables(latency_ms),
    )


def _tables(columns: Mapping[str, np.ndarray]) -> Iterator[dict[str, object]]:
    """A table by name for each row."""
    rows = zip(*map(_plain, columns.values()), strict=True) if columns else repeat(())
    return map(dict, map(zip, repeat(tuple(columns)), rows))


def _plain(values: np.ndarray) -> list[object]:
    found = values.astype(object)
    if values.dtype != object:
        found[np.isnan(values)] = None
    return found.tolist()
