"""A report as a page: a sentence first, then the sections, each with its numbers in a table beside the picture."""

from collections.abc import Collection, Sequence

import msgspec

from agents.cli import report_plots as plots
from agents.cli.report_days import days, newest_days
from agents.cli.report_figures import Figures
from agents.cli.report_lookup import looked_up
from agents.cli.report_opening import glossary, opening
from agents.cli.report_page import captioned, note, page, picture, plot, table
from agents.cli.report_stories import Story
from agents.cli.report_trouble import timeline
from agents.cli.ways_report import number, percent
from streams.core.intervals import Estimate
from streams.core.judged import Judged
from streams.core.shifts import Shift

FIELDS_DRAWN = 20
LARGEST = 1_900_000
"""Bytes of a page at most: what passes through every mail server. The look-up takes the room that is left."""

STYLE = """<style>
div.told td, div.told th { text-align: left; vertical-align: top; font-size: .9em; padding: .2rem .6rem; }
div.wide.told td { white-space: normal; min-width: 5.5rem; } div.told td:last-child { min-width: 15rem; }
div.estimates td { white-space: pre; font-size: .9em; line-height: 1.25; }
div.estimates :is(th, td) { padding: .2rem .4rem; }
div.wide th { vertical-align: bottom; } div.wide td:first-child { white-space: nowrap; }
@media print { div.estimates td { font-size: .8em; } div.estimates :is(th, td) { padding: .1rem .2rem; }
  div.wide.told td, div.wide.told td:last-child { min-width: 0; } }
</style>"""


def report_page(found: Figures, told: Sequence[Story], wanted: Collection[str] = ()) -> str:
    """The whole page, the verdict first.

    `told` are stories in the order of interest: as many as have room can be looked up, the wanted ones are shown.
    """
    found, left_out = newest_days(found)
    before = [
        ("What changed, and when", timeline(found.verdicts, found.overview)),
        ("Who answered, and why", answers(found)),
        ("How fast, against the budget", latency(found)),
        ("The models", models(found)),
        ("Quantile against quantile", pairs(found)),
        ("Scores then and now", then_and_now(found)),
        ("Fields then and now", fields(found)),
        ("How good the models were", quality(found, left_out)),
    ]
    after = [("What the words mean", glossary())]
    if found.notes or found.quality.notes:
        after.append(("Notes", "".join(map(note, [*found.notes, *found.quality.notes]))))
    data = msgspec.json.encode(found).decode().replace("<", "\\u003c")
    lead = f'{STYLE}{opening(found)}<script type="application/json" id="figures">{data}</script>'
    room = LARGEST - sum(len(content.encode()) for content in (lead, *(content for _, content in before + after)))
    look_up = looked_up(told, found.overview.requests, wanted, room)
    sections = [*before, ("One request, looked up", look_up), *after]
    return page(f"{found.pipeline}: what happened", [one for one in sections if one[1]], lead)


def answers(found: Figures) -> str:
    """Shares of ways over time."""
    all_ = found.overview
    rows = [["way", "requests", "share"]]
    rows += [[way, f"{count:,}", percent(count / all_.requests)] for way, count in all_.ways.items()]
    rows.append(["later than budget + 10 ms", f"{all_.late:,}", percent(all_.late / all_.requests)])
    height = 4.2 if plots.others_of(all_) else 2.6
    drawn = picture(lambda figure: plots.ways(figure, all_), 9.0, height)
    return table(rows) + captioned(drawn, "Share of requests by who answered and why, over time.")


def latency(found: Figures) -> str:
    """Quantiles and a heat map."""
    all_ = found.overview
    rows = [
        ["", *(name.replace("most", "slowest") for name in all_.latency_ms)],
        ["from the request's log time to the decision's, ms", *(number(x, 0) for x in all_.latency_ms.values())],
    ]
    drawn = picture(lambda figure: plots.latency(figure, all_, found.budget_ms), 9.0, 5.2)
    text = "Above: median, 99% and slowest answer. Below: darker cells hold more answers. The line is the budget."
    if len(all_.budgets_ms) > 1:
        text += f" {len(all_.budgets_ms):,} different budgets were asked for; the line is the pipeline's own."
    return table(rows) + captioned(drawn, text)


def models(found: Figures) -> str:
    """What each version of each model did."""
    rows = [["model", "role", "scored", "in time", "failed", "passed over", "median, ms", "99%, ms", "slowest, ms"]]
    total = found.overview.requests
    rows += [
        [
            f"{one.model} {one.version}",
            one.role,
            f"{one.scored:,} ({percent(one.scored / total)})",
            percent(one.in_time / one.scored if one.scored else None),
            f"{one.failed:,}",
            f"{one.not_asked:,}",
            *(number(one.took_ms[name], 0) for name in ("p50", "p99", "most")),
        ]
        for one in found.models
    ]
    return table(rows) + note("In time: scored within the request's budget. Times are from log time to log time.")


