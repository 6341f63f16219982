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
"""Requests remembered for one partition, of some 500 bytes each."""


class Known(Struct, gc=False):
    """A request that was seen; `outcome` is empty until it is decided."""

    offset: int
    at_ms: float
    request_id: str
    fingerprint: str
    outcome: str = ""
    model: str | None = None
    version: str | None = None
    score: float | None = None


class Repeats:
    """Remembers requests of one partition by id and fingerprint. Time is that of the requests (ms)."""

    def __init__(self, horizon_s: float) -> None:
        self._horizon_ms = horizon_s * 1e3
        self._known: dict[tuple[str, str], Known] = {}
        self._order: deque[Known] = deque()

    def fingerprint(self, request: Request, partition: int) -> str:
        """What makes a repeat of this request a repeat; empty when nobody can repeat it: its id was minted."""
        if not self._horizon_ms or request.request_id == f"{partition}-{request.offset}":
            return ""
        return fingerprint_of(request.value, request.key, request.budget_ms)

    def first_of(self, request: Request, fingerprint: str) -> Known | None:
        """The request that this one repeats; None when it is new, and known from now on."""
        known = self._known.get((request.request_id, fingerprint))
        if known and known.offset != request.offset and known.at_ms >= request.at_ms - self._horizon_ms:
            return known
        if known is None or known.offset != request.offset:
            self._add(Known(request.offset, request.at_ms, request.request_id, fingerprint))
        return None

    def decided(self, decision: Decision) -> Known | None:
        """Keep the answer for repeats to come; returns the request it belongs to, if repeats may."""
        if not decision.fingerprint or decision.duplicate_of is not None:
            return None
        known = self._known.get((decision.request_id, decision.fingerprint))
        if known is None or known.offset < decision.ticket.offset:
            at_ms = decision.decided_at_ms - decision.used_ms
            if known is not None and known.at_ms >= at_ms - self._horizon_ms and known.outcome:
                return None
            known = Known(decision.ticket.offset, at_ms, decision.request_id, decision.fingerprint)
            self._add(known)
        elif known.offset != decision.ticket.offset:
            return None
        known.outcome, known.model, known.version = decision.outcome.value, decision.model, decision.version
        known.score = decision.score
        return known

    def _add(self, known: Known) -> None:
        order = self._order
        order.append(known)
        self._known[known.request_id, known.fingerprint] = known
        oldest_ms = known.at_ms - self._horizon_ms
        while order[0].at_ms < oldest_ms or len(order) > LIMIT:
            gone = order.popleft()
            key = (gone.request_id, gone.fingerprint)
            if self._known.get(key) is gone:
                del self._known[key]


def fingerprint_of(value: bytes, key: bytes | None, budget_ms: int) -> str:
    """16 hex digits over key, payload and budget (BLAKE2b); a repeat with another budget is another request."""
    form = b"%d %d " % (budget_ms, -1 if key is None else len(key))
    return blake2b(form + (key or b"") + value, digest_size=8).hexdigest()
