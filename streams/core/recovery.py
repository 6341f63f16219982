"""The time a rendezvous missed: its core is run through raw and scores again, in the order of their log times.

A request that is overdue is decided as of its deadline, with what was in the log by then: taking the best
score there is now would give another answer than the live run when a step of the schedule was satisfied
before. Reads no clock and sends nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from schemas.requests import Rejection, Request
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous

Offer = Callable[[float], list[Reply]]
"""One block of scores, offered to the core as of a time (ms)."""


class Recovery:
    """Merges raw and scores of one partition until both have reached the ends they had at the start."""

    def __init__(self, core: Rendezvous, raw_end: int, scores_end: int) -> None:
        self.core = core
        start = core.checkpoint()
        self._ends = {"raw": raw_end, "scores": scores_end}
        self._open = {"raw": start.raw < raw_end, "scores": start.scores < scores_end}
        self._raw: deque[Request | Rejection] = deque()
        self._scores: deque[tuple[int, Offer]] = deque()

    @property
    def done(self) -> bool:
        """Whether everything up to the ends was run through."""
        return not (self._open["raw"] or self._open["scores"] or self._raw or self._scores)

    def requests_seen(self, requests: Iterable[Request | Rejection]) -> None:
        """Take raw records, in offset order."""
        self._raw.extend(requests)
        if self._raw:
            self._reached("raw", self._raw[-1].offset)

    def scores_offered(self, position: int, log_ms: int, offer: Offer) -> None:
        """Take a block of scores that lies at `position` and was appended at `log_ms`."""
        self._scores.append((log_ms, offer))
        self._reached("scores", position)

    def _reached(self, which: str, offset: int) -> None:
        if offset >= self._ends[which] - 1:
            self._open[which] = False

    def close(self) -> None:
        """Nothing more will come: the last offsets are a transaction's, which no reader is shown."""
        self._open = dict.fromkeys(self._open, False)

    def run(self, now_ms: float) -> list[Reply]:
        """Go on through time as far as both sides are known; the replies are marked."""
        replies: list[Reply] = []
        raw, scores = self._raw, self._scores
        while (raw or not self._open["raw"]) and (scores or not self._open["scores"]) and (raw or scores):
            if raw and (not scores or raw[0].at_ms <= scores[0][0]):
                request = raw.popleft()
                replies += self._through(request.at_ms)
                replies += self.core.requests_seen([request], request.at_ms)
            else:
                log_ms, offer = scores.popleft()
                replies += self._through(log_ms)
                replies += offer(log_ms)
        if self.done:
            replies += self._through(now_ms)
        return [_marked(reply, now_ms) for reply in replies]

    def _through(self, until_ms: float) -> list[Reply]:
        """Every timer on the way fires at its own time."""
        replies: list[Reply] = []
        while (due_ms := self.core.next_due_ms) is not None and due_ms <= until_ms:
            replies += self.core.due(due_ms)
        return replies


def _marked(reply: Reply, now_ms: float) -> Reply:
    decision = reply.decision
    late_by_ms = max(0.0, now_ms - reply.request.at_ms - decision.budget_ms)
    return Reply(replace(decision, recovered=True, late_by_ms=round(late_by_ms, 1)), reply.request)
