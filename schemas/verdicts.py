"""The verdict: what is said about one window of requests, one JSON object per record on `verdicts`."""

from enum import StrEnum

from msgspec import Struct, json

from schemas.decisions import Ticket
from schemas.errors import UNREADABLE, UnreadableRecord


class Word(StrEnum):
    """What changed; each with its sentence."""

    HEALTHY = "healthy"  # nothing moved beyond what the reference's own windows do
    DATA = "data"  # the input changed: a field, or how two fields go together
    CODE = "code"  # one model changed: its file, or feature code of its own
    UPSTREAM = "upstream"  # feature code or a feed shared by models: several of them moved, the raw input did not
    CANARY = "canary"  # the yardstick changed
    TRAFFIC = "traffic"  # only the rate or the latency changed
    UNSURE = "unsure"  # something moved, and the evidence does not say whose it is
    TOO_FEW = "too-few"  # not enough events, or not enough reference, for an answer


QUIET = frozenset((Word.HEALTHY, Word.TOO_FEW))


class Severity(StrEnum):
    """How urgent."""

    NOTICE = "notice"  # somebody should look in working hours
    PAGE = "page"  # answers are wrong now


class Statistic(Struct, frozen=True):
    """One figure of the evidence. `of_threshold` is its size as a multiple of what the reference itself allows."""

    what: str
    of: str
    of_threshold: float


class NotAsTrained(Struct, frozen=True):
    """A field that is not as these models had it in training.

    `effect` is the share of requests from which it differs; `then` and `now` are medians, or shares of `word`.
    """

    field: str
    models: list[str]
    effect: float
    then: float | None
    now: float | None
    word: str = ""


class NotMadeAsTrained(Struct, frozen=True):
    """A library, the file, or a feature of these models that is not as it was in training."""

    what: str
    models: list[str]
    training: str
    production: str


class Share(Struct, frozen=True):
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float


class OfLabels(Struct, frozen=True, kw_only=True):
    """How often one version of a model was right on its last mature day, by the labels that came.

    `before` are its mature days before that (`days_before`, 28 at most), taken as one; None without any. It is
    `worse` when the day's interval lies wholly below theirs.
    """

    model: str
    version: str
    day: str
    labelled: int
    accuracy: Share
    days_before: int
    before: Share | None
    worse: bool


class Evidence(Struct, frozen=True):
    """Which statistics moved, strongest first; and of each kind that did not, the one that came nearest.

    `reference` says what they are held against: which window, and who set it, when; or from where it was learnt.
    `training` are fields that differ from what models were trained on, whatever the verdict: a notice by itself. So
    is `software`: what is not as in training of the libraries, the models' files and their features.
    `replayed` is what the same archived input through the old and the new file of a model has shown.
    `labels` are the last mature days by the labels, of each model and of what was answered (`(decision)`).
    """

    moved: list[Statistic]
    unmoved: list[Statistic]
    probes: str
    reference: str = ""
    training: list[NotAsTrained] = []
    replayed: str = ""
    labels: list[OfLabels] = []
    software: list[NotMadeAsTrained] = []


