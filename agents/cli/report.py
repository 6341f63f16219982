"""`rendezvous report`: what happened, as one page that opens from an e-mail and prints."""

from pathlib import Path

import click
import msgspec

from agents.cli import place
from agents.cli.past import Moment, period_of, write_whole
from agents.cli.races import read_races
from agents.cli.report_figures import figures
from agents.cli.report_sections import report_page
from agents.cli.report_stories import stories


@click.command(short_help="what happened, as a page")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", type=Moment(), help="Requests decided from this log time on.")
@click.option("--until", type=Moment(), help="Requests decided before this log time.")
@click.option("--archive", type=click.Path(path_type=Path), help="The archive's root; default: the pipeline's.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="The HTML file.")
@click.option("--json", "as_json", is_flag=True, help="The page's numbers as one JSON object.")
def report(
    file: Path | None, since: int | None, until: int | None, archive: Path | None, out: Path | None, as_json: bool
) -> None:
    """Write a page about a range of the archive: verdict, answers, latency, models, fields, accuracy, requests.

    \b
      rendezvous report -o report.html
      rendezvous report --since 2h -o report.html
      rendezvous report --since 1d --json | jq .overview.outcomes

    The page needs nothing but itself: no network, no server. Its plots need the extra `report`.
    """
    if out is None and not as_json:
        raise click.UsageError("where to? Name a file with -o FILE.html, or ask for --json")
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    period = period_of(since, until)
    found = read_races(root, pipeline, period)
    told = figures(root, pipeline, period, found)
    if out is not None:
        write_whole(out, report_page(told, stories(root, pipeline, found)))
        click.echo(f"{out}: {told.overview.requests:,} requests, {out.stat().st_size / 1e6:.1f} MB", err=True)
    if as_json:
        click.echo(msgspec.json.encode(told))
