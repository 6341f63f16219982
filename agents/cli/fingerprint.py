"""`rendezvous fingerprint`: what a model was trained on, written beside its file, and read again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
from msgspec import json

from agents.cli import place
from agents.cli.given import read_values, texts_of
from agents.cli.past import Moment, period_of
from schemas.errors import UNREADABLE, ConfigurationRefused
from schemas.pipeline import Model, Pipeline
from streams.archive.ranges import iso
from streams.core.fingerprint import FieldPrint, Fingerprint

SHOWN_WORDS = 3


@click.command(short_help="what a model was trained on, beside its file")
@click.argument("name", metavar="MODEL")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option(
    "--events",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The events it was trained on (.jsonl, .csv, .parquet, or -).",
)
@click.option("--since", type=Moment(), help="It was trained on archived requests from this log time on.")
@click.option("--until", type=Moment(), help="It was trained on archived requests before this log time.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The fingerprint as one JSON object.")
def fingerprint(
    name: str,
    file: Path | None,
    events: Path | None,
    since: int | None,
    until: int | None,
    archive: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write what MODEL was trained on beside its file: fields, features, libraries, sha256. Without events: show it.

    \b
      rendezvous fingerprint full --events train.jsonl      written beside the model
      rendezvous fingerprint full --since 4w --until 1w     trained on the archive
      rendezvous fingerprint full                           what is written there

    Production is held against it with `rendezvous diff --training MODEL`.
    """
    from streams.models.fingerprints import fingerprint_of, place_of, read_fingerprint, write_fingerprint

    path = place.pipeline_path(file)
    pipeline, folder = place.pipeline(path), path.resolve().parent
    model = model_of(pipeline, name)
    if events and (since or until):
        raise click.UsageError("events come from a file, or from the archive: --events, or --since and --until")
    place_of(folder, model)
    if not (events or since or until):
        found = read_fingerprint(folder, model)
    else:
        rows: Iterator[object]
        source: str | Callable[[], str]
        if events:
            rows, source = read_events(events, pipeline), str(events)
        else:
            from agents.cli.slices import Passing

            passing = Passing(archive or place.archive(pipeline, folder), pipeline, period_of(since, until))
            rows, source = passing.events(), lambda: f"archive: {passing.said()}"
        found = fingerprint_of(folder, pipeline, model, rows, source)
        if not dry_run:
            click.echo(f"{write_fingerprint(folder, model, found)}: written", err=True)
    if as_json:
        click.echo(json.encode(found))
        return
    for line in lines_of(found):
        click.echo(line)


def model_of(pipeline: Pipeline, name: str) -> Model:
    """A model by name; raises UsageError with those there are."""
    try:
        return pipeline.model(name)
    except KeyError as error:
        known = ", ".join(model.name for model in pipeline.models)
        raise click.UsageError(f"{pipeline.name} has no model {name!r}; it has {known}") from error


def read_events(file: Path, pipeline: Pipeline) -> Iterator[object]:
    """Events of a file that `send` takes; raises ConfigurationRefused with the line that is none."""
    number = 0
    for number, line in enumerate(read_values(file, texts_of(pipeline)), 1):
        try:
            event = json.decode(line)
        except UNREADABLE as error:
            raise ConfigurationRefused(f"{file}:{number}: {error}; write one JSON object a line") from error
        if not isinstance(event, dict):
            raise ConfigurationRefused(f"{file}:{number}: no JSON object; write one event a line")
        yield event
    if not number:
        raise ConfigurationRefused(f"{file}: no event in it; write those the model was trained on, one a line")


def lines_of(found: Fingerprint) -> list[str]:
    """A fingerprint for people."""
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(found.software.libraries.items()))
    return [
        f"{found.model} {found.version} of {found.pipeline}, sha256 {found.sha256[:12]}",
        f"trained on {found.rows:,} rows: {found.source}",
        f"written {iso(found.made_at_ms)} with Python {found.software.python}; {libraries}",
        f"features: {', '.join(feature.name for feature in found.features)}",
        *(f"  {line_of(one, found.rows)}" for one in found.fields),
    ]


def line_of(one: FieldPrint, rows: int) -> str:
    """One field for people."""
    absent = f", absent in {100 * (1 - one.there / rows):.1f} %" if rows and one.there < rows else ""
    if one.words:
        most = sorted(one.words.items(), key=lambda pair: -pair[1])[:SHOWN_WORDS]
        shares = ", ".join(f"{word} {100 * count / one.there:.0f} %" for word, count in most)
        return f"{one.name}: {len(one.words):,} words: {shares}{absent}"
    if not one.levels:
        return f"{one.name}: no value"
    low, middle, high = one.levels[0], one.levels[len(one.levels) // 2], one.levels[-1]
    return f"{one.name}: {low:g} to {high:g}, median {middle:g}{absent}"