class Also(Struct, frozen=True):
    """A second cause that the evidence points to."""

    verdict: Word
    subject: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What is said about the events `from_event`..`to_event` (places in the stream, probes not counted).

    It may be said before the window ends (`said_at_event`), when the evidence is clear. Times are event times in
    milliseconds since 1970. `since_*` is where the change began, to a quarter of a window. `segment` is where it is
    largest; when it is `confined`, it lies in that value of a declared field alone. `deploys` are those near
    the beginning, the nearest first: a model that came or went, another version, another champion.
    """

    window: int
    verdict: Word
    severity: Severity | None = None
    sentence: str
    model: str | None = None
    field: str | None = None
    segment: str | None = None
    confined: bool = False
    rescaled: bool = False
    effect: str = ""
    since_event: int | None = None
    since_ms: int | None = None
    from_event: int
    to_event: int
    from_ms: int
    to_ms: int
    said_at_event: int
    said_at_ms: int
    events: int
    probes: int = 0
    evidence: Evidence
    also: list[Also] = []
    deploys: list[str] = []
    notes: list[str] = []

    @property
    def quiet(self) -> bool:
        """Whether nobody needs to be told."""
        return self.verdict in QUIET


class Alarm(StrEnum):
    """What a verdict changes for whoever is told of changes only."""

    RAISED = "raised"  # something is wrong that was not before
    CHANGED = "changed"  # still wrong, and it is another thing, or a more urgent one
    REMINDER = "reminder"  # the same is wrong for a long time
    CLEARED = "cleared"  # all has been quiet for a while


class ModelFigures(Struct, frozen=True, kw_only=True):
    """What one version of a model did since the last record: shares of the requests that it was `asked`.

    `wins` are shares of those decided, by reason. `late` scores came after the deadline; `skipped` were rows that the
    router did not ask it for; what is left to one gave no sign in time. `scores` and `latency_ms` (log time of
    raw to that of the score) are quantiles, these to 5 %. `with_champion` and `with_canary` are shares of
    requests that both scored on one side of the threshold of `[promotion]`. `guarded` counts scores outside its
    bounds when the decision was taken.
    """

    model: str = ""
    version: str = ""
    asked: int
    scored: float
    late: float
    errors: float
    skipped: float
    scores: dict[str, float]
    latency_ms: dict[str, float]
    wins: dict[str, float]
    with_champion: float | None
    with_canary: float | None
    guarded: int


class SegmentFigures(Struct, frozen=True, kw_only=True):
    """What came of those requests since the last record that have one value of a declared field.

    `answers` and `winners` are counts, `models` by "model version", as of all requests.
    """

    requests: int
    answers: dict[str, int]
    winners: dict[str, int]
    models: dict[str, ModelFigures]


class FieldFigures(Struct, frozen=True, kw_only=True):
    """One watched field of the newest `requests`, 1,000 at most and in blocks of 250: shares of these.

    `nulls` are missing, `other_type` are there and not of the field's type, `new` are values that the reference never
    had, `outside` numbers far beyond its range. A number has `quantiles`, a category its most frequent `words`.
    """

    requests: int
    nulls: float
    other_type: float
    new: float
    outside: float
    quantiles: dict[str, float] = {}
    words: dict[str, float] = {}


class SourceFigures(Struct, frozen=True, kw_only=True):
    """The requests of one source since the last record; the longest gap by raw's log times, one that is open too."""

    requests: int
    per_second: float
    longest_gap_s: float | None


class Reported(Verdict, frozen=True, kw_only=True):
    """A verdict of a pipeline that runs, as it lies on `verdicts`.

    Event times are raw's log times. `watch` names the reference by where it begins: numbers of windows and events
    count from there, and one window of one watch has one record. `from_ticket` is the window's first request,
    `said_at_ticket` the last one that was seen, `since_ticket` where the change began. `answers` counts the outcomes
    of the final decisions since the last record, `winners` who gave them (`none`: nobody in time), `models` are the
    figures of each, by "model version", and `segments` all of these by declared field and value (`(others)`:
    beyond the first 20 values), `sources` by the declared source, `fields` those of the newest requests by the
    watched field; probes are in none of them. `alarm` is there when this verdict changes the state that people are
    told of; `alarmed` is the word of that state.
    """

    pipeline: str
    watch: str
    from_ticket: Ticket
    said_at_ticket: Ticket
    since_ticket: Ticket | None = None
    answers: dict[str, int] = {}
    winners: dict[str, int] = {}
    models: dict[str, ModelFigures] = {}
    segments: dict[str, dict[str, SegmentFigures]] = {}
    sources: dict[str, SourceFigures] = {}
    fields: dict[str, FieldFigures] = {}
    alarm: Alarm | None = None
    alarmed: Word | None = None


_encoder = json.Encoder()
_decoder = json.Decoder(Reported)


def encode_verdict(verdict: Reported) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(verdict)


def decode_verdict(value: bytes | None) -> Reported:
    """Read a verdict; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    try:
        return _decoder.decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a verdict: {error}") from error
