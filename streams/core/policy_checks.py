"""What a policy must fulfil: each kind has its own keys, and every model it names can answer."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import fields

from schemas.pipeline import Condition, Pipeline, Policy, PolicyKind, Role, Step
from streams.core.mistakes import PATH, Mistake, doubles
from streams.core.policy_combine import COMBINED

SCHEDULED = ("steps", "answer")
OWN_KEYS: Final = {
    PolicyKind.SCHEDULE: SCHEDULED,
    PolicyKind.FIRST: (),
    PolicyKind.BEST: ("order",),
    PolicyKind.WEIGHTED: (*SCHEDULED, "by", "salt", "cohorts"),
    PolicyKind.COMBINE: ("how", "members", "threshold", "until", "least"),
    PolicyKind.BANDIT: (*SCHEDULED, "arms", "salt", "remember"),
    PolicyKind.RULES: (*SCHEDULED, "rules"),
}
FOR_ALL = ("kind", "guards", "refine")
MOST_REMEMBERED = 10_000_000
"""Of a bandit's requests; each costs the learner 300 bytes, 500 with its label."""


def policy_mistakes(pipeline: Pipeline) -> Iterator[Mistake]:
    """Every contradiction in the policy."""
    policy = pipeline.policy
    yield from _foreign_keys(policy)
    yield from _steps("policy.steps", policy.steps, pipeline)
    yield from _accept("policy.order", policy.order, pipeline)
    yield from _guards(pipeline)
    if policy.kind is PolicyKind.WEIGHTED:
        yield from _weighted(pipeline)
    if policy.kind is PolicyKind.COMBINE:
        yield from _combine(pipeline)
    if policy.kind is PolicyKind.BANDIT:
        yield from _bandit(pipeline)
    if policy.kind is PolicyKind.RULES:
        yield from _rules(pipeline)


def _foreign_keys(policy: Policy) -> Iterator[Mistake]:
    known = (*OWN_KEYS[policy.kind], *FOR_ALL)
    for field in fields(policy):
        name = field.name
        if name not in known and getattr(policy, name) != field.default:
            kinds = " or ".join(f'"{kind}"' for kind, own in OWN_KEYS.items() if name in own)
            yield Mistake(f"policy.{name}", f"has no meaning for kind {policy.kind}", f"remove it, or write {kinds}")


def _steps(key: str, steps: tuple[Step, ...], pipeline: Pipeline) -> Iterator[Mistake]:
    if not steps or steps[-1].until != 1.0:
        yield Mistake(key, "the last step must reach the deadline", "write until = 1.0 in it")
    last = 0.0
    for place, step in enumerate(steps):
        if not last < step.until <= 1:
            instead = "write rising shares up to 1.0"
            yield Mistake(f"{key}[{place}].until", f"{step.until} does not follow {last}", instead)
        last = max(last, step.until)
        yield from _accept(f"{key}[{place}].accept", step.accept, pipeline)


def _accept(key: str, words: Iterable[str], pipeline: Pipeline) -> Iterator[Mistake]:
    roles = {role.value: role for role in Role}
    models = {model.name: model.role for model in pipeline.models}
    if not words:
        yield Mistake(key, "accepts nobody", "name a model or a role")
    for word in words:
        role = models.get(word) or roles.get(word)
        if role is None:
            yield Mistake(key, f"{word!r} is no model and no role", "name one of the pipeline's")
        elif not role.answers:
            yield Mistake(key, f"{word!r} never answers", "name a champion or a challenger")


def _answering(key: str, name: str, pipeline: Pipeline) -> Iterator[Mistake]:
    """One model, by its name."""
    role = {model.name: model.role for model in pipeline.models}.get(name)
    if role is None:
        yield Mistake(key, f"{name!r} is no model", "name one of the pipeline's")
    elif not role.answers:
        yield Mistake(key, f"{name!r} never answers", "name a champion or a challenger")


def _guards(pipeline: Pipeline) -> Iterator[Mistake]:
    guards = pipeline.policy.guards
    yield from doubles("policy.guards", (guard.model for guard in guards))
    for place, guard in enumerate(guards):
        key = f"policy.guards[{place}]"
        yield from _answering(f"{key}.model", guard.model, pipeline)
        low, high = guard.min, guard.max
        if low is None and high is None:
            yield Mistake(key, "guards nothing", "write min, max or both")
        if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
            yield Mistake(key, "a bound is not finite", "remove it, or write a number")
        if low is not None and high is not None and low > high:
            yield Mistake(key, f"no score lies between {low} and {high}", "write min below max")


