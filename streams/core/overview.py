"""The races of a range as a report tells them: who answered and why, how fast against the budget, over time."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streams.core.answers import NOBODY, OUTCOMES
from streams.core.quality import GRACE_MS, QUANTILES, quantiles
from streams.core.races import Races

SLICES = 48
WAYS_SHOWN = 6
OTHER_WAYS = "any other way"
NO_DECISION = "no decision"
HEAT_ROWS = 28
OF_A_SLICE = (0.5, 0.99, 1.0)


class Slice(Struct, frozen=True):
    """A stretch of time, by the log time of requests: how they were answered; latency in ms."""

    from_ms: int
    to_ms: int
    requests: int
    ways: dict[str, int]
    late: int
    latency_ms: dict[str, float | None]


class Heat(Struct, frozen=True):
    """How many answers of each slice took how long: `counts[row][slice]`, rows between `edges_ms`."""

    edges_ms: list[float]
    counts: list[list[int]]


class Overview(Struct, frozen=True, kw_only=True):
    """All requests of a range. `late` are answered later than budget + 10 ms, by log times; `ways` say why, too."""

    first_ms: int
    last_ms: int
    requests: int
    decided: int
    late: int
    outcomes: dict[str, int]
    winners: dict[str, int]
    ways: dict[str, int]
    budgets_ms: dict[str, int]
    latency_ms: dict[str, float | None]
    slices: list[Slice]
    heat: Heat


def overview(races: Races) -> Overview:
    """Sum up."""
    answers, decided = races.answers, races.decided
    late = decided & (answers.used_ms > races.budgets_ms + GRACE_MS)
    names = [races.names[code] or "" for code in range(len(races.names))]
    edges = _edges(races.at_ms)
    place = np.clip(np.searchsorted(edges, races.at_ms, "right") - 1, 0, len(edges) - 2)
    budgets, counts = np.unique(races.budgets_ms, return_counts=True)
    ways = ways_of(races)
    return Overview(
        first_ms=int(races.at_ms.min()),
        last_ms=int(races.at_ms.max()),
        requests=len(races),
        decided=int(decided.sum()),
        late=int(late.sum()),
        outcomes={str(word): int((answers.outcome == code).sum()) for code, word in enumerate(OUTCOMES)},
        winners=_counted(answers.model[decided], names),
        ways=_counts(ways),
        budgets_ms={str(budget): count for budget, count in zip(budgets.tolist(), counts.tolist(), strict=True)},
        latency_ms=quantiles(answers.used_ms[decided], QUANTILES),
        slices=[
            Slice(
                int(edges[number]),
                int(edges[number + 1]),
                int(own.sum()),
                _counts([ways[row] for row in np.flatnonzero(own).tolist()]),
                int((late & own).sum()),
                quantiles(answers.used_ms[decided & own], OF_A_SLICE),
            )
            for number in range(len(edges) - 1)
            for own in [place == number]
        ],
        heat=_heat(answers.used_ms, decided, place, len(edges) - 1),
    )


def ways_of(races: Races) -> list[str]:
    """Each request's way; beyond the most frequent ones they are told together."""
    words = [races.way_names[code] or "" for code in range(len(races.way_names))]
    counts = _counted(races.ways, words)
    shown = sorted(counts, key=lambda word: (-counts[word], word))
    kept = set(shown[:WAYS_SHOWN]) if len(shown) > WAYS_SHOWN + 1 else set(shown)
    short = [word if word in kept else OTHER_WAYS for word in words]
    return [NO_DECISION if code == NOBODY else short[code] for code in races.ways.tolist()]


def _edges(at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Equal stretches of time, of at least a quarter of a second."""
    first, last = int(at_ms.min()), int(at_ms.max()) + 1
    return np.linspace(first, last, max(1, min(SLICES, (last - first) // 250)) + 1)


def _heat(used_ms: NDArray[np.float64], decided: NDArray[np.bool_], place: NDArray[np.int64], slices: int) -> Heat:
    took = np.maximum(used_ms[decided], 1.0)
    if not len(took):
        return Heat([], [])
    low = max(1.0, 0.8 * float(took.min()))
    edges = np.geomspace(low, max(10 * low, float(took.max()) * 1.001), HEAT_ROWS + 1)
    row = np.clip(np.searchsorted(edges, took, "right") - 1, 0, HEAT_ROWS - 1)
    counts = np.zeros((HEAT_ROWS, slices), dtype=np.int64)
    np.add.at(counts, (row, place[decided]), 1)
    return Heat([round(float(edge), 4) for edge in edges], counts.tolist())


def _counted(codes: NDArray[np.int16], names: Sequence[str]) -> dict[str, int]:
    found, counts = np.unique(codes[codes != NOBODY], return_counts=True)
    return {names[code]: count for code, count in zip(found.tolist(), counts.tolist(), strict=True)}


def _counts(words: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
