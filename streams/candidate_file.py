"""What is tried instead: a TOML file with another policy, budget, default or set of models; the rest stays.

budget_ms = 50
models = ["full", "fast"]      # only these; without the champion, the first of them is it

[policy]
kind = "schedule"
...
"""

import math
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from schemas.errors import ConfigurationRefused
from schemas.pipeline import Answer, Pipeline, Policy, Role
from streams.core.mistakes import Mistake
from streams.core.pipeline_checks import mistakes_of
from streams.pipeline_file import read_as, refuse

KEPT_POLICY = Policy(steps=())
KEPT_ANSWER = Answer(score=math.nan)


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a candidate file; what is absent stays as the pipeline has it."""

    budget_ms: int = 0
    models: tuple[str, ...] = ()
    policy: Policy = KEPT_POLICY
    default: Answer = KEPT_ANSWER


def load_candidate(path: Path, base: Pipeline) -> Pipeline:
    """The pipeline as it would be; raises ConfigurationRefused with every mistake of the file."""
    candidate = read_as(path, Candidate)
    known = {model.name for model in base.models}
    refuse(
        path,
        [
            Mistake("models", f"{name!r} is no model of {base.name}", f"write some of {', '.join(sorted(known))}")
            for name in candidate.models
            if name not in known
        ],
    )
    changed = only_models(base, candidate.models) if candidate.models else base
    if candidate.policy != KEPT_POLICY:
        changed = replace(changed, policy=candidate.policy)
    if candidate.default.score is None or not math.isnan(candidate.default.score):
        changed = replace(changed, default=candidate.default)
    if candidate.budget_ms:
        changed = with_budget(changed, candidate.budget_ms)
    refuse(path, mistakes_of(changed))
    return changed


def with_budget(base: Pipeline, budget_ms: int) -> Pipeline:
    """The same with another budget; a request that names its own keeps it."""
    if not 1 <= budget_ms <= base.request.max_budget_ms:
        raise ConfigurationRefused(
            f"a budget of {budget_ms} ms is out of bounds: write 1 to {base.request.max_budget_ms}"
        )
    return replace(base, request=replace(base.request, budget_ms=budget_ms))


def only_models(base: Pipeline, names: tuple[str, ...]) -> Pipeline:
    """The same with fewer models."""
    models = [base.model(name) for name in names]
    if not any(model.role is Role.CHAMPION for model in models):
        models[0] = replace(models[0], role=Role.CHAMPION)
    return replace(base, models=tuple(models))
