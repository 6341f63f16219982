"""Moves of the roster: which are lawful from where it is, and what it comes to.

Moves are taken in the order of their log, so of two operators who move the same model at once the later is refused,
by everybody who reads: each move names the state it starts from, and a promotion whom it displaces. A canary is never
promoted, and stopped only by force.
"""

from collections.abc import Mapping
from dataclasses import replace

from msgspec.structs import replace as with_changes

from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline, PolicyKind
from schemas.roster import Moved, State
from streams.core.beside import is_beside, moved_beside, refused_beside
from streams.core.policy_branches import answering_in
from streams.core.roster import (
    FIRST,
    Member,
    NotOfThisFile,
    Promotion,
    Roster,
    in_state,
    made_of,
    moved_model,
    refuse_mistakes,
    refused_definition,
)

NEXT: Mapping[State, tuple[State, ...]] = {
    State.STAGED: (State.WARMING, State.RETIRED),
    State.WARMING: (State.SHADOW, State.RETIRED),
    State.SHADOW: (State.CHALLENGER, State.CHAMPION, State.CANARY, State.RETIRED),
    State.CHALLENGER: (State.CHAMPION, State.SHADOW, State.RETIRED),
    State.CHAMPION: (State.PASSED_OVER,),  # and it makes room when another is promoted
    State.PASSED_OVER: (State.CHAMPION,),
    State.CANARY: (State.RETIRED,),
    State.DECOY: (State.RETIRED,),
    State.RETIRED: (State.STAGED,),
}
"""The moves that a model may make by itself."""

NOTHING_TO_UNDO = "no promotion is there to take back: this is the champion the roster began with"


def after(roster: Roster, move: Moved, of: Pipeline, at_ms: float, position: int) -> Roster:
    """The roster once this move counts; raises UnreadableRecord with the reason when it may not."""
    if reason := refusal(roster, move):
        raise UnreadableRecord(reason)
    placed = Member(moved_model(roster, move), move.after, at_ms, move.who, move.why, position)
    if is_beside(roster, move):
        return moved_beside(roster, move, placed, of)
    members = {**roster.members, move.model: placed}
    promotions, artifacts = roster.promotions, roster.artifacts
    if move.definition is not None:
        artifacts = {**artifacts, (move.model, move.version): made_of(placed.model)}
    if move.displaced and move.displaced_to is not None:
        old = roster.members[move.displaced]
        why = f"{move.model} is the champion: {move.why}"
        members[move.displaced] = Member(
            in_state(old.model, move.displaced_to), move.displaced_to, at_ms, move.who, why, position
        )
        if move.undoes:
            promotions = roster.but_last_over
        else:
            promotions = (*promotions, Promotion(move.model, move.before or State.SHADOW, move.displaced))
    elif move.after is State.CHALLENGER:
        promotions = (*promotions, Promotion(move.model, move.before or State.SHADOW, ""))
    elif move.before is State.CHALLENGER:  # it stands in the schedule no more
        promotions = tuple(one for one in promotions if one.displaced or one.model != move.model)
    found = replace(roster, members=members, promotions=promotions, artifacts=artifacts)
    if placed.state is not State.RETIRED:
        checked = _checked(found, of, placed.model)
        refuse_mistakes(checked, of_needs=placed.model.name if move.definition is not None else "")
    _refuse_too_few(found.entitled(of))
    return found


