"""Thompson sampling: the model that answers is drawn by how often each has been right, and learns by labels.

A pure value. What was learned (`Arms`) changes only by labels, in the order of their log; a request's draw is made of
its id. So the same labels and requests give the same arms on any machine: no generator is kept, and only operations
that every machine rounds alike (+ - * / fsum and the square root) make the numbers.

The pipeline file has no word for it yet: the labels of a running pipeline are not read by its rendezvous.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import fsum, sqrt

from schemas.requests import Request
from streams.core.policy import Schedule
from streams.core.policy_branches import preferring

EXACT = 64
"""Labels of an arm up to which its draw is exact; beyond, the normal curve is as good."""


@dataclass(frozen=True, slots=True)
class Arms:
    """How often each model was right and wrong, in the order of the file."""

    counts: tuple[tuple[str, int, int], ...]

    def labelled(self, scores: Mapping[str, float], label: bool, threshold: float = 0.5) -> "Arms":  # noqa: FBT001
        """What is known after one label: every model that had scored was right or wrong, not the one drawn alone."""
        return Arms(
            tuple(
                (model, *_counted(right, wrong, (scores[model] >= threshold) is label))
                if model in scores
                else (model, right, wrong)
                for model, right, wrong in self.counts
            )
        )

    def drawn(self, seed: str) -> str:
        """The arm of one request: who draws the highest share of right answers."""
        return max(self.counts, key=lambda arm: _share(arm[1] + 1, arm[2] + 1, f"{seed} {arm[0]}"))[0]


@dataclass(frozen=True, slots=True)
class Bandit:
    """Deals requests to schedules as `Weighted` does, by draws instead of cohorts."""

    arms: Arms
    schedule: Schedule
    salt: str = ""

    def of(self, request: Request) -> tuple[str, Schedule]:
        """The arm drawn for this request; without its answer the schedule goes on."""
        model = self.arms.drawn(f"{self.salt} {request.request_id}")
        return model, preferring(self.schedule, model, "the arm")


def _counted(right: int, wrong: int, was_right: bool) -> tuple[int, int]:  # noqa: FBT001
    return (right + 1, wrong) if was_right else (right, wrong + 1)


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
