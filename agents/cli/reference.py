"""`rendezvous reference`: the frozen window that live requests are held against: which, when, and by whom."""

import time
from pathlib import Path

import click
import numpy as np
from msgspec import json

from agents.cli import place
from agents.cli.moved import as_moved
from agents.cli.past import Moment, period_of
from agents.settings import environ, reference_file, user
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline, Role
from schemas.topics import Topics
from streams.archive.ranges import Period, iso, times_held
from streams.core.frozen_reference import LEAST_REQUESTS, FrozenReference, misfits
from streams.reference_file import read_reference, write_reference

LEAST_SCORED = 0.5
pipeline_option = click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
archive_option = click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group("reference", short_help="the frozen window that verdicts compare with: set, show")
def reference() -> None:
    """Say what is normal: a window of the archive that live requests are held against, until somebody says otherwise.

    \b
      rendezvous reference set --since 2013-07-01 --until 2013-07-22 --why "three quiet weeks"
      rendezvous reference show
    """


@reference.command("set")
@click.option("--since", type=Moment(), required=True, help="Requests decided from this log time on.")
@click.option("--until", type=Moment(), help="Requests decided before this log time; default: what is archived now.")
@click.option("--why", default="", help="Why this window, for who reads it later.")
@click.option("--by", default="", help="Who says so; default: the user of this machine.")
@pipeline_option
@archive_option
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@json_option
def set_(
    since: int,
    until: int | None,
    why: str,
    by: str,
    file: Path | None,
    archive: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Freeze a window of the archive as the reference. It is looked at first: too few requests or scores are refused.

    \b
      rendezvous reference set --since 3w --why "before the spring sale"
      rendezvous reference set --since 2013-07-01 --until 2013-07-22 --dry-run
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    found = _looked_at(root, pipeline, period_of(since, until), since, by or user(), why)
    place_ = reference_file(environ(), pipeline.name)
    before = _before(place_)
    if not dry_run:
        write_reference(place_, found)
    if as_json:
        click.echo(json.encode(found))
        return
    click.echo(line_of(found))
    if before is not None:
        click.echo(f"before    {line_of(before)}", err=True)


def _before(path: Path) -> FrozenReference | None:
    """What is replaced; of a damaged one it is only said that it is."""
    try:
        return read_reference(path)
    except ConfigurationRefused as error:
        click.echo(f"before    {error}", err=True)
        return None


def _looked_at(root: Path, pipeline: Pipeline, period: Period, since: int, by: str, why: str) -> FrozenReference:
    from agents.cli.races import read_races

    races = read_races(root, pipeline, period).races
    requests = int(races.asked.sum())
    if requests < LEAST_REQUESTS:
        raise ConfigurationRefused(
            f"{root}: {requests:,} requests in {period}: a reference needs {LEAST_REQUESTS:,}; choose a longer window"
        )
    scored = {key: float((~np.isnan(scores))[races.asked].mean()) for key, scores in races.scores.items()}
    models: dict[str, str] = {}
    for (name, version), share in sorted(scored.items(), key=lambda pair: pair[1]):
        if share >= LEAST_SCORED:
            models[name] = version
    if not models:
        raise ConfigurationRefused(
            f"{root}: no model scored half of the requests in {period}; choose a window in which models answered"
        )
    return FrozenReference(
        pipeline=pipeline.name,
        since_ms=max(since, int(races.decided_ms.min())),
        until_ms=period.until_ms or int(races.decided_ms.max()) + 1,
        set_at_ms=int(time.time() * 1e3),
        by=by,
        why=why,
        requests=requests,
        models=dict(sorted(models.items())),
        features=[feature.name for feature in pipeline.features],
    )


@reference.command("show")
@pipeline_option
@archive_option
@json_option
def show(file: Path | None, archive: Path | None, as_json: bool) -> int:
    """Say which window is the reference, and whether it still fits the models and the archive of now.

    The models are those that the pipeline file and the moves of models, as far as they are archived, come to.

    \b
      rendezvous reference show
      rendezvous reference show --json | jq .misfits

    Exit 3 when none is set, or it does not fit any more.
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = archive or place.archive(pipeline, path.resolve().parent)
    where = reference_file(environ(), pipeline.name)
    found = read_reference(where)
    if found is None:
        click.echo(
            json.encode({"reference": None})
            if as_json
            else f"{pipeline.name}: no reference is set; set one with `rendezvous reference set --since ...`"
        )
        return 3
    models = {model.name: model.version for model in as_moved(root, pipeline).models if model.role is not Role.DECOY}
    held_ms = times_held(root, Topics(pipeline.name).raw, range(pipeline.partitions))
    why = misfits(found, models, held_ms, [feature.name for feature in pipeline.features])
    if as_json:
        click.echo(json.encode({"reference": found, "misfits": why, "file": str(where)}))
    else:
        click.echo(line_of(found))
        for one in why:
            click.echo(f"does not fit: {one}")
    return 3 if why else 0


def line_of(found: FrozenReference) -> str:
    """A reference for people."""
    models = ", ".join(f"{name} {version}" for name, version in found.models.items())
    why = f": {found.why}" if found.why else ""
    return (
        f"{found.pipeline}: {iso(found.since_ms)} to {iso(found.until_ms)}, {found.requests:,} requests, scored by "
        f"{models}; set {iso(found.set_at_ms)} by {found.by}{why}"
    )
