"""What a world of events must give: raw fields, times, scores as functions of raw fields; and events made of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import isnan
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
    lists = [_plain(columns[name]) for name in fields]
    names = list(scores)
    rows = zip(*lists, strict=True)
    scored = zip(*(scores[name].tolist() for name in names), strict=True)
    timed = zip(*(latency_ms[name].tolist() for name in names), strict=True)
    for place, (at_ms, row, score, took) in enumerate(
        zip(columns["at_ms"].tolist(), rows, scored, timed, strict=True)
    ):
        yield Event(
            at_ms,
            dict(zip(fields, row, strict=True)),
            dict(zip(names, score, strict=True)),
            versions[place] if versions else None,
            dict(zip(names, took, strict=True)),
        )


def _plain(values: np.ndarray) -> list[object]:
    if values.dtype == object:
        return list(values)
    found = values.tolist()
    if np.isnan(values).any():
        return [None if isnan(value) else value for value in found]
    return found
