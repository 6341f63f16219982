"""The plots of a report, on matplotlib's figures.

Lines differ in dashes too, so that the page may be printed in grey. A model has one colour on the whole page.
"""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np

from agents.cli.report_figures import Figures, ThenAndNow
from agents.cli.report_page import COLOURS
from streams.core.judged import Judged
from streams.core.overview import NO_DECISION, Overview
from streams.core.pairs import Pair
from streams.core.shifts import Shift

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
BLACK, GREY = "#1a1a1a", "#888888"
TIME = "log time of the request, UTC"
ZOOMED_FROM = 0.8
"""The share of the most frequent way from which the others are drawn by themselves, too."""

WORDS_A_LINE = 30


def colour(number: int) -> str:
    """The colour of the n-th of anything."""
    return COLOURS[number % len(COLOURS)]


def others_of(found: Overview) -> list[str]:
    """The ways that are drawn by themselves too, because one leaves them little room."""
    names = list(found.ways)
    return names[1:] if found.ways[names[0]] >= ZOOMED_FROM * found.requests else []


def ways(figure: Any, found: Overview) -> None:
    """Shares of all ways over time, and of all but the most frequent one."""
    names, rest = list(found.ways), others_of(found)
    panels = figure.subplots(2 if rest else 1, 1, sharex=True, squeeze=False)[:, 0]
    edges = times([one.from_ms for one in found.slices] + [found.slices[-1].to_ms])
    for axes, shown in zip(panels, (names, rest), strict=False):
        shares = [[100 * one.ways.get(name, 0) / max(1, one.requests) for one in found.slices] for name in shown]
        stacked = [[*line, line[-1]] for line in shares]
        colours = [BLACK if name == NO_DECISION else colour(names.index(name)) for name in shown]
        axes.stackplot(edges, stacked, labels=[_short(name) for name in shown], colors=colours, step="post", lw=0)
        axes.set_ylabel("requests, %")
        axes.set_ylim(0, 100 if shown is names else None)
        axes.margins(x=0)
    panels[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    if rest:
        panels[1].set_title(f"the same without “{names[0]}”", fontsize=9, loc="left")
        panels[1].set_ylim(bottom=0)
    time_axis(panels[-1])


def latency(figure: Any, found: Overview, budget_ms: int) -> None:
    """Quantiles over time above, how many answers took how long below; the budget is in both."""
    from matplotlib.colors import LogNorm

    lines, heat = figure.subplots(2, 1, sharex=True, sharey=True, height_ratios=[1, 1.2])
    edges = times([one.from_ms for one in found.slices] + [found.slices[-1].to_ms])
    for number, (name, label) in enumerate((("p50", "median"), ("p99", "99%"), ("most", "slowest"))):
        values = [one.latency_ms[name] for one in found.slices]
        shown = [np.nan if value is None else max(1.0, value) for value in values]
        lines.step(edges, [*shown, shown[-1]], where="post", label=label, color=colour(number), ls=DASHES[number])
    lines.axhline(budget_ms, color=BLACK, lw=1, label=f"budget, {budget_ms:,} ms")
    lines.set_yscale("log")
    lines.set_ylim(
        found.heat.edges_ms[0] if found.heat.edges_ms else 1, 1.6 * max(budget_ms, *found.heat.edges_ms[-1:])
    )
    lines.set_ylabel("answered after, ms")
    lines.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    counts = np.array(found.heat.counts, dtype=float)
    if counts.size:
        mesh = heat.pcolormesh(
            edges,
            found.heat.edges_ms,
            np.where(counts > 0, counts, np.nan),
            norm=LogNorm(1, max(2.0, float(counts.max()))),
            cmap="cividis_r",
            rasterized=True,
        )
        bar = figure.colorbar(mesh, cax=heat.inset_axes((1.02, 0, 0.02, 1)))  # beside its cells, under the legend
        bar.set_label("answers in a cell", fontsize=8)
        _plain(bar.ax)
    heat.axhline(budget_ms, color=BLACK, lw=1)
    heat.set_ylabel("answered after, ms")
    heat.set_xlim(edges[0], edges[-1])
    _plain(lines)
    _plain(heat)
    time_axis(heat)


def quantiles(figure: Any, pairs: Sequence[Pair], models: Sequence[str]) -> None:
    """Quantile against quantile: a panel for each yardstick, a line for each model."""
    others = list(dict.fromkeys(one.other for one in pairs))
    panels = figure.subplots(1, len(others), squeeze=False)[0]
    for axes, other in zip(panels, others, strict=True):
        own = [one for one in pairs if one.other == other]
        low = min(min(one.quantiles[0], one.other_quantiles[0]) for one in own)
        high = max(max(one.quantiles[-1], one.other_quantiles[-1]) for one in own)
        axes.plot([low, high], [low, high], color=GREY, lw=1, label="equal")
        for one in own:
            number = models.index(one.model)
            axes.plot(
                one.other_quantiles, one.quantiles, color=colour(number), ls=DASHES[number % 8], label=one.model
            )
        axes.set_xlabel(f"score of {other}, quantiles")
        axes.set_ylabel("score of the model, same quantiles")
        axes.set_box_aspect(1)
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [name for name in ("equal", *models) if name in handles]
    figure.legend([handles[name] for name in shown], shown, loc="outside right center", frameon=False, fontsize=8)


def distributions(figure: Any, found: Sequence[ThenAndNow], columns: int = 2) -> None:
    """A panel for each model: its scores in the first third of the range and in the last."""
    rows = -(-len(found) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, one in zip(panels, found, strict=False):
        for counts, label, number, filled in ((one.then, "first third", 1, True), (one.now, "last third", 0, False)):
            shares = 100 * np.array(counts) / max(1, sum(counts))
            axes.stairs(shares, one.edges, label=label, color=colour(number), fill=filled, alpha=0.5 if filled else 1)
        axes.set_title(one.shift.name, fontsize=9, loc="left")
        axes.set_xlabel("score")
        axes.set_ylabel("requests, %")
    panels[0].legend(frameon=False, fontsize=8)
    for axes in panels[len(found) :]:
        axes.set_visible(False)


def shifts(axes: Any, found: Sequence[Shift]) -> None:
    """How far each field is apart, the largest first, and what chance gives."""
    names = [one.name for one in found]
    colours = [COLOURS[5] if one.beyond_chance else COLOURS[4] for one in found]
    axes.barh(names, [one.effect for one in found], color=colours, height=0.6)
    axes.plot([one.chance for one in found], names, "|", color=BLACK, ms=11, mew=1.5, label="chance, 1 in 100")
    axes.invert_yaxis()
    axes.set_xlim(0, max(0.1, *(max(one.effect, one.chance) for one in found)) * 1.05)
    axes.set_xlabel("effect: largest difference, share of requests, 0 to 1")
    axes.set_ylabel("field")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)


def estimates(figure: Any, rows: Sequence[Judged]) -> None:
    """Accuracy and AUC of every model with their intervals, one under the other."""
    from matplotlib.ticker import MaxNLocator

    panels = figure.subplots(1, 2, sharey=True)
    names = [f"{row.model} {row.version}".strip() for row in rows]
    for axes, what in zip(panels, ("accuracy", "auc"), strict=True):
        for place, row in enumerate(rows):
            one = getattr(row.measures, what)
            if one.value is None:
                continue
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [place, place], color=COLOURS[0], lw=2)
            axes.plot(one.value, place, "o", color=BLACK, ms=5)
        axes.set_yticks(range(len(names)), names)
        named = {"accuracy": f"accuracy at {rows[0].threshold:g}", "auc": "AUC"}[what]
        axes.set_xlabel(f"{named} with its 95% interval, 0 to 1")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(y=0.15)
    panels[0].set_ylabel("model")
    panels[0].invert_yaxis()


