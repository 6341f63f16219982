"""The records of the roster: what each model is for, every move that made it so, and what else befell it.

`roster-history` holds the moves, in the order in which they count; it is never compacted, because of two moves from
one state the first counts, and compaction would keep the last. `roster` says what they come to, one record a model.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, convert, field, json, to_builtins
from msgspec.structs import fields

from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import Model, Role

LEAD_MS = 500
"""A move counts for requests whose log time is at least this long after its own: until then all have read it."""

MAX_LEAD_MS = 10_000
MAX_BYTES = 256 << 10
"""Of one record: what is larger is none of ours."""

MORE_THAN_TEXT = "it would write more than text to a terminal"


class State(StrEnum):
    """Where a model is in its life: from its file to its end."""

    STAGED = "staged"  # its file was checked; no process has it yet
    WARMING = "warming"  # a process loads it and scores for practice
    SHADOW = "shadow"  # scores everything, never answers
    CHALLENGER = "challenger"  # answers by the schedule, behind the champion
    CHAMPION = "champion"  # the first choice
    PASSED_OVER = "passed-over"  # the champion while it is not well: scores everything, does not answer
    CANARY = "canary"  # the yardstick: scores everything for ever, never answers
    DECOY = "decoy"  # scores nothing, its topic records what models are given
    RETIRED = "retired"  # is not asked any more; its name is free for another version

    @property
    def role(self) -> Role | None:
        """What it is for while it is asked; None while it is not."""
        if self is State.PASSED_OVER:
            return Role.SHADOW
        return None if self in (State.STAGED, State.WARMING, State.RETIRED) else Role(self.value)


Line = Annotated[str, Meta(max_length=1000)]
"""What a person wrote or a program said, shown on terminals."""


class Began(Struct, frozen=True, kw_only=True, tag_field="kind", tag="began"):
    """The first record: the models of the pipeline file, each in its role."""

    models: tuple[dict[str, Any], ...]
    who: Line
    at_ms: int
    why: Line = ""


class Moved(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="moved"):
    """One model goes from one state to another.

    `before` is None when it is new; then, or when it was retired, `definition` is its entry as the pipeline file
    would have it. A promotion says who made room and what became of that one; `undoes` marks a rollback. `forced`
    are the gates that had said no. `replaces` is the version of the same name in whose place this one comes: that
    stays beside it as this one was. `at_ms` is by the mover's own clock; what counts are log time and `lead_ms`.
    """

    model: Line
    version: Line
    before: State | None = field(name="from")
    after: State = field(name="to")
    who: Line
    at_ms: int
    why: Line = ""
    file: Line = ""
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    definition: dict[str, Any] | None = None
    displaced: Line = ""
    displaced_to: State | None = None
    undoes: bool = False
    replaces: Line = ""
    forced: tuple[Line, ...] = ()
    lead_ms: Annotated[int, Meta(ge=0, le=MAX_LEAD_MS)] = LEAD_MS


class Noted(Struct, frozen=True, kw_only=True, tag_field="kind", tag="noted"):
    """No move: a model's processes are given up by their supervisor (`quarantined`), or started again after that.

    `refused` when they were never at work: what they run by is wrong, their model for one. Its role stays what it is:
    it is asked, and does not answer. Passing it over, or retiring it, is somebody's move.
    """

    model: Line
    version: Line
    quarantined: bool
    who: Line
    at_ms: int
    why: Line = ""
    refused: bool = False


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model is now: the value on `roster`; `position` is the offset of its last move in the history.

    `as_of` is the offset of the last record of the history that its writer had read; -1 where none is said.
    `beside` is the same of the other version of its name, where there is one. `quarantine` says why its processes are
    given up, `refused` why none of them was ever at work; both are empty while it has some, and in records of a
    program that did not say it yet.
    """

    model: str
    version: str
    state: State
    file: str
    sha256: str
    since_ms: int
    who: str
    why: str
    position: int
    as_of: int = -1
    beside: "Standing | None" = None
    quarantine: str = ""
    refused: str = ""


_decoder = json.Decoder(Began | Moved | Noted)
_standing = json.Decoder(Standing)
_encoder = json.Encoder()


def encode_roster(record: Began | Moved | Noted | Standing) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(record)


def decode_roster(value: bytes | None) -> Began | Moved | Noted:
    """Read a record of the history; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    if value is None or len(value) > MAX_BYTES:
        raise UnreadableRecord(f"no record of a roster: {'no value' if value is None else f'{len(value)} bytes'}")
    try:
        record = _decoder.decode(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no record of a roster: {error}") from error
    if not _harmless(record):
        raise UnreadableRecord(f"no record of a roster: {MORE_THAN_TEXT}")
    return record


def decode_standing(value: bytes | None) -> Standing:
    """Read a value of `roster`; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    if value is None or len(value) > MAX_BYTES:
        raise UnreadableRecord("no model's standing")
    try:
        standing = _standing.decode(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no model's standing: {error}") from error
    if not _harmless(standing):
        raise UnreadableRecord(f"no model's standing: {MORE_THAN_TEXT}")
    return standing


def _harmless(record: Began | Moved | Noted | Standing) -> bool:
    return all(said.isprintable() for said in _said(record))


def _said(record: Began | Moved | Noted | Standing) -> tuple[str, ...]:
    if isinstance(record, Standing):
        return record.model, record.version
    if isinstance(record, Began):
        return record.who, record.why
    if isinstance(record, Noted):
        return record.model, record.version, record.who, record.why
    said = (record.model, record.version, record.who, record.why, record.file, record.displaced, record.replaces)
    return (*said, *record.forced)


def move_of(model: Model, before: State | None, to: State, who: str, why: str, at_ms: int, **more: Any) -> Moved:
    """A move of this model. Its sha256 is kept where it is one: a pipeline file may name a file that holds it."""
    return Moved(
        model=model.name,
        version=model.version,
        before=before,
        after=to,
        who=who,
        why=why,
        at_ms=at_ms,
        file=model.artifact,
        sha256=model.sha256 if len(model.sha256) == 64 else "",
        **more,
    )


def definition_of(model: Model) -> dict[str, Any]:
    """A model's entry as it is kept: what it does not say is left out."""
    found: dict[str, Any] = to_builtins(model)
    defaults = {each.name: to_builtins(each.default) for each in fields(Model) if not each.required}
    return {name: value for name, value in found.items() if name not in defaults or value != defaults[name]}


def model_of(definition: Mapping[str, Any], role: Literal["shadow"] | Role) -> Model:
    """The model that an entry describes, in this role; raises UnreadableRecord when it describes none.

    Keys that this version of the program does not know are passed over.
    """
    known = {each.name for each in fields(Model)}
    entry = {name: value for name, value in definition.items() if name in known}
    try:
        return convert({**entry, "role": Role(role).value}, Model)
    except UNREADABLE as error:
        raise UnreadableRecord(f"no model of this program: {error}") from error
