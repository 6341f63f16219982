"""`rendezvous quality`: every model held against the labels, by day and by segment, from the archive."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from agents.cli import place
from agents.cli.archive import writer_name
from agents.cli.past import Moment, period_of
from agents.cli.races import Found, read_races
from agents.cli.report_page import lines
from schemas.errors import NothingInRange
from schemas.pipeline import Pipeline
from streams.archive.figures import place_of, read_figures, store_figures, stored_days
from streams.archive.ranges import Period, iso
from streams.core.expected import LAST_DAYS, Expected, expected
from streams.core.intervals import Estimate
from streams.core.judged import DAY_MS, Judge, Judged, day_name
from streams.core.quality import quantiles

STATES = {
    "open": "open: the day is not over",
    "provisional": "provisional: labels are still to come",
    "mature": "mature",
    "range": "as labels are now",
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed; `labels` counts what came, `delay_s` is from the decision to the label that counts.

    `expected` are estimates without labels, of days whose labels are not there yet; not by segment.
    """

    pipeline: str
    period: str
    by: str
    first: str | None
    last: str | None
    requests: int
    labelled: int
    labels: dict[str, int]
    delay_s: dict[str, float | None]
    notes: list[str]
    range: list[Judged]
    days: list[Judged]
    expected: list[Expected] = []