def calibration(axes: Any, rows: Sequence[Judged], models: Sequence[str]) -> None:
    """What models said against what was true, by decile of their scores."""
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, label="as said")
    for row in rows:
        bins = row.measures.calibration
        said, true = [one.score for one in bins], [one.truth.value or 0.0 for one in bins]
        down = [value - (one.truth.low or 0.0) for one, value in zip(bins, true, strict=True)]
        above = [(one.truth.high or 0.0) - value for one, value in zip(bins, true, strict=True)]
        if bins:
            axes.errorbar(said, true, yerr=[down, above], ms=3, elinewidth=0.8, **_line(row, models))
    axes.set_xlabel("mean score of a decile")
    axes.set_ylabel("share that was true, 0 to 1")
    axes.set_box_aspect(1)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)


def by_day(figure: Any, rows: Sequence[Judged], models: Sequence[str]) -> None:
    """AUC of every model by day of the decision, and the labelled share of its requests below."""
    days = sorted({row.day for row in rows})
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for number, key in enumerate(dict.fromkeys((row.model, row.version) for row in rows)):
        own = [row for row in rows if (row.model, row.version) == key and row.measures.auc.value is not None]
        if not own:
            continue
        areas = [row.measures.auc for row in own]
        values = [area.value or 0.0 for area in areas]
        down = [value - (value if area.low is None else area.low) for area, value in zip(areas, values, strict=True)]
        above = [
            (value if area.high is None else area.high) - value for area, value in zip(areas, values, strict=True)
        ]
        places = [days.index(row.day) + 0.06 * number for row in own]
        upper.errorbar(places, values, yerr=[down, above], ms=3, **_line(own[0], models))
    upper.set_ylabel("AUC with its 95% interval, 0 to 1")
    upper.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    coverage = {row.day: 100 * (row.coverage or 0.0) for row in rows}
    colours = {row.day: GREY if row.state == "mature" else COLOURS[1] for row in rows}
    lower.bar(range(len(days)), [coverage[day] for day in days], color=[colours[day] for day in days])
    lower.set_ylim(0, 100)
    lower.set_ylabel("labelled, %")
    shown = range(0, len(days), max(1, len(days) // 8))
    lower.set_xticks(list(shown), [days[place] for place in shown])
    lower.set_xlabel("day of the decision (grey: mature), UTC")


def _line(row: Judged, models: Sequence[str]) -> dict[str, Any]:
    """How a model's line looks; black that of what was answered."""
    name = f"{row.model} {row.version}".strip()
    number = models.index(name) if name in models else -1
    look = {"color": colour(number), "ls": DASHES[number % 8]} if number >= 0 else {"color": BLACK, "ls": "-"}
    return {**look, "label": name, "marker": "o", "lw": 1}


def legend_names(found: Figures) -> list[str]:
    """Models in the order of their colours."""
    return [f"{one.model} {one.version}" for one in found.models]


def times(at_ms: Sequence[int]) -> Any:
    """Milliseconds since 1970 as matplotlib takes times."""
    return np.array(at_ms, dtype="datetime64[ms]")


def time_axis(axes: Any) -> None:
    """An axis of log times: clock times, or days where it is long; the day once, at its end."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    levels = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S.%f"]
    first = ["", "%Y-%m", "%m-%d", "%m-%d", "%H:%M", "%H:%M"]
    said = ["", "", "%Y", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d"]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, None, levels, said, zero_formats=first))
    axes.set_xlabel(TIME)


def _plain(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _short(name: str) -> str:
    return fill(name, WORDS_A_LINE)
