"""A report's days: how good the models were on each; only the newest, where all of them have no room on the page.

A stored day takes some 2 KB for each model, for ever, so that a year of them would be larger than a mail may be.
"""

import msgspec
from msgspec.structs import replace

from agents.cli import report_plots as plots
from agents.cli.quality import STATES
from agents.cli.report_figures import Figures
from agents.cli.report_page import captioned, note, picture, table
from agents.cli.ways_report import percent

ROOM = 600_000
"""Bytes of JSON that days may take of a page; the plot and the table of them are small beside it."""


def newest_days(found: Figures, room: int = ROOM) -> tuple[Figures, str]:
    """The same with as many of the newest days as have room, one at least; and a sentence on those left out."""
    bytes_of = dict.fromkeys((row.day for row in found.quality.days), 0)
    for row in found.quality.days:
        bytes_of[row.day] += len(msgspec.json.encode(row))
    kept: set[str] = set()
    for day in sorted(bytes_of, reverse=True):
        room -= bytes_of[day]
        if room < 0 and kept:
            break
        kept.add(day)
    if len(kept) == len(bytes_of):
        return found, ""
    rows = [row for row in found.quality.days if row.day in kept]
    said = (
        f"Of {len(bytes_of):,} days the newest {len(kept):,} are on this page, from {min(kept)} on: more have no "
        "room. The figures above are of the whole range; rendezvous quality, and report --json, tell every day."
    )
    return replace(found, quality=replace(found.quality, days=rows)), said


def days(found: Figures, left_out: str) -> str:
    """A table and, of several, a picture; which days were `left_out` is said before it."""
    every = list(dict.fromkeys(row.day for row in found.quality.days))
    states = {row.day: STATES[row.state] + (", stored" if row.stored else "") for row in found.quality.days}
    shares = {row.day: row.coverage for row in found.quality.days}
    rows = [
        ["day of the decision", "labelled", "state"],
        *([day, percent(shares[day]), states[day]] for day in every),
    ]
    shown = (note(left_out) if left_out else "") + table(rows)
    if len(every) < 2:
        return shown
    drawn = picture(lambda figure: plots.by_day(figure, found.quality.days, plots.legend_names(found)), 9.0, 4.2)
    return shown + captioned(drawn, "AUC by day of the decision, and how much of each day is labelled.")
