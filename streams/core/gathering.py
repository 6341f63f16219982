"""Raw, scores, decisions and what was joined in, of one partition: one event a request, in raw's order.

What belongs to a request is what was appended until a while after its deadline, by the broker's clock, whenever it
was read: so the same logs give the same events, after any restart. A request is handed on when all of it is there, or
when the other logs are known beyond that time. Reads no clock.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Literal

from msgspec import Struct, json

from schemas.blocks import NotAskedBlock, RejectionBlock, ScoreBlock, ScoresBlock, offsets_of, scores_of
from schemas.decisions import Ticket
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import Pipeline, Role
from schemas.requests import Rejection, Request
from streams.core.blame import SKIPPED, blame
from streams.core.entitlement import PerSpan, Spans, always
from streams.core.held import LIMIT
from streams.core.races import NUMBERS

LOGS = ("raw", "scores", "decisions")
ENRICHED = "enriched"
MOST_WAITING = 20_000
AHEAD_MS = 2_000.0
"""When so many requests wait, a log that is further ahead of the slowest one is not read on: memory stays flat."""

AFTER_MS = 1_000.0
"""How long after its deadline a score or a decision still belongs to its request."""

NOTHING: Mapping[str, bytes] = {}
Place = tuple[int | None, int | None, int | None]
"""Where something of a request lies first on scores, decisions and enriched; None where nothing does."""

SCORES, DECISIONS, JOINED = range(3)
NOWHERE: Place = (None, None, None)


def logs_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The logs that are gathered of a pipeline."""
    return (*LOGS, ENRICHED) if pipeline.enrich else LOGS


class DecisionSeen(Struct, frozen=True, gc=False):
    """What this needs of a decision; the rest is not decoded."""

    ticket: Ticket
    outcome: Literal["preferred", "fallback", "default", "rejected"]
    final: bool
    model: str | None = None
    reason: str = ""
    guarded: dict[str, str] | None = None


_decode = json.Decoder(DecisionSeen).decode


def decode_decision_seen(value: bytes | None) -> DecisionSeen:
    """Read a decision; raises UnreadableRecord when it is none."""
    try:
        return _decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a decision: {error}") from error


class Gathered(Struct, gc=False):
    """One request with what came for it, of the models and versions that are `expected`.

    `took_ms` are from raw's log time to each score's; `without` says why a model has none (`streams.core.blame`).
    `joined` are the tables' records, by table; None as long as the router has not said them. `record` is the
    producer's key and value, where somebody asked for it to be kept.
    """

    ticket: Ticket
    at_ms: int
    leave_ms: float
    expected: Mapping[str, str]
    fields: dict[str, Any]
    probe: str | None
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}
    took_ms: dict[str, float] = {}
    without: dict[str, str] = {}
    outcome: str = ""
    winner: str | None = None
    why: str = ""
    decided_ms: int | None = None
    guarded: tuple[str, ...] = ()
    joined: Mapping[str, bytes] | None = NOTHING
    record: tuple[bytes | None, bytes] | None = None
    at: Place = NOWHERE

    @property
    def budget_ms(self) -> float:
        """How long it had."""
        return self.leave_ms - AFTER_MS - self.at_ms

    @property
    def whole(self) -> bool:
        """Whether nothing more is expected."""
        if not self.outcome or self.joined is None:
            return False
        scores, without = self.scores, self.without
        for name in self.expected:  # asked of every request: a loop costs half of what all() does  # noqa: SIM110
            if name not in scores and name not in without:
                return False
        return True


class Places(Struct, frozen=True):
    """Where to read on so that every request not handed on yet is gathered again."""

    raw: int
    scores: int
    decisions: int
    enriched: int = 0


