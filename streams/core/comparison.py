"""What everybody said of each request, beside the answer it was given: one record a request, for all models.

So a shadow's answer can be held against the live one request by request. Of a request there is what each version of
each model scored, late or not, or why it did not; the final decision; and what each step of the policy saw. That is
told by the live core, run again over the logs: what it decides then, and whether that is what was written, stands
beside it. One partition's logs go in, each in its own order; what comes out is in the order of raw. Reads no clock
and no file.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from schemas.blocks import NotAskedBlock, RejectionBlock, ScoreBlock, ScoresBlock, offsets_of, scores_of
from schemas.decisions import Decision
from schemas.pipeline import Model, ModelKey, Role
from schemas.requests import Rejection, Request
from streams.core.again import Again
from streams.core.entitlement import Spans
from streams.core.held import LIMIT

AFTER_MS = 1_000.0
"""A record is kept open so long beyond its deadline though everything expected is there: for who is not expected."""

LATE_MS = 60_000.0
"""How long beyond its deadline a score still finds its request; a decision has `UNDECIDED_MS`."""

UNDECIDED_MS = 600_000.0

HELD = 20_000
"""Records that are held for models that stay silent: beyond it the oldest that is decided is closed without them, so
that a model that is dead takes the same memory at any rate."""

PASSED_OVER, BESIDE = "passed-over", "beside"
"""What a model was for, where its role does not say it: a champion that was not well; a version that is not the one
entitled."""


class Said(Struct, gc=False):
    """What one version of a model said of one request; of a second score nothing is told.

    `role` is empty where it was not asked: it warmed up, or was retired, and scored all the same. `took_ms` is from
    raw's log time to that of the score, else of the error. `seen` says that the decision had it.
    """

    role: str = ""
    score: float | None = None
    took_ms: int | None = None
    error: str | None = None
    not_asked: str | None = None
    late: bool = False
    seen: bool = False

    @property
    def silent(self) -> bool:
        """Whether nothing came of it."""
        return self.took_ms is None and self.not_asked is None


class Comparison(Struct, gc=False):
    """One request: `said` by model and version, the roles' order first.

    `decision` is the first final one, `decided_ms` its log time; `again` what the core decides by the log's times,
    with its trace. Either is None where there is none.
    """

    partition: int
    offset: int
    at_ms: int
    budget_ms: int
    request_id: str
    said: dict[ModelKey, Said]
    decision: Decision | None = None
    decided_ms: int | None = None
    again: Decision | None = None

    @property
    def deadline_ms(self) -> int:
        """After this, an answer was late."""
        return self.at_ms + self.budget_ms

    @property
    def whole(self) -> bool:
        """Whether nothing more is expected."""
        return self.decided and not any(said.role and said.silent for said in self.said.values())

    @property
    def decided(self) -> bool:
        """Whether its answer is there, and what the core answers again."""
        return self.decision is not None and self.again is not None

    @property
    def as_written(self) -> bool | None:
        """Whether the core, asked again, gives the answer that was given; None without one."""
        if self.decision is None or self.again is None:
            return None
        return answer(self.decision) == answer(self.again)


def answer(decision: Decision) -> tuple[str, str | None, str | None, float | None]:
    """What a consumer is told: outcome, model, version and score."""
    return decision.outcome, decision.model, decision.version, decision.score


class Roles:
    """Which versions were asked for a request of a log time, and what for.

    `beside` are versions that scored beside the one of their name that was entitled, each list from a log time on.
    """

    def __init__(self, spans: Spans, beside: Sequence[tuple[float, tuple[Model, ...]]] = ()) -> None:
        self._spans = spans
        self._beside = beside
        self._since_ms = [from_ms for from_ms, _ in beside]
        self._made: dict[tuple[int, int], dict[ModelKey, str]] = {}

    def at(self, at_ms: float) -> Mapping[ModelKey, str]:
        """Names and versions in the order of the pipeline."""
        place, other = self._spans.place(at_ms), bisect_right(self._since_ms, at_ms) - 1
        found = self._made.get((place, other))
        if found is None:
            span = self._spans.spans[place]
            found = {
                (model.name, model.version): PASSED_OVER if model.name == span.passed_over else str(model.role)
                for model in span.pipeline.models
                if model.role is not Role.DECOY
            }
            names = {name for name, _ in found}
            for model in self._beside[other][1] if other >= 0 else ():
                if model.name in names:
                    found.setdefault((model.name, model.version), BESIDE)
            self._made[place, other] = found
        return found

    def until(self, at_ms: float) -> dict[ModelKey, str]:
        """What each version was asked for at a log time; after these, what those that were asked before had been."""
        found = dict(self.at(at_ms))
        begins_ms = sorted({*(span.from_ms for span in self._spans.spans), *self._since_ms}, reverse=True)
        for begin_ms in (one for one in begins_ms if one < at_ms):
            for key, role in self.at(begin_ms).items():
                found.setdefault(key, f"was {role}")
        return found


Told = Callable[[Comparison], None]


class Comparing:
    """One partition. Requests before `since_ms` are needed to know repeats, and not handed on.

    `closed` counts scores that came when their record was closed, `left_out` requests at the end of which
    the logs say too little.
    """

    def __init__(self, partition: int, again: Again, roles: Roles, since_ms: int = 0) -> None:
        self.closed = self.left_out = 0
        self._partition = partition
        self._again = again
        self._roles = roles
        self._since_ms = since_ms
        self._open: dict[int, Comparison] = {}
        self._order: deque[Comparison] = deque()
        self._ahead: dict[int, list[Told]] = {}
        self._next = 0
        self._first: int | None = None
        self._ended = False

    @property
    def waiting(self) -> bool:
        """Whether a record is open to which something may still come."""
        return any(not one.whole for one in self._order)

    def requests_seen(self, requests: Sequence[Request | Rejection]) -> None:
        """Take raw records, in offset order."""
        self._again.requests_seen(requests)
        for request in requests:
            offset, at_ms = request.offset, request.at_ms
            roles = {} if isinstance(request, Rejection) else self._roles.at(at_ms)
            said = {key: Said(role) for key, role in roles.items()}
            one = Comparison(self._partition, offset, at_ms, request.budget_ms, request.request_id, said)
            if self._first is None:
                self._first = offset
            self._open[offset] = one
            self._order.append(one)
            self._next = offset + 1
            for tell in self._ahead.pop(offset, ()):
                tell(one)
        if self._ahead:  # of holes in raw: what came for them is nobody's
            self._ahead = {offset: told for offset, told in self._ahead.items() if offset >= self._next}

    def scores_offered(self, block: ScoresBlock, position: int, log_ms: int) -> None:
        """Take what lies on `scores`, in the order of the log."""
        self._again.scores_offered(block, position, log_ms)
        match block:
            case ScoreBlock():
                key = (block.model, block.version)
                for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                    self._tell(offset, lambda one, score=score: _scored(one, key, score, log_ms), scored=True)
                for error in block.errors:
                    self._tell(
                        error.offset, lambda one, why=error.reason: _failed(one, key, why, log_ms), scored=True
                    )
            case NotAskedBlock():
                for offset in offsets_of(block.offsets):
                    self._tell(offset, lambda one: _not_asked(one, block))
            case RejectionBlock():
                for row in block.rows:
                    self._tell(row.offset, lambda one: one.said.clear())

    def decided(self, decision: Decision, log_ms: int) -> None:
        """Take a decision, in the order of the log; of a ticket the first final one counts."""
        if decision.final:
            self._tell(decision.ticket.offset, lambda one: _decided(one, decision, log_ms))

    def _tell(self, offset: int, what: Told, *, scored: bool = False) -> None:
        one = self._open.get(offset)
        if one is not None:
            what(one)
        elif offset < self._next:
            self.closed += scored and self._first is not None and offset >= self._first
        elif not self._ended and offset < self._next + LIMIT:
            self._ahead.setdefault(offset, []).append(what)

    def end_of_raw(self) -> None:
        """No request is still to come: what is said of later ones is nobody's."""
        self._ended = True
        self._ahead.clear()
        self._again.close("raw")

    def ready(self, known_ms: float) -> Iterator[Comparison]:
        """Records of which nothing more is expected, scores and decisions being known up to this log time."""
        self._again.scores_known(known_ms)
        self._decide()
        order = self._order
        while order and _closes(order[0], known_ms, len(order)):
            yield from self._handed_on(order.popleft())

    def rest(self, scores_ms: float, decisions_ms: float) -> Iterator[Comparison]:
        """The logs end at these times: records that are whole, or could be. The others are left out, and counted."""
        self._again.close("raw", "scores")
        self._decide()
        for one in self._order:
            if one.whole or one.deadline_ms < (decisions_ms if one.decision is None else scores_ms):
                yield from self._handed_on(one)
            else:
                self.left_out += one.at_ms >= self._since_ms

    def _handed_on(self, one: Comparison) -> Iterable[Comparison]:
        del self._open[one.offset]
        if one.at_ms < self._since_ms or (one.decision is not None and one.decision.probe):
            return ()
        seen = one.decision.scores if one.decision else {}
        for (name, version), said in one.said.items():
            said.late = said.not_asked is None and (said.took_ms is None or said.took_ms > one.budget_ms)
            said.seen = name in seen and seen[name].version == version
        return (one,)

    def _decide(self) -> None:
        for decision in self._again.decided():
            one = self._open.get(decision.ticket.offset)
            if decision.final and one is not None:
                one.again = decision