def pairs(found: Figures) -> str:
    """Models against champion and canary."""
    if not found.pairs:
        return ""
    rows = [["model", "against", "requests", "same side of the threshold", "rank correlation", "mean difference"]]
    rows += [
        [one.model, one.other, f"{one.rows:,}", percent(one.agreement), number(one.rank_correlation, 3),
         f"{one.difference:+.4f}"]
        for one in found.pairs
    ]  # fmt: skip
    others = len({one.other for one in found.pairs})
    names = plots.legend_names(found)
    drawn = picture(lambda figure: plots.quantiles(figure, found.pairs, names), 4.1 * others + 1.3, 3.9)
    return table(rows) + captioned(
        drawn,
        "Quantiles from 0.1% to 99.9% of each model's scores against those of champion and canary, over the requests "
        "that both scored. A straight line: the same distribution up to scale; a bend: scores are spread otherwise.",
    )


def then_and_now(found: Figures) -> str:
    """Score distributions of the first third and the last."""
    if not found.scores:
        return ""
    rows = [["model", "median then", "median now", "effect", "by chance, 1 in 100"]]
    rows += [
        [one.shift.name, number(one.shift.then, 4), number(one.shift.now, 4), f"{one.shift.effect:.3f}",
         f"{one.shift.chance:.3f}"]
        for one in found.scores
    ]  # fmt: skip
    height = 2.3 * -(-len(found.scores) // 2)
    drawn = picture(lambda figure: plots.distributions(figure, found.scores), 9.0, height)
    return table(rows) + captioned(drawn, f"First third: {found.then}. Last third: {found.now}.")


def fields(found: Figures) -> str:
    """Shifts of fields, the event's own and those of tables, the largest first."""
    if not found.fields:
        return ""
    rows = [["field", "effect", "by chance, 1 in 100", "then", "now", "absent then", "absent now"]]
    rows += [
        [
            one.name,
            f"{one.effect:.3f}",
            f"{one.chance:.3f}",
            _side(one, one.then),
            _side(one, one.now),
            percent(one.absent_then),
            percent(one.absent_now),
        ]
        for one in found.fields
    ]
    drawn = found.fields[:FIELDS_DRAWN]
    height = 0.27 * len(drawn) + 1.0
    text = (
        "Effect: the largest difference of the two distribution functions of a number (Kolmogorov and Smirnov), the "
        "total variation of words, or the change of the absent share. Orange-red: more than chance gives at 1 in "
        "100, if requests were independent; on real days they are not."
    )
    return captioned(plot(lambda axes: plots.shifts(axes, drawn), 8.0, height), text) + table(rows)


def _side(shift: Shift, value: float | None) -> str:
    if value is None:
        return "-"
    return f"median {value:,.6g}" if shift.kind == "number" else f"{shift.word}: {percent(value)}"


def quality(found: Figures, left_out: str) -> str:
    """Accuracy with intervals and coverage; how to get it where no label is. Which days were left out is said."""
    told = found.quality
    names = plots.legend_names(found)
    known = sorted((row for row in told.range if row.measures.labelled), key=lambda row: _place(row, names))
    if not known:
        return note("No label has come for these requests yet: rendezvous label FILE sends what became of them.")
    share = percent(told.labelled / told.requests)
    text = note(
        f"{told.labelled:,} of {told.requests:,} requests have a label ({share}); half "
        f"of the labels came within {number(told.delay_s['p50'], 0)} s of the decision. Under each figure: its 95% "
        "interval, which takes requests as independent. (decision) is what was answered, whoever did."
    )
    drawn = captioned(
        picture(lambda figure: plots.estimates(figure, known), 9.0, 0.35 * len(known) + 1.1),
        "Accuracy (Wilson) and AUC (DeLong) of each model over the requests that have its score and a label.",
    )
    bent = captioned(
        plot(lambda axes: plots.calibration(axes, known, names), 7.0, 3.8),
        "Calibration: of the requests in a decile of a model's scores, the share that was true.",
    )
    return text + _estimates(known) + drawn + bent + days(found, left_out)


def _place(row: Judged, names: Sequence[str]) -> int:
    """Models in the order of the page; what was answered first."""
    name = f"{row.model} {row.version}".strip()
    return names.index(name) if name in names else -1


def _estimates(rows: Sequence[Judged]) -> str:
    """Every measure with its interval under it."""
    costs = any(row.measures.cost.value is not None for row in rows)
    head = ["model", "scored", "labelled", "accuracy", "AUC", "log loss", "Brier", "calibration error"]
    shown = [[*head, *(["cost"] if costs else [])]]
    for row in rows:
        one = row.measures
        shown.append(
            [
                f"{row.model} {row.version}".strip(),
                f"{one.scored:,}",
                percent(one.coverage),
                *map(_estimate, (one.accuracy, one.auc, one.log_loss, one.brier, one.calibration_error)),
                *([_estimate(one.cost)] if costs else []),
            ]
        )
    return table(shown, "estimates")


def _estimate(found: Estimate) -> str:
    interval = "" if found.low is None else f"\n{found.low:.3f} to {found.high:.3f}"
    return f"{number(found.value, 4)}{interval}"
