"""When the champion is passed over, and when it comes back: by its last scores, request by request.

A circuit breaker (Nygard, *Release It!*) whose half-open state costs nobody anything: a model that is passed over
goes on scoring every request, so that it shows by its scores when it is well. Pure: it reads no clock and moves
nobody; who asks it writes the move on the roster, from where every role learns it.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import isfinite

from msgspec import Struct

from schemas.blocks import NotAskedBlock, ScoreBlock, ScoresBlock, offsets_of, scores_of
from schemas.pipeline import BreakerSettings, Guard
from schemas.requests import Rejection, Request
from streams.core.course import outside

LATE, ERROR, GUARDED, WELL = "late", "error", "guarded", "well"

WORDS: Mapping[str, str] = {
    LATE: "came after {after:.0%} of the budget, or never",
    ERROR: "were errors",
    GUARDED: "were outside their bounds",
}
Key = tuple[int, int]
"""Partition and offset of a request."""


class Turn(Struct, frozen=True):
    """The champion is to be passed over, or to come back, and why."""

    model: str
    over: bool
    why: str


class Breaker:
    """What one version of a model made of the last requests. Times are in ms on the broker's clock."""

    def __init__(
        self,
        settings: BreakerSettings,
        guards: Iterable[Guard],
        model: str,
        version: str,
        *,
        over: bool,
        now_ms: float,
    ) -> None:
        self.model = model
        self.version = version
        self.over = over
        self._settings = settings
        self._guard = next((guard for guard in guards if guard.model == model), None)
        self._since_ms = now_ms
        self._waiting: dict[Key, float] = {}
        self._due: list[tuple[float, Key]] = []
        self._last: deque[str] = deque()
        self._counts: Counter[str] = Counter()

    def asked(self, partition: int, requests: Iterable[Request | Rejection]) -> None:
        """They are in raw: the model is to score them."""
        share = self._settings.late_after
        for request in requests:
            if isinstance(request, Request):
                key, due_ms = (partition, request.offset), request.at_ms + share * request.budget_ms
                self._waiting[key] = due_ms
                heappush(self._due, (due_ms, key))

    def offered(self, partition: int, block: ScoresBlock, log_ms: float) -> None:
        """It is on `scores`."""
        if isinstance(block, ScoreBlock) and (block.model, block.version) == (self.model, self.version):
            for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                self._take((partition, offset), ERROR if not isfinite(score) else self._guarded(score), log_ms)
            for error in block.errors:
                self._take((partition, error.offset), ERROR, log_ms)
        elif isinstance(block, NotAskedBlock) and self.model in block.models:
            for offset in offsets_of(block.offsets):
                self._waiting.pop((partition, offset), None)  # no fault of its own

    def turn(self, now_ms: float) -> Turn | None:
        """Whether it is to be passed over now, or to come back; None when it stays as it is."""
        while self._due and self._due[0][0] < now_ms:
            _, key = heappop(self._due)
            if self._waiting.pop(key, None) is not None:
                self._note(LATE)
        rule = self._settings
        if len(self._last) < rule.requests:
            return None
        allowed = {LATE: rule.late_share, ERROR: rule.error_share, GUARDED: rule.guard_share}
        shares = {what: self._counts[what] / len(self._last) for what in allowed}
        bad = {what: share for what, share in shares.items() if share > allowed[what]}
        if self.over:
            if bad or now_ms - self._since_ms < rule.well_s * 1e3:
                return None
            return Turn(self.model, False, f"well again: {self._counts[WELL]} of its last {len(self._last)} scores")
        if not bad:
            return None
        said = ", ".join(f"{share:.0%} {WORDS[what].format(after=rule.late_after)}" for what, share in bad.items())
        return Turn(self.model, True, f"of its last {len(self._last)} scores {said}")

    def _guarded(self, score: float) -> str:
        return GUARDED if self._guard is not None and outside(self._guard, score) else WELL

    def _take(self, key: Key, what: str, log_ms: float) -> None:
        due_ms = self._waiting.pop(key, None)
        if due_ms is not None:  # else it was counted late, or was asked in another life
            self._note(LATE if log_ms > due_ms else what)

    def _note(self, what: str) -> None:
        self._last.append(what)
        self._counts[what] += 1
        if len(self._last) > self._settings.requests:
            self._counts[self._last.popleft()] -= 1
