"""The roster: what each model is for.

A pure value; the moves from one to the next are `streams.core.moves`. There is one champion at any time, which may be
passed over for a while. A name has one version that is entitled, and for a while another beside it, which scores the
same rows and never answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace as with_changes

from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline, Role
from schemas.roster import Began, Moved, State, model_of
from streams.core.mistakes import Mistake
from streams.core.needs_checks import KEY as NEEDS
from streams.core.pipeline_checks import mistakes_of

FIRST = (State.CHAMPION, State.PASSED_OVER)


class NotOfThisFile(UnreadableRecord):
    """A record that would count by another pipeline file: its models, and this file, make no pipeline."""


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
    """Who became the champion, from which state, and whom they displaced; or which version took over from which.

    Who became a challenger has displaced nobody.
    """

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
    def last_over(self) -> Promotion | None:
        """The last promotion in which somebody made room: those to challenger since then leave it as it was."""
        return next((one for one in reversed(self.promotions) if one.displaced), None)

    @property
    def but_last_over(self) -> tuple[Promotion, ...]:
        """The promotions without that."""
        places = [place for place, one in enumerate(self.promotions) if one.displaced]
        return self.promotions[: places[-1]] + self.promotions[places[-1] + 1 :] if places else self.promotions

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
        models = [in_state(m.model, State.CHAMPION) if m.state in FIRST else m.model for m in self._asked()]
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
        refuse_mistakes(with_changes(of, models=models))
    members = {model.name: _at_first(model, record) for model in models}
    return Roster(members, (), {(model.name, model.version): made_of(model) for model in models})


def moved_model(roster: Roster, move: Moved) -> Model:
    """The model that a move is of, in the role that it moves to."""
    if move.definition is not None and move.after is State.STAGED:
        return model_of(move.definition, Role.SHADOW)
    member = roster.of(move.model, move.version) or roster.members[move.model]
    return in_state(member.model, move.after)


def in_state(model: Model, state: State) -> Model:
    """The model in the role of this state; one that is not asked would be a shadow."""
    return with_changes(model, role=state.role or Role.SHADOW)


def made_of(model: Model) -> str:
    """What its scores depend on; how it is run and what for may change."""
    return "|".join(f"{name}={getattr(model, name)}" for name in model.__struct_fields__ if name not in HOW_IT_RUNS)


def refused_definition(roster: Roster, move: Moved) -> str:
    """Why a model may not enter as it is described; empty when it may."""
    if move.after is not State.STAGED or move.definition is None:
        return f"{move.model} {move.version} is new: it is to be staged first, with its definition"
    try:
        model = model_of(move.definition, Role.SHADOW)
    except UnreadableRecord as error:
        return f"{move.model}: {error}"
    if (model.name, model.version) != (move.model, move.version):
        return f"{move.model} {move.version}: its definition is that of {model.name} {model.version}"
    if roster.artifacts.get((model.name, model.version), made_of(model)) != made_of(model):
        return f"{move.model} {move.version} was another model before: give this one a version of its own"
    return ""


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


def refuse_mistakes(found: Pipeline, of_needs: str = "") -> None:
    """Raises NotOfThisFile with what is wrong with a pipeline's models."""
    if mistakes := mistakes_in_models(found, of_needs):
        raise NotOfThisFile("; ".join(map(str, mistakes)))


def _at_first(model: Model, record: Began | None) -> Member:
    state = State(model.role.value)
    return Member(model, state) if record is None else Member(model, state, 0.0, record.who, record.why, 0)


def _role_in(entry: Mapping[str, object]) -> Role:
    try:
        return Role(str(entry.get("role")))
    except ValueError as error:
        raise UnreadableRecord(f"no model of this program: {error}") from error