def _weighted(pipeline: Pipeline) -> Iterator[Mistake]:
    policy = pipeline.policy
    if policy.by and not PATH(policy.by):
        yield Mistake(
            "policy.by", f"{policy.by!r} is no path", 'write "a" or "a.b", or remove it for the record\'s key'
        )
    if not policy.cohorts:
        yield Mistake(
            "policy.cohorts", "there is none", "write [[policy.cohorts]] with model and weight, at least two"
        )
    yield from doubles("policy.cohorts", (cohort.model for cohort in policy.cohorts))
    for place, cohort in enumerate(policy.cohorts):
        yield from _answering(f"policy.cohorts[{place}].model", cohort.model, pipeline)
        yield from _weight(f"policy.cohorts[{place}].weight", cohort.weight)


def _combine(pipeline: Pipeline) -> Iterator[Mistake]:
    policy = pipeline.policy
    answering = sum(model.role.answers for model in pipeline.models)
    yield from doubles("policy.members", (member.model for member in policy.members))
    for place, member in enumerate(policy.members):
        yield from _answering(f"policy.members[{place}].model", member.model, pipeline)
        yield from _weight(f"policy.members[{place}].weight", member.weight)
    if not 0 < policy.until <= 1:
        yield Mistake("policy.until", "is a share of the budget", "write a number above 0, at most 1")
    if not 1 <= policy.least <= (most := len(policy.members) or answering):
        yield Mistake("policy.least", f"{policy.least} of {most} members is impossible", f"write 1 to {most}")
    if not math.isfinite(policy.threshold):
        yield Mistake("policy.threshold", "not finite", "write a number")
    if COMBINED in (model.name for model in pipeline.models):
        yield Mistake("models", f"{COMBINED!r} is what a combined answer is called", "rename the model")


def _bandit(pipeline: Pipeline) -> Iterator[Mistake]:
    policy = pipeline.policy
    yield from doubles("policy.arms", policy.arms)
    for place, arm in enumerate(policy.arms):
        yield from _answering(f"policy.arms[{place}]", arm, pipeline)
    arms = len(policy.arms) or sum(model.role.answers for model in pipeline.models)
    if arms < 2:
        yield Mistake("policy.arms", "nothing to choose from", "name two models, or give one more role = challenger")
    if not 1 <= policy.remember <= MOST_REMEMBERED:
        yield Mistake("policy.remember", f"{policy.remember} is out of bounds", f"write 1 to {MOST_REMEMBERED:,}")


def _rules(pipeline: Pipeline) -> Iterator[Mistake]:
    rules = pipeline.policy.rules
    if not rules:
        yield Mistake("policy.rules", "there is none", "write [[policy.rules]] with name, when and steps")
    yield from doubles("policy.rules", (rule.name for rule in rules))
    for place, rule in enumerate(rules):
        key = f"policy.rules[{place}] ({rule.name})"
        if not rule.name.strip() or rule.name == "otherwise":
            yield Mistake(f"{key}.name", f"{rule.name!r} names no rule", "give it a name; `otherwise` is ours")
        if not rule.when:
            yield Mistake(f"{key}.when", "holds for everybody", "write a condition, or use policy.steps instead")
        for number, condition in enumerate(rule.when):
            yield from _condition(f"{key}.when[{number}]", condition)
        yield from _steps(f"{key}.steps", rule.steps, pipeline)


def _condition(key: str, condition: Condition) -> Iterator[Mistake]:
    value = condition.value
    if not PATH(condition.field):
        yield Mistake(f"{key}.field", f"{condition.field!r} is no path", 'write "a" or "a.b"')
    if (condition.op == "in") is not isinstance(value, tuple):
        wanted = "a list" if condition.op == "in" else "one value"
        yield Mistake(f"{key}.value", f"{condition.op} compares with {wanted}", f"write {wanted}")
    elif isinstance(value, bool) and condition.op not in {"==", "!="}:
        yield Mistake(f"{key}.op", f"true and false have no order for {condition.op}", "write == or !=")
    one_by_one = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, float) and not math.isfinite(one) for one in one_by_one):
        yield Mistake(f"{key}.value", "not finite", "write a number")


def _weight(key: str, weight: float) -> Iterator[Mistake]:
    if not 0 < weight <= 1e6:
        yield Mistake(key, f"{weight} is out of bounds", "write a number above 0, at most 1,000,000")
