"""`rendezvous forget`: one request taken out of the archive."""

from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from agents.cli.archive import archive_options, json_option, layouts, meant, writer_name
from agents.cli.explain import TICKET
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.forgetting import Rewritten, Wanted, find
from streams.archive.forgetting import forget as take_out


@click.command(short_help="take one request out of the archive")
@click.argument("which", metavar="REQUEST_ID|TICKET")
@archive_options
@json_option
@click.option("--dry-run", is_flag=True, help="Say what would be rewritten; rewrite nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--as", "kind", type=click.Choice(["id", "ticket"]), help="What the word is, where it may be either.")
def forget(
    which: str, file: Path | None, root: Path | None, as_json: bool, dry_run: bool, yes: bool, kind: str | None
) -> int:
    """Delete one request from the archive: raw, decisions, dead letters, labels, its rows in blocks.

    \b
      rendezvous forget UA1545-20130701-0515-EWR --dry-run
      rendezvous forget 0/1234 --yes

    Each file is written anew without it and a note is kept (offset, why, hash), so that nobody calls it a loss.
    A ticket is of the topic's life of now, and takes the labels by its id along unless another request has that id.
    Kafka keeps its own copy until the topic's retention. It may be killed and run again. Exit 3 when there is none.
    Not found are copies under another id: the monitor's probes, and what `replay` wrote to topics of its own.
    """
    pipeline, folder = meant(file, root)
    layouts(pipeline, folder)
    wanted = _wanted(which, kind, pipeline, folder)

    def run(*, dry: bool) -> list[Rewritten]:
        return list(take_out(folder, pipeline.name, wanted, writer_name(), dry_run=dry))

    if not dry_run and not yes:
        planned = run(dry=True)
        if planned and not _agreed(f"Rewrite {len(planned)} files without {which}? It cannot be undone"):
            click.echo("nothing was changed; --yes does not ask", err=True)
            return 1
    found = run(dry=dry_run)
    for one in found:
        story = msgspec.to_builtins(one, enc_hook=str)
        text = f"{one.path}: {len(one.removed)} records taken out, {len(one.altered)} blocks without its rows"
        click.echo(msgspec.json.encode(story) if as_json else text)
    if not found:
        click.echo(f"{which}: nothing of it is in {folder}", err=True)
        return 3
    done = "would be rewritten" if dry_run else "rewritten"
    hours = pipeline.retention_hours
    click.echo(f"{len(found)} files {done}; Kafka's own copy goes with its retention ({hours:g} h)", err=True)
    if pipeline.monitor and pipeline.monitor.probes:
        click.echo(_of_probes(pipeline, pipeline.monitor.probes), err=True)
    return 0


def _agreed(question: str) -> bool:
    """What is answered; no answer is none."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


def _of_probes(pipeline: Pipeline, count: int) -> str:
    """What forgetting does not reach where a monitor freezes records."""
    snapshot = f".rendezvous/{pipeline.name}/monitor/snapshot"
    return (
        f"if the monitor froze it as one of its {count} probes, its payload is sent again under other ids: once "
        f"Kafka's copy is gone, remove {snapshot} with the pipeline down"
    )


def _wanted(which: str, kind: str | None, pipeline: Pipeline, folder: Path) -> Wanted:
    """What a word means; raises ConfigurationRefused where it is a ticket and somebody's id: it cannot be undone."""
    match = TICKET(which)
    by_id = Wanted(which, None, tuple(pipeline.request.id.split(".")))
    if kind == "id" or (kind is None and match is None):
        return by_id
    if match is None:
        raise click.UsageError(f"{which} is no ticket: write PARTITION/OFFSET, 0/1234")
    if kind is None and find(folder, Topics(pipeline.name), by_id):
        raise ConfigurationRefused(f"{which} is a ticket, and the id of a request, too: say --as id or --as ticket")
    return replace(by_id, request_id=None, ticket=(int(match[1]), int(match[2])))
