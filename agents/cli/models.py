"""`rendezvous models`: who of the models is what, and the moves from one to the other."""

from pathlib import Path

import click

from agents.cli.add import add
from agents.cli.moves import promote, retire, rollback
from agents.cli.roster import (
    as_line,
    event,
    json_option,
    line,
    look,
    member_of,
    pipeline_option,
    row,
    say_refused,
    told,
)
from schemas.roster import definition_of
from schemas.topics import Topics
from streams.kafka.reading import TopicReader


@click.group(short_help="the models' roles: ls, add, promote, rollback, retire, history, show")
def models() -> None:
    """Look at the roster, and move models while the pipeline runs: nothing is restarted, no request is lost.

    \b
      rendezvous models ls
      rendezvous models add better models/better.txt --version 8 --why "trained on May"
      rendezvous models promote better
      rendezvous models rollback --why "complaints from Newark"
      rendezvous models retire first

    A move counts for requests half a second after it. The pipeline file's [[models]] are the roster's beginning; from
    the first move on, the roster says who is there.
    """


@models.command()
@pipeline_option
@json_option
def ls(file: Path | None, as_json: bool) -> None:
    """List every model: state, version, since when, by whom, why.

    \b
      rendezvous models ls
      rendezvous models ls --json | jq -r 'select(.state == "champion") | .model'
    """
    _, _, history = look(file)
    for member in (*history.roster.members.values(), *history.roster.beside.values()):
        click.echo(as_line(told(member, history)) if as_json else row(member, history))
    say_refused(history)


@models.command()
@click.argument("name")
@pipeline_option
@json_option
def show(name: str, file: Path | None, as_json: bool) -> None:
    """Tell all of one model: what it is made of, and its moves with the tickets from which they counted."""
    pipeline, cluster, history = look(file)
    member = member_of(history, name)
    other = history.roster.beside.get(name)
    beside = {"beside": told(other, history) | {"definition": definition_of(other.model)}} if other else {}
    moves = [one for one in map(event, history.entries) if name in (one["model"], one["displaced"])]
    with TopicReader(cluster, Topics(pipeline.name).raw) as reader:
        for move in moves:
            first = reader.at_time(int(move["counts_from_ms"]))
            move["first_tickets"] = [f"{number}/{offset}" for number, offset in sorted(first.items())]
    if as_json:
        whole = {"definition": definition_of(member.model), "moves": moves, **beside}
        click.echo(as_line(told(member, history) | whole))
        return
    for key, value in (told(member, history) | definition_of(member.model) | beside).items():
        click.echo(f"{key}: {value}")
    for move in moves:
        counts = "" if move["kind"] == "noted" else f", from {' '.join(move['first_tickets'])} on"
        click.echo(f"{line(move)}{counts}")


@models.command()
@pipeline_option
@json_option
def history(file: Path | None, as_json: bool) -> None:
    """List every move that counts, the oldest first: who, when, why, from and to."""
    _, _, found = look(file)
    for move in map(event, found.entries):
        click.echo(as_line(move) if as_json else line(move))
    say_refused(found)


for _command in (add, promote, rollback, retire):
    models.add_command(_command)