def _closes(one: Comparison, known_ms: float, held: int) -> bool:
    beyond_ms = known_ms - one.deadline_ms
    if one.whole or (held > HELD and one.decided):
        return beyond_ms > AFTER_MS
    return beyond_ms > (UNDECIDED_MS if one.decision is None else LATE_MS)


def _said(one: Comparison, key: ModelKey) -> Said:
    return one.said.setdefault(key, Said())


def _scored(one: Comparison, key: ModelKey, score: float, log_ms: int) -> None:
    said = _said(one, key)
    if said.score is None:
        said.score, said.took_ms = score, max(0, log_ms - one.at_ms)


def _failed(one: Comparison, key: ModelKey, why: str, log_ms: int) -> None:
    said = _said(one, key)
    if said.took_ms is None:
        said.error, said.took_ms = why, max(0, log_ms - one.at_ms)


def _not_asked(one: Comparison, block: NotAskedBlock) -> None:
    for (name, _), said in one.said.items():
        if name in block.models and said.not_asked is None:
            said.not_asked = block.reason


def _decided(one: Comparison, decision: Decision, log_ms: int) -> None:
    if one.decision is None:
        one.decision, one.decided_ms = decision, log_ms
        one.budget_ms, one.request_id = decision.budget_ms, decision.request_id
