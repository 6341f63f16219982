"""`rendezvous topics`: the topics of a pipeline, with what is on them."""

from pathlib import Path

import click
import msgspec

from agents.cli import place
from schemas.errors import KafkaUnreachable
from schemas.topics import topics_of


@click.command(short_help="the pipeline's topics")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per topic.")
def topics(file: Path | None, as_json: bool) -> None:
    """List the topics of a pipeline, what is on each, and whether the cluster has it.

    \b
      rendezvous topics
      rendezvous topics -P pipeline.toml --json
    """
    wanted = topics_of(place.pipeline(file))
    try:
        from streams.kafka.admin import Admin

        existing = Admin(place.cluster()).partitions()
    except KafkaUnreachable as error:
        click.echo(f"(no cluster looked at: {error})", err=True)
        existing = {}
    for topic in wanted:
        found = existing.get(topic.name)
        if as_json:
            click.echo(msgspec.json.encode(msgspec.to_builtins(topic) | {"exists": found is not None}).decode())
        else:
            state = f"{found} partitions" if found else "not there"
            click.echo(f"{topic.name:40} {state:14} {topic.entry.value}")
