"""One request that waits for its answer, and the answers it can be given."""

from msgspec import Struct
from msgspec.structs import replace

from schemas.decisions import Decision, Outcome, ScoreSeen, Ticket
from schemas.pipeline import Pipeline
from schemas.requests import Rejection, Request
from streams.core.course import Course
from streams.core.entitled import Entitled
from streams.core.policy import Plan
from streams.core.policy_combine import COMBINED, Combine
from streams.core.repeats import Known

PREFERRED, FALLBACK, DEFAULT, REJECTED = Outcome

HAIR_MS = 2**-10
"""Above what adding up times of today rounds off."""


class Reply(Struct, gc=False):
    """A decision on its way, with the raw record's key and headers to go with it."""

    decision: Decision
    request: Request | Rejection


class Pending(Struct, gc=False):
    """A request, and what has come for it so far. Times are in ms on the broker's clock.

    `known` is what repeats of it will find. `first` is the request whose answer it is to be given: it repeats one
    that is not decided yet. `entitled` says who may answer it, by its log time. `ready` is the answer a standby keeps
    back until `leave_ms`: the owner should give it. `course` is there when it is decided in another way than by the
    pipeline's one plan alone.
    """

    request: Request | Rejection
    start_ms: float
    deadline_ms: float
    entitled: Entitled
    scores: dict[str, ScoreSeen] = {}
    failed: dict[str, str] = {}
    not_asked: dict[str, str] = {}
    known: Known | None = None
    first: Known | None = None
    ready: Reply | None = None
    leave_ms: float = 0.0
    course: Course | None = None

    def share(self, now_ms: float) -> float:
        """How much of the budget is used: 0 at the start, 1 at the deadline.

        Rounded up by a hair, so that a timer set for a share finds that share reached: an epoch in ms leaves a
        float no more than 1/4096 ms, and a timer that fired too early for good would be set again for ever.
        """
        return (now_ms - self.start_ms + HAIR_MS) / self.request.budget_ms

    def out(self) -> dict[str, str]:
        """Models that will never score this request, and why."""
        if not self.failed:
            return self.not_asked
        return self.failed | self.not_asked


class Explanation:
    """Writes decisions: the outcome, everything that was known, and one plain sentence."""

    def __init__(self, pipeline: Pipeline, partition: int, *, standby: bool = False) -> None:
        self._partition = partition
        self._standby = standby
        self._default = pipeline.default.score

    def answered(self, pending: Pending, plan: Plan, model: str, now_ms: float) -> Reply:
        """The answer is this model's score."""
        seen = pending.scores[model]
        if model == plan.wanted:
            outcome, reason = PREFERRED, f"{plan.title} {model} answered after {seen.age_ms} ms"
        else:
            outcome, reason = FALLBACK, self._why_not_wanted(pending, plan, model, seen, now_ms)
        return self._reply(pending, outcome, model, seen, reason, now_ms)

    def combined(self, pending: Pending, course: Course, plan: Combine, now_ms: float) -> Reply:
        """The answer is made of several scores."""
        score, course.combined = plan.combined(course.trusted(pending.scores))
        outcome = PREFERRED if len(course.combined) == len(plan.members) else FALLBACK
        reason = f"the {plan.how} of {', '.join(course.combined)}"
        if absent := [model for model, _ in plan.members if model not in course.combined]:
            reason += f", without {', '.join(absent)}"
        return self._reply(pending, outcome, COMBINED, ScoreSeen(score, plan.how, 0), reason, now_ms)

    def default(self, pending: Pending, now_ms: float) -> Reply:
        """The answer is the pipeline's default: nobody else can, or the deadline is here."""
        missing = ", ".join(self._missing(pending)) or "nobody"
        if pending.out() and not self._missing(pending):
            reason = "every model asked has failed, was passed over or guarded: the default answers"
        else:
            reason = f"no acceptable score by the deadline, still missing {missing}: the default answers"
        return self._reply(pending, DEFAULT, None, None, reason, now_ms)

    def rejected(self, pending: Pending, reason: str, now_ms: float) -> Reply:
        """There is no answer: the request cannot be read."""
        bare = Pending(pending.request, pending.start_ms, pending.deadline_ms, pending.entitled, known=pending.known)
        return self._reply(bare, REJECTED, None, None, reason, now_ms)

    def repeated(self, request: Request, known: Known, now_ms: float) -> Reply:
        """The answer is the one that the first of these equal requests was given."""
        first = Ticket(self._partition, known.offset)
        used_ms = round(now_ms - request.at_ms, 1)
        decision = Decision(
            request_id=request.request_id,
            ticket=Ticket(self._partition, request.offset),
            outcome=Outcome(known.outcome),
            final=True,
            revision=0,
            model=known.model,
            version=known.version,
            score=known.score,
            scores={},
            missing=[],
            failed={},
            not_asked={},
            budget_ms=request.budget_ms,
            used_ms=used_ms,
            decided_at_ms=request.at_ms + int(used_ms),
            reason=f"a repeat of {first}: its answer again",
            fingerprint=known.fingerprint,
            duplicate_of=first,
            standby=self._standby,
        )
        return Reply(decision, request)

    def _reply(
        self,
        pending: Pending,
        outcome: Outcome,
        model: str | None,
        seen: ScoreSeen | None,
        reason: str,
        now_ms: float,
    ) -> Reply:
        request = pending.request
        default = self._default if outcome is DEFAULT else None
        rejected = outcome is REJECTED
        used_ms = round(now_ms - request.at_ms, 1)
        decision = Decision(  # by position: by name it takes three times as long
            request.request_id,
            Ticket(self._partition, request.offset),
            outcome,
            True,  # final
            0,  # revision
            model,
            seen.version if seen else None,
            seen.score if seen else default,
            pending.scores,
            [] if rejected else self._missing(pending),
            pending.failed,
            pending.not_asked,
            request.budget_ms,
            used_ms,
            request.at_ms + int(used_ms),
            reason,
            known.fingerprint if (known := pending.known or pending.first) else "",
            None,  # duplicate_of
            False,  # recovered
            0.0,  # late_by_ms
            self._standby,
        )
        if pending.entitled.needs and not rejected:
            decision = replace(decision, needs=pending.entitled.needs)
        if pending.course is not None:
            decision = pending.course.told(decision)
        return Reply(decision, request)

    def _missing(self, pending: Pending) -> list[str]:
        asked = pending.entitled.asked
        if len(pending.scores) == len(asked):
            return []
        out = pending.out()
        return [name for name in asked if name not in pending.scores and name not in out]

    def _why_not_wanted(self, pending: Pending, plan: Plan, model: str, seen: ScoreSeen, now_ms: float) -> str:
        wanted, course = plan.wanted, pending.course
        if not wanted:
            why = f"{plan.title} is passed over"
        elif wanted in pending.failed:
            why = f"{plan.title} {wanted} failed"
        elif wanted in pending.not_asked:
            why = f"{plan.title} {wanted} was not asked"
        elif course is not None and course.guarded and wanted in course.guarded:
            why = f"{plan.title} {wanted} was guarded: {course.guarded[wanted]}"
        else:
            used = min(100, round(100 * pending.share(now_ms)))
            why = f"{plan.title} {wanted} had not answered by {used} % of the budget"
        return f"{why}; {model} answered after {seen.age_ms} ms"
