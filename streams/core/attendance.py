"""Which models no longer answer: errors, scores out of bounds, lateness and silence, against the reference's own.

Statistics of scores say nothing of scores that are not there. What is usual is the share in the worst thousand of the
reference; what is beyond it says `streams.core.risen`. Who was not asked, lacks a score that it needs, or is
quarantined on the roster is not missed. Pure; probes are not counted.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from streams.core.blame import ERROR, NEEDED, SKIPPED
from streams.core.gathering import Gathered
from streams.core.risen import LEAST, RISE, risen

PART, PARTS = 250, 16
"""Requests that are counted together, the grain in which a beginning is known; and how many such are remembered."""

NOT_MISSED = frozenset((SKIPPED, NEEDED))

UNKNOWN = 0.45
"""The share that is allowed to a model that the reference does not have: half of its answers have to be there."""

GONE = 0.02
"""Of what it is asked: a model that gives no more scores than that is silent, not late."""


class Part(Struct):
    """What one model did with up to 250 requests that it was asked, from this event on."""

    event: int
    at_ms: int
    asked: int = 0
    scored: int = 0
    failed: int = 0
    guarded: int = 0
    late: int = 0

    def add(self, other: "Part") -> None:
        """What it did with these, too."""
        for name in ("asked", "scored", *KINDS):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def share(self, kind: str) -> float:
        """Of what it was asked."""
        return float(getattr(self, kind)) / self.asked if self.asked else 0.0


KINDS = ("failed", "guarded", "late")
"""The gravest first. Late is what came after the deadline, or not at all."""


class Absence(Struct, frozen=True):
    """One model's share of one kind has risen: since which event, of how many, from what at most.

    Is it `over` by now? Is it `silent` (a kind of late), with hardly any answer at the end?
    """

    model: str
    kind: str
    since_event: int
    since_ms: int
    count: int
    asked: int
    usual: float
    over: bool
    silent: bool

    @property
    def share(self) -> float:
        """Of what it was asked since the last verdict."""
        return self.count / self.asked

    @property
    def of_threshold(self) -> float:
        """The share as a multiple of what is allowed."""
        return round(self.share / (self.usual + RISE), 2)


class Attendance:
    """Of all models, in the reference and since the last verdict."""

    def __init__(self) -> None:
        self.usual: dict[str, dict[str, float]] = {}
        self.parts: dict[str, deque[Part]] = {}
        self.since: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, one: Gathered, event: int, quarantined: Mapping[str, str]) -> None:
        """One request that is no probe; `quarantined` are versions by name."""
        budget_ms, scores, took, guarded, every = one.budget_ms, one.scores, one.took_ms, one.guarded, self.parts
        for name, version in one.expected.items():
            scored = name in scores
            why = None if scored else one.without.get(name)
            if (why is not None and why in NOT_MISSED) or (quarantined and quarantined.get(name) == version):
                continue
            parts = every.get(name)
            part = parts[-1] if parts and parts[-1].asked < PART else self._part(name, event, one.at_ms)
            part.asked += 1
            if scored:
                part.scored += 1
                if took.get(name, 0.0) > budget_ms:
                    part.late += 1
                if guarded and name in guarded:
                    part.guarded += 1
            elif why == ERROR:
                part.failed += 1
            else:
                part.late += 1

    def _part(self, name: str, event: int, at_ms: int) -> Part:
        parts = self.parts.get(name)
        if parts is None:
            parts = self.parts[name] = deque(maxlen=PARTS)
        if not parts or parts[-1].asked == PART:
            parts.append(Part(event, at_ms))
        return parts[-1]

    def learn(self) -> None:
        """What was taken is usual, thousand by thousand: in the reference, after each request that ends one."""
        for name, parts in self.parts.items():
            whole = _together(parts)
            if whole.asked >= LEAST:
                usual = self.usual.setdefault(name, dict.fromkeys(KINDS, 0.0))
                usual |= {kind: max(usual[kind], whole.share(kind)) for kind in KINDS}
        self.parts = {}

    def absent(self, expected: Collection[str]) -> list[Absence]:
        """What has risen, of models that are expected now; and begin anew, but for who was asked too little."""
        here = {name: parts for name, parts in self.parts.items() if name in expected}
        self.parts = {name: parts for name, parts in here.items() if _together(parts).asked < LEAST}
        found = [one for name in sorted(here) for one in _risen(name, here[name], self.usual.get(name))]
        found = [self._since(one) for one in found]
        waiting = {key: since for key, since in self.since.items() if key[0] in self.parts}
        self.since = waiting | {(one.model, one.kind): (one.since_event, one.since_ms) for one in found}
        return found

    def _since(self, one: Absence) -> Absence:
        """What goes on keeps its beginning."""
        event, at_ms = self.since.get((one.model, one.kind), (one.since_event, one.since_ms))
        return replace(one, since_event=event, since_ms=at_ms)


def _risen(name: str, parts: deque[Part], known: Mapping[str, float] | None) -> Iterator[Absence]:
    whole, last = _together(parts), _together([*parts][-2:])
    for kind in KINDS:
        usual = known[kind] if known else UNKNOWN
        if not risen(getattr(whole, kind), whole.asked, usual):
            continue
        first = next((part for part in parts if part.share(kind) >= usual + RISE), parts[0])
        yield Absence(
            model=name,
            kind=kind,
            since_event=first.event,
            since_ms=first.at_ms,
            count=getattr(whole, kind),
            asked=whole.asked,
            usual=usual,
            over=last.share(kind) < usual + RISE,
            silent=kind == "late" and last.scored + last.failed <= GONE * last.asked,
        )


def _together(parts: Iterable[Part]) -> Part:
    found = Part(0, 0)
    for part in parts:
        found.add(part)
    return found