def refusal(roster: Roster, move: Moved) -> str:
    """Why a move may not be made from here; empty when it may."""
    if is_beside(roster, move):
        return refused_beside(roster, move)
    now = roster.state(move.model)
    if now is not move.before:
        is_now = "not there" if now is None else now
        return f"{move.model} is {is_now}, not {move.before or 'new'}: somebody else was first. Look, and move again"
    if now is None or now is State.RETIRED:
        return _refused_entry(roster, move)
    if move.after is State.STAGED:
        return f"{move.model} {move.version} is {now}: give this one a version, or a name, of its own"
    if move.replaces:
        return f"{move.model} {move.version} is {now}: it replaces nobody"
    own = roster.members[move.model].model.version
    if own != move.version:
        return f"{move.model} is version {own}, not {move.version}: somebody else was first. Look, and move again"
    if move.after is State.RETIRED and move.model in roster.beside:
        other = roster.beside[move.model].model.version
        return f"{move.model} {other} is beside it: retire that version first"
    if move.undoes:
        return _refused_rollback(roster, move)
    if move.after not in NEXT[now]:
        return _unlawful(move.model, now, move.after)
    promoted = move.after is State.CHAMPION and now is not State.PASSED_OVER
    if promoted and (move.displaced, move.displaced_to) != (roster.champion, State.CHALLENGER):
        return (
            f"the champion is {roster.champion}, not {move.displaced}: somebody else was first. Look, and move again"
        )
    if not promoted and (move.displaced or move.displaced_to):
        return f"{move.model} becomes {move.after}: nobody makes room for that"
    if now is State.CANARY and not move.forced:
        return f"{move.model} is the canary, which runs for ever: it is retired by --force only"
    return ""


def rolled_back(roster: Roster) -> Promotion:
    """The promotion that a rollback takes back; raises UnreadableRecord when there is none."""
    if not roster.promotions:
        raise UnreadableRecord(NOTHING_TO_UNDO)
    return roster.promotions[-1]


def _refused_rollback(roster: Roster, move: Moved) -> str:
    if move.after is State.SHADOW and not move.displaced:
        return _refused_step_back(roster, move)
    last = roster.last_over
    if last is None:
        return NOTHING_TO_UNDO
    if last.replaced:
        return f"the last promotion is that of {last.model} {last.version} over {last.replaced}: somebody was first"
    if (move.model, move.after, move.displaced, move.displaced_to) != (
        last.displaced,
        State.CHAMPION,
        last.model,
        last.before,
    ):
        return f"the last promotion is that of {last.model} over {last.displaced}: somebody else was first"
    if move.before not in (State.CHALLENGER, State.SHADOW):
        return f"{move.model} is {move.before}: it cannot be the champion again. Promote another"
    return ""


def _refused_step_back(roster: Roster, move: Moved) -> str:
    last = roster.promotions[-1] if roster.promotions else None
    if last is None or last.displaced or last.model != move.model:
        return f"the last promotion is not that of {move.model} to challenger: somebody else was first"
    if move.before is not State.CHALLENGER or move.displaced_to:
        return (
            f"{move.model} is {move.before}: it steps back from challenger to shadow, and nobody makes room for that"
        )
    return ""


def _refused_entry(roster: Roster, move: Moved) -> str:
    if move.after is not State.STAGED or move.definition is None:
        return f"{move.model} is {move.before or 'new'}: it is to be staged first, with its definition"
    if move.displaced or move.displaced_to or move.undoes or move.replaces:
        return f"{move.model} is staged: nobody makes room for that"
    return refused_definition(roster, move)


def _unlawful(name: str, now: State, wanted: State) -> str:
    if now is State.CANARY:
        return f"{name} is the canary, the yardstick: it is never {wanted}. Add it anew under another name"
    if now in FIRST:
        return f"{name} is the champion: promote another, or roll its promotion back, and it makes room"
    ways = ", ".join(NEXT[now])
    return f"{name} is {now}: from there it may become {ways}, not {wanted}"


def _checked(roster: Roster, of: Pipeline, model: Model) -> Pipeline:
    """What the pipeline would be with this model at work, without what its policy says of the file's models."""
    whole = roster.whole(of)
    if any(one.name == model.name for one in whole.models):
        return whole
    return with_changes(of, models=(*whole.models, model))


def _refuse_too_few(found: Pipeline) -> None:
    """A combination needs its members; other policies go on with whoever is left, the champion at least."""
    policy, answering = found.policy, answering_in(found)
    left = sum(member.model in answering for member in policy.members) if policy.members else len(answering)
    if policy.kind is PolicyKind.COMBINE and left < policy.least:
        raise NotOfThisFile(f"{left} models would be left to combine, and the policy needs {policy.least}")