@click.command(short_help="how good every model was, by the labels")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", type=Moment(), help="Requests decided from this log time on.")
@click.option("--until", type=Moment(), help="Requests decided before this log time.")
@click.option("--by", default="", help="Split by a field of the event: one of [labels] segments.")
@click.option("--deciles", is_flag=True, help="Also the calibration of each model, by decile of its scores.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def quality(
    file: Path | None,
    since: int | None,
    until: int | None,
    by: str,
    deciles: bool,
    archive: Path | None,
    as_json: bool,
) -> None:
    """Hold every model that scored, winner or not, against the labels: by day of the decision, and altogether.

    \b
      rendezvous quality
      rendezvous quality --since 2w --by carrier
      rendezvous quality --deciles
      rendezvous quality --json | jq '.range[] | {model, auc: .measures.auc}'

    In brackets are 95 % intervals; they take requests as independent. A day that is mature is stored beside the
    archive, by the archiver or the first time it is told, and read from there ever after. Of a day that is not, the
    expected accuracy is told too, by each model's mature days: an estimate without labels, which takes it that scores
    mean what they meant then.
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    if by and by not in pipeline.labels.segments:
        declared = ", ".join(pipeline.labels.segments) or "none"
        raise click.UsageError(
            f"--by {by}: not among [labels] segments of {path} (declared: {declared}); add it there"
        )
    found = told_of(root, pipeline, period_of(since, until), by)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for line in [*told(found), *(by_decile(found) if deciles else [])]:
        click.echo(line)


def told_of(root: Path, pipeline: Pipeline, period: Period, by: str) -> Report:
    """Figures of a range, from the archive; of what it does not hold any more, those that were stored."""
    try:
        found = read_races(root, pipeline, period, (by,) if by else ())
    except NothingInRange:
        stored = [day for day in stored_days(root, pipeline.name, by) if _whole(day, period)]
        if not stored:
            raise
        days = [row for day in stored for row in read_figures(place_of(root, pipeline.name, day_name(day), by)) or ()]
        notes = ["the archive holds no request of this range any more: what was stored of it is shown"]
        return Report(
            pipeline=pipeline.name, period=str(period), by=by, first=None, last=None, requests=0, labelled=0,
            labels={}, delay_s=quantiles(np.zeros(0), (0.5, 0.9, 1.0)), notes=notes, range=[], days=days,
        )  # fmt: skip
    return judged(root, pipeline, period, by, found)


def judged(root: Path, pipeline: Pipeline, period: Period, by: str, found: Found) -> Report:
    """Figures of a range that was read; mature days are stored, or read when they are."""
    stored = [day for day in stored_days(root, pipeline.name, by) if _whole(day, period)]
    judge = Judge(found.races, found.truths, pipeline.labels, found.reached_ms)
    notes = [f"{count:,} {what}" for what, count in sorted(found.counts.items())]
    days = []
    for day in sorted({*judge.days(), *stored}):
        rows = _of_day(root, pipeline, judge, day, by, found, period)
        days += rows
        notes += _changed(rows, judge, day, by)
    known = found.truths.known & found.races.asked
    delay_s = (found.truths.log_ms[known] - found.races.decided_ms[known]) / 1e3
    return Report(
        pipeline=pipeline.name,
        period=str(period),
        by=by,
        first=iso(int(found.races.decided_ms.min())),
        last=iso(int(found.races.decided_ms.max())),
        requests=int(found.races.asked.sum()),
        labelled=int(known.sum()),
        labels=dict(sorted(found.truths.counts.items())),
        delay_s=quantiles(delay_s, (0.5, 0.9, 1.0)),
        notes=notes,
        range=judge.of_range(by),
        days=days,
        expected=[] if by else expected(judge, _mature(root, pipeline, days)),
    )


def _mature(root: Path, pipeline: Pipeline, told: Sequence[Judged]) -> list[Judged]:
    """Mature days: those that are told, and the last stored ones beside them."""
    here = {row.day for row in told}
    stored = [day_name(day) for day in stored_days(root, pipeline.name, "")]
    beside = [day for day in stored if day not in here and day < max(here, default="")][-LAST_DAYS:]
    found = [row for day in beside for row in read_figures(place_of(root, pipeline.name, day, "")) or ()]
    return [*found, *(row for row in told if row.state == "mature")]


def _whole(day: int, period: Period) -> bool:
    """Whether a period has all of a day."""
    start_ms, end_ms = day * DAY_MS, (day + 1) * DAY_MS
    return (period.since_ms or 0) <= start_ms and (period.until_ms is None or period.until_ms >= end_ms)


def _of_day(
    root: Path, pipeline: Pipeline, judge: Judge, day: int, by: str, found: Found, period: Period
) -> list[Judged]:
    """A day as it is stored; else as it is now, and stored when it is mature and all of it is here."""
    if not _whole(day, period):
        return judge.of_day(day, by)
    stored = read_figures(place_of(root, pipeline.name, day_name(day), by))
    if stored is not None:
        return stored
    rows = judge.of_day(day, by)
    if rows and rows[0].state == "mature" and found.begins_ms <= day * DAY_MS:
        return store_figures(root, pipeline.name, writer_name(), rows)
    return rows


def _changed(rows: Sequence[Judged], judge: Judge, day: int, by: str) -> list[str]:
    """What has become of a stored day's labels since."""
    if by or not rows or not rows[0].stored:
        return []
    races = judge.races
    own = (races.decided_ms // DAY_MS == day) & races.asked & judge.truths.known
    more = int(own.sum()) - rows[0].labelled
    text = [f"{rows[0].day}: {more:,} labels came after the day was stored, and do not change it"] if more > 0 else []
    if rows[0].threshold != judge.settings.threshold:
        text.append(f"{rows[0].day}: stored with the threshold {rows[0].threshold:g}")
    return text


def told(found: Report) -> list[str]:
    """The figures for a terminal."""
    share = found.labelled / found.requests if found.requests else 0.0
    span = f", decided {found.first} to {found.last}" if found.first else ""
    text = [f"{found.pipeline}: {found.requests:,} requests{span}; {found.labelled:,} have a label ({share:.1%})"]
    if found.labels:
        text.append("labels: " + ", ".join(f"{count:,} {what}" for what, count in found.labels.items()))
    if found.delay_s["p50"] is not None:
        text.append(f"from decision to label: p50 {found.delay_s['p50']:,.0f} s, p90 {found.delay_s['p90']:,.0f} s")
    groups: dict[str, list[Judged]] = {}
    for row in [*found.days, *found.range]:
        state = STATES[row.state] + (", stored" if row.stored else "")
        groups.setdefault(f"{row.day or 'the whole range'} ({state})", []).append(row)
    for heading, rows in groups.items():
        text += ["", heading, *lines(rows_of(rows))]
    if found.expected:
        text += [
            "",
            "expected accuracy: an estimate without labels, by mature days",
            *lines(_expected(found.expected)),
        ]
    return [*text, *(f"note: {note}" for note in found.notes)]


def by_decile(found: Report) -> list[str]:
    """What each model said against what was true, over the whole range; by day when only days are left."""
    rows = [row for row in found.range or found.days if row.measures.calibration]
    if not rows:
        return ["", "calibration: no model has both labels and scores that are probabilities"]
    text = []
    for row in rows:
        who = " ".join(
            part for part in (row.model, row.version, row.value and f"{row.field} {row.value}", row.day) if part
        )
        table = [["scores", "labelled", "mean score", "share that was true", ""]]
        for one in row.measures.calibration:
            apart = one.truth.low is not None and not one.truth.low <= one.score <= (one.truth.high or 0.0)
            side = "" if not apart else "said too little" if one.score < (one.truth.value or 0.0) else "said too much"
            span = f"{one.low:.4f} to {one.high:.4f}"
            table.append([span, f"{one.rows:,}", f"{one.score:.4f}", estimate(one.truth), side])
        text += ["", f"{who}: calibration by decile, error {estimate(row.measures.calibration_error)}", *lines(table)]
    return text


def rows_of(rows: Sequence[Judged]) -> list[list[str]]:
    """A table of models, with the segment's value in front when there is one."""
    by = any(row.field for row in rows)
    costs = any(row.measures.cost.value is not None for row in rows)
    head = [*([rows[0].field] if by else []), "model", "version", "scored", "coverage", "accuracy", "AUC", "log loss"]
    table = [[*head, "Brier", "calibration error", *(["cost"] if costs else [])]]
    for row in rows:
        one = row.measures
        figures = [one.accuracy, one.auc, one.log_loss, one.brier, one.calibration_error]
        table.append(
            [
                *([row.value] if by else []),
                row.model,
                row.version,
                f"{one.scored:,}",
                "-" if one.coverage is None else f"{one.coverage:.1%}",
                *map(estimate, figures),
                *([estimate(one.cost)] if costs else []),
            ]
        )
    return table


def _expected(found: Sequence[Expected]) -> list[list[str]]:
    head = ["day", "model", "version", "scored", "accuracy (estimate)", "mature days", "labelled", "scores beyond"]
    return [head] + [
        [
            one.day,
            one.model,
            one.version,
            f"{one.scored:,}",
            estimate(one.accuracy),
            f"{one.mature_days:,}",
            f"{one.labelled:,}",
            f"{one.outside:.1%}",
        ]
        for one in found
    ]


def estimate(found: Estimate) -> str:
    """A figure with its interval."""
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
