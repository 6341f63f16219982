"""`rendezvous backtest`: a model, a policy or a budget over archived events, and what it would have answered."""

import sys
from pathlib import Path

import click
import msgspec
from click.core import ParameterSource

from agents.cli import place
from agents.cli.golden import golden_check, golden_lines
from agents.cli.known import labels_in, labels_option
from agents.cli.past import UNCHANGED, Moment, period_of, read_past
from agents.cli.tried import Tried
from agents.cli.ways_page import give
from agents.cli.ways_report import report
from schemas.pipeline import Pipeline
from streams.archive.ranges import Period
from streams.candidate_file import load_candidate, with_budget
from streams.core.lead import LEAD_MS
from streams.core.past import Way
from streams.pipeline_file import load

MISMATCHES_SHOWN = 20
OF_GOLDEN = ("file", "since", "until", "archive", "golden", "as_json")
"""What --golden can be told; it tries nothing."""


@click.command(short_help="what another model, policy or budget would have answered")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", type=Moment(), help="Requests from this log time on.")
@click.option("--until", type=Moment(), help="Requests before this log time.")
@click.option("--model", "models", multiple=True, help="A LightGBM file instead of the champion, or NAME=FILE.")
@click.option("--pipeline-candidate", type=click.Path(path_type=Path), help="A changed pipeline file.")
@click.option("--policy", type=click.Path(path_type=Path), help="A file with another policy (see simulate).")
@click.option(
    "--budget-ms", type=click.IntRange(min=1), help="Another budget, for requests that do not name their own."
)
@click.option(
    "--latency-ms",
    type=click.IntRange(min=0),
    help="How long a model scored here takes; default: as the one it replaces.",
)
@labels_option
@click.option("--threshold", default=0.5, show_default=True, help="Scores from here on mean yes.")
@click.option(
    "--list",
    "listed",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many different decisions to show.",
)
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--golden", is_flag=True, help="Check that the unchanged pipeline answers as it did.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with plots.")
def backtest(
    file: Path | None,
    since: int | None,
    until: int | None,
    models: tuple[str, ...],
    pipeline_candidate: Path | None,
    policy: Path | None,
    budget_ms: int | None,
    latency_ms: int | None,
    labels: Path | None,
    threshold: float,
    listed: int,
    archive: Path | None,
    golden: bool,
    as_json: bool,
    html: Path | None,
) -> int:
    """Run archived requests again, in process, through a candidate; nothing is written to any topic.

    \b
      rendezvous backtest --model models/b.txt --labels labels.jsonl
      rendezvous backtest --model fast=models/b.txt --since 1w --html b.html
      rendezvous backtest --budget-ms 20
      rendezvous backtest --golden

    Exit 3 when --golden finds a request that is answered otherwise, or the archive is damaged or has a gap.
    """
    path = place.pipeline_path(file)
    pipeline, folder = place.pipeline(path), path.resolve().parent
    root = archive or place.archive(pipeline, folder)
    period = period_of(since, until)
    if golden:
        _refuse_others(click.get_current_context())
        return _golden(root, pipeline, period, as_json=as_json)
    if not (models or pipeline_candidate or policy or budget_ms is not None):
        raise click.UsageError("what is to be tried? Name --model, --pipeline-candidate, --policy or --budget-ms")
    changed = load(pipeline_candidate) if pipeline_candidate else pipeline
    if policy:
        changed = load_candidate(policy, changed)
    if budget_ms is not None:
        changed = with_budget(changed, budget_ms)
    from streams.models.trial_forks import several

    tried = Tried(root, pipeline, folder, period, latency_ms)
    own_folder = pipeline_candidate.resolve().parent if pipeline_candidate else folder
    with several():
        ways = tried.ways(changed, own_folder, models)

    unchanged = Way(UNCHANGED, pipeline)
    seen = read_past(root, pipeline, [unchanged, *ways], period, labels_in(labels), LEAD_MS)
    found = report(seen, pipeline, ways, tried.notes, threshold, listed)
    give(found, seen, html, as_json=as_json)
    return 0


def _refuse_others(ctx: click.Context) -> None:
    idle = [
        param.opts[0]
        for param in ctx.command.params
        if param.name not in OF_GOLDEN and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
    if idle:
        raise click.UsageError(
            f"--golden holds the pipeline as it is against what it answered: leave {', '.join(idle)} out"
        )


def _golden(root: Path, pipeline: Pipeline, period: Period, *, as_json: bool) -> int:
    found = golden_check(root, pipeline, period)
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"ok": found.ok}))
    else:
        for line in golden_lines(found):
            click.echo(line)
    for one in found.mismatches[:MISMATCHES_SHOWN]:
        sys.stderr.write(f"{one.request_id} ({one.ticket}): live {one.live}; again {one.again}\n")
    return 0 if found.ok else 3
