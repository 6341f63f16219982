"""The decision: one explained answer to one request, one JSON object per record."""

from enum import StrEnum
from typing import Literal

from msgspec import Struct, json

from schemas.errors import UNREADABLE, UnreadableRecord


class Outcome(StrEnum):
    """How a request was answered."""

    PREFERRED = "preferred"  # by the champion, or whoever else the policy wants most
    FALLBACK = "fallback"  # by another model, within the policy
    DEFAULT = "default"  # by the pipeline's default: nobody acceptable answered in time
    REJECTED = "rejected"  # not at all: the request could not be read


class Ticket(Struct, frozen=True, order=True, gc=False):
    """A request's address: where its raw record lies. Unique within one life of the topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """`partition/offset`, as the command line takes it."""
        return f"{self.partition}/{self.offset}"


class ScoreSeen(Struct, frozen=True, gc=False):
    """A score that had arrived when the decision was taken.

    `age_ms` is the age of the request when the score was appended: both by the broker's clock.
    """

    score: float
    version: str
    age_ms: int


class TraceStep(Struct, frozen=True, omit_defaults=True, gc=False):
    """One step of a policy: at this age of the request, what came or what time it was, and who was chosen."""

    at_ms: float
    what: str
    chosen: str | None = None


class Decision(Struct, frozen=True, omit_defaults=True, gc=False):
    """The answer. The final decision of a ticket is the first record with `final = true` for it.

    `missing` are the models that were asked and had not answered, `failed` those that answered with an
    error, `not_asked` those the router passed over. `used_ms` is the time from raw's log time to the
    decision, by the rendezvous's clock corrected for skew; `decided_at_ms` is on the same clock.

    Absent unless they say something: `fingerprint` is the hash of key, payload and budget by which a repeat is
    known; `duplicate_of` is the ticket whose answer this repeat was given; `recovered` means decided after a
    restart, as of the time at which it should have been, `late_by_ms` after its deadline; `standby` that
    the owner had not answered in time; `guarded` are models whose score was outside its bounds and could not win;
    `branch` is the way the policy took for this request: its cohort's model, or the rule that held; `combined` are
    the weights of the scores that the answer was made of; `trace` is what a request with the header `diagnostics: 1`
    is told; `probe` marks the answer to one of the monitor's own requests, which nobody else waits for; `needs` says
    whose scores were part of the input of which models.
    """

    request_id: str
    ticket: Ticket
    outcome: Outcome
    final: bool
    revision: int
    model: str | None
    version: str | None
    score: float | None
    scores: dict[str, ScoreSeen]
    missing: list[str]
    failed: dict[str, str]
    not_asked: dict[str, str]
    budget_ms: int
    used_ms: float
    decided_at_ms: int
    reason: str
    fingerprint: str = ""
    duplicate_of: Ticket | None = None
    recovered: bool = False
    late_by_ms: float = 0.0
    standby: bool = False
    guarded: dict[str, str] | None = None
    branch: str | None = None
    combined: dict[str, float] | None = None
    trace: list[TraceStep] | None = None
    probe: bool = False
    needs: dict[str, tuple[str, ...]] | None = None


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """What a checker of many decisions needs of each: the same record, its outcome as plain text, read faster."""

    ticket: Ticket
    outcome: Literal["preferred", "fallback", "default", "rejected"]
    final: bool
    model: str | None
    version: str | None
    score: float | None
    budget_ms: int
    duplicate_of: Ticket | None = None
    recovered: bool = False
    standby: bool = False
    probe: bool = False


_encoder = json.Encoder()
_decoder = json.Decoder(Decision)
_answer_decoder = json.Decoder(Answer)


def encode_decision(decision: Decision) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(decision)


def decode_decision(value: bytes) -> Decision:
    """Read a decision; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    try:
        return _decoder.decode(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a decision: {error}") from error


def decode_answer(value: bytes) -> Answer:
    """Read what a checker needs of a decision; raises UnreadableRecord when it is none."""
    try:
        return _answer_decoder.decode(value)
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a decision: {error}") from error
