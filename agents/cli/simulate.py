"""`rendezvous simulate`: policies, budgets and sets of models over archived scores; nothing is scored again."""

from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from agents.cli import place
from agents.cli.columns import read_columns
from agents.cli.known import labels_in, labels_option
from agents.cli.past import UNCHANGED, Moment, Seen, period_of, told_apart
from agents.cli.ways_page import give
from agents.cli.ways_report import Point, report, summed
from schemas.pipeline import Pipeline
from streams.candidate_file import load_candidate, with_budget
from streams.core.lead import LEAD_MS
from streams.core.past import Way


class Budgets(click.ParamType):
    """Whole milliseconds, with commas between them."""

    name = "ms,ms,..."

    def convert(
        self, value: "str | tuple[int, ...]", param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Rising, each once."""
        if isinstance(value, tuple):
            return value
        words = value.split(",")
        if not all(word.strip().isdecimal() for word in words):
            self.fail(f"{value!r} is no list of budgets: write 20,50,100,200", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@click.command(short_help="try policies and budgets over archived scores")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option(
    "--policy", "files", multiple=True, type=click.Path(path_type=Path), help="A candidate; may be repeated."
)
@click.option("--budgets", type=Budgets(), default=(), help="Sweep over these, as 20,50,100,200.")
@click.option("--since", type=Moment(), help="Requests from this log time on.")
@click.option("--until", type=Moment(), help="Requests before this log time.")
@labels_option
@click.option("--threshold", default=0.5, show_default=True, help="Scores from here on mean yes.")
@click.option(
    "--list",
    "listed",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many different decisions to show.",
)
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with plots.")
def simulate(
    file: Path | None,
    files: tuple[Path, ...],
    budgets: tuple[int, ...],
    since: int | None,
    until: int | None,
    labels: Path | None,
    threshold: float,
    listed: int,
    archive: Path | None,
    as_json: bool,
    html: Path | None,
) -> None:
    """Answer archived requests by other policies, from the scores and times that are archived.

    \b
      rendezvous simulate --budgets 20,50,100,200 --labels labels.jsonl --html budgets.html
      rendezvous simulate --policy hasty.toml --policy patient.toml --since 2w --until 1w

    A candidate is a TOML file with any of [policy], budget_ms, models = ["a", "b"] and [default]; what it does not
    say stays. A request that names its own budget keeps it. Columns do plain schedules (millions of requests in
    seconds), the live core does the rest; both give the same answers.
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    if not (files or budgets):
        raise click.UsageError("what is to be tried? Name --policy FILE, or --budgets 20,50,100")
    names = told_apart(one.stem for one in files)
    ways = [Way(name, load_candidate(one, pipeline)) for name, one in zip(names, files, strict=True)]
    bases = [Way(UNCHANGED, pipeline), *ways]
    sweep = [(base, budget, _at(base, budget)) for base in bases for budget in budgets]

    every = [*bases, *(way for _, _, way in sweep)]
    seen, slow = read_columns(root, pipeline, every, period_of(since, until), labels_in(labels), LEAD_MS)
    found = report(
        seen, pipeline, ways, [f"{name} was run by the core: {why}" for name, why in slow.items()], threshold, listed
    )
    found = replace(found, sweep=_swept(seen, pipeline, bases if budgets else [], sweep, threshold))
    give(found, seen, html, as_json=as_json)


def _at(base: Way, budget_ms: int) -> Way:
    return Way(f"{base.name} with {budget_ms} ms", with_budget(base.pipeline, budget_ms))


def _swept(
    seen: Seen, pipeline: Pipeline, bases: Sequence[Way], sweep: Sequence[tuple[Way, int, Way]], threshold: float
) -> dict[str, list[Point]]:
    return {
        base.name: [
            Point(budget_ms=budget, figures=summed(seen, pipeline, seen.ways[way.name], budget, threshold))
            for own, budget, way in sweep
            if own is base
        ]
        for base in bases
    }
