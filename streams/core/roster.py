"""The roster: what each model is for, and which moves are lawful from there.

A pure value. Moves are taken in the order of their log, so of two operators who move the same model at once the later
is refused, by everybody who reads: each move names the state it starts from, and a promotion whom it displaces.
There is one champion at any time, which may be passed over for a while. A canary is never promoted, and stopped only
by force. A name has one version that is entitled, and for a while another beside it, which scores the same rows and
never answers: it takes over by a move, and the one before it stays beside, so that this can be taken back at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec.structs import replace as with_changes

from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline, PolicyKind, Role
from schemas.roster import Began, Moved, State, model_of
from streams.core.mistakes import Mistake
from streams.core.needs_checks import KEY as NEEDS
from streams.core.pipeline_checks import mistakes_of
from streams.core.policy_branches import answering_in

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

FIRST = (State.CHAMPION, State.PASSED_OVER)

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

NOTHING_TO_UNDO = "no promotion is there to take back: this is the champion the roster began with"

HOW_IT_RUNS = frozenset(
    {
        "name",
        "version",
        "role",
        "artifact",
        "expired",
        "wire",
        "timeout_ms",
        "memory_mb",
        "nice",
        "threads",
        "instances",
    }
)
"""Fields of a model that do not change what it scores; its file is known by the sha256."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model as it stands; `position` is that of the record that put it there."""

    model: Model
    state: State
    since_ms: float = 0.0
    who: str = ""
    why: str = "in the pipeline file"
    position: int = -1


@dataclass(frozen=True, slots=True)
class Promotion:
    """Who became the champion, from which state, and whom they displaced; or which version took over from which."""

    model: str
    before: State
    displaced: str
    version: str = ""
    replaced: str = ""


@dataclass(frozen=True, slots=True)
class Roster:
    """Every model by name, retired ones too, in the order of their coming."""

    members: Mapping[str, Member]
    promotions: tuple[Promotion, ...] = ()
    artifacts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """What each version of a name was made of: a version never means two files."""
    beside: Mapping[str, Member] = field(default_factory=dict)
    """By name, the other version of it."""

    @property
    def champion(self) -> str:
        """The first choice, passed over or not."""
        return next(name for name, member in self.members.items() if member.state in FIRST)

    def state(self, name: str) -> State | None:
        """Where a model is; None when there never was one of this name."""
        member = self.members.get(name)
        return member.state if member else None

    def entitled(self, of: Pipeline) -> Pipeline:
        """The pipeline with the models that are asked now, each in its role."""
        return with_changes(of, models=tuple(member.model for member in self._asked()))

    def whole(self, of: Pipeline) -> Pipeline:
        """The pipeline as it is when its champion is well: what must be right of a pipeline."""
        models = [_as(m.model, State.CHAMPION) if m.state in FIRST else m.model for m in self._asked()]
        return with_changes(of, models=tuple(models))

    def _asked(self) -> list[Member]:
        return [member for member in self.members.values() if member.state.role is not None]

    def scored(self) -> tuple[Model, ...]:
        """The models that need a process: all that are not retired, and score or are given others' scores."""
        return tuple(
            member.model
            for member in self.members.values()
            if member.state is not State.RETIRED and (member.state is not State.DECOY or member.model.needs)
        )

    def others(self) -> tuple[Model, ...]:
        """The models beside one of their name: each needs a process too, and is given that one's rows."""
        return tuple(member.model for member in self.beside.values())

    def of(self, name: str, version: str) -> Member | None:
        """One version of a name, entitled or beside; None where it is neither."""
        for member in (self.members.get(name), self.beside.get(name)):
            if member is not None and member.model.version == version:
                return member
        return None


def began(of: Pipeline, record: Began | None = None) -> Roster:
    """The roster as it begins: by the pipeline file, or by the record that has kept it.

    Raises UnreadableRecord when the record's models are not those of a pipeline like this one.
    """
    if record is None:
        models = of.models
    else:
        models = tuple(model_of(entry, _role_in(entry)) for entry in record.models)
        _refuse_mistakes(with_changes(of, models=models))
    members = {model.name: _at_first(model, record) for model in models}
    return Roster(members, (), {(model.name, model.version): _made_of(model) for model in models})


def after(roster: Roster, move: Moved, of: Pipeline, at_ms: float, position: int) -> Roster:
    """The roster once this move counts; raises UnreadableRecord with the reason when it may not."""
    if reason := refusal(roster, move):
        raise UnreadableRecord(reason)
    placed = Member(_moved_model(roster, move), move.after, at_ms, move.who, move.why, position)
    if is_beside(roster, move):
        return _moved_beside(roster, move, placed, of)
    members = {**roster.members, move.model: placed}
    promotions, artifacts = roster.promotions, roster.artifacts
    if move.definition is not None:
        artifacts = {**artifacts, (move.model, move.version): _made_of(placed.model)}
    if move.displaced and move.displaced_to is not None:
        old = roster.members[move.displaced]
        why = f"{move.model} is the champion: {move.why}"
        members[move.displaced] = Member(
            _as(old.model, move.displaced_to), move.displaced_to, at_ms, move.who, why, position
        )
        if move.undoes:
            promotions = promotions[:-1]
        else:
            promotions = (*promotions, Promotion(move.model, move.before or State.SHADOW, move.displaced))
    found = replace(roster, members=members, promotions=promotions, artifacts=artifacts)
    if placed.state is not State.RETIRED:
        checked = _checked(found, of, placed.model)
        _refuse_mistakes(checked, of_needs=placed.model.name if move.definition is not None else "")
    _refuse_too_few(found.entitled(of))
    return found


