"""What columns can do of a simulation: which pipelines, which requests; the core does the rest.

Whatever is not known here may change how requests are answered, and is left to the core.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Offsets
from schemas.decisions import Outcome
from schemas.pipeline import Model, Pipeline, Policy, RequestShape, Step
from streams.core.answers import NOBODY, OUTCOMES
from streams.core.recorded import Table

REJECTED = OUTCOMES.index(Outcome.REJECTED)
Bools = NDArray[np.bool_]

KNOWN: dict[type[Struct], tuple[str, ...]] = {
    Pipeline: (
        "name", "partitions", "replication", "retention_hours", "start", "record_cap_bytes", "request", "features",
        "models", "policy", "default", "archive", "output", "overload", "labels", "kafka", "replay",
        "quarantine", "promotion", "breaker", "enrich", "monitor",
    ),
    RequestShape: ("id", "budget", "budget_ms", "max_budget_ms", "repeat_s"),
    Model: (
        "name", "version", "kind", "role", "artifact", "sha256", "callable", "value", "features", "prepare", "wire",
        "expired", "memory_mb", "nice", "threads", "instances", "takes", "url", "timeout_ms", "output", "column",
    ),
    Policy: ("steps",),
    Step: ("until", "accept"),
}  # fmt: skip
"""A key that is not known here may change how requests are answered: then the core answers."""


def cannot(pipeline: Pipeline, base: Pipeline, table: Table) -> str:
    """Why this is the core's to do; empty when columns will do."""
    parts = (pipeline, pipeline.request, *pipeline.models, pipeline.policy, *pipeline.policy.steps)
    if not all(_plain(part) for part in parts):
        return "its policy is no plain schedule"
    if table.rejections:
        return "the router rejected requests"
    if (table.happened.outcome == NOBODY).any():
        return "some requests have no archived decision"
    if table.odd:
        return "a block of scores holds a number that is none"
    for times in (table.scores, table.failed, table.not_asked):
        for scores, log_ms, _ in times.values():
            if (~np.isnan(scores) & (log_ms < table.at_ms)).any():
                return "a score is older than its request"
    own, new = base.request.budget_ms, pipeline.request.budget_ms
    if own != new and (table.budgets_ms == new).any():
        return "requests that name this very budget may repeat others"
    return ""


def alone(table: Table) -> Offsets:
    """Rows that are answered one by one: those that ask for better answers."""
    return np.flatnonzero(table.refined & (table.repeats == NOBODY) & (table.happened.outcome != REJECTED))


def _plain(part: Struct) -> bool:
    """Whether nothing but known keys differs from its default."""
    kind = type(part)
    return part == kind(**{name: getattr(part, name) for name in KNOWN[kind]})


def own_budgets(table: Table, pipeline: Pipeline, base: Pipeline) -> Offsets:
    """Another budget is for requests that had the pipeline's; one of their own they keep."""
    own, new = base.request.budget_ms, pipeline.request.budget_ms
    return np.where(table.budgets_ms == own, new, table.budgets_ms)