class Gathering:
    """One partition. Each log is fed in its own order; they need not be equally far.

    What was fed before is passed over: a batch that failed half-way is handed to its agent again.
    """

    def __init__(self, pipeline: Pipeline, number: int, start: Places) -> None:
        self.number = number
        self._expected = PerSpan(always(pipeline), _scored)
        self._open: dict[int, Gathered] = {}
        self._order: deque[Gathered] = deque()
        self._ahead: dict[int, list[tuple[What, Any]]] = {}
        self._ahead_at: dict[int, Place] = {}
        self._next = start
        self.logs = logs_of(pipeline)
        self._unknown = None if pipeline.enrich else NOTHING
        self._reached_ms = dict.fromkeys(self.logs, -inf)
        self._raw_begun = False  # as long as nothing of it was read it may begin anywhere

    @property
    def waiting(self) -> int:
        """Requests that wait, and those ahead of raw of which something has come."""
        return len(self._order) + len(self._ahead)

    def entitle(self, spans: Spans) -> None:
        """More of the roster is known."""
        self._expected.follow(spans)

    def requested(
        self,
        request: Request | Rejection,
        fields: dict[str, Any],
        probe: str | None,
        record: tuple[bytes | None, bytes] | None = None,
    ) -> None:
        """A raw record, in offset order, with the raw fields that are watched."""
        offset = request.offset
        if offset < self._next.raw:
            return
        if self._ahead and (offset > self._next.raw or not self._raw_begun):
            # Of holes, and of offsets that nobody has: what came for them is nobody's.
            for gone in [known for known in self._ahead if not offset <= known < offset + LIMIT]:
                del self._ahead[gone], self._ahead_at[gone]
        self._next = Places(offset + 1, self._next.scores, self._next.decisions, self._next.enriched)
        self._raw_begun = True
        refused = isinstance(request, Rejection)
        one = Gathered(
            Ticket(self.number, offset),
            request.at_ms,
            request.at_ms + request.budget_ms + AFTER_MS,
            {} if refused else self._expected.at(request.at_ms),
            fields,
            probe,
            joined=NOTHING if refused else self._unknown,
            record=record,
        )
        self._open[offset] = one
        self._order.append(one)
        one.at = self._ahead_at.pop(offset, NOWHERE)
        for what, value in self._ahead.pop(offset, ()):
            what(one, value)
        self.reached("raw", request.at_ms)

    def scored(self, block: ScoresBlock, position: int, log_ms: int) -> None:
        """What lies on `scores` at `position`."""
        if position < self._next.scores:
            return
        self._next = Places(self._next.raw, position + 1, self._next.decisions, self._next.enriched)
        match block:
            case ScoreBlock():
                scored = _Scored(block.model, block.version, log_ms)
                for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                    self._tell(offset, scored, score, SCORES, position)
                failed = _Failed(block.model, block.version, log_ms)
                for error in block.errors:
                    self._tell(error.offset, failed, blame(error.reason), SCORES, position)
            case NotAskedBlock():
                without = _Without(block.models, log_ms)
                for offset in offsets_of(block.offsets):
                    self._tell(offset, without, SKIPPED, SCORES, position)
            case RejectionBlock():
                refused = _Refused(log_ms)
                for row in block.rows:
                    self._tell(row.offset, refused, None, SCORES, position)
        self.reached("scores", log_ms)

    def decided(self, outcome: DecisionSeen, position: int, log_ms: int) -> None:
        """What lies on `decisions` at `position`; of a ticket, the first final one counts."""
        if position < self._next.decisions:
            return
        self._next = Places(self._next.raw, self._next.scores, position + 1, self._next.enriched)
        if outcome.final:
            self._tell(outcome.ticket.offset, _Decided(log_ms), outcome, DECISIONS, position)
        self.reached("decisions", log_ms)

    def joined(self, rows: Iterable[tuple[int, Mapping[str, bytes]]], position: int, log_ms: int) -> None:
        """What lies on `enriched` at `position`: offsets, and records by table; of two for one the first counts."""
        if position < self._next.enriched:
            return
        self._next = Places(self._next.raw, self._next.scores, self._next.decisions, position + 1)
        joined = _Joined(log_ms)
        for offset, records in rows:
            self._tell(offset, joined, records, JOINED, position)
        self.reached(ENRICHED, log_ms)

    def _tell(self, offset: int, what: "What", value: Any, log: int, position: int) -> None:
        """Something came for a request. Positions of a log rise: the first that is noted is the first there is."""
        one = self._open.get(offset)
        if one is not None:
            what(one, value)
            if one.at[log] is None:
                one.at = _noted(one.at, log, position)
        elif self._next.raw <= offset < (self._next.raw + LIMIT if self._raw_begun else inf):
            self._ahead.setdefault(offset, []).append((what, value))
            at = self._ahead_at.get(offset, NOWHERE)
            if at[log] is None:
                self._ahead_at[offset] = _noted(at, log, position)

    def passed(self, position: int, log_ms: float) -> None:
        """A record on `decisions` that is none."""
        decisions = max(self._next.decisions, position + 1)
        self._next = Places(self._next.raw, self._next.scores, decisions, self._next.enriched)
        self.reached("decisions", log_ms)

    def reached(self, log: str, log_ms: float) -> None:
        """Nothing that was appended before this time is still to come of this log."""
        self._reached_ms[log] = max(self._reached_ms[log], log_ms)

    def read_to(self) -> Places:
        """The next place of each log."""
        return self._next

    def reached_ms(self, log: str) -> float:
        """The log time up to which a log is known."""
        return self._reached_ms[log]

    @property
    def head(self) -> Gathered | None:
        """The first request that was not handed on."""
        return self._order[0] if self._order else None

    @property
    def frontier_ms(self) -> float:
        """No request before this log time is still to be handed on."""
        return self._order[0].at_ms if self._order else self._reached_ms["raw"]

    @property
    def ready(self) -> bool:
        """Whether the first request can be handed on."""
        if not self._order:
            return False
        one = self._order[0]
        return one.whole or min(self._reached_ms[log] for log in self.logs[1:]) > one.leave_ms

    def overdue(self, now_ms: float) -> bool:
        """Whether the first request waits for what may never come, here or in another partition.

        Then it has to be asked how far the logs reach.
        """
        return bool(self._order) and now_ms > self._order[0].leave_ms

    def bounded(self, log: str, first: int, following: int, asked_ms: float) -> None:
        """A log had these bounds at this time: when it was read to its end, nothing older is to come of it."""
        place = getattr(self._next, log)
        if place >= following or (place < 0 and first == following):
            self.reached(log, asked_ms)

    def hand_on(self) -> Gathered:
        """Take the first request out."""
        one = self._order.popleft()
        del self._open[one.ticket.offset]
        return one

    def places(self) -> Places:
        """Where to read on after a restart."""
        first: Place = (self._next.scores, self._next.decisions, self._next.enriched)
        for at in (*(one.at for one in self._order), *self._ahead_at.values()):
            first = _first(first, at)
        scores, decisions, enriched = (place or 0 for place in first)
        return Places(self._order[0].ticket.offset if self._order else self._next.raw, scores, decisions, enriched)


