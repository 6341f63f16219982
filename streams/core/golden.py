"""The golden check: archived raw and scores through the unchanged pipeline give the answers that were given.

It holds for every request *whose models answered in time*, and that is judged by what the archive says of the live
run, never by the answer it is compared with (else a fault could excuse itself). The live run decides when a process
has read a score, with timers that may be late; the run again decides at the score's log time. Both give the same
answer whenever nothing but the order of the scores has decided, because that order is the log's in both. So a
request is compared when

1. its first final decision is the owner's own: not `recovered` (as of another time), not `standby`;
2. it was decided more than `CLOCK_MS` before time alone could have decided anything (the end of the first step, or
   of the budget): no timer had fired, live or again, and every score that was used was in the log by then, a
   score's log time being no later than the moment it was read;
3. no two models had scored of which either could have answered at once: then the request was read after its
   scores (one may overtake the other, they are two topics), and live chose among them where the log has an order;
4. if it repeats a request, that one was compared.

What came `late`, or was in the log but not read yet, changes nothing then: the decision was taken without it.
Beside the answer, every score that the decision shows must be the archive's, to the bit, at the same age.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from msgspec import Struct, field

from schemas.blocks import Matrix, Offsets
from schemas.decisions import Decision, Outcome, Ticket
from schemas.pipeline import Pipeline
from schemas.requests import Rejection, Request
from streams.core.answers import NOBODY, OUTCOMES, Answers, Names, ScoreColumn, places
from streams.core.entitlement import PerSpan, Spans, always
from streams.core.lead import lead_of
from streams.core.policy import schedule_of
from streams.core.rendezvous import Rendezvous
from streams.core.validator import minted

CLOCK_MS = 5
"""How far a process's idea of the broker's clock may be off."""


class Mismatch(Struct, frozen=True):
    """A request that is answered otherwise when it is run again."""

    request_id: str
    ticket: str
    live: str
    again: str


class Golden(Struct):
    """What the check found; `not_compared` by the reason."""

    compared: int = 0
    equal: int = 0
    without_decision: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)
    equal_all_the_same: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every request that was compared was answered as it was."""
        return not self.mismatches

    def add(self, other: "Golden") -> None:
        """Another partition's."""
        self.compared += other.compared
        self.equal += other.equal
        self.without_decision += other.without_decision
        self.not_compared.update(other.not_compared)
        self.equal_all_the_same += other.equal_all_the_same
        self.mismatches += other.mismatches


class FirstChange:
    """When time alone could first decide each request.

    Of a schedule the pipeline file says it: asked of the core, a fault there would excuse itself. Of any other
    policy, a core that is shown the request alone says it.
    """

    def __init__(self, pipeline: Pipeline, partition: int, lead_ms: float) -> None:
        self.at_ms: list[float] = []
        self._core = Rendezvous(pipeline, partition, lead_ms=lead_ms)
        self._partition = partition
        self._lead_ms = lead_ms
        self._share = _first_share(pipeline)

    def seen(self, requests: Iterable[Request | Rejection]) -> None:
        """Note the moment of each of these."""
        self.at_ms += [self._change(request) for request in requests]
        self._core.checkpoint()

    def _change(self, request: Request | Rejection) -> float:
        if isinstance(request, Rejection):
            return np.inf
        if self._share is not None:
            budget_ms = request.budget_ms
            return request.at_ms + min(self._share * budget_ms, budget_ms - lead_of(self._lead_ms, budget_ms))
        alone = _alone(request, self._partition)
        self._core.requests_seen([alone], request.at_ms)
        due_ms = self._core.next_due_ms
        self._core.decided(_answered(alone, self._partition), request.at_ms)
        return np.inf if due_ms is None else due_ms


def _first_share(pipeline: Pipeline) -> float | None:
    """The share of the budget at which a schedule's first step ends."""
    policy = pipeline.policy
    if str(policy.kind) != "schedule":
        return None
    return policy.steps[0].until if policy.answer == "first" else 1.0


def _alone(request: Request, partition: int) -> Request:
    """The request with an id that nobody repeats."""
    own = minted(partition, request.offset)
    return Request(
        request.offset, own, request.at_ms, request.budget_ms, request.key, request.headers, request.fields,
        request.value,
    )  # fmt: skip


def _answered(request: Request, partition: int) -> Decision:
    return Decision(
        request_id=request.request_id,
        ticket=Ticket(partition, request.offset),
        outcome=Outcome.DEFAULT,
        final=True,
        revision=0,
        model=None,
        version=None,
        score=None,
        scores={},
        missing=[],
        failed={},
        not_asked={},
        budget_ms=request.budget_ms,
        used_ms=0.0,
        decided_at_ms=request.at_ms,
        reason="",
    )


