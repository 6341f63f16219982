"""Policies that look at the request: which schedule it is given. The same request is given the same, anywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Protocol

from msgspec import json

from schemas.errors import UNREADABLE
from schemas.pipeline import Condition, Pipeline, PolicyKind
from schemas.requests import Request
from streams.core.learned import NOTHING, Learned
from streams.core.policy import Schedule, Step, champion_of, order_of, preferring, schedule_of
from streams.core.policy_bandit import Bandit
from streams.core.policy_best import Best
from streams.core.policy_combine import Combine

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


class Branches(Protocol):
    """Deals requests to schedules."""

    def of(self, request: Request, learned: Learned = NOTHING) -> tuple[str, Schedule]:
        """The branch this request takes, by name, and its schedule; `learned` is what the labels have taught."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """Cohorts: a user's point between 0 and the sum of weights says whose they are, on any machine, for good."""

    cohorts: tuple[tuple[float, str, Schedule], ...]
    """With the upper bound of each."""

    by: tuple[str, ...]
    salt: str

    def of(self, request: Request, learned: Learned = NOTHING) -> tuple[str, Schedule]:
        """By the field, else the record's key, else the request id: a hash, not a draw."""
        point = self._point(request) * self.cohorts[-1][0]
        for bound, model, schedule in self.cohorts:
            if point < bound:
                return model, schedule
        return self.cohorts[-1][1:]

    def _point(self, request: Request) -> float:
        """From 0 up to, but not, 1: 53 bits of a hash, so that the float is exact."""
        user = _text(field_of(request.value, self.by)) if self.by else None
        user = user or request.key or request.request_id.encode()
        digest = blake2b(user, digest_size=8, key=blake2b(self.salt.encode(), digest_size=32).digest()).digest()
        return (int.from_bytes(digest) >> 11) / (1 << 53)


@dataclass(frozen=True, slots=True)
class Rules:
    """The first rule whose conditions all hold; otherwise the policy's own steps."""

    rules: tuple[tuple[str, tuple[Condition, ...], Schedule], ...]
    otherwise: Schedule

    def of(self, request: Request, learned: Learned = NOTHING) -> tuple[str, Schedule]:
        """By the fields of the event."""
        event = _event(request.value)
        for name, when, schedule in self.rules:
            if all(holds(condition, _walk(event, tuple(condition.field.split(".")))) for condition in when):
                return name, schedule
        return "otherwise", self.otherwise


def branches_of(pipeline: Pipeline) -> Branches | None:
    """For the kinds that look at the request."""
    policy = pipeline.policy
    if policy.kind is PolicyKind.RULES:
        rules = tuple((rule.name, rule.when, schedule_of(pipeline, rule.steps)) for rule in policy.rules)
        return Rules(rules, schedule_of(pipeline))
    if policy.kind is PolicyKind.WEIGHTED:
        bound, cohorts = 0.0, []
        answering = answering_in(pipeline)
        for cohort in policy.cohorts:
            bound += cohort.weight
            plan = schedule_of(pipeline)
            if cohort.model in answering:  # else the roster has taken it out: its users have the schedule
                plan = preferring(plan, cohort.model, "its cohort's model")
            cohorts.append((bound, cohort.model, plan))
        return Weighted(tuple(cohorts), tuple(policy.by.split(".")) if policy.by else (), policy.salt)
    if policy.kind is PolicyKind.BANDIT and (arms := _arms(pipeline)):
        return Bandit(arms, schedule_of(pipeline), policy.salt)
    return None


def _arms(pipeline: Pipeline) -> tuple[tuple[str, str], ...]:
    """Those the policy names, or all that may answer; the roster may have taken some out, or all that are named."""
    answering = answering_in(pipeline)
    every = tuple((model.name, model.version) for model in pipeline.models if model.name in answering)
    named = tuple(arm for arm in every if arm[0] in pipeline.policy.arms)
    return named or every


def plan_of(pipeline: Pipeline) -> Schedule | Best | Combine:
    """The plan of every request, or, for the kinds that look at it, of those that take no branch."""
    policy, models = pipeline.policy, pipeline.models
    everybody = order_of(("champion", "challenger"), models)
    if policy.kind is PolicyKind.FIRST:
        return Schedule((Step(1.0, everybody),), frozenset(), champion_of(pipeline))
    if policy.kind is PolicyKind.BEST:
        return Best(order_of(policy.order, models) or everybody)
    if policy.kind is PolicyKind.COMBINE:
        answering = answering_in(pipeline)
        members = tuple((each.model, each.weight) for each in policy.members if each.model in answering)
        members = members or tuple((model, 1.0) for model in everybody)
        return Combine(members, policy.how, policy.threshold, policy.until, policy.least)
    return schedule_of(pipeline)


def answering_in(pipeline: Pipeline) -> frozenset[str]:
    """The models that may answer: a policy may name others, which the roster has taken out since."""
    return frozenset(model.name for model in pipeline.models if model.role.answers)


def holds(condition: Condition, found: Any) -> bool:
    """Whether a value from an event fulfils a condition; an absent one, or one of another type, does not."""
    wanted = condition.value
    if isinstance(wanted, tuple):
        return any(_kind(found) is _kind(one) and found == one for one in wanted)
    return _kind(found) is _kind(wanted) and OPERATORS[condition.op](found, wanted)


def field_of(value: bytes, parts: tuple[str, ...]) -> Any:
    """What an event says at a path; None when it says nothing there."""
    return _walk(_event(value), parts)


def _event(value: bytes) -> Any:
    try:
        return json.decode(value)
    except UNREADABLE:  # a number beyond a float in a part that no feature reads
        return None


def _walk(found: Any, parts: tuple[str, ...]) -> Any:
    for part in parts:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _kind(value: Any) -> type | None:
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return str if isinstance(value, str) else None


def _text(value: Any) -> bytes | None:
    """One form for one user: 7, 7.0 and "7" are the same."""
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode() if isinstance(value, (int, float)) else None
