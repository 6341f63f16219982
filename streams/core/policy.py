"""Who may answer, and when: a pure value made from the pipeline's policy.

A schedule of growing compromise: until a share of the budget only some models may answer, later more. A step
ends early when none of its models can answer any more (failed, or not asked): waiting would be for nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass

from schemas.pipeline import Model, Pipeline, Role


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

    def choose(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """The model that answers at this share of the budget, None when it is better to wait.

        `scores` are the models that have scored, `out` those that never will. At a share of 1 and
        beyond, None means the default.
        """
        if self.wait_for and share < 1 and not self._complete(scores, out):
            return None
        for step in self.steps:
            for model in step.order:
                if model in scores:
                    return model
            if share < step.until and not all(model in out for model in step.order):
                return None
        return None

    @property
    def first_change(self) -> float:
        """The share of the budget until which nothing but a score can give an answer."""
        return self.next_change(0.0)

    def hopeless(self, out: Collection[str]) -> bool:
        """Whether nobody who may answer can answer any more."""
        return bool(out) and all(model in out for step in self.steps for model in step.order)

    def next_change(self, share: float) -> float:
        """The next share of the budget at which the answer may be another, without a new score."""
        if not self.wait_for:
            for step in self.steps:
                if share < step.until < 1:
                    return step.until
        return 1.0

    def _complete(self, scores: Collection[str], out: Collection[str]) -> bool:
        missing = len(self.wait_for) - len(scores)
        return missing <= 0 or (len(out) >= missing and all(m in scores or m in out for m in self.wait_for))


def schedule_of(pipeline: Pipeline) -> Schedule:
    """Resolve names and roles of the pipeline's policy into model names."""
    policy = pipeline.policy
    steps = tuple(Step(step.until, _order(step.accept, pipeline.models)) for step in policy.steps)
    asked = frozenset(model.name for model in pipeline.models if model.role is not Role.DECOY)
    return Schedule(steps, asked if policy.answer == "all" else frozenset())


def _order(accept: tuple[str, ...], models: tuple[Model, ...]) -> tuple[str, ...]:
    """Names as written; a role stands for its models in the order of the file."""
    order: dict[str, None] = {}
    for word in accept:
        order.update(
            (model.name, None) for model in models if word in (model.name, model.role) and model.role.answers
        )
    return tuple(order)
