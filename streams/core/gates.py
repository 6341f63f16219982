"""The gates before a promotion: what a model has shown beside the champion, held against what the pipeline asks.

Judged request by request over the same requests: every ticket was asked of both. A model that gave no score counts
as slower than any budget, so one that answers the easy half quickly is not quick; one that said why it has none has
made an error, which is a gate of its own.
"""

from collections.abc import Iterable, Mapping
from math import ceil

from msgspec import Struct

from schemas.pipeline import Promotion


class Shown(Struct, frozen=True, kw_only=True, gc=False):
    """What two models made of one request. `age` is the request's age when the candidate's score was in the log.

    A score is None when there was none, `failed` when the model said that it has none. `budget_ms` and `age_ms` are
    of the candidate; `label` is what became of it, where that is known, and `weight` how many requests that label
    stands for.
    """

    budget_ms: float
    score: float | None = None
    age_ms: float | None = None
    failed: bool = False
    champion: float | None = None
    label: bool | None = None
    weight: float = 1.0


class Figures(Struct, frozen=True, kw_only=True):
    """The same, summed up. Shares are None where there is nothing to take one of.

    `labelled` requests that both scored have a label, `coverage` is their share of those. Both accuracies rest on
    these, weighted by the labels' own weights: so labels that were drawn (`label-next`) speak for all.
    """

    shadow_s: float
    requests: int
    agreement: float | None = None
    latency_share: float | None = None
    error_rate: float | None = None
    out_of_range: int = 0
    labelled: int = 0
    coverage: float | None = None
    accuracy: float | None = None
    champion_accuracy: float | None = None


NEVER = 1e9
"""The share of the budget that a score took which never came."""


def figures_of(shown: Iterable[Shown], gates: Promotion, shadow_s: float) -> Figures:
    """Sum up; accuracy is the share of labelled requests, scored by both, on the label's side of the threshold."""
    every = list(shown)
    both = [one for one in every if one.score is not None and one.champion is not None]
    labelled = [one for one in both if one.label is not None]
    weights = [one.weight for one in labelled]
    side = gates.threshold
    failed = sum(one.failed for one in every)
    timed = [one for one in every if not one.failed]
    return Figures(
        shadow_s=shadow_s,
        requests=len(every),
        agreement=_share([_above(one.score, side) == _above(one.champion, side) for one in both]),
        latency_share=_p99([NEVER if one.age_ms is None else one.age_ms / one.budget_ms for one in timed]),
        error_rate=failed / len(every) if every else None,
        out_of_range=sum(_outside(one.score, gates) for one in every),
        labelled=len(labelled),
        coverage=len(labelled) / len(both) if both else None,
        accuracy=_share([_above(one.score, side) == one.label for one in labelled], weights),
        champion_accuracy=_share([_above(one.champion, side) == one.label for one in labelled], weights),
    )


def refusals(found: Figures, gates: Promotion) -> list[str]:
    """Every gate that says no, with the figure and what was asked; empty when all are open."""
    said: list[str] = []
    if found.shadow_s < gates.shadow_s:
        said.append(f"shadow_s: it has run beside the champion for {found.shadow_s:.0f} s, not {gates.shadow_s:g}")
    if found.requests < gates.requests:
        said.append(f"requests: it was seen on {found.requests}, not {gates.requests}")
    if gates.agreement > 0 and (found.agreement is None or found.agreement < gates.agreement):
        said.append(f"agreement: {_percent(found.agreement)} with the champion, not {_percent(gates.agreement)}")
    if found.latency_share is not None and found.latency_share > gates.latency_share:
        took = "never came" if found.latency_share >= NEVER else f"took {found.latency_share:.0%} of the budget"
        said.append(f"latency_share: the slowest scores in 100 {took}, not {gates.latency_share:.0%}")
    if found.error_rate is not None and found.error_rate > gates.error_rate:
        said.append(
            f"error_rate: {_percent(found.error_rate)} of its answers are errors, not {_percent(gates.error_rate)}"
        )
    if found.out_of_range:
        said.append(f"min, max: {found.out_of_range} scores outside {_range(gates)}")
    said += _accuracy(found, gates)
    return said


def in_words(found: Figures) -> str:
    """One line for people: what it has shown beside the champion."""
    said = [f"beside the champion for {found.shadow_s:.0f} s, last seen on {found.requests:,} requests"]
    if found.agreement is not None:
        said.append(f"on its side of the threshold for {_percent(found.agreement)}")
    if found.latency_share is not None:
        took = "never came" if found.latency_share >= NEVER else f"by {found.latency_share:.0%} of the budget"
        said.append(f"99 in 100 scores {took}")
    if found.error_rate:
        said.append(f"errors {_percent(found.error_rate)}")
    if found.accuracy is not None:
        held = f"right on {_percent(found.accuracy)} of {found.labelled:,} labelled"
        said.append(f"{held}, the champion on {_percent(found.champion_accuracy)}; {_coverage(found)}")
    elif found.requests:
        said.append("none of them has a label")
    return "; ".join(said)


def as_table(found: Figures) -> Mapping[str, float | None]:
    """The figures by name, rounded, as the roster keeps them."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in _items(found)}


def _accuracy(found: Figures, gates: Promotion) -> list[str]:
    own, champion = found.accuracy, found.champion_accuracy
    if own is not None and champion is not None and own < champion - gates.accuracy_loss:
        behind = f"{_percent(own)} of {found.labelled} labelled requests, the champion {_percent(champion)}"
        return [f"accuracy_loss: right on {behind}; {_coverage(found)}"]
    return []


def _coverage(found: Figures) -> str:
    return f"there are labels for {_percent(found.coverage)} of what both scored"


def _items(found: Figures) -> list[tuple[str, float | None]]:
    return [(name, getattr(found, name)) for name in found.__struct_fields__]


def _above(score: float | None, threshold: float) -> bool:
    return score is not None and score >= threshold


def _outside(score: float | None, gates: Promotion) -> bool:
    if score is None:
        return False
    return (gates.min is not None and score < gates.min) or (gates.max is not None and score > gates.max)


def _share(held: list[bool], weights: list[float] | None = None) -> float | None:
    if not held:
        return None
    heavy = weights or [1.0] * len(held)
    return sum(weight for weight, one in zip(heavy, held, strict=True) if one) / sum(heavy)


def _p99(shares: list[float]) -> float | None:
    """The smallest share that 99 of 100 do not exceed."""
    return sorted(shares)[ceil(0.99 * len(shares)) - 1] if shares else None


def _percent(share: float | None) -> str:
    return "nothing to compare" if share is None else f"{share:.2%}"


def _range(gates: Promotion) -> str:
    low = "" if gates.min is None else f"{gates.min:g}"
    high = "" if gates.max is None else f"{gates.max:g}"
    return f"{low}..{high}"
