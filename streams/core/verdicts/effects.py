"""The size of a change in plain units: medians, shares, factors; from the last events, held against the reference."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from schemas.blocks import Matrix
from streams.core.event_fields import OTHERS
from streams.core.verdicts.events import Event, numbers
from streams.core.verdicts.fields import BINS, Column, on_grid
from streams.core.verdicts.reference import Reference
from streams.core.verdicts.shifts import OWN, PAIRED, RAW, SCORES
from streams.core.verdicts.sums import Sums


def plain(value: float) -> str:
    """A number as a person writes it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """A share of events."""
    return f"{100 * share:.1f} %"


def name_of(reference: Reference, statistic: int) -> tuple[str, str]:
    """What a statistic is called, and whom it speaks of."""
    for what, place in reference.shifts.groups.items():
        if place.start <= statistic < place.stop:
            return what, _subject(reference, what, statistic - place.start)
    raise IndexError(f"no statistic has number {statistic}")


def _subject(reference: Reference, what: str, place: int) -> str:
    if what in RAW:
        return reference.fields[place].name
    if what == "joint":
        one, other = (int(upper[place] // 2) for upper in reference.shifts.upper)
        return f"{reference.fields[one].name} and {reference.fields[other].name}"
    if what in SCORES or what in OWN:
        return reference.models[place]
    if what in PAIRED:
        one, other = reference.expected.pairs[place]
        return f"{reference.models[one]}, given {reference.models[other]}"
    return "events" if what == "rate" else reference.latencies[place]


def of_field(field: Column, what: str, events: Sequence[Event], live: Sums, usual: Sums, place: int) -> str:
    """How one raw field changed, by the statistic that says so."""
    values = [event.features.get(field.name) for event in events]
    count = max(len(values), 1)
    if what in ("nulls", "nulls alone"):
        null = sum(value is None for value in values)
        return f"missing in {percent(null / count)} of events (was {percent(field.nulls)})"
    if what == "types":
        kind = str if field.kind == "number" else (int, float)
        strange = [value for value in values if isinstance(value, kind)]
        example = f", such as {strange[0]!r}" if strange else ""
        return f"of another type in {percent(len(strange) / count)} of events{example}"
    if what == "new values" and (field.kind == "category" or len(field.known)):
        known = field.words if field.kind == "category" else set(field.known.tolist())
        new = Counter(str(value) for value in values if value is not None and value not in known)
        first = f", most often {new.most_common(1)[0][0]!r}" if new else ""
        return f"a value never seen in {percent(new.total() / count)} of events{first}"
    if field.kind == "category":
        shares = _shares(live, place) - _shares(usual, place)
        bin_ = int(np.argmax(np.abs(shares)))
        label = field.labels[bin_] if bin_ < len(field.labels) else OTHERS
        return f"share of {label!r} {percent(_shares(usual, place)[bin_])} -> {percent(_shares(live, place)[bin_])}"
    found, _ = numbers(values)
    found = found[~np.isnan(found)]
    if not len(found):
        return "no number any more"
    if what == "range":
        beyond = found[(found < field.low) | (found > field.high)]
        example = f", such as {plain(float(beyond[0]))}" if len(beyond) else ""
        return (
            f"{percent(len(beyond) / count)} of events far outside {plain(field.low)} to {plain(field.high)}{example}"
        )
    median = float(np.median(found))
    factor = f" (x{median / field.median:.2f})" if field.median > 0 and median > 0 else ""
    if what == "new values":
        finer = found[~on_grid(found, field.decimals or 0)]
        example = f", such as {finer[0]:.6g}" if len(finer) else ""
        more = f"more decimals than ever ({field.decimals}) in {percent(len(finer) / count)} of events{example}"
        return f"median {plain(field.median)} -> {plain(median)}{factor}; {more}"
    if what == "spread":
        low, high = np.quantile(found, [0.05, 0.95])
        most = f"{plain(float(low))} to {plain(float(high))}"
        return f"median {plain(field.median)} -> {plain(median)}; nine of ten now in {most}"
    return f"median {plain(field.median)} -> {plain(median)}{factor}"


def _shares(sums: Sums, place: int) -> np.ndarray:
    counts = sums["bins"][place, :BINS]
    return counts / max(counts.sum(), 1)


def of_pair(reference: Reference, live: Sums, usual: Sums, pair: int) -> str:
    """How two fields go together now."""
    now, before = (float(np.tanh(reference.shifts.side(sums).fisher[pair])) for sums in (live, usual))
    return f"correlation of their normal scores {before:+.2f} -> {now:+.2f}"


def of_model(reference: Reference, events: Sequence[Event], live: Sums, usual: Sums, model: int) -> str:
    """How one model's scores changed, beyond what input explains."""
    name = reference.models[model]
    scores, _ = numbers([event.scores.get(name) for event in events])
    scores = scores[~np.isnan(scores)]
    n, total, squares = live["left"][:, model]
    m, before, before_squares = usual["left"][:, model]
    shift = total / max(n, 1) - before / max(m, 1)
    size = np.sqrt(squares / max(n, 1)), np.sqrt(before_squares / max(m, 1))
    median = float(reference.ranks.quantiles[model][reference.ranks.quantiles.shape[1] // 2])
    now = f"median score {plain(median)} -> {plain(float(np.median(scores)))}; " if len(scores) else ""
    larger = size[0] / max(size[1], 1e-9)
    return f"{now}rank {shift:+.3f} against what input lets expect (0..1), unexplained part x{larger:.2f}"


def of_traffic(reference: Reference, live: Sums, usual: Sums, what: str, place: int) -> str:
    """How much faster or slower."""
    if what == "rate":
        now, before = (sums["gaps"][0] / max(sums["gaps"][1], 1e-3) * 1000 for sums in (live, usual))
        return f"{plain(float(now))} events a second (was {plain(float(before))}, x{now / max(before, 1e-12):.2f})"
    now, before = (
        float(np.exp(sums["latency"][1, place] / max(sums["latency"][0, place], 1))) for sums in (live, usual)
    )
    return f"typical latency {plain(now)} ms (was {plain(before)} ms, x{now / max(before, 1e-12):.2f})"


def of_twins(reference: Reference, live: Sums, ratios: Matrix, model: int) -> str:
    """Another model that this one answers alike, as when one was given the other's file; empty without one."""
    sizes = ratios[reference.shifts.groups["same answers"]]
    for place, (one, other) in enumerate(reference.expected.pairs):
        if one == model and sizes[place] >= 1:
            share = percent(live["same"][place] / max(live["rows"][0], 1))
            return f"{reference.models[one]} answers exactly as {reference.models[other]} does in {share} of events"
    return ""