def in_log_order(gatherings: Iterable[Gathering]) -> Gathering | None:
    """The one of these, by their numbers, whose first request is next by log time.

    None when one that is still unknown may be earlier.
    """
    first = None
    for one in gatherings:
        if first is None or one.frontier_ms < first.frontier_ms:
            first = one
    return first if first is not None and first.ready else None


def ahead(gatherings: Iterable[Gathering]) -> frozenset[tuple[int, str]]:
    """Partition numbers and logs that are to be left alone until the slowest has come as far."""
    every = list(gatherings)
    if sum(one.waiting for one in every) < MOST_WAITING:
        return frozenset()
    slowest_ms = min(one.reached_ms(log) for one in every for log in one.logs)
    return frozenset(
        (one.number, log) for one in every for log in one.logs if one.reached_ms(log) > slowest_ms + AHEAD_MS
    )


class _Scored(Struct, frozen=True, gc=False):
    model: str
    version: str
    log_ms: int

    def __call__(self, one: Gathered, score: float) -> None:
        model = self.model
        known = one.expected.get(model) == self.version and model not in one.scores and model not in one.without
        if known and self.log_ms <= one.leave_ms:
            one.scores[model] = score
            one.versions[model] = self.version
            took_ms = self.log_ms - one.at_ms
            one.took_ms[model] = float(took_ms) if took_ms > 0 else 0.0


class _Without(Struct, frozen=True, gc=False):
    models: tuple[str, ...]
    log_ms: int

    def __call__(self, one: Gathered, why: str) -> None:
        if self.log_ms <= one.leave_ms:
            for model in self.models:
                one.without.setdefault(model, why)


class _Failed(Struct, frozen=True, gc=False):
    model: str
    version: str
    log_ms: int

    def __call__(self, one: Gathered, why: str) -> None:
        if self.log_ms <= one.leave_ms and one.expected.get(self.model) == self.version:
            one.without.setdefault(self.model, why)


class _Refused(Struct, frozen=True, gc=False):
    log_ms: int

    def __call__(self, one: Gathered, _: None) -> None:
        if self.log_ms <= one.leave_ms:
            one.expected = {}


class _Decided(Struct, frozen=True, gc=False):
    log_ms: int

    def __call__(self, one: Gathered, told: DecisionSeen) -> None:
        if self.log_ms <= one.leave_ms and not one.outcome:
            one.outcome, one.winner, one.guarded = told.outcome, told.model, tuple(told.guarded or ())
            one.decided_ms = self.log_ms
            one.why = "as wanted" if told.outcome == "preferred" else why_of(told.reason)


class _Joined(Struct, frozen=True, gc=False):
    log_ms: int

    def __call__(self, one: Gathered, records: Mapping[str, bytes]) -> None:
        if self.log_ms <= one.leave_ms and one.joined is None:
            one.joined = records


What = _Scored | _Without | _Failed | _Refused | _Decided | _Joined
"""What came at a log time, of a block: a request is told of it with what it says of that one."""


def why_of(reason: str) -> str:
    """A decision's reason without the numbers of the single case: what shares are counted by."""
    return NUMBERS.sub("", reason.partition(";")[0]) or "as a fallback"


def _scored(pipeline: Pipeline) -> dict[str, str]:
    return {model.name: model.version for model in pipeline.models if model.role is not Role.DECOY}


def _noted(at: Place, log: int, position: int) -> Place:
    """The same with a place on one log."""
    scores, decisions, enriched = at
    if log == SCORES:
        return position, decisions, enriched
    return (scores, position, enriched) if log == DECISIONS else (scores, decisions, position)


def _first(one: Place, other: Place) -> Place:
    """The earlier of two places, log by log."""
    return _earlier(one[0], other[0]), _earlier(one[1], other[1]), _earlier(one[2], other[2])


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
