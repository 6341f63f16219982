"""What ways of answering come to, side by side: as figures, for a terminal, and as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from agents.cli.past import HAPPENED, UNCHANGED, Seen
from agents.cli.report_page import lines
from schemas.pipeline import Pipeline
from streams.archive.ranges import iso
from streams.core.answers import Answers, of_scores
from streams.core.past import Way
from streams.core.quality import Comparison, Figures, Quality, compare, different, figures, quality


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of a sweep."""

    budget_ms: int
    figures: Figures


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a backtest or a simulation says; `compared` is each way against the unchanged pipeline, run again too."""

    pipeline: str
    period: str
    first: str
    last: str
    requests: int
    left_out: int
    threshold: float
    notes: list[str]
    ways: dict[str, Figures]
    compared: dict[str, Comparison]
    models: dict[str, Quality]
    own_scores: dict[str, Comparison | None]
    different: dict[str, list[dict[str, Any]]]
    sweep: dict[str, list[Point]] = {}


def report(
    seen: Seen, pipeline: Pipeline, ways: Sequence[Way], notes: Sequence[str], threshold: float, listed: int
) -> Report:
    """Sum up; what the archive could not say is said."""
    names = [UNCHANGED, *(way.name for way in ways)]
    columns = {**({HAPPENED: seen.happened} if seen.happened else {}), **{name: seen.ways[name] for name in names}}
    budgets = {way.name: way.pipeline.request.budget_ms for way in ways}
    unchanged = seen.ways[UNCHANGED]
    more = list(notes)
    if seen.happened is None:
        more.append("decisions are not archived in this range: what really happened is not shown")
    if seen.left_out:
        more.append(
            f"{seen.left_out} requests at the end are left out: the archive of scores ends before their answer"
        )
    more += [f"{count:,} {what}" for what, count in sorted(seen.counts.items()) if count]
    return Report(
        pipeline=pipeline.name,
        period=str(seen.period),
        first=iso(int(seen.at_ms.min())),
        last=iso(int(seen.at_ms.max())),
        requests=len(seen.ids),
        left_out=seen.left_out,
        threshold=threshold,
        notes=more,
        ways={
            name: summed(seen, pipeline, answers, budgets.get(name), threshold) for name, answers in columns.items()
        },
        compared={
            name: compare(unchanged, answers, threshold) for name, answers in columns.items() if name != UNCHANGED
        },
        models=_models(seen, ways, threshold),
        own_scores=_own_scores(seen, threshold),
        different={way.name: examples(seen, way.name, threshold, listed) for way in ways},
    )


def summed(seen: Seen, pipeline: Pipeline, answers: Answers, budget_ms: int | None, threshold: float) -> Figures:
    """Figures of one way; a budget of its own is for requests that had the pipeline's."""
    own = pipeline.request.budget_ms
    budgets = seen.budgets_ms if budget_ms is None else np.where(seen.budgets_ms == own, budget_ms, seen.budgets_ms)
    return figures(answers, seen.names, budgets, seen.truth, seen.weight, threshold)


def _models(seen: Seen, ways: Sequence[Way], threshold: float) -> dict[str, Quality]:
    """Each model alone, whoever answered: as archived, and as scored here."""
    found = {model: quality(scores, seen.truth, seen.weight, threshold) for model, scores in seen.scores.items()}
    for way in ways:
        for model, scores in seen.own.get(way.name, {}).items():
            found[f"{model} of {way.name}"] = quality(scores, seen.truth, seen.weight, threshold)
    return found


def _own_scores(seen: Seen, threshold: float) -> dict[str, Comparison | None]:
    """A model scored here against the one it replaces, score by score."""
    return {
        f"{model} of {way}": compare(of_scores(seen.scores[model]), of_scores(scores), threshold)
        for way, own in seen.own.items()
        for model, scores in own.items()
        if model in seen.scores
    }


def examples(seen: Seen, way: str, threshold: float, listed: int) -> list[dict[str, Any]]:
    """The first decisions that would have been different."""
    one, other = seen.ways[UNCHANGED], seen.ways[way]
    rows = np.flatnonzero(different(one, other, threshold))[:listed].tolist()
    return [
        {
            "request_id": seen.ids[row],
            "ticket": f"{seen.partitions[row]}/{seen.offsets[row]}",
            "unchanged": one.row(row, seen.names),
            "candidate": other.row(row, seen.names),
        }
        for row in rows
    ]


