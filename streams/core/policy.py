"""Who may answer, and when: a pure value made from the pipeline's policy.

What the rendezvous asks of a policy is `Plan`. This one is the schedule of growing compromise: until a share of the
budget only some models may answer, later more. A step ends early when none of its models can answer any more (failed,
not asked, guarded): waiting would be for nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from schemas.pipeline import Model, Pipeline, Role
from schemas.pipeline import Step as StepAsWritten

CHAMPION = "the champion"


class Plan(Protocol):
    """How one request is to be answered. Shares are of its budget: 0 at the start, 1 at the deadline.

    `scores` are the models that have scored, `out` those that never will.
    """

    @property
    def wanted(self) -> str:
        """Whose answer is the preferred one."""

    @property
    def title(self) -> str:
        """What that model is, for the decision's reason: "the champion"."""

    @property
    def enough(self) -> int:
        """With fewer scores than these nobody can be chosen, unless a model is out."""

    @property
    def first_change(self) -> float:
        """The share of the budget until which nothing but a score can give an answer."""

    def choose(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """The model that answers now, None when it is better to wait; from the share 1 on None means the default."""

    def offer(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """The model whose answer may leave now although a better one may follow."""

    def settled(self, model: str, scores: Collection[str], out: Collection[str]) -> bool:
        """Whether nothing better than this offer can come any more."""

    def rank(self, model: str, scores: Collection[str]) -> int:
        """How far an offer is from the best there could be: 0 is the best."""

    def hopeless(self, out: Collection[str]) -> bool:
        """Whether nobody who may answer can answer any more."""

    def next_change(self, share: float) -> float:
        """The next share of the budget at which the answer may be another, without a new score."""


@dataclass(frozen=True, slots=True)
class Step:
    """Until `until` (share of the budget) these models may answer, the most wanted first."""

    until: float
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of one pipeline, and whether an answer waits for all models asked."""

    steps: tuple[Step, ...]
    wait_for: frozenset[str]
    wanted: str = ""
    title: str = CHAMPION

    def choose(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """The most wanted of those that may answer at this share; nobody before all asked have, if it waits."""
        if self.wait_for and share < 1 and not self._complete(scores, out):
            return None
        for step in self.steps:
            for model in step.order:
                if model in scores:
                    return model
            if share < step.until and not all(model in out for model in step.order):
                return None
        return None

    def offer(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """By the steps; it does not wait for all that were asked."""
        return Schedule(self.steps, frozenset()).choose(share, scores, out)

    def settled(self, model: str, scores: Collection[str], out: Collection[str]) -> bool:
        """When all that go before it are out."""
        ahead = self.order[: self.order.index(model)]
        return all(other in out for other in ahead) and (not self.wait_for or self._complete(scores, out))

    def rank(self, model: str, scores: Collection[str]) -> int:
        """Its place in the order; behind all of it when an earlier policy has chosen it."""
        return self.order.index(model) if model in self.order else len(self.order)

    @property
    def order(self) -> tuple[str, ...]:
        """All that may ever answer: who may earlier goes before who may later."""
        return tuple(dict.fromkeys(model for step in self.steps for model in step.order))

    @property
    def enough(self) -> int:
        """All of those it waits for."""
        return len(self.wait_for)

    @property
    def first_change(self) -> float:
        """The end of the first step, if it does not wait."""
        return self.next_change(0.0)

    def hopeless(self, out: Collection[str]) -> bool:
        """When all of every step are out."""
        return bool(out) and all(model in out for step in self.steps for model in step.order)

    def next_change(self, share: float) -> float:
        """The end of this step."""
        if not self.wait_for:
            for step in self.steps:
                if share < step.until < 1:
                    return step.until
        return 1.0

    def _complete(self, scores: Collection[str], out: Collection[str]) -> bool:
        missing = len(self.wait_for) - len(scores)
        return missing <= 0 or (len(out) >= missing and all(m in scores or m in out for m in self.wait_for))


def schedule_of(pipeline: Pipeline, steps: tuple[StepAsWritten, ...] = ()) -> Schedule:
    """Resolve names and roles of the policy's steps, or of a rule's, into model names."""
    policy = pipeline.policy
    resolved = tuple(Step(step.until, order_of(step.accept, pipeline.models)) for step in steps or policy.steps)
    return Schedule(resolved, waited_for(pipeline), champion_of(pipeline))


def waited_for(pipeline: Pipeline) -> frozenset[str]:
    """The models without which no answer is given: none, or all that are asked."""
    asked = frozenset(model.name for model in pipeline.models if model.role is not Role.DECOY)
    return asked if pipeline.policy.answer == "all" else frozenset()


def champion_of(pipeline: Pipeline) -> str:
    """The champion's name; empty without one."""
    return next((model.name for model in pipeline.models if model.role is Role.CHAMPION), "")


def order_of(accept: tuple[str, ...], models: tuple[Model, ...]) -> tuple[str, ...]:
    """Names as written; a role stands for its models in the order of the file."""
    order: dict[str, None] = {}
    for word in accept:
        order.update(
            (model.name, None) for model in models if word in (model.name, model.role) and model.role.answers
        )
    return tuple(order)


def preferring(schedule: Schedule, model: str, title: str) -> Schedule:
    """Until the first step ends only this model; then the schedule goes on, with it in front."""
    first = schedule.steps[0].until
    later = (Step(step.until, (model, *step.order)) for step in schedule.steps)
    return Schedule((Step(first, (model,)), *later), schedule.wait_for, model, title)
