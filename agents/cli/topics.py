"""`rendezvous topics`: the topics of a pipeline, with what is on them."""

from pathlib import Path

import click
import msgspec

from agents.cli import place
from schemas.errors import ConfigurationRefused, KafkaUnreachable
from schemas.topics import Topics, topics_of


@click.command(short_help="the pipeline's topics")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per topic.")
def topics(file: Path | None, as_json: bool) -> None:
    """List the topics of a pipeline, what is on each, and whether the cluster has it.

    Its models are those of the roster, where there is one.

    \b
      rendezvous topics
      rendezvous topics -P pipeline.toml --json
    """
    pipeline, existing = place.pipeline(file), dict[str, int]()
    try:
        from streams.kafka.admin import Admin

        cluster = place.cluster()
        existing = Admin(cluster).partitions()
        if Topics(pipeline.name).roster_history in existing:
            pipeline = place.rostered(cluster, pipeline)
    except KafkaUnreachable as error:
        click.echo(f"(no cluster looked at: {error})", err=True)
    except ConfigurationRefused as error:
        click.echo(f"(the models are those of the file: {error})", err=True)
    for topic in topics_of(pipeline):
        found = existing.get(topic.name)
        if as_json:
            click.echo(msgspec.json.encode(msgspec.to_builtins(topic) | {"exists": found is not None}).decode())
        else:
            state = f"{found} partitions" if found else "not there"
            click.echo(f"{topic.name:40} {state:14} {topic.entry.value}")
