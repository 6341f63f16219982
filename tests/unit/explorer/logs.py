"""The logs of one partition, and who fills raw and scores."""

from bisect import bisect_left
from random import Random
from struct import pack
from typing import Any

from schemas.blocks import NotAskedBlock, RowError, ScoreBlock, pack_offsets
from schemas.pipeline import Pipeline, Policy, RequestShape, Step
from schemas.requests import Rejection, Request
from tests.unit.small import pipeline

BUDGET_MS = 100
HORIZON_MS = 1_000
MODELS = ("first", "second", "mirror")
STEPS = (
    Step(until=0.4, accept=("first",)),
    Step(until=0.7, accept=("first", "second")),
    Step(until=1.0, accept=("second", "first")),
)
PIPELINE: Pipeline = pipeline(
    request=RequestShape(budget_ms=BUDGET_MS, repeat_s=HORIZON_MS / 1e3), policy=Policy(steps=STEPS)
)

REFINED: Pipeline = pipeline(request=PIPELINE.request, policy=Policy(steps=STEPS, refine=True))
ORDER = ("first", "second", None)
"""The best first; None is the default."""


class Log:
    """One log: offsets rise, with holes; log times never fall."""

    __slots__ = ("end", "offsets", "times", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.times: list[int] = []
        self.values: list[Any] = []
        self.end = 0

    def __len__(self) -> int:
        return len(self.values)

    def append(self, value: Any, at_ms: int) -> None:
        self.offsets.append(self.end)
        self.times.append(at_ms)
        self.values.append(value)
        self.end += 1

    def place(self, offset: int) -> int:
        """Where the records from this offset on begin."""
        return bisect_left(self.offsets, offset)

    def place_at(self, at_ms: float) -> int:
        """Where the records of this log time and later begin."""
        return bisect_left(self.times, at_ms)


class Partition:
    """The three logs of one partition number, and what scorers have read of it."""

    __slots__ = ("decisions", "number", "raw", "scored", "scores")

    def __init__(self, number: int) -> None:
        self.number = number
        self.raw, self.scores, self.decisions = Log(), Log(), Log()
        self.scored = dict.fromkeys(MODELS, 0)

    def produce(self, dice: Random, now: int) -> None:
        """Producers send; some say the same again, some use another's id, some say what nobody can read."""
        raw = self.raw
        for _ in range(dice.choice((0, 1, 1, 2))):
            luck = dice.random()
            if luck < 0.02:
                raw.end += dice.randint(1, 2)  # a transaction's own records
            name, value = f"n{raw.end}", b"{}"
            if luck > 0.9 and len(raw):
                before = raw.values[max(0, len(raw) - 1 - int(dice.expovariate(0.05)))]
                name, value = before.request_id, getattr(before, "value", value)
            elif luck > 0.8:
                name, value = f"r{dice.randrange(6)}", b"%d" % dice.randrange(2)
            elif luck > 0.79:
                raw.append(Rejection(raw.end, name, now, BUDGET_MS, None, None, "Malformed", "no JSON"), now)
                continue
            raw.append(Request(raw.end, name, now, BUDGET_MS, None, None, None, value), now)

    def score(self, dice: Random, now: int) -> None:
        """Scorers answer what they have read: late, in part, with errors, or a second time after a crash of theirs."""
        raw, scores = self.raw, self.scores
        for model in MODELS:
            done = self.scored[model]
            if done == len(raw) or dice.random() < 0.5:
                continue
            self.scored[model] = end = dice.randint(done, len(raw))
            again = max(0, done - 2) if dice.random() < 0.05 else done
            offsets = [offset for offset in raw.offsets[again:end] if dice.random() < 0.9]
            if not offsets:
                continue
            luck = dice.random()
            if luck < 0.02:
                scores.end += 1
            if luck > 0.97:
                scores.append(NotAskedBlock((model,), pack_offsets(offsets), "shed"), now)
            elif luck > 0.94:
                scores.append(ScoreBlock(model, "1", b"", b"", tuple(RowError(o, "raised") for o in offsets)), now)
            else:
                scores.append(_block(model, offsets, [round(dice.random(), 3) for _ in offsets]), now)


def _block(model: str, offsets: list[int], scores: list[float]) -> ScoreBlock:
    count = len(offsets)
    return ScoreBlock(model, "1", pack(f"<{count}q", *offsets), pack(f"<{count}d", *scores))
