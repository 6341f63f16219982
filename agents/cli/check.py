"""`rendezvous check`: every mistake of a pipeline file, and every model that cannot be loaded."""

from pathlib import Path

import click

from schemas.errors import ConfigurationRefused
from streams.pipeline_file import load


@click.command(short_help="find every mistake of a pipeline file")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--models/--no-models", default=True, help="Also load each model, in a child process.")
def check(file: Path, models: bool) -> None:
    """Check the pipeline FILE: keys, values, and the models it names.

    \b
      rendezvous check pipeline.toml
    """
    pipeline = load(file)
    if models:
        from streams.models.loading import refused_models

        refused = refused_models(file.resolve().parent, pipeline)
        if refused:
            raise ConfigurationRefused("\n".join(f"{file}: {error}" for error in refused.values()))
    click.echo(f"{file}: {len(pipeline.models)} models, {len(pipeline.features)} features: nothing to mend", err=True)
