"""The moves of `rendezvous models`: promote, rollback, retire."""

import time
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from agents.cli import place
from agents.cli.beside import asked_of, beside_s, decided_since, enough, oldest_ms, shown
from agents.cli.known import labels_of, labels_option
from agents.cli.roster import as_line, json_option, look, member_of, pipeline_option
from agents.cli.topic_end import end_topics, refuse_shared
from agents.settings import user
from schemas import roster
from schemas.errors import UnreadableRecord
from schemas.pipeline import Model
from schemas.roster import Moved, State
from streams.core.beside import place_of
from streams.core.entitlement import History
from streams.core.gates import Shown, as_table, figures_of, in_words, refusals
from streams.core.moves import refusal, rolled_back
from streams.core.roster import Promotion
from streams.kafka.roster_log import MoveRefused, RosterLog

why_option = click.option("--why", default="", metavar="TEXT", help="The reason, for whoever reads the history.")
who_option = click.option("--who", default="", metavar="NAME", help="Who moves it; else the user of this host.")


@click.command()
@click.argument("name")
@click.option(
    "--to",
    "to",
    type=click.Choice(["champion", "challenger", "canary"]),
    default="champion",
    show_default=True,
    help="To the front, into the schedule behind it, or to be the yardstick for ever.",
)
@click.option("--version", default="", help="Which of two versions of the name: it takes the other one's place.")
@click.option(
    "--last", type=int, help="How many decisions of each partition are looked at; else what the gates need."
)
@labels_option
@click.option("--archive", type=place.Root(), help="Where labels are archived; default: the pipeline's.")
@click.option("--force", is_flag=True, help="Although a gate says no; the history keeps what it said.")
@click.option("--dry-run", is_flag=True, help="Only hold it against the gates.")
@why_option
@who_option
@pipeline_option
@json_option
def promote(
    name: str,
    to: str,
    version: str,
    last: int | None,
    labels: Path | None,
    archive: Path | None,
    force: bool,
    dry_run: bool,
    why: str,
    who: str,
    file: Path | None,
    as_json: bool,
) -> int:
    """Move a model to the front: the champion of until now stands behind it.

    \b
      rendezvous models promote better --dry-run --last 10000
      rendezvous models promote better --labels labels.jsonl
      rendezvous models promote better --to challenger
      rendezvous models promote first --version 8    # it takes the place of the version that `first` has now
      rendezvous models promote better --force --why "the champion is broken"

    The gates of [promotion] are held against what it has shown on the last requests, and the labels that are
    archived of these; exit 3, with the figures, when one says no.
    """
    pipeline, cluster, found = look(file)
    member, state = member_of(found, name, version), State(to)
    more: dict[str, Any] = {}
    main = found.roster.members[name]
    if member is not main:
        state, more = place_of(main), {"replaces": main.model.version}
    elif state is State.CHAMPION and member.state is not State.PASSED_OVER:
        more = {"displaced": found.roster.champion, "displaced_to": State.CHALLENGER}
    move = move_of(member.model, member.state, state, why, who, **more)
    refuse(found, move)
    figures, said = None, []
    if state is not State.CANARY:
        root = archive or place.archive(pipeline, place.pipeline_path(file).resolve().parent)
        known = labels_of(labels, root, pipeline)

        def look_at(count: int) -> list[Shown]:
            return shown(asked_of(cluster, pipeline, found, member.model, count), known)

        needed = pipeline.promotion.requests
        beside = (
            look_at(last) if last else enough(look_at, needed, decided_since(cluster, pipeline, found, member.model))
        )
        seconds = beside_s(found, member.model, oldest_ms(cluster, pipeline))
        figures = figures_of(beside, pipeline.promotion, seconds)
        said = refusals(figures, pipeline.promotion)
        if last and figures.requests < needed:
            said.append(f"--last: only {last} decisions of each partition were looked at; leave it out")
        if not as_json:
            click.echo(f"{name}: {in_words(figures)}", err=True)
    table = {} if figures is None else as_table(figures)
    if dry_run or (said and not force):
        if as_json:
            click.echo(as_line({"model": name, "promoted": False, "gates": said, "figures": table}))
        forcible = "; --force does it all the same, and is recorded" if said else ""
        for line in [*said, f"nothing was moved{forcible}"]:
            click.echo(line, err=True)
        return 3 if said else 0
    move = replace(move, forced=tuple(said))
    RosterLog(cluster, pipeline).move(move)
    made_room = f"; {move.displaced} is the challenger behind it" if move.displaced else ""
    if move.replaces:
        made_room = f" in version {move.version}; {move.replaces} stays beside it, warm, until it is retired"
    done(move, f"{name} is the {state}{made_room}", as_json, promoted=True, gates=said, figures=table)
    return 0


