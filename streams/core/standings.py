"""What `roster` says of each model; and that held against what its history comes to by the pipeline file of now.

A record of the history counts when its models are those of a pipeline like the file's. Who edits the file may so
change what was moved long ago: the feature that a retired model alone had is gone, its moves count no more, nor do
later ones that start where they ended. Nobody would hear of it but by another champion's answers. `roster` keeps what
the moves came to when they were made, so whoever starts, or moves a model, looks there first.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from schemas.roster import Standing
from streams.core.entitlement import History
from streams.core.roster import Member

MOST = 3
"""Records that are named: the first are those that the others follow from."""


TAKE_BACK = (
    "Take back what was changed in the file (a model that is retired keeps its features), or give the pipeline "
    "another name"
)


def standings(history: History) -> dict[str, Standing]:
    """What the history comes to, by name: all that whoever reads `roster` alone is to know of a model."""
    found = {}
    for name, member in history.roster.members.items():
        other = history.roster.beside.get(name)
        beside = _standing(history, other) if other else None
        found[name] = replace(_standing(history, member), beside=beside)
    return found


def _standing(history: History, member: Member) -> Standing:
    model = member.model
    given_up = history.quarantined.get((model.name, model.version))
    why = given_up.why if given_up else ""
    refused = given_up is not None and given_up.refused
    return Standing(
        model=model.name,
        version=model.version,
        state=member.state,
        file=model.artifact,
        sha256=model.sha256,
        since_ms=int(member.since_ms),
        who=member.who,
        why=member.why,
        position=member.position,
        as_of=history.position,
        quarantine="" if refused else why,
        refused=why if refused else "",
    )


def differing(history: History, standings: Iterable[Standing]) -> str:
    """What is another by the history than it was said to be, in one sentence; empty when nothing is.

    The history must have been read after the standings.
    """
    for told in sorted(standings, key=lambda one: one.position):
        found = _as_of(history, told)
        if found is not None and _same(found, told):
            continue
        now = "it is not there" if found is None else f"{told.model} {found.model.version} is {found.state}"
        foreign = not_counting(history, told.position)
        why = f"; by it {foreign}" if foreign else ""
        return f"{told.model} {told.version} is {told.state}, and by this pipeline file {now}{why}"
    return ""


def not_counting(history: History, until: int | None = None) -> str:
    """The records, to this one, that would count by another pipeline file, in a few words; empty when there are none.

    Who moves a model tries the move by its file first: what is there did count, but for one that lost a race.
    """
    foreign = [f"record {at} ({why})" for at, why in history.foreign if until is None or at <= until]
    return f"these do not count: {', '.join(foreign[:MOST])}" if foreign else ""


def _as_of(history: History, told: Standing) -> Member | None:
    """The model as the history has it where the standing's writer had read it to."""
    stood = history.stood.get(told.model, [])
    if told.as_of < 0:  # written before that was said: anything that it ever was
        return next((member for _, member in stood if _same(member, told)), stood[-1][1] if stood else None)
    return next((member for position, member in reversed(stood) if position <= told.as_of), None)


def _same(member: Member, told: Standing) -> bool:
    return (member.model.version, member.state, member.position) == (told.version, told.state, told.position)
