"""Every number of a report, before anything is drawn: the page shows these and holds them as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from agents.cli.moved import history_of
from agents.cli.quality import Report as QualityReport
from agents.cli.quality import judged
from agents.cli.races import Found
from agents.cli.report_fields import fields_of
from agents.cli.report_verdicts import Verdicts, verdicts_of
from schemas.blocks import Matrix, Offsets
from schemas.errors import ConfigurationRefused
from schemas.pipeline import ModelKey, Pipeline, Role
from streams.archive.ranges import Period, iso
from streams.core.comparison import PASSED_OVER, Roles
from streams.core.entitlement import always
from streams.core.overview import Overview, overview
from streams.core.pairs import Pair, pair
from streams.core.quality import quantiles
from streams.core.races import Races
from streams.core.shifts import FEWEST, Shift, of_numbers

BINS = 40
OF_A_MODEL = (0.5, 0.99, 1.0)
YARDSTICKS = ((Role.CHAMPION, PASSED_OVER), (Role.CANARY,))
NEVER = "not in the pipeline"


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a model did. `in_time` are scores no later than their request's budget, by log times.

    `role` is the one it had at the end of the range, else "was" and its last.
    """

    model: str
    version: str
    role: str
    scored: int
    in_time: int
    failed: int
    not_asked: int
    took_ms: dict[str, float | None]


class ThenAndNow(msgspec.Struct, frozen=True, kw_only=True):
    """One model's scores in the first and in the last third of the range: counts between `edges`."""

    shift: Shift
    edges: list[float]
    then: list[int]
    now: list[int]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one report."""

    pipeline: str
    period: str
    budget_ms: int
    verdicts: Verdicts | None
    overview: Overview
    models: list[ModelFigures]
    pairs: list[Pair]
    then: str
    now: str
    scores: list[ThenAndNow]
    fields: list[Shift]
    quality: QualityReport
    notes: list[str]


def figures(root: Path, pipeline: Pipeline, period: Period, found: Found) -> Figures:
    """Take every figure of a range that was read."""
    races = found.races
    first, last = thirds(races)
    all_ = overview(races)
    verdicts = verdicts_of(root, pipeline, all_, found.counts)
    notes = [f"{count:,} {what}" for what, count in sorted(found.counts.items())]
    if not len(first):
        notes.append(f"fewer than {3 * FEWEST} requests: no part of the range is compared with another")
    fields = fields_of(root, pipeline, races, first, last, notes)
    roles = roles_of(root, pipeline, int(races.at_ms.max()), notes)
    keys = keys_of(roles, races)
    return Figures(
        pipeline=pipeline.name,
        period=str(period),
        budget_ms=pipeline.request.budget_ms,
        verdicts=verdicts,
        overview=all_,
        models=[_model(roles.get(key, NEVER), races, key) for key in keys],
        pairs=_pairs(roles, keys, races, pipeline.labels.threshold),
        then=_span(races, first),
        now=_span(races, last),
        scores=[_then_and_now(key, races.scores[key], first, last) for key in keys if len(first)],
        fields=fields,
        quality=judged(root, pipeline, period, "", found),
        notes=notes,
    )


def thirds(races: Races) -> tuple[Offsets, Offsets]:
    """The rows of the first and of the last third, in the order of their log times; none when they are too few."""
    order = np.argsort(races.at_ms, kind="stable").astype(np.int64)
    count = len(order) // 3
    return (order[:count], order[-count:]) if count >= FEWEST else (order[:0], order[:0])


def roles_of(root: Path, pipeline: Pipeline, at_ms: int, notes: list[str]) -> dict[ModelKey, str]:
    """What each model was for at a log time, by the archived moves; the pipeline file's roles where there are none.

    So it is too, with a note, where this pipeline file contradicts the moves.
    """
    try:
        history = history_of(root, pipeline)
    except ConfigurationRefused as error:
        notes.append(f"roles are those of the pipeline file: {error}")
        history = None
    roles = Roles(history.spans, history.beside) if history else Roles(always(pipeline))
    return roles.until(at_ms)


def keys_of(roles: Mapping[ModelKey, str], races: Races) -> list[ModelKey]:
    """Models that scored, in the order of their roles; what has none comes last."""
    named = list(roles)
    return sorted(races.scores, key=lambda key: (named.index(key) if key in roles else len(named), key))


def _span(races: Races, rows: Offsets) -> str:
    if not len(rows):
        return ""
    return f"{len(rows):,} requests, {iso(int(races.at_ms[rows[0]]))} to {iso(int(races.at_ms[rows[-1]]))}"


def _model(role: str, races: Races, key: ModelKey) -> ModelFigures:
    model, version = key
    took = races.took_ms[key]
    scored = ~np.isnan(took)
    none = np.zeros(len(races), dtype=bool)
    return ModelFigures(
        model=model,
        version=version,
        role=role,
        scored=int(scored.sum()),
        in_time=int((took[scored] <= races.budgets_ms[scored]).sum()),
        failed=int(races.failed.get(model, none).sum()),
        not_asked=int(races.not_asked.get(model, none).sum()),
        took_ms=quantiles(took[scored], OF_A_MODEL),
    )


def _pairs(roles: Mapping[ModelKey, str], keys: Sequence[ModelKey], races: Races, threshold: float) -> list[Pair]:
    """Every model against the champion, passed over or not, and against each canary."""
    yardsticks = [key for wanted in YARDSTICKS for key in keys if roles.get(key) in wanted]
    found = [
        pair(" ".join(key), races.scores[key], " ".join(other), races.scores[other], threshold)
        for other in yardsticks
        for key in keys
        if key != other
    ]
    return [one for one in found if one is not None]


def _then_and_now(key: ModelKey, scores: Matrix, first: Offsets, last: Offsets) -> ThenAndNow:
    then, now = scores[first], scores[last]
    there = scores[np.concatenate([first, last])]
    there = there[~np.isnan(there)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1e-9, BINS + 1)
    counts = [np.histogram(part[~np.isnan(part)], edges)[0].tolist() for part in (then, now)]
    return ThenAndNow(shift=of_numbers(" ".join(key), then, now), edges=edges.tolist(), then=counts[0], now=counts[1])
