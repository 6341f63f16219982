"""Raw and scores of one partition, given to its core in the order of their log times; every timer at its own time.

What a restart does with the time it missed, and a backtest with an archive: the same core, under a clock that is
the log's. At the same millisecond a request goes before a score. Reads no clock and sends nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable

from schemas.requests import Rejection, Request
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous

Offer = Callable[[float], list[Reply]]
"""One block of scores, offered to the core as of a time (ms)."""


class LogOrder:
    """Takes both logs in pieces, each in its own order, and goes on as far as both are known."""

    def __init__(self, core: Rendezvous, *, raw: bool = True, scores: bool = True) -> None:
        self.core = core
        self._open = {"raw": raw, "scores": scores}
        self._raw: deque[Request | Rejection] = deque()
        self._scores: deque[tuple[float, Offer]] = deque()

    @property
    def done(self) -> bool:
        """Whether both logs have ended and everything in them was run through."""
        return not (self._open["raw"] or self._open["scores"] or self._raw or self._scores)

    def requests_seen(self, requests: Iterable[Request | Rejection]) -> None:
        """Take raw records, in offset order."""
        self._raw.extend(requests)

    def scores_offered(self, log_ms: float, offer: Offer) -> None:
        """Take a block of scores that was appended at `log_ms`, in the order of the log."""
        self._scores.append((log_ms, offer))

    def close(self, *logs: str) -> None:
        """Nothing more will come of these logs (`raw`, `scores`)."""
        self._open.update(dict.fromkeys(logs, False))

    def run(self) -> list[Reply]:
        """Go on through time as far as both logs are known."""
        replies: list[Reply] = []
        raw, scores = self._raw, self._scores
        while (raw or not self._open["raw"]) and (scores or not self._open["scores"]) and (raw or scores):
            if raw and (not scores or raw[0].at_ms <= scores[0][0]):
                request = raw.popleft()
                replies += self.through(request.at_ms)
                replies += self.core.requests_seen([request], request.at_ms)
            else:
                log_ms, offer = scores.popleft()
                replies += self.through(log_ms)
                replies += offer(log_ms)
        return replies

    def through(self, until_ms: float) -> list[Reply]:
        """Every timer on the way fires at its own time."""
        replies: list[Reply] = []
        while (due_ms := self.core.next_due_ms) is not None and due_ms <= until_ms:
            replies += self.core.due(due_ms)
        return replies
