"""`rendezvous dead-letters`: what nobody could read, and a second try."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from confluent_kafka import Message

from agents.cli import place
from agents.cli.ask import send_confirmed
from schemas.dead_letters import LEFT_OUT, PREFIX, given_headers
from schemas.topics import Topics
from streams.core.event_fields import printable
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

pipeline_option = click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")


@click.group("dead-letters", short_help="what could not be read: ls, show, retry")
def dead_letters() -> None:
    """Look at records that nobody could read, with their reasons; send them again once the cause is mended.

    \b
      rendezvous dead-letters ls
      rendezvous dead-letters show 0/3
      rendezvous dead-letters retry 0/3
    """


@dead_letters.command()
@pipeline_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per record.")
def ls(file: Path | None, as_json: bool) -> None:
    """List them: place, origin, reason."""
    topics = Topics(place.pipeline(file).name)
    for message in _all(place.cluster(), topics):
        story = _story(message)
        if as_json:
            click.echo(msgspec.json.encode(story).decode())
        else:
            origin = f"{story.get('topic')}/{story.get('partition')}/{story.get('offset')}"
            what = f"{story['place']:>8}  {origin:30} {story.get('stage', ''):10} {story.get('exception.message')}"
            click.echo(printable(what))


@dead_letters.command()
@click.argument("where", metavar="PLACE")
@pipeline_option
def show(where: str, file: Path | None) -> None:
    """Print the original bytes of one record on stdout, its story on stderr."""
    message = _one(place.cluster(), Topics(place.pipeline(file).name), where)
    for name, value in _story(message).items():
        click.echo(printable(f"{name}: {value}"), err=True)
    click.get_binary_stream("stdout").write(message.value() or b"")


@dead_letters.command()
@click.argument("where", metavar="PLACE")
@pipeline_option
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
def retry(where: str, file: Path | None, dry_run: bool) -> None:
    """Send one record to raw again, as a new request with the headers that it came with."""
    pipeline = place.pipeline(file)
    topics, cluster = Topics(pipeline.name), place.cluster_to_ask(pipeline)
    message = _one(cluster, topics, where)
    story = _story(message)
    if "original.sha256" in story:
        raise click.ClickException(f"{where}: too large to be kept; only its hash and first bytes are here")
    if LEFT_OUT in story:
        raise click.ClickException(
            f"{where}: its headers are not here ({story[LEFT_OUT]}), and without them it would be another request; "
            f"`rendezvous dead-letters show {where}` gives its bytes"
        )
    if story.get("topic") != topics.raw:
        raise click.ClickException(f"{where}: it comes from {story.get('topic')}, only raw records are sent again")
    if story.get("exception.class.name") == "replay":
        raise click.ClickException(
            f"{where}: a replayed record; with its marks it is refused again, and without them would pass as live"
        )
    if not dry_run:
        send_confirmed(cluster, topics.raw, message.value(), message.key(), given_headers(message.headers() or ()))
    click.echo(f"{where}: {'would be ' if dry_run else ''}sent to {topics.raw} again", err=True)


def _all(cluster: Cluster, topics: Topics) -> Iterator[Message]:
    with TopicReader(cluster, topics.dead_letters) as reader:
        yield from reader.to_end()


def _one(cluster: Cluster, topics: Topics, where: str) -> Message:
    for message in _all(cluster, topics):
        if f"{message.partition()}/{message.offset()}" == where:
            return message
    raise click.ClickException(f"{where}: no such dead letter; `rendezvous dead-letters ls` lists them")


def _story(message: Message) -> dict[str, Any]:
    headers = message.headers() or []
    story = {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")
        for name, value in headers
        if name.startswith(PREFIX)
    }
    return {"place": f"{message.partition()}/{message.offset()}", **story, "bytes": len(message.value() or b"")}
