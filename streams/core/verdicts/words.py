"""A verdict: what is said about one window of events, by a closed set of words."""

from enum import StrEnum

from msgspec import Struct


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


class Severity(StrEnum):
    """How urgent."""

    NOTICE = "notice"  # somebody should look in working hours
    PAGE = "page"  # answers are wrong now


SEVERITY = {
    Word.DATA: Severity.NOTICE,
    Word.CODE: Severity.PAGE,
    Word.UPSTREAM: Severity.PAGE,
    Word.CANARY: Severity.NOTICE,  # a canary never answers
    Word.TRAFFIC: Severity.NOTICE,
    Word.UNSURE: Severity.NOTICE,
}
QUIET = frozenset((Word.HEALTHY, Word.TOO_FEW))


class Statistic(Struct, frozen=True):
    """One figure of the evidence. `of_threshold` is its size as a multiple of what the reference itself allows."""

    what: str
    of: str
    of_threshold: float


class Evidence(Struct, frozen=True):
    """Which statistics moved, strongest first; and of each kind that did not, the one that came nearest."""

    moved: list[Statistic]
    unmoved: list[Statistic]
    probes: str


class Also(Struct, frozen=True):
    """A second cause that the evidence points to."""

    verdict: Word
    subject: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What is said about the events `from_event`..`to_event` (places in the stream, probes not counted).

    It may be said before the window ends (`said_at_event`), when the evidence is clear. Times are event times in
    milliseconds since 1970. `since_*` is where the change began, to a quarter of a window.
    """

    window: int
    verdict: Word
    severity: Severity | None = None
    sentence: str
    model: str | None = None
    field: str | None = None
    segment: str | None = None
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