def refusal(roster: Roster, move: Moved) -> str:
    """Why a move may not be made from here; empty when it may."""
    if is_beside(roster, move):
        return _refused_beside(roster, move)
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


def is_beside(roster: Roster, move: Moved) -> bool:
    """Whether a move is one of another version than that which a name has."""
    member = roster.members.get(move.model)
    return member is not None and member.state is not State.RETIRED and member.model.version != move.version


def _refused_beside(roster: Roster, move: Moved) -> str:
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
    if reason := _refused_definition(roster, move):
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
    last = roster.promotions[-1] if roster.promotions else None
    if move.undoes and (last is None or (last.model, last.replaced) != (move.model, move.version)):
        return f"the last promotion is not one over {what}: somebody else was first"
    return ""


def place_of(member: Member) -> State:
    """The state in which a version takes over from this one: a champion's place is one, though it is not well."""
    return State.CHAMPION if member.state in FIRST else member.state


def _moved_beside(roster: Roster, move: Moved, placed: Member, of: Pipeline) -> Roster:
    """The roster once another version has come, gone on, gone, or taken over."""
    name, beside, artifacts = move.model, dict(roster.beside), roster.artifacts
    members, promotions = roster.members, roster.promotions
    if move.definition is not None:
        artifacts = {**artifacts, (name, move.version): _made_of(placed.model)}
    if move.replaces:
        old = members[name]
        why = f"{move.version} is in its place: {move.why}"
        beside[name] = Member(
            _as(old.model, State.SHADOW), State.SHADOW, placed.since_ms, move.who, why, placed.position
        )
        members = {**members, name: placed}
        one = Promotion(name, State.SHADOW, name, move.version, move.replaces)
        promotions = promotions[:-1] if move.undoes else (*promotions, one)
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
        instead = {**members, name: Member(_as(placed.model, members[name].state), members[name].state)}
        _refuse_mistakes(replace(found, members=instead).whole(of), of_needs=name)
    return found


def _refused_rollback(roster: Roster, move: Moved) -> str:
    if not roster.promotions:
        return NOTHING_TO_UNDO
    last = roster.promotions[-1]
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


def _refused_entry(roster: Roster, move: Moved) -> str:
    if move.after is not State.STAGED or move.definition is None:
        return f"{move.model} is {move.before or 'new'}: it is to be staged first, with its definition"
    if move.displaced or move.displaced_to or move.undoes or move.replaces:
        return f"{move.model} is staged: nobody makes room for that"
    return _refused_definition(roster, move)


def _refused_definition(roster: Roster, move: Moved) -> str:
    if move.after is not State.STAGED or move.definition is None:
        return f"{move.model} {move.version} is new: it is to be staged first, with its definition"
    try:
        model = model_of(move.definition, Role.SHADOW)
    except UnreadableRecord as error:
        return f"{move.model}: {error}"
    if (model.name, model.version) != (move.model, move.version):
        return f"{move.model} {move.version}: its definition is that of {model.name} {model.version}"
    if roster.artifacts.get((model.name, model.version), _made_of(model)) != _made_of(model):
        return f"{move.model} {move.version} was another model before: give this one a version of its own"
    return ""


def _unlawful(name: str, now: State, wanted: State) -> str:
    if now is State.CANARY:
        return f"{name} is the canary, the yardstick: it is never {wanted}. Add it anew under another name"
    if now in FIRST:
        return f"{name} is the champion: promote another, and it makes room"
    ways = ", ".join(NEXT[now])
    return f"{name} is {now}: from there it may become {ways}, not {wanted}"


def _moved_model(roster: Roster, move: Moved) -> Model:
    if move.definition is not None and move.after is State.STAGED:
        return model_of(move.definition, Role.SHADOW)
    member = roster.of(move.model, move.version) or roster.members[move.model]
    return _as(member.model, move.after)


def _as(model: Model, state: State) -> Model:
    """The model in the role of this state; one that is not asked would be a shadow."""
    return with_changes(model, role=state.role or Role.SHADOW)


def _made_of(model: Model) -> str:
    """What its scores depend on; how it is run and what for may change."""
    return "|".join(f"{name}={getattr(model, name)}" for name in model.__struct_fields__ if name not in HOW_IT_RUNS)


def _at_first(model: Model, record: Began | None) -> Member:
    state = State(model.role.value)
    return Member(model, state) if record is None else Member(model, state, 0.0, record.who, record.why, 0)


def _role_in(entry: Mapping[str, object]) -> Role:
    try:
        return Role(str(entry.get("role")))
    except ValueError as error:
        raise UnreadableRecord(f"no model of this program: {error}") from error


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
        raise UnreadableRecord(f"{left} models would be left to combine, and the policy needs {policy.least}")


def mistakes_in_models(found: Pipeline, of_needs: str) -> list[Mistake]:
    """What is wrong with a pipeline but for its policy, which may name models that are retired since.

    So may what models need, but for one that enters: `of_needs`.
    """
    own = f"{NEEDS} ({of_needs})"
    return [
        mistake
        for mistake in mistakes_of(found)
        if not mistake.key.startswith("policy.") and (not mistake.key.startswith(NEEDS) or mistake.key == own)
    ]


def _refuse_mistakes(found: Pipeline, of_needs: str = "") -> None:
    if mistakes := mistakes_in_models(found, of_needs):
        raise UnreadableRecord("; ".join(map(str, mistakes)))
