"""Columns: how the values of one raw field, or one model's scores, fall into the bins of the reference.

Bins are the reference's own quantiles (numbers) or its most frequent values (categories), so counts per bin are an
exact, mergeable summary of fixed size. What fits no bin (null, wrong type) falls into the last one, `NONE`.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.event_fields import OTHERS
from streams.core.verdicts.events import numbers
from streams.core.verdicts.tails import NORMAL

BINS = 32
NONE = BINS
FEW_VALUES = 30
MARGIN = 0.25
IDENTIFIER_SHARE = 0.2
MOST_WORDS = 20_000
TREND = 0.98
FINEST = 4
REPEATED = 0.02  # a number with so few values for its rows has values one can know, as prices and distances do
WATCHED = frozenset(("number", "category"))

Bins = NDArray[np.intp]
WORDS = frozenset((str, bool, type(None)))


class Coded(Struct, frozen=True):
    """One block of one field: numbers (NaN where none), words (index; -1 where none), and what is neither."""

    numbers: Matrix
    words: NDArray[np.int32]
    odd: NDArray[np.int64]  # of each block


class Vocabulary:
    """Words of a field as indices, in the order they come; bounded."""

    def __init__(self) -> None:
        self.index: dict[Any, int] = {}
        self.full = False

    def learn(self, values: Sequence[Any]) -> Coded:
        """A block of the reference."""
        words = np.full(len(values), -1, np.int32)
        rest = list(values)
        for place, value in enumerate(values):
            if type(value) is str or type(value) is bool:
                rest[place] = None
                if value in self.index:
                    words[place] = self.index[value]
                elif len(self.index) < MOST_WORDS:
                    words[place] = self.index[value] = len(self.index)
                else:
                    self.full = True
        found, odd = numbers(rest)
        return Coded(found, words, np.array([odd]))


class Column(Struct, frozen=True, kw_only=True):
    """One field as the reference knew it."""

    name: str
    kind: str  # number, category, or why it is not watched
    edges: Matrix  # rising, at most BINS - 1
    known: Matrix  # the values of a number that repeats itself, else empty
    words: dict[Any, int]  # bins of a category's words
    low: float = -np.inf  # a number outside low..high has not been near the reference
    high: float = np.inf
    decimals: int | None = None  # every number of the reference had so many at most; None: more than FINEST
    labels: list[str] = []
    median: float = 0.0
    nulls: float = 0.0  # share of the reference

    def encode(self, values: Sequence[Any]) -> tuple[Bins, int, int, int]:
        """Bins of a block, and how many values are of another type, new, outside."""
        if self.kind == "category":
            return self._encode_words(values)
        found, odd = numbers(values)
        bins, unseen, outside = self.encode_numbers(found)
        return bins, odd, unseen, outside

    def encode_numbers(self, found: Matrix) -> tuple[Bins, int, int]:
        """Bins of a block's numbers, and how many are new, outside; NaN is neither."""
        outside = int(np.count_nonzero((found < self.low) | (found > self.high)))
        return self.bins(found), self._unseen(found), outside

    def _unseen(self, found: Matrix) -> int:
        """How many of these numbers are new; NaN is none."""
        if len(self.known):
            place = np.searchsorted(self.known, found)
            np.minimum(place, len(self.known) - 1, out=place)
            return int(np.count_nonzero((self.known[place] != found) & (found == found)))  # noqa: PLR0124 (NaN)
        if self.decimals is not None:
            return int(np.count_nonzero((found == found) & ~on_grid(found, self.decimals)))  # noqa: PLR0124 (NaN)
        return 0

    def bins(self, found: Matrix) -> Bins:
        """Bins of numbers; NaN falls into NONE."""
        place = np.searchsorted(self.edges, found, side="right")
        place[np.isnan(found)] = NONE
        return place

    def coarse_label(self, place: int, each: int) -> str:
        """The values of one merged bin (`each` bins in one), as a person reads it."""
        mine = self.labels[place * each : (place + 1) * each]
        if not mine:
            return f"{self.name} is missing"
        if self.kind == "category" or 0 < len(self.known) <= FEW_VALUES:
            return f"{self.name} is {' or '.join(mine)}"
        if len(mine) == 1:
            return f"{self.name} is {mine[0]}"
        low, high = mine[0].partition(" to ")[0], mine[-1].rpartition(" to ")[2]
        first, last = place == 0, (place + 1) * each >= len(self.labels)
        if first or last:  # what lies beyond all bounds has a word for itself, which is no bound
            return f"{self.name} is {'there' if first and last else f'below {high}' if first else f'above {low}'}"
        return f"{self.name} is {low} to {high}"

    def _encode_words(self, values: Sequence[Any]) -> tuple[Bins, int, int, int]:
        odd = 0
        if not frozenset(map(type, values)) <= WORDS:
            odd = sum(type(value) not in WORDS for value in values)
            values = [value if type(value) in WORDS else None for value in values]
        get = self.words.get
        place = np.array([NONE if value is None else get(value, -1) for value in values], np.intp)
        new = place < 0
        unseen = int(new.sum())
        place[new] = min(len(self.labels), BINS) - 1
        return place, odd, unseen, 0