@click.command()
@why_option
@who_option
@pipeline_option
@json_option
def rollback(why: str, who: str, file: Path | None, as_json: bool) -> None:
    """Take back the last promotion: its champion is again what it was, and the one before it the champion.

    Or its challenger is a shadow again, or the version before it is entitled. A canary stays one.
    """
    pipeline, cluster, found = look(file)
    try:
        last = rolled_back(found.roster)
    except UnreadableRecord as error:
        raise MoveRefused(str(error)) from error
    move, said = _undoing(found, last, why, who)
    refuse(found, move)
    RosterLog(cluster, pipeline).move(move)
    done(move, said, as_json)


def _undoing(found: History, last: Promotion, why: str, who: str) -> tuple[Moved, str]:
    """The move that undoes a promotion, and what people are told of it."""
    main = found.roster.members[last.model]
    if last.replaced:  # the version of before has been scoring beside all the time
        beside = found.roster.beside[last.model]
        more = {"replaces": main.model.version, "undoes": True}
        move = move_of(beside.model, beside.state, place_of(main), why, who, **more)
        return move, f"{last.model} is version {move.version} again, {move.replaces} stays beside it"
    if not last.displaced:  # who came into the schedule
        return move_of(main.model, main.state, State.SHADOW, why, who, undoes=True), f"{last.model} is a shadow again"
    member = found.roster.members[last.displaced]
    more = {"displaced": last.model, "displaced_to": last.before, "undoes": True}
    move = move_of(member.model, member.state, State.CHAMPION, why, who, **more)
    return move, f"{last.displaced} is the champion again, {last.model} a {last.before}"


@click.command()
@click.argument("name")
@click.option("--version", default="", help="Which of two versions of the name.")
@click.option("--delete-topic", is_flag=True, help="And delete its topics, once nobody needs them any more.")
@click.option(
    "--within", type=click.FloatRange(min=0), default=60, show_default=True, help="Seconds that this is waited for."
)
@click.option(
    "--force", is_flag=True, help="Although it is the canary; although rows lie there that nobody will read."
)
@why_option
@who_option
@pipeline_option
@json_option
def retire(
    name: str,
    version: str,
    delete_topic: bool,
    within: float,
    force: bool,
    why: str,
    who: str,
    file: Path | None,
    as_json: bool,
) -> None:
    """Ask a model no more: its scorer does what waits for it and ends. Its name is free for another version.

    \b
      rendezvous models retire first
      rendezvous models retire first --delete-topic    # now, or later: of one that is retired already

    A topic is deleted when the router has read all that came before, and who reads it has read it to its end and is
    gone; else exit 3, with what still waits.
    """
    pipeline, cluster, found = look(file)
    member = member_of(found, name, version)
    if delete_topic:
        refuse_shared(found, name, member.model.version)
    if member.state is not State.RETIRED or not delete_topic:
        forced = ("canary: it runs for ever",) if force and member.state is State.CANARY else ()
        move = move_of(member.model, member.state, State.RETIRED, why, who, forced=forced)
        refuse(found, move)
        RosterLog(cluster, pipeline).move(move)
        done(move, f"{name} {move.version} is retired", as_json)
    if delete_topic:
        gone = end_topics(cluster, pipeline, name, within, force=force)
        if as_json:
            click.echo(as_line({"model": name, "deleted": gone}))
        click.echo(f"{' and '.join(gone)} is deleted" if gone else f"{name} has no topic", err=True)


def move_of(model: Model, before: State | None, to: State, why: str, who: str, **more: Any) -> Moved:
    """A move by whoever runs this program, now."""
    return roster.move_of(model, before, to, who or user(), why, int(time.time() * 1e3), **more)


def refuse(history: History, move: Moved) -> None:
    """Say no before any work is done; the log says the last word."""
    if reason := refusal(history.roster, move):
        raise MoveRefused(reason)


def done(move: Moved, said: str, as_json: bool, **more: Any) -> None:
    """Tell what was moved: JSON on stdout, a sentence on stderr."""
    if as_json:
        click.echo(as_line(msgspec.to_builtins(move) | more))
    click.echo(said, err=True)
