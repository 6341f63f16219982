"""The roster as the command line shows it: read, by name, and line by line."""

import difflib
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.cli import place
from schemas.pipeline import Pipeline
from schemas.roster import Noted
from streams.archive.ranges import iso
from streams.core.entitlement import Entry, History
from streams.core.roster import Member
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog

pipeline_option = click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, one object a line.")


def look(file: Path | None) -> tuple[Pipeline, Cluster, History]:
    """The pipeline, its cluster, and the roster's history up to now.

    Raises ConfigurationRefused when by this file the roster is another than it was said to be.
    """
    pipeline = place.pipeline(file)
    cluster = place.cluster()
    return pipeline, cluster, RosterLog(cluster, pipeline).agreed()


def member_of(history: History, name: str, version: str = "") -> Member:
    """One model by its name, and by its version where there are two; raises BadParameter with the nearest one."""
    members = history.roster.members
    if name not in members:
        near = difflib.get_close_matches(name, members, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(members)}."
        raise click.BadParameter(f"no model {name!r}. {hint}", param_hint="NAME")
    if not version:
        return members[name]
    found = history.roster.of(name, version)
    if found is None:
        there = [one.model.version for one in (members[name], history.roster.beside.get(name)) if one is not None]
        raise click.BadParameter(
            f"no version {version!r} of {name}, which has {', '.join(there)}", param_hint="VERSION"
        )
    return found


def told(member: Member, history: History) -> dict[str, Any]:
    """What one model is now, for programs."""
    model, given_up = member.model, _given_up(member, history)
    return {
        "model": model.name,
        "version": model.version,
        "state": member.state,
        **({"beside": True} if history.roster.beside.get(model.name) is member else {}),
        "since_ms": int(member.since_ms) or None,
        "who": member.who,
        "why": member.why,
        "file": model.artifact,
        "sha256": model.sha256,
        **({"refused" if given_up.refused else "quarantine": given_up.why} if given_up else {}),
    }


def _given_up(member: Member, history: History) -> Noted | None:
    """That its processes are given up, and why."""
    return history.quarantined.get((member.model.name, member.model.version))


def row(member: Member, history: History) -> str:
    """The same for people."""
    since = iso(int(member.since_ms)) if member.since_ms else "-"
    model = member.model
    given_up = _given_up(member, history)
    why = member.why
    if given_up:
        how = "refused" if given_up.refused else "in quarantine"
        why = f"{how} since {iso(given_up.at_ms)}: {given_up.why}"
    place = "beside" if history.roster.beside.get(model.name) is member else ""
    state = f"{member.state}, {place}" if place else member.state
    return f"{model.name:16} {state:11} {model.version:12} {since:20} {member.who:10} {why}"


def event(entry: Entry) -> dict[str, Any]:
    """One record of the history, for programs."""
    found: dict[str, Any] = msgspec.to_builtins(entry.record)
    counts = entry.from_ms if entry.from_ms > 0 else 0.0
    empty = {"model": "", "displaced": "", "forced": []}
    return {"position": entry.position, "log_ms": entry.log_ms, "counts_from_ms": counts, **empty, **found}


def line(move: dict[str, Any]) -> str:
    """The same for people."""
    when = iso(int(move["log_ms"]))
    if move["kind"] == "began":
        return f"{move['position']:>4} {when} {move['who']}: the roster begins with {len(move['models'])} models"
    if move["kind"] == "noted":
        word = "is in quarantine" if move["quarantined"] else "is out of quarantine"
        if move["refused"]:
            word = "is refused" if move["quarantined"] else "is tried again"
        return f"{move['position']:>4} {when} {move['who']}: {move['model']} {move['version']} {word}: {move['why']}"
    what = f"{move['model']} {move['version']} {move.get('from') or 'new'} -> {move['to']}"
    what += f" in the place of {move['replaces']}" if move.get("replaces") else ""
    rest = f", {move['displaced']} -> {move['displaced_to']}" if move["displaced"] else ""
    needs = move["definition"].get("needs") if move.get("definition") else None
    rest += f", {move['model']} needs {', '.join(needs)}" if needs else ""
    undone = " (rollback)" if move.get("undoes") else ""
    forced = f" (forced: {'; '.join(move['forced'])})" if move["forced"] else ""
    why = f": {move['why']}" if move.get("why") else ""
    return f"{move['position']:>4} {when} {move['who']}: {what}{rest}{undone}{forced}{why}"


def say_refused(history: History) -> None:
    """Records that are passed over are told, not hidden."""
    for position, reason in history.refused:
        click.echo(f"{position:>4} does not count: {reason}", err=True)


def as_line(found: Any) -> str:
    """One JSON object."""
    return msgspec.json.encode(found).decode()
