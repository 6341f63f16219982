"""Two versions of one name: the other one comes, scores beside, takes over, and goes.

It takes over by a move; the one before it stays beside then, warm, so that this can be taken back at once.
"""

from collections.abc import Mapping
from dataclasses import replace

from schemas.pipeline import Pipeline, Role
from schemas.roster import Moved, State, model_of
from streams.core.roster import (
    FIRST,
    Member,
    Promotion,
    Roster,
    in_state,
    made_of,
    refuse_mistakes,
    refused_definition,
)

STANDING = (State.SHADOW, State.CHALLENGER, *FIRST)
"""Beside whom another version of the same name may stand. The yardstick stays what it is."""

BESIDE: Mapping[State, tuple[State, ...]] = {
    State.STAGED: (State.WARMING, State.RETIRED),
    State.WARMING: (State.SHADOW, State.RETIRED),
    State.SHADOW: (State.RETIRED,),
}
"""The moves of a version that stands beside, but for taking over."""

SAME_ROWS = ("features", "needs", "takes", "wire")
"""What two versions of a name must have in common: the router sends their rows once."""


def is_beside(roster: Roster, move: Moved) -> bool:
    """Whether a move is one of another version than that which a name has."""
    member = roster.members.get(move.model)
    return member is not None and member.state is not State.RETIRED and member.model.version != move.version


def refused_beside(roster: Roster, move: Moved) -> str:
    """Why a version may not be moved beside, or into the place of, the one that its name has."""
    member, other = roster.members[move.model], roster.beside.get(move.model)
    what = f"{move.model} {move.version}"
    if other is not None and other.model.version != move.version:
        return f"{move.model} has version {other.model.version} beside {member.model.version}: retire one first"
    if other is None and move.before is not None:
        return (
            f"{move.model} is version {member.model.version}, not {move.version}: somebody else was first. Look again"
        )
    now = other.state if other else None
    if now is not move.before:
        return f"{what} is {now or 'not there'}, not {move.before or 'new'}: somebody else was first. Look again"
    if move.displaced or move.displaced_to:
        return f"{what} makes room for a version of its own name only"
    if now is None:
        return _refused_entry_beside(roster, member, move)
    if move.replaces:
        return _refused_takeover(roster, member, move, now)
    if move.undoes or move.after not in BESIDE[now]:
        ways = ", ".join(BESIDE[now]) or "nothing else"
        return f"{what} is {now} beside {member.model.version}: it may become {ways}, or take over from that"
    return ""


def _refused_entry_beside(roster: Roster, member: Member, move: Moved) -> str:
    if member.state not in STANDING:
        return f"{move.model} is {member.state}: a version comes beside one that is {', '.join(STANDING)}"
    if move.replaces or move.undoes:
        return f"{move.model} {move.version} is not there: it is to be staged first, with its definition"
    if reason := refused_definition(roster, move):
        return reason
    new, old = model_of(move.definition or {}, Role.SHADOW), member.model
    different = [name for name in SAME_ROWS if getattr(new, name) != getattr(old, name)]
    if different:
        return (
            f"{move.model} {move.version}: its {', '.join(different)} differ from those of {old.version}, "
            "and one topic has the rows of both: give this one a name of its own"
        )
    return ""


def _refused_takeover(roster: Roster, member: Member, move: Moved, now: State) -> str:
    what = f"{move.model} {move.version}"
    if now is not State.SHADOW:
        return f"{what} is {now}: it takes over when it scores"
    if (move.replaces, move.after) != (member.model.version, place_of(member)):
        return (
            f"{what} would take over from {move.replaces}, and {member.model.version} is {member.state}: look again"
        )
    last = roster.last_over
    if move.undoes and (last is None or (last.model, last.replaced) != (move.model, move.version)):
        return f"the last promotion is not one over {what}: somebody else was first"
    return ""


def place_of(member: Member) -> State:
    """The state in which a version takes over from this one: a champion's place is one, though it is not well."""
    return State.CHAMPION if member.state in FIRST else member.state


def moved_beside(roster: Roster, move: Moved, placed: Member, of: Pipeline) -> Roster:
    """The roster once another version has come, gone on, gone, or taken over."""
    name, beside, artifacts = move.model, dict(roster.beside), roster.artifacts
    members, promotions = roster.members, roster.promotions
    if move.definition is not None:
        artifacts = {**artifacts, (name, move.version): made_of(placed.model)}
    if move.replaces:
        old = members[name]
        why = f"{move.version} is in its place: {move.why}"
        beside[name] = Member(
            in_state(old.model, State.SHADOW), State.SHADOW, placed.since_ms, move.who, why, placed.position
        )
        members = {**members, name: placed}
        one = Promotion(name, State.SHADOW, name, move.version, move.replaces)
        promotions = roster.but_last_over if move.undoes else (*promotions, one)
    elif move.after is State.RETIRED:
        del beside[name]
        gone = move.version
        promotions = tuple(
            one for one in promotions if not (one.model == name and gone in (one.version, one.replaced))
        )
    else:
        beside[name] = placed
    found = replace(roster, members=members, beside=beside, artifacts=artifacts, promotions=promotions)
    if move.definition is not None:
        instead = {**members, name: Member(in_state(placed.model, members[name].state), members[name].state)}
        refuse_mistakes(replace(found, members=instead).whole(of), of_needs=name)
    return found
