"""What each model did with a group of requests, in figures: scores, failures, time taken, wins, agreement.

Scores are remembered of a bounded number of requests; times in buckets that grow by an eighth of a doubling, so that
a quantile is known to 5 % however many there are. Pure.
"""

from collections import Counter, deque
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, log2

import numpy as np
from msgspec import Struct

from schemas.pipeline import ModelKey
from schemas.verdicts import ModelFigures
from streams.core.attendance import NOT_MISSED
from streams.core.blame import ERROR, FAILED, SKIPPED
from streams.core.gathering import Gathered
from streams.core.quantiles import quantiles_of

PER_DOUBLING = 8
BUCKETS = 8 * 24
"""From a millisecond to four hours."""

TIME_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class LogBuckets:
    """How often a time fell between two powers of an eighth root of two, in ms.

    >>> held = LogBuckets()
    >>> for ms in range(1, 1001): held.update(ms)
    >>> round(held.quantile(0.5) / 500, 1)
    1.0
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def update(self, ms: float) -> None:
        """One time."""
        self.counts[bucket_of(ms)] += 1

    def merge(self, other: "LogBuckets") -> None:
        """Those of another."""
        self.counts.update(other.counts)

    def quantile(self, share: float) -> float | None:
        """The middle of the bucket that this share of the times lies in or below; None without any."""
        left = max(1, ceil(share * self.counts.total()))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return float(2.0 ** ((bucket + 0.5) / PER_DOUBLING))
        return None


@lru_cache(4096)
def bucket_of(ms: float) -> int:
    """The bucket that a time falls into. Remembered: the log's times are whole ms, so few of them ever come."""
    return min(BUCKETS - 1, int(PER_DOUBLING * log2(max(ms, 1.0))))


Beside = Sequence[tuple[str, bool]]
"""The roles champion and canary, where they have a score of a request, and whether that is above the threshold."""


class Deed(Struct, gc=False):
    """What one version of a model did with a request that it was asked: reckoned once, counted in several groups.

    `why` it has no score, where it has none; `above` the threshold is the score; `bucket` that of the time taken.
    """

    key: ModelKey
    score: float | None
    why: str = ""
    above: bool = False
    late: bool = False
    bucket: int = 0


def deeds_of(one: Gathered, threshold: float) -> list[Deed]:
    """Those of all models that were asked."""
    found, budget_ms, scores, took = [], one.budget_ms, one.scores, one.took_ms
    for key in one.expected.items():
        name, _ = key
        score = scores.get(name)
        if score is None:
            found.append(Deed(key, None, one.without.get(name, "nothing")))
            continue
        took_ms = took.get(name, 0.0)
        found.append(Deed(key, score, "", score >= threshold, took_ms > budget_ms, bucket_of(took_ms)))
    return found


class Own:
    """One version of a model's."""

    def __init__(self, newest: int) -> None:
        self.asked = 0
        self.scored = 0
        self.late = 0
        self.guarded = 0
        self.without: Counter[str] = Counter()
        self.wins: Counter[str] = Counter()
        self.beside: dict[str, list[int]] = {"champion": [0, 0], "canary": [0, 0]}
        self.scores: deque[float] = deque(maxlen=newest)
        self.times = LogBuckets()

    def take(self, deed: Deed, beside: Beside) -> None:
        """One request that it was asked."""
        self.asked += 1
        score = deed.score
        if score is None:
            self.without[deed.why] += 1
            return
        self.scored += 1
        if deed.late:
            self.late += 1
        self.times.counts[deed.bucket] += 1
        self.scores.append(score)
        own_above = deed.above
        for role, above in beside:
            both = self.beside[role]
            both[0] += 1
            if above == own_above:
                both[1] += 1

    def missed(self, kind: str) -> int:
        """How many of its answers were missing or no good, by one of the kinds of `attendance`."""
        if kind == "guarded":
            return self.guarded
        if kind == "failed":
            return self.without[ERROR]
        return self.late + sum(count for why, count in self.without.items() if why != ERROR and why not in NOT_MISSED)

    def told(self, model: str, version: str, decided: int) -> ModelFigures:
        """In shares of what it was asked, and of what was decided."""
        shares = quantiles_of(np.array(self.scores))
        times = {name: self.times.quantile(share) for name, share in TIME_SHARES.items()}
        agreed = {role: both[1] / both[0] if both[0] else None for role, both in self.beside.items()}
        return ModelFigures(
            model=model,
            version=version,
            asked=self.asked,
            scored=_share(self.scored, self.asked),
            late=_share(self.late, self.asked),
            errors=_share(sum(self.without[why] for why in FAILED), self.asked),
            skipped=_share(self.without[SKIPPED], self.asked),
            scores={name: round(value, 6) for name, value in shares.items()},
            latency_ms={name: round(ms, 1) for name, ms in times.items() if ms is not None},
            wins={why: _share(count, decided) for why, count in self.wins.most_common()},
            with_champion=_rounded(agreed["champion"]),
            with_canary=_rounded(agreed["canary"]),
            guarded=self.guarded,
        )


class Group:
    """Figures of a group of requests: who answered them, and what each version of a model did with them."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.requests = 0
        self.decided = 0
        self.answers: Counter[str] = Counter()
        self.winners: Counter[str] = Counter()
        self.models: dict[ModelKey, Own] = {}

    def take(self, one: Gathered, deeds: Sequence[Deed], beside: Beside) -> None:
        """One request, and what the models that were asked did with it."""
        self.requests += 1
        self.decided += bool(one.outcome)
        self.answers[one.outcome or "undecided"] += 1
        self.winners[one.winner or "none"] += 1
        models = self.models
        for deed in deeds:
            own = models.get(deed.key)
            if own is None:
                own = models[deed.key] = Own(self.newest)
            own.take(deed, beside)
        for name in one.guarded:
            if name in one.expected:
                self.models[name, one.expected[name]].guarded += 1
        if one.winner is not None and one.winner in one.expected:
            self.models[one.winner, one.expected[one.winner]].wins[one.why] += 1

    def missed(self, model: str, kind: str) -> tuple[int, int]:
        """Of a model, whatever its version: how often (`attendance`), and of how many requests that it was asked."""
        mine = [own for (name, _), own in self.models.items() if name == model]
        return sum(own.missed(kind) for own in mine), sum(own.asked for own in mine)

    def told(self) -> dict[str, ModelFigures]:
        """By "model version"."""
        return {
            f"{name} {version}": own.told(name, version, self.decided) for (name, version), own in self.models.items()
        }


def _share(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)
