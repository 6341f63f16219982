"""Thompson sampling: the model that answers is drawn by how often each has been right, and learns by labels.

A pure value. A request's draw is made of its id and of what the tallies say as of its log time. So the same tallies
and requests give the same arms on any machine: no generator is kept, and only operations that every machine rounds
alike (+ - * / fsum and the square root) make the numbers.

What was learned by when is `streams.core.learned`; who learns it, `streams.core.learning`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import fsum, sqrt

from schemas.requests import Request
from streams.core.learned import NOTHING, Learned
from streams.core.policy import Schedule, preferring

EXACT = 64
"""Labels of an arm up to which its draw is exact; beyond, the normal curve is as good."""


@dataclass(frozen=True, slots=True)
class Bandit:
    """Deals requests to schedules as `Weighted` does, by draws instead of cohorts.

    `arms` are names and versions: another version of a model has everything to learn.
    """

    arms: tuple[tuple[str, str], ...]
    schedule: Schedule
    salt: str = ""

    def of(self, request: Request, learned: Learned = NOTHING) -> tuple[str, Schedule]:
        """The arm drawn for this request; without its answer the schedule goes on."""
        counts = learned.at(request.at_ms)
        seed = f"{self.salt} {request.request_id}"
        model = drawn([(name, *counts.get((name, version), (0, 0))) for name, version in self.arms], seed)
        return model, preferring(self.schedule, model, "the arm")


def drawn(arms: Sequence[tuple[str, int, int]], seed: str) -> str:
    """Of models that were so often right and wrong, the one that draws the highest share of right answers."""
    return max(arms, key=lambda arm: _share(arm[1] + 1, arm[2] + 1, f"{seed} {arm[0]}"))[0]


def _share(a: int, b: int, seed: str) -> float:
    """One draw from the beta distribution of a and b."""
    uniform = _uniform(seed)
    if a + b <= EXACT + 2:  # the a-th smallest of a + b - 1 uniform numbers
        return sorted(next(uniform) for _ in range(a + b - 1))[a - 1]
    mean = a / (a + b)
    deviation = sqrt(mean * (1 - mean) / (a + b + 1))
    return mean + deviation * (fsum(next(uniform) for _ in range(12)) - 6)


def _uniform(seed: str) -> Iterator[float]:
    """Numbers from 0 up to, but not, 1, as many as are wanted: 53 bits of a hash each."""
    number = 0
    while True:
        digest = blake2b(f"{number} {seed}".encode(errors="replace")).digest()
        for place in range(0, 64, 8):
            yield (int.from_bytes(digest[place : place + 8]) >> 11) / (1 << 53)
        number += 1
