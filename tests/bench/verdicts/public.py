"""Two public detectors on the same streams: river's ADWIN and Page-Hinkley, one of each on every column.

They are told what the watch is told: raw fields, scores, gaps and latencies, as numbers in units of the reference's
own spread; a category is the share that its word had there. They know no cause: only whether something was found, how
long that took, and false alarms can be compared. river's KSWIN takes 300 us a value, 5 ms an event, and is left out.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import log

import numpy as np
from river.drift import ADWIN, PageHinkley

from streams.core.verdicts.events import Event
from tests.bench.verdicts.playing import ROWS, Stage, live, played_events
from tests.bench.verdicts.scenarios import CORE, HARD, SCENARIOS
from tests.bench.verdicts.world import DAILY, INDEPENDENT, World

Detector = ADWIN | PageHinkley
MADE: dict[str, Callable[[], Detector]] = {
    "ADWIN": ADWIN,
    "ADWIN, strict": lambda: ADWIN(delta=1e-9),
    "Page-Hinkley": PageHinkley,
    "Page-Hinkley, strict": lambda: PageHinkley(threshold=400.0, delta=0.05),
}
"""As they come, and so strict that independent quiet windows stay quiet: tuned on seeds below 1,000 as ours was."""


@dataclass
class Heard:
    """What one kind of detector said of one reference's streams. A delay of None: not found in six windows."""

    detector: str
    world: str
    kind: str
    seed: int
    delays: dict[str, float | None] = field(default_factory=dict)
    windows: int = 0
    false_alarms: int = 0


class Columns:
    """Events as rows of numbers, in units of the reference."""

    def __init__(self, world: World, reference: Sequence[Event]) -> None:
        self.fields = world.fields
        self.shares: dict[str, dict[object, float]] = {}
        for name in self.fields:
            words = [event.features[name] for event in reference]
            if any(isinstance(word, str) for word in words):
                known, counts = np.unique(np.array([str(word) for word in words]), return_counts=True)
                self.shares[name] = dict(zip(known.tolist(), (counts / len(words)).tolist(), strict=True))
        self.last_ms = reference[0].ts_ms
        rows = np.array([self._numbers(event) for event in reference])
        self.mean, self.spread = np.nanmean(rows, 0), np.maximum(np.nanstd(rows, 0), 1e-9)

    def _numbers(self, event: Event) -> list[float]:
        gap_ms, self.last_ms = event.ts_ms - self.last_ms, event.ts_ms
        found = []
        for name in self.fields:
            value = event.features[name]
            if name in self.shares:
                found.append(self.shares[name].get(str(value), 0.0))
            else:
                found.append(np.nan if value is None else value)
        latencies = event.latency_ms.values()
        return [*found, *event.scores.values(), log(max(gap_ms, 0.1)), sum(map(log, latencies)) / len(latencies)]

    def standardised(self, events: Iterable[Event]) -> list[list[float]]:
        """By column, standard deviations from the reference's means; NaN where there is no value."""
        rows = np.array([self._numbers(event) for event in events])
        found: list[list[float]] = ((rows - self.mean) / self.spread).T.tolist()
        return found


def heard(stage: Stage, windows: int) -> list[Heard]:
    """Every kind of detector on every scenario of this reference, and on quiet windows."""
    reference = list(stage.reference_events())
    columns = Columns(stage.world, reference)
    kinds = {name: [make() for _ in columns.mean] for name, make in MADE.items()}
    found = {name: Heard(name, stage.world_name, stage.kind, stage.seed) for name in MADE}
    taught = columns.standardised(reference)
    for detectors in kinds.values():
        for detector, values in zip(detectors, taught, strict=True):
            deque(_alarms(detector, values), 0)
    for scenario in SCENARIOS:
        if scenario.tier in (CORE, HARD) and stage.kind in (scenario.kinds or (INDEPENDENT, DAILY)):
            onset, events = played_events(stage, scenario)
            stream = deepcopy(columns).standardised(events)
            for name, detectors in kinds.items():
                found[name].delays[scenario.name] = _delay(deepcopy(detectors), stream, onset)
    quiet = deepcopy(columns).standardised(live(stage, windows * ROWS))
    for name, detectors in kinds.items():
        alarms = [_alarms(detector, values) for detector, values in zip(deepcopy(detectors), quiet, strict=True)]
        found[name].windows = windows
        found[name].false_alarms = len({place // ROWS for places in alarms for place in places})
    return list(found.values())


def _alarms(detector: Detector, values: Iterable[float]) -> Iterator[int]:
    """The places of a column after which a detector has found a change."""
    for place, value in enumerate(values):
        if value == value:  # noqa: PLR0124  (not NaN)
            detector.update(value)
            if detector.drift_detected:
                yield place


def _delay(detectors: Sequence[Detector], stream: Sequence[Sequence[float]], onset: int) -> float | None:
    """Windows from the onset to the first alarm after it; what was said before is no merit."""
    end = len(stream[0])
    for detector, values in zip(detectors, stream, strict=True):
        end = next((place for place in _alarms(detector, values[:end]) if place >= onset), end)
    return (end + 1 - onset) / ROWS if end < len(stream[0]) else None


def compared(every: Sequence[Heard], quiet_kinds: Sequence[str]) -> dict[str, dict[str, object]]:
    """The figures of each kind of detector. One that alarms all the time has no delay to speak of."""
    figures: dict[str, dict[str, object]] = {}
    for name in MADE:
        mine = [one for one in every if one.detector == name]
        delays = [delay for one in mine for delay in one.delays.values()]
        there = [delay for delay in delays if delay is not None]
        figures[name] = {
            "faults": len(delays),
            "found": len(there),
            "median_delay": float(np.median(there)) if there else None,
            "false_alarms_per_1000": {
                kind: round(
                    1000
                    * sum(one.false_alarms for one in mine if one.kind == kind)
                    / max(sum(one.windows for one in mine if one.kind == kind), 1),
                    1,
                )
                for kind in quiet_kinds
            },
            "quiet_windows": {kind: sum(one.windows for one in mine if one.kind == kind) for kind in quiet_kinds},
        }
    return figures