class GoldenCheck:
    """Holds archived decisions of one partition against the answers of the run again."""

    def __init__(
        self,
        pipeline: Pipeline,
        offsets: Offsets,
        at_ms: Offsets,
        change_ms: list[float],
        again: Answers,
        names: Names,
        scores: dict[str, ScoreColumn],
        scores_end_ms: int,
        since_ms: int | None = None,
        spans: Spans | None = None,
    ) -> None:
        self.found = Golden()
        self._since_ms = since_ms or 0
        self._offsets = offsets
        self._at_ms = at_ms
        self._change_ms = np.array(change_ms)
        self._again = again
        self._names = names
        self._scores_end_ms = scores_end_ms
        self._scores: dict[str, tuple[Matrix, Offsets, Offsets]] = {
            model: column.rows(offsets) for model, column in scores.items()
        }
        self._at_once = PerSpan(spans or always(pipeline), _at_once)
        self._decided = np.zeros(len(offsets), dtype=bool)
        self._compared = np.zeros(len(offsets), dtype=bool)

    def decided(self, decision: Decision) -> None:
        """A decision, in the order of their log."""
        row = self._row(decision.ticket.offset)
        if row is None or not decision.final or self._decided[row]:
            return
        self._decided[row] = True
        mismatch = self._mismatch(decision, row)
        reason = self._why_not(decision, row)
        if self._at_ms[row] < self._since_ms:
            self._compared[row] = not reason  # for what repeats it
            return
        if reason:
            self.found.not_compared[reason] += 1
            self.found.equal_all_the_same += mismatch is None
            return
        self._compared[row] = True
        self.found.compared += 1
        if mismatch is None:
            self.found.equal += 1
        else:
            self.found.mismatches.append(mismatch)

    def close(self) -> Golden:
        """Every decision was given."""
        self.found.without_decision = int((~self._decided & (self._at_ms >= self._since_ms)).sum())
        return self.found

    def _row(self, offset: int) -> int | None:
        place, known = places(self._offsets, np.array([offset], dtype=np.int64))
        return int(place[0]) if known[0] else None

    def _why_not(self, decision: Decision, row: int) -> str:
        if decision.recovered:
            return "decided after a restart"
        if decision.standby:
            return "decided by the standby"
        if decision.duplicate_of is not None:
            first = self._row(decision.duplicate_of.offset)
            if first is None or not self._compared[first]:
                return "repeats a request that is not compared"
        elif decision.decided_at_ms + CLOCK_MS >= self._change_ms[row]:
            return "its models did not answer in time"
        at_once = self._at_once.at(int(self._at_ms[row]))
        if sum(model in at_once for model in decision.scores) > 1:
            return "was read after its scores"
        if decision.decided_at_ms > self._scores_end_ms and not self._all_archived(decision, row):
            return "its scores are not in the archive yet"
        return ""

    def _all_archived(self, decision: Decision, row: int) -> bool:
        return all(
            model in self._scores and not np.isnan(self._scores[model][0][row]) for model in decision.scores
        ) and bool(decision.scores or decision.failed)

    def _mismatch(self, decision: Decision, row: int) -> Mismatch | None:
        live = (str(decision.outcome), decision.model, decision.score)
        code = int(self._again.outcome[row])
        score = float(self._again.score[row])
        again = (
            "undecided" if code == NOBODY else str(OUTCOMES[code]),
            self._names[int(self._again.model[row])],
            None if np.isnan(score) else score,
        )
        if live != again:
            return Mismatch(decision.request_id, str(decision.ticket), _said(*live), _said(*again))
        for model, seen in decision.scores.items():
            kept = self._scores.get(model)
            value = float("nan") if kept is None else float(kept[0][row])
            age_ms = 0 if kept is None else max(0, int(kept[1][row]) - int(self._at_ms[row]))
            if (seen.score, seen.age_ms) != (value, age_ms):
                shown = f"{model} scored {seen.score!r} after {seen.age_ms} ms"
                archived = (
                    "the archive has none" if np.isnan(value) else f"in the archive {value!r} after {age_ms} ms"
                )
                return Mismatch(decision.request_id, str(decision.ticket), shown, archived)
        return None


def _at_once(pipeline: Pipeline) -> frozenset[str]:
    """Models whose score alone decides as soon as it is there; of a policy that waits for others, none."""
    policy = pipeline.policy
    if policy.guards or policy.refine:
        return frozenset()
    if str(policy.kind) == "schedule" and policy.answer == "first":
        # A step whose models are not there, as of a champion that is passed over, is over before it begins.
        return frozenset(next((step.order for step in schedule_of(pipeline).steps if step.order), ()))
    if str(policy.kind) == "first":
        return frozenset(model.name for model in pipeline.models if model.role.answers)
    return frozenset()


def _said(outcome: str, model: str | None, score: float | None) -> str:
    return f"{outcome} by {model or 'nobody'}{'' if score is None else f', score {score!r}'}"