def on_grid(found: Matrix, decimals: int) -> NDArray[np.bool_]:
    """Which numbers have no more decimals than that; not NaN.

    >>> on_grid(np.array([0.1, 0.3, 1e6 + 0.7, 0.12]), 1).tolist()
    [True, True, True, False]
    """
    scaled = found * 10.0**decimals
    with np.errstate(invalid="ignore"):
        near: NDArray[np.bool_] = np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 100.0)
    return near


def decimals_of(values: Matrix) -> int | None:
    """How many decimals these numbers have at most; None for more than FINEST, as measurements do."""
    return next((places for places in range(FINEST + 1) if on_grid(values, places).all()), None)


def quantile_edges(found: Matrix) -> Matrix:
    """Edges that part the reference into equal shares, or lie between its values when these are few."""
    values = np.unique(found)
    if len(values) <= FEW_VALUES:
        return (values[1:] + values[:-1]) / 2
    return np.unique(np.quantile(found, np.arange(1, BINS) / BINS))


def column(name: str, coded: Coded, vocabulary: Vocabulary) -> Column:
    """What the reference says about a field; its kind is a reason when it cannot be watched."""
    found = coded.numbers[~np.isnan(coded.numbers)]
    words = coded.words[coded.words >= 0]
    rows = len(coded.numbers)
    none: dict[str, Any] = {"edges": np.empty(0), "known": np.empty(0), "words": {}}
    nulls = 1 - (len(found) + len(words)) / rows
    if not len(found) and not len(words):
        return Column(name=name, kind="never there in the reference", **none)
    if len(words) > len(found):
        if vocabulary.full or len(np.unique(words)) > max(IDENTIFIER_SHARE * rows, FEW_VALUES):
            return Column(name=name, kind="nearly every value is new: an identifier", **none)
        counts = Counter(words.tolist())
        texts = list(vocabulary.index)
        frequent = sorted(counts, key=lambda word: (-counts[word], str(texts[word])))
        bins = {texts[word]: min(place, BINS - 1) for place, word in enumerate(frequent)}
        labels = [str(texts[word]) for word in frequent[: BINS - 1]] + [OTHERS]
        return Column(name=name, kind="category", labels=labels, nulls=nulls, **(none | {"words": bins}))
    if _trend(coded.numbers) > TREND:
        return Column(name=name, kind="it only rises or falls, as a counter or a clock", **none)
    values = np.unique(found)
    few = values if len(values) <= FEW_VALUES else np.empty(0)
    known = values if len(values) <= REPEATED * len(found) else few
    edges = quantile_edges(found)
    margin = MARGIN * (values[-1] - values[0])
    bounds = [f"{edge:.6g}" for edge in edges]
    labels = [f"below {bounds[0]}" if bounds else "all"]
    labels += [f"{one} to {other}" for one, other in itertools.pairwise(bounds)]
    labels += [f"above {bounds[-1]}"] if bounds else []
    return Column(
        name=name,
        kind="number",
        edges=edges,
        known=known,
        words={},
        low=float(values[0] - margin),
        high=float(values[-1] + margin),
        decimals=decimals_of(values),
        labels=[f"{value:g}" for value in few] if len(few) else labels,
        median=float(np.median(found)),
        nulls=nulls,
    )


def _trend(found: Matrix) -> float:
    """How well the place in the stream tells the value's rank."""
    places = np.flatnonzero(~np.isnan(found))
    if len(places) < 100 or np.ptp(found[places]) == 0:
        return 0.0
    ranks = np.argsort(np.argsort(found[places], kind="stable"), kind="stable")
    return abs(float(np.corrcoef(places, ranks)[0, 1])) if len(np.unique(found[places])) > FEW_VALUES else 0.0


def normal_scores(counts: Matrix) -> tuple[Matrix, Matrix]:
    """For each bin the normal score of its middle rank, and that score's square, both standardised.

    `counts` (columns, BINS) are the reference's; the first tells where a value lies, the second how far out.
    """
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    middle = (np.cumsum(counts, 1) - counts / 2) / totals
    inside = np.clip(middle, 0.25 / totals, 1 - 0.25 / totals)
    first = np.vectorize(NORMAL.inv_cdf, otypes=[float])(inside)
    first = standardised(first, counts / totals)
    return first, standardised(first**2, counts / totals)


def standardised(score: Matrix, share: Matrix) -> Matrix:
    """Scores of bins with mean 0 and variance 1 under these shares; zero where they do not vary."""
    mean = (score * share).sum(1, keepdims=True)
    spread = np.sqrt((((score - mean) ** 2) * share).sum(1, keepdims=True))
    return np.where(spread > 1e-9, (score - mean) / np.maximum(spread, 1e-9), 0.0)
