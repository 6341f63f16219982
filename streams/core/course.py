"""What one request has of its own: a plan, guarded scores, answers that get better, a trace.

Most requests have none of it, and then no course: what they do not ask for costs them nothing.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace

from schemas.decisions import Decision, ScoreSeen, TraceStep
from schemas.pipeline import Guard
from schemas.requests import Headers
from streams.core.policy import Plan

NO_RANK = 1 << 30
"""Of a request that was offered nothing yet: any offer is better."""

WISHES = frozenset({"refine", "diagnostics"})


class Course(Struct, gc=False):
    """How one request is decided.

    `revision` is the number of the next record about it, `rank` that of the last offer, `seen` how many scores were
    looked at; `combined` are the weights of the answer.
    """

    plan: Plan
    branch: str | None = None
    refine: bool = False
    trace: list[TraceStep] | None = None
    guarded: dict[str, str] | None = None
    combined: dict[str, float] | None = None
    revision: int = 0
    rank: int = NO_RANK
    seen: int = 0

    def look(self, scores: Mapping[str, ScoreSeen], guards: Mapping[str, Guard], age_ms: float) -> bool:
        """Take note of new scores, and hold each against its guard; False when there is none."""
        new = list(scores)[self.seen :]
        self.seen = len(scores)
        for model in new:
            score = scores[model].score
            reason = outside(guards[model], score) if model in guards else ""
            if reason:
                self.guarded = {**(self.guarded or {}), model: reason}
            self.note(age_ms, f"{model} scores {score}" + (f", guarded: {reason}" if reason else ""))
        return bool(new)

    def trusted(self, scores: dict[str, ScoreSeen]) -> dict[str, ScoreSeen]:
        """The scores that may win."""
        guarded = self.guarded
        return {model: seen for model, seen in scores.items() if model not in guarded} if guarded else scores

    def out(self, out: dict[str, str]) -> Collection[str]:
        """Who will never answer: a guarded score is no answer either."""
        return out | self.guarded if self.guarded else out

    def note(self, age_ms: float, what: str, chosen: str | None = None) -> None:
        """Add to the trace, if there is one."""
        if self.trace is not None:
            self.trace.append(TraceStep(round(age_ms, 1), what, chosen))

    def told(self, decision: Decision) -> Decision:
        """The decision with what its course adds. It is a record of this moment: nothing of it may change later."""
        return replace(
            decision,
            revision=self.revision,
            scores=dict(decision.scores),
            failed=dict(decision.failed),
            not_asked=dict(decision.not_asked),
            guarded=self.guarded,
            branch=self.branch,
            combined=self.combined,
            trace=None if self.trace is None else list(self.trace),
        )

    def resume(self, said: Decision) -> None:
        """Go on after what an earlier life offered: nothing but a better answer follows."""
        self.revision = max(self.revision, said.revision + 1)
        if self.refine and said.model is not None:
            self.rank = min(self.rank, self.plan.rank(said.model, said.combined or ()))


def outside(guard: Guard, score: float) -> str:
    """Why a score may not win; empty when it may."""
    if guard.min is not None and score < guard.min:
        return f"{score} is below {guard.min}"
    if guard.max is not None and score > guard.max:
        return f"{score} is above {guard.max}"
    return ""


def has_wishes(headers: Headers) -> bool:
    """Whether a request asks for anything; most have other headers only, and are done with here."""
    for name, _ in headers:  # noqa: SIM110  a generator would cost as much again
        if name in WISHES:
            return True
    return False


def wishes(headers: Headers | None, *, refine: bool) -> tuple[bool, bool]:
    """Whether a request wants answers that get better (its header, else the pipeline's word), and a trace."""
    diagnostics = False
    for name, value in headers or ():
        if name == "refine":
            refine = value == b"1"
        elif name == "diagnostics":
            diagnostics = value == b"1"
    return refine, diagnostics
