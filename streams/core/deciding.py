"""What a request that waits comes to, by what there is at this moment: an answer, or to wait on. Pure.

The plan says which model may answer at which share of the budget (`streams.core.policy`). Most requests go by it
alone; one with a course has guards, answers that get better, or a trace as well.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from schemas.pipeline import Guard
from streams.core.course import Course
from streams.core.lead import lead_of
from streams.core.pending import Explanation, Pending, Reply
from streams.core.policy_combine import Combine


class Deciding:
    """Of one partition. No more than `lead_ms` before its deadline a default leaves (`streams.core.lead`)."""

    def __init__(self, explain: Explanation, guards: Mapping[str, Guard], lead_ms: float, *, offers: bool) -> None:
        self._lead_ms = lead_ms
        self._explain = explain
        self._guards = guards
        self._offers = offers

    def share(self, pending: Pending, now_ms: float) -> float:
        """How much of the budget is used, as the plan reads it: all of it from the lead on."""
        return 1.0 if now_ms >= pending.deadline_ms - self.lead_ms(pending) else pending.share(now_ms)

    def lead_ms(self, pending: Pending) -> float:
        """How long before its deadline this one's default leaves."""
        return lead_of(self._lead_ms, pending.request.budget_ms)

    def due_ms(self, pending: Pending, change: float) -> float:
        """When this share of the budget is used, but no later than a default leaves."""
        return min(pending.start_ms + change * pending.request.budget_ms, pending.deadline_ms - self.lead_ms(pending))

    def next_due_ms(self, pending: Pending, now_ms: float) -> float:
        """When time alone may decide next."""
        plan = pending.course.plan if pending.course is not None else pending.entitled.plan
        return self.due_ms(pending, plan.next_change(self.share(pending, now_ms)))

    def answer(self, pending: Pending, now_ms: float) -> Reply | None:
        """The final answer, by the plan alone; None to wait."""
        plan = pending.entitled.plan
        share = self.share(pending, now_ms)
        out = pending.out()
        model = plan.choose(share, pending.scores, out)
        if model is not None:
            return self._explain.answered(pending, plan, model, now_ms)
        if share >= 1 or plan.hopeless(out):
            return self._explain.default(pending, now_ms)
        return None

    def follow(self, pending: Pending, course: Course, now_ms: float, *, timer: bool) -> Reply | None:
        """The same for a request with a course; what comes back may be an answer that is not final.

        A standby offers none of those (`offers`): the owner's is not missed while the budget lasts.
        """
        plan, age_ms = course.plan, now_ms - pending.request.at_ms
        share = self.share(pending, now_ms)
        if not course.look(pending.scores, self._guards, age_ms) and timer:
            course.note(age_ms, f"{share:.0%} of the budget is used")
        scores, out = course.trusted(pending.scores), course.out(pending.out())
        model = (plan.offer if course.refine else plan.choose)(share, scores, out)
        if model is not None and (not course.refine or share >= 1 or plan.settled(model, scores, out)):
            course.note(age_ms, "final", model)
            return self._by_course(pending, course, model, now_ms)
        if model is None and (share >= 1 or plan.hopeless(out)):
            course.note(age_ms, "final, by default")
            return self._explain.default(pending, now_ms)
        if model is None or (rank := plan.rank(model, scores)) >= course.rank:
            return None
        course.rank = rank
        return self._offer(pending, course, model, now_ms) if self._offers else None

    def _by_course(self, pending: Pending, course: Course, model: str, now_ms: float) -> Reply:
        if isinstance(course.plan, Combine):
            return self._explain.combined(pending, course, course.plan, now_ms)
        return self._explain.answered(pending, course.plan, model, now_ms)

    def _offer(self, pending: Pending, course: Course, model: str, now_ms: float) -> Reply:
        course.note(now_ms - pending.request.at_ms, f"revision {course.revision}", model)
        reply = self._by_course(pending, course, model, now_ms)
        course.revision += 1
        return Reply(replace(reply.decision, final=False), reply.request)
