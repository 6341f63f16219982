"""Probes: frozen raw records that go down the live road again and again. A model is a function of its input.

Whoever answers a probe otherwise than the first time has changed, whatever the input does meanwhile; an error in the
place of a score is another answer. Nobody's answer changed: the code is acquitted.
"""

from collections import deque
from collections.abc import Mapping
from math import sqrt

import numpy as np
from msgspec import Struct, field

from streams.core.verdicts.events import Event, number

SAME = 1e-6
LEAST = 16
MOST_KEYS = 4096
CERTAIN_Z = 6.0


class Answers(Struct):
    """One model's answers to the probes: the first to each, the last, which differ, and which are errors now."""

    first: dict[str, float] = {}
    last: dict[str, float] = {}
    differ: set[str] = set()
    failed: set[str] = set()
    fails: bool = False  # in the reference, too, it answered now and then with an error: that is no change
    known: bool = False  # from before this reference: answers are held against the first ones while it is learnt, too
    noise: float = 0.0  # root mean square of differences in the reference; 0 for a model without randomness
    repeats: int = 0
    squares: float = 0.0
    recent: deque[float] = field(default_factory=deque)
    since: int | None = None


class Probes:
    """What the probes say."""

    def __init__(self, models: list[str]) -> None:
        self.models = models
        self.answers = {name: Answers() for name in models}
        self.keys: set[str] = set()
        self.in_window = 0
        self.compared: deque[int] = deque(maxlen=MOST_KEYS)
        self.since_change = 0

    def offer(self, event: Event, place: int, *, frozen: bool) -> None:
        """One probe's answers, before event `place`; in the reference (not `frozen`) they teach what is usual."""
        key = event.probe or ""
        self.in_window += 1
        if key not in self.keys and len(self.keys) >= MOST_KEYS:
            return
        self.keys.add(key)
        if frozen and any(key in mine.first for mine in self.answers.values()):
            self.compared.append(place)
        for name, mine in self.answers.items():
            score = number(event.scores.get(name))
            if score is not None:
                self._answered(mine, key, score, place, frozen=frozen)
            elif name in event.failed:
                _failed(mine, key, place, frozen=frozen)
        if self.changed():
            self.since_change += 1

    def know(self, model: str, first: Mapping[str, float], noise: float, *, fails: bool) -> None:
        """What a model answered before this watch began; one that is not watched has no say."""
        if model in self.answers:
            self.answers[model] = Answers(dict(first), noise=noise, fails=fails, known=True)
            self.keys |= first.keys()

    def _answered(self, mine: Answers, key: str, score: float, place: int, *, frozen: bool) -> None:
        if key not in mine.first:
            mine.first[key] = score
            return
        difference = score - mine.first[key]
        if not (frozen or mine.known):
            mine.repeats += 1
            mine.squares += difference * difference
            mine.noise = sqrt(mine.squares / mine.repeats)
            if mine.noise <= SAME:
                mine.noise = 0.0
            return
        mine.last[key] = score
        mine.failed.discard(key)
        if mine.noise:
            _as_ever(mine, key)
            self._noisy(mine, difference, place)
        elif abs(difference) > SAME * max(1.0, abs(mine.first[key])):
            _otherwise(mine, key, place)
        else:
            _as_ever(mine, key)

    def _noisy(self, mine: Answers, difference: float, place: int) -> None:
        """A model with randomness: the last round's mean difference against its usual spread."""
        mine.recent.append(difference)
        while len(mine.recent) > max(len(self.keys), LEAST):
            mine.recent.popleft()
        count = len(mine.recent)
        if count < LEAST:
            return
        z = abs(sum(mine.recent)) / sqrt(count) / (mine.noise * sqrt(2))
        if z > CERTAIN_Z:
            _otherwise(mine, "", place)
        else:
            _as_ever(mine, "")

    def changed(self) -> list[str]:
        """The models that answer otherwise than they did."""
        return [name for name in self.models if self.answers[name].differ]

    def settled(self) -> bool:
        """Whether every probe has been asked since the first changed answer."""
        return self.since_change >= len(self.keys)

    def live(self, since: int) -> bool:
        """Whether probes are asked at all: one was, after this event."""
        return len(self.keys) >= LEAST and bool(self.compared) and self.compared[-1] >= since

    def acquit(self, since: int) -> bool:
        """Whether every probe was asked again after this event, and every model answered as before."""
        keys = len(self.keys)
        return LEAST <= keys <= len(self.compared) and self.compared[-keys] >= since and not self.changed()

    def since(self) -> int | None:
        """The event before which the first changed answer came."""
        places = [mine.since for mine in self.answers.values() if mine.since is not None]
        return min(places, default=None)

    def next_window(self) -> int:
        """Start counting anew; returns how many probes the last window had."""
        count, self.in_window = self.in_window, 0
        if not self.changed():
            self.since_change = 0
        return count

    def order_kept(self, model: str) -> bool:
        """Whether the changed model puts the probes into the order it always did."""
        mine = self.answers[model]
        keys = [key for key in mine.last if key in mine.first]
        first = np.array([mine.first[key] for key in keys])
        last = np.array([mine.last[key] for key in keys])
        order = np.lexsort((last, first))
        enough = len(keys) >= LEAST and not mine.failed
        return enough and bool((np.diff(last[order]) >= -SAME).all()) and np.ptp(last) > SAME

    def share_changed(self, model: str) -> tuple[int, int, float]:
        """How many probes a model answers otherwise, of how many asked again, and by how much scores do at most."""
        mine = self.answers[model]
        largest = max((abs(mine.last[key] - mine.first[key]) for key in mine.differ if key in mine.last), default=0.0)
        return len(mine.differ), len(mine.last) + len(mine.failed), largest


def _failed(mine: Answers, key: str, place: int, *, frozen: bool) -> None:
    """An error: another answer than the score that was there, unless this model fails now and then."""
    if key not in mine.first:
        return
    if not (frozen or mine.known):
        mine.fails = True
    elif not mine.fails:
        mine.last.pop(key, None)
        mine.failed.add(key)
        _otherwise(mine, key, place)


def _otherwise(mine: Answers, key: str, place: int) -> None:
    mine.differ.add(key)
    mine.since = place if mine.since is None else mine.since


def _as_ever(mine: Answers, key: str) -> None:
    mine.differ.discard(key)
    if not mine.differ:
        mine.since = None
