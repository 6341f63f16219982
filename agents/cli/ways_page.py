"""A report of ways of answering given out: as a page with plots, as JSON, or for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from agents.cli.past import HAPPENED, UNCHANGED, Seen
from agents.cli.report_page import COLOURS, note, page, plot, table
from agents.cli.ways_report import Point, Report, alone, compared, heading, summary, swept, told
from streams.state_file import write_atomically

DECADES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)
"""Where the axis of latencies (ms) has marks."""


def give(found: Report, seen: Seen, html: Path | None, *, as_json: bool) -> None:
    """Write the page if one is wanted, then print."""
    if html is not None:
        write_atomically(html, drawn(found, seen).encode())
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for line in told(found):
            click.echo(line)


def drawn(found: Report, seen: Seen) -> str:
    """The report as a page."""
    names = [name for name in found.ways if name not in (HAPPENED, UNCHANGED)]
    ways = {name: seen.happened if name == HAPPENED else seen.ways[name] for name in found.ways}

    def outcomes(axes: Any) -> None:
        left = np.zeros(len(found.ways))
        for word in next(iter(found.ways.values())).outcomes:
            shares = np.array([way.outcomes[word] for way in found.ways.values()])
            axes.barh(list(found.ways), shares, left=left, label=word)
            left += shares
        axes.invert_yaxis()
        axes.set_xlabel("share of requests")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    def latency(axes: Any) -> None:
        for name, answers in ways.items():
            if answers is None:
                continue
            used = answers.used_ms[~np.isnan(answers.used_ms)]
            shares = np.linspace(0, 1, 201)
            axes.plot(np.quantile(used, shares), shares, label=name)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(DECADES, [f"{ms:,}" for ms in DECADES])
        axes.set_xlim(0, max(1.0, *(float(np.nanmax(one.used_ms, initial=0)) for one in ways.values() if one)) * 1.1)
        axes.set_xlabel("ms from the request to its decision")
        axes.set_ylabel("share answered")
        axes.legend(frameon=False)

    def scores(axes: Any) -> None:
        for name in names:
            gap = seen.ways[name].score - seen.ways[UNCHANGED].score
            axes.hist(gap[~np.isnan(gap)], bins=80, histtype="step", label=name)
        axes.set_xlabel(f"score minus the {UNCHANGED} pipeline's")
        axes.set_ylabel("requests")
        axes.set_yscale("symlog")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)

    sections = [
        ("The answers, side by side", table(summary(found)) + "".join(map(note, found.notes))),
        ("Outcomes", plot(outcomes, height=0.5 * len(found.ways) + 1.2)),
        ("Latency", plot(latency)),
        (
            f"Against {UNCHANGED}, the pipeline as it is, run again",
            (table(compared(found)) if found.compared else "") + (plot(scores) if names else ""),
        ),
        ("Each model alone", table(alone(found.models))),
    ]
    sections += [(f"{way}: {heading(found, way)}", changes(rows)) for way, rows in found.different.items() if rows]
    sections += [(f"{way}: what a budget costs", sweep_section(points)) for way, points in found.sweep.items()]
    title = f"{found.pipeline}: {found.requests:,} requests, {found.first} to {found.last}"
    return page(title, sections)


def changes(rows: Sequence[Mapping[str, str]]) -> str:
    """Decisions that would have been different, as a table."""
    cells = [[row["request_id"], row["ticket"], row["unchanged"], row["candidate"]] for row in rows]
    return table([["request", "ticket", UNCHANGED, "candidate"], *cells])


def sweep_section(points: Sequence[Point]) -> str:
    """The table of a sweep and its curve: accuracy, and the share of defaults, against the budget."""
    budgets = [point.budget_ms for point in points]

    def curve(axes: Any) -> None:
        shares = [point.figures.outcomes["default"] for point in points]
        axes.plot(budgets, shares, marker="o", color=COLOURS[5], label="default share")
        axes.set_xscale("log")
        axes.set_xticks(budgets, [str(budget) for budget in budgets])
        axes.minorticks_off()
        axes.set_xlabel("budget, ms")
        axes.set_ylabel("default share", color=COLOURS[5])
        axes.set_ylim(bottom=0)
        accuracies = [point.figures.quality.accuracy for point in points]
        if all(one is not None for one in accuracies):
            other = axes.twinx()
            other.plot(budgets, accuracies, marker="s", color=COLOURS[0], label="accuracy")
            other.set_ylabel("accuracy", color=COLOURS[0])
            other.grid(visible=False)

    return table(swept(points)) + plot(curve)