def told(found: Report) -> list[str]:
    """The report for a terminal."""
    text = [f"{found.pipeline}: {found.requests:,} requests from {found.first} to {found.last}", ""]
    text += [*lines(summary(found)), ""]
    if found.compared:
        text += [f"against {UNCHANGED}, the pipeline as it is, run again", *lines(compared(found)), ""]
    text += ["each model alone", *lines(alone(found.models)), ""] if found.models else []
    for way, rows in found.different.items():
        text += [f"{way}: {heading(found, way)}"] if rows else []
        text += [f"  {row['request_id']} ({row['ticket']}): {row['unchanged']} -> {row['candidate']}" for row in rows]
    for way, points in found.sweep.items():
        text += ["", f"{way}: what a budget costs", *lines(swept(points))]
    return [*text, *(f"note: {line}" for line in found.notes)]


def heading(found: Report, way: str) -> str:
    """How many of a way's different decisions are listed."""
    return f"different decisions, the first {len(found.different[way]):,} of {found.compared[way].different:,}"


def swept(points: Sequence[Point]) -> list[list[str]]:
    """A sweep over budgets."""
    head = ["budget, ms", "preferred", "fallback", "default", "p50, ms", "p99, ms", "accuracy", "AUC"]
    return [
        head,
        *(
            [
                f"{point.budget_ms:,}",
                *(percent(point.figures.outcomes[word]) for word in ("preferred", "fallback", "default")),
                *(number(point.figures.latency_ms[name], 1) for name in ("p50", "p99")),
                number(point.figures.quality.accuracy, 4),
                number(point.figures.quality.auc, 4),
            ]
            for point in points
        ),
    ]


def summary(found: Report) -> list[list[str]]:
    """Ways side by side."""
    ways = list(found.ways.values())
    words = sorted({winner for way in ways for winner in way.winners})
    rows = [["", *found.ways]]
    rows.append(["answered", *(f"{way.answered:,}" for way in ways)])
    rows += [[word, *(percent(way.outcomes[word]) for way in ways)] for word in ways[0].outcomes]
    rows += [[f"by {word}", *(percent(way.winners.get(word, 0.0)) for way in ways)] for word in words]
    rows.append(["on time (budget + 10 ms)", *(percent(way.on_time) for way in ways)])
    rows += [
        [f"latency {name}, ms", *(number(way.latency_ms[name], 1) for way in ways)] for name in ways[0].latency_ms
    ]
    if any(way.quality.labelled for way in ways):
        rows.append(["labelled", *(f"{way.quality.labelled:,}" for way in ways)])
        rows.append(["accuracy", *(number(way.quality.accuracy, 4) for way in ways)])
        rows.append(["AUC", *(number(way.quality.auc, 4) for way in ways)])
    return rows


def compared(found: Report) -> list[list[str]]:
    """Each way against the unchanged pipeline."""
    ways = list(found.compared.values())
    rows = [["", *found.compared]]
    rows.append(["different decisions", *(f"{way.different:,}" for way in ways)])
    rows.append(["other winner", *(f"{way.other_winner:,}" for way in ways)])
    rows.append(["other outcome", *(f"{way.other_outcome:,}" for way in ways)])
    rows.append([f"other side of {found.threshold:g}", *(f"{way.other_side:,}" for way in ways)])
    rows.append(["agreement", *(percent(way.agreement) for way in ways)])
    rows += [
        [f"score difference {name}", *(number(way.score_difference[name], 4) for way in ways)]
        for name in ways[0].score_difference
    ]
    return rows


def alone(models: Mapping[str, Quality]) -> list[list[str]]:
    """Quality of each model."""
    rows = [["model", "labelled", "accuracy", "AUC"]]
    return rows + [
        [name, f"{one.labelled:,}", number(one.accuracy, 4), number(one.auc, 4)] for name, one in models.items()
    ]


def percent(share: float | None) -> str:
    """A share for people."""
    return "-" if share is None else f"{share:.2%}"


def number(value: float | None, digits: int) -> str:
    """A number for people."""
    return "-" if value is None else f"{value:,.{digits}f}"
