"""A producer's repeats: the same request id, key, payload and budget again, within a horizon.

The bare id is not enough: two clients that choose one id must never be given each other's answer. Beyond the
horizon, or when more requests than LIMIT lie between, a repeat is a new request.
"""

from collections import deque
from hashlib import blake2b

from msgspec import Struct

from schemas.decisions import Decision
from schemas.requests import Request

LIMIT = 200_000
"""Requests remembered for one partition, of some 300 bytes each."""


class Known(Struct, gc=False):
    """A request that was seen; `outcome` is empty until it is decided, `logged` is true once the log has its answer.

    The first record in the log is the answer: it replaces what we said ourselves, and no later one replaces it.
    """

    offset: int
    at_ms: float
    fingerprint: str
    outcome: str = ""
    model: str | None = None
    version: str | None = None
    score: float | None = None
    logged: bool = False

    def take(self, decision: "Decision | Known", *, logged: bool = False) -> None:
        """Keep the answer that repeats are given, unless the log has another."""
        if not self.logged:
            self.outcome, self.model, self.version = decision.outcome, decision.model, decision.version
            self.score, self.logged = decision.score, logged


class Repeats:
    """Remembers requests of one partition by fingerprint. Time is that of the requests (ms)."""

    def __init__(self, horizon_s: float) -> None:
        self._horizon_ms = horizon_s * 1e3
        self._known: dict[str, Known] = {}
        self._order: deque[Known] = deque()

    def seen(self, request: Request, partition: int) -> Known | None:
        """Who answers for this request: itself, or the earlier one (of another offset) that it repeats.

        None when nobody can repeat it: its id was minted, or the horizon is 0.
        """
        if not self._horizon_ms or request.request_id == f"{partition}-{request.offset}":
            return None
        fingerprint = fingerprint_of(request)
        known = self._known.get(fingerprint)
        if known and (known.offset == request.offset or known.at_ms >= request.at_ms - self._horizon_ms):
            return known
        return self._add(Known(request.offset, request.at_ms, fingerprint))

    def read_back(self, found: Known) -> Known:
        """Keep what the log says, for repeats to come; returns the request it belongs to.

        In the order of raw: a request that raw has not reached would take the place, within the horizon, of one that
        is still asked for.
        """
        known = self._known.get(found.fingerprint)
        if known is not None and known.offset == found.offset:
            known.take(found, logged=True)
            return known
        if known and (
            known.offset > found.offset or (known.outcome and known.at_ms >= found.at_ms - self._horizon_ms)
        ):
            return found
        return self._add(found)

    def _add(self, known: Known) -> Known:
        order = self._order
        order.append(known)
        self._known[known.fingerprint] = known
        oldest_ms = known.at_ms - self._horizon_ms
        while order[0].at_ms < oldest_ms or len(order) > LIMIT:
            gone = order.popleft()
            if self._known.get(gone.fingerprint) is gone:
                del self._known[gone.fingerprint]
        return known


class Firsts:
    """Which requests of one partition repeat an earlier one, by the rule of `Repeats`: they are not scored again.

    The answer is none of its business, but it must take no request for a repeat that whoever answers takes for a new
    one. It begins with nothing: what it meets within the horizon of what it does not remember may itself be a repeat,
    and those that equal it repeat the one or the other, or none. They are scored again, and that is all.
    """

    LIMIT = 100_000

    def __init__(self, partition: int, horizon_s: float) -> None:
        self._partition = partition
        self._horizon_ms = horizon_s * 1e3
        self._known: dict[int, tuple[int, int, bool]] = {}
        self._order: deque[tuple[int, int, int]] = deque()
        self._sure_ms = -1.0

    def apart(self, requests: list[Request]) -> tuple[list[Request], list[Request]]:
        """Those that are new, and those that repeat others; both in the order of raw, in which they are given."""
        repeats = [request for request in requests if self._repeats(request)] if self._horizon_ms else []
        if not repeats:
            return requests, repeats
        out = {request.offset for request in repeats}
        return [request for request in requests if request.offset not in out], repeats

    def _repeats(self, request: Request) -> bool:
        offset, at_ms, horizon_ms = request.offset, request.at_ms, self._horizon_ms
        if request.request_id == f"{self._partition}-{offset}":
            return False
        if self._sure_ms < 0:
            self._sure_ms = at_ms + horizon_ms
        mark = hash((request.budget_ms, request.key, request.request_id, request.value))  # a seed for each process
        sure = at_ms > self._sure_ms
        if known := self._known.get(mark):
            first, first_ms, is_first = known
            if first == offset:
                return False  # a batch that is tried again
            if first_ms >= at_ms - horizon_ms:
                if is_first:
                    return True
                sure = False
        self._known[mark] = offset, at_ms, sure
        self._order.append((at_ms, offset, mark))
        self._forget(at_ms - horizon_ms)
        return False

    def _forget(self, before_ms: float) -> None:
        order = self._order
        while order[0][0] < before_ms or len(order) > self.LIMIT:
            at_ms, offset, mark = order.popleft()
            self._sure_ms = max(self._sure_ms, at_ms + self._horizon_ms)
            if self._known[mark][0] == offset:
                del self._known[mark]


def repeatable(decision: Decision) -> bool:
    """Whether later requests may repeat the one it answers."""
    return bool(decision.fingerprint) and decision.duplicate_of is None


def logged(decision: Decision) -> Known:
    """What a decision in the log says of its request and of the answer."""
    at_ms = decision.decided_at_ms - int(decision.used_ms)  # raw's log time, exactly: so it was written
    known = Known(decision.ticket.offset, at_ms, decision.fingerprint)
    known.take(decision, logged=True)
    return known


def fingerprint_of(request: Request) -> str:
    """16 hex digits over budget, key, id and payload (BLAKE2b): with another budget it is another request."""
    key = request.key
    form = b"%d %d %s " % (request.budget_ms, -1 if key is None else len(key), request.request_id.encode())
    return blake2b(form + (key or b"") + request.value, digest_size=8).hexdigest()
