"""Several models answer together: the mean, the median or the vote of their scores."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Final, Literal

from schemas.decisions import ScoreSeen

COMBINED: Final = "combine"
"""Who has answered, where a decision names a model: no model may have this name in such a pipeline."""


@dataclass(frozen=True, slots=True)
class Combine:
    """All members until the share `until` of the budget, then at least `least` of them.

    Sums are taken in the order of the file and rounded once (`fsum`), so that they do not depend on who came first.
    """

    members: tuple[tuple[str, float], ...]
    how: Literal["mean", "median", "vote"] = "mean"
    threshold: float = 0.5
    until: float = 0.8
    least: int = 1
    wanted: str = COMBINED
    title: str = "the combination"

    def choose(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """Complete, as far as it can be; or enough of them, late in the budget."""
        complete = all(model in scores or model in out for model, _ in self.members)
        return COMBINED if (complete or share >= self.until) and self._present(scores) >= self.least else None

    def offer(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """Enough of them, at any time."""
        return COMBINED if self._present(scores) >= self.least else None

    def settled(self, model: str, scores: Collection[str], out: Collection[str]) -> bool:
        """When every member has answered or is out."""
        return all(model in scores or model in out for model, _ in self.members)

    def rank(self, model: str, scores: Collection[str]) -> int:
        """So many members are not in it."""
        return len(self.members) - self._present(scores)

    @property
    def enough(self) -> int:
        """Fewer than `least` are no answer."""
        return self.least

    @property
    def first_change(self) -> float:
        """When it no longer waits for all."""
        return self.until

    def hopeless(self, out: Collection[str]) -> bool:
        """When fewer than `least` are left."""
        return sum(model not in out for model, _ in self.members) < self.least

    def next_change(self, share: float) -> float:
        """When it no longer waits for all, then the deadline."""
        return self.until if share < self.until else 1.0

    def combined(self, scores: Mapping[str, ScoreSeen]) -> tuple[float, dict[str, float]]:
        """The answer of the members that are there, with the weight of each."""
        present = [(scores[model].score, weight) for model, weight in self.members if model in scores]
        weights = {model: weight for model, weight in self.members if model in scores}
        total = fsum(weight for _, weight in present)
        if self.how == "median":
            return _median(sorted(present), total), weights
        if self.how == "vote":
            return fsum(weight for score, weight in present if score >= self.threshold) / total, weights
        return _mean(present, total), weights

    def _present(self, scores: Collection[str]) -> int:
        return sum(model in scores for model, _ in self.members)


def _mean(present: list[tuple[float, float]], total: float) -> float:
    """Halved while it is summed and kept between the scores: no sum of finite scores may be infinite."""
    mean = 2 * fsum(score / 2 * (weight / total) for score, weight in present)
    return min(max(mean, min(present)[0]), max(present)[0])


def _median(present: list[tuple[float, float]], total: float) -> float:
    """Half of the weight lies on each side; between two scores it is their middle."""
    below = 0.0
    for place, (score, weight) in enumerate(present):
        below += weight
        if below == total / 2:
            return score / 2 + present[place + 1][0] / 2
        if below > total / 2:
            return score
    return present[-1][0]
