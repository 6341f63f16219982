"""`rendezvous label-next`: the requests whose labels would tell most, each with the number it stands for."""

import sys
from pathlib import Path

import click
import msgspec
import numpy as np

from agents.cli import place
from agents.cli.past import Moment, period_of
from agents.cli.races import read_races
from schemas.decisions import Ticket
from streams.core.label_next import chances, draw, spread


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the work list: with its `truth` added, `rendezvous label` takes it as it is."""

    request_id: str
    ticket: Ticket
    weight: float
    spread: float
    answer: float | None
    scores: dict[str, float]


@click.command("label-next", short_help="which requests to label next")
@click.argument("count", type=click.IntRange(min=1))
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", type=Moment(), help="Requests decided from this log time on.")
@click.option("--until", type=Moment(), help="Requests decided before this log time.")
@click.option("--seed", default=1, show_default=True, help="Another number draws others.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; the rule where nobody looks on.")
def label_next(
    count: int,
    file: Path | None,
    since: int | None,
    until: int | None,
    seed: int,
    archive: Path | None,
    as_json: bool,
) -> None:
    """Draw COUNT requests without a label, the more likely the more their models' scores differ.

    \b
      rendezvous label-next 200 > work.jsonl
      jq -c '.truth = true' work.jsonl | rendezvous label -      # once the truth of each is known

    `weight` is how many requests each one stands for: it goes along with the label, and `rendezvous quality` and
    a bandit weigh by it, so that what they say is of all requests drawn from, not of the disputed ones.
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    found = read_races(root, pipeline, period_of(since, until))
    open_ = found.races.only(found.races.asked & ~found.truths.known)
    if not len(open_):
        click.echo(f"every request of {period_of(since, until)} has its label", err=True)
        return
    spreads = spread(list(open_.scores.values()))
    chance = chances(spreads, count)
    rows = draw(chance, float(np.random.default_rng(seed).random()))
    rows = rows[np.argsort(-spreads[rows], kind="stable")]
    wanted = [
        Wanted(
            open_.ids[row],
            Ticket(int(open_.partitions[row]), int(open_.offsets[row])),
            max(1.0, round(1 / float(chance[row]), 6)),
            round(float(spreads[row]), 6),
            None if np.isnan(open_.answers.score[row]) else float(open_.answers.score[row]),
            {
                f"{model} {version}": float(column[row])
                for (model, version), column in open_.scores.items()
                if not np.isnan(column[row])
            },
        )
        for row in rows.tolist()
    ]
    if as_json or not sys.stdout.isatty():
        for one in wanted:
            click.echo(msgspec.json.encode(one))
    else:
        for one in wanted:
            scores = ", ".join(f"{model}: {score:.4f}" for model, score in one.scores.items())
            click.echo(
                f"{one.ticket!s:>10}  spread {one.spread:.3f}  weight {one.weight:9.2f}  {one.request_id}  {scores}"
            )
    click.echo(f"{len(wanted):,} of {len(open_):,} requests without a label", err=True)
