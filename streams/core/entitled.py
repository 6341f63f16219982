"""Who may answer a request, and what is asked and believed for it: made of the pipeline as of the request's time."""

from schemas.pipeline import Pipeline, Role
from streams.core.policy_branches import branches_of, plan_of


class Entitled:
    """The plan, or the branches that have one, and the models that are asked, with the version that is believed."""

    __slots__ = ("asked", "branches", "enough", "first_change", "needs", "plan", "versions")

    def __init__(self, pipeline: Pipeline) -> None:
        self.plan = plan_of(pipeline)
        self.branches = branches_of(pipeline)
        self.enough = self.plan.enough
        self.first_change = self.plan.first_change
        self.versions = {model.name: model.version for model in pipeline.models if model.role is not Role.DECOY}
        self.asked = tuple(self.versions)
        self.needs = {model.name: model.needs for model in pipeline.models if model.needs} or None

    def trusts(self, model: str, version: str) -> bool:
        """Whether a score of this model and version counts."""
        return self.versions.get(model) == version
