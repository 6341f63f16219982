"""`rendezvous report`: what happened, as one page that opens from an e-mail and prints."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from agents.cli import place
from agents.cli.past import period_of
from agents.cli.races import Archived, read_races
from agents.cli.report_figures import Figures, figures
from agents.cli.report_sections import report_page
from agents.cli.report_stories import stories
from agents.cli.when import instant
from schemas.pipeline import Pipeline
from streams.state_file import write_atomically

LIVE_SINCE = "1h"


@click.command(short_help="what happened, as a page")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", metavar="TIME", help="Requests decided from this log time on; with --live, 1h if not given.")
@click.option("--until", metavar="TIME", help="Requests decided before this log time.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="The HTML file.")
@click.option("--json", "as_json", is_flag=True, help="The page's numbers as one JSON object.")
@click.option("--request", "wanted", metavar="ID|TICKET", multiple=True, help="Show this request's race; repeatable.")
@click.option("--live", is_flag=True, help="Make the page anew again and again, from the topics too, until Ctrl-C.")
@click.option("--every", "every_s", type=click.FloatRange(1), default=30.0, help="Seconds of --live (30).")
def report(
    file: Path | None,
    since: str | None,
    until: str | None,
    archive: Path | None,
    out: Path | None,
    as_json: bool,
    wanted: tuple[str, ...],
    live: bool,
    every_s: float,
) -> None:
    """Write a page about a range of the archive: verdict, answers, latency, models, fields, accuracy, requests.

    \b
      rendezvous report -o report.html
      rendezvous report --since 2h -o report.html
      rendezvous report --since 1d --json | jq .overview.outcomes
      rendezvous report --request UA1545-20130701-0515-EWR -o one.html
      rendezvous report --live -o now.html              # open now.html: it shows the last hour, and keeps up
      rendezvous report --live --since 10m --every 5 -o now.html

    The page needs nothing but itself: no network, no server. Its plots need the extra `report`.
    """
    if out is None and not as_json:
        raise click.UsageError("where to? Name a file with -o FILE.html, or ask for --json")
    if wanted and out is None:
        raise click.UsageError(
            "--request shows a race on the page, and --json has none: name a file with -o FILE.html"
        )
    if live and until is not None:
        raise click.UsageError("--live goes on from now: it has no --until")
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    if not live:
        told, page = made(Archived(root), pipeline, since, until, wanted, drawn=out is not None)
        _give(told, page, out, as_json)
        return
    from agents.cli.report_live import keep_up

    def now(whole: Archived) -> str:
        told, page = made(whole, pipeline, since or LIVE_SINCE, None, wanted, drawn=out is not None)
        _give(told, None, None, as_json)
        return page

    keep_up(now, root, pipeline, place.cluster(), out, every_s)


def made(
    archived: Archived,
    pipeline: Pipeline,
    since: str | None,
    until: str | None,
    wanted: Sequence[str],
    *,
    drawn: bool,
) -> tuple[Figures, str]:
    """The figures of a range and, where it is to be drawn, the page; times as people write them, `2h` is from now."""
    since_ms = None if since is None else instant(since, "--since")
    if archived.left_out:  # what was decided a budget later was asked for, and scored, after what is left out
        since_ms = max(since_ms or 0, archived.begins_ms + pipeline.request.budget_ms)
    period = period_of(since_ms, None if until is None else instant(until, "--until"))
    found = read_races(archived.root, pipeline, period)
    found.counts.update(archived.left_out)
    told = figures(archived.root, pipeline, period, found)
    return told, report_page(told, stories(archived.root, pipeline, found, wanted), wanted) if drawn else ""


def _give(told: Figures, page: str | None, out: Path | None, as_json: bool) -> None:
    if out is not None and page is not None:
        write_atomically(out, page.encode())
        click.echo(f"{out}: {told.overview.requests:,} requests, {out.stat().st_size / 1e6:.1f} MB", err=True)
    if as_json:
        click.echo(msgspec.json.encode(told))
