"""Who was entitled, and from when: the history of the roster as spans of log time.

A move counts for requests whose log time is at least its own plus its lead (`schemas.roster.LEAD_MS`). So who may
answer a request is a question of its ticket alone, the same for every role and after any crash, and one can say for
each decision whether its model was entitled. In a partition the boundary is the first ticket with that log time.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from schemas.decisions import Decision
from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline
from schemas.roster import Began, Moved, Noted, State, decode_roster
from streams.core.moves import after
from streams.core.policy_combine import COMBINED
from streams.core.roster import Member, NotOfThisFile, Roster, began

ALWAYS = float("-inf")


@dataclass(frozen=True, slots=True)
class Span:
    """From this log time (ms) on, until the next span's, these are the models, each in its role.

    `passed_over` is the champion's name while it is; its role is that of a shadow then.
    """

    from_ms: float
    pipeline: Pipeline
    passed_over: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the history that counted: its offset, its log time, and when it took effect."""

    position: int
    log_ms: float
    from_ms: float
    record: Began | Moved | Noted


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans in their order; `read` is how many records of the history are in them."""

    spans: tuple[Span, ...]
    read: int = 0

    def place(self, at_ms: float) -> int:
        """Which span a request of this log time belongs to."""
        return max(0, bisect_right(self.spans, at_ms, key=_begin) - 1)

    def at(self, at_ms: float) -> Pipeline:
        """The models of that log time."""
        return self.spans[self.place(at_ms)].pipeline

    def unentitled(self, decision: Decision, at_ms: float) -> str:
        """Why this decision's model was not entitled to answer a request of this log time; empty when it was."""
        pipeline = self.at(at_ms)
        if decision.model is None or (decision.model == COMBINED and decision.combined is not None):
            return ""
        found = next((model for model in pipeline.models if model.name == decision.model), None)
        if found is None:
            return f"{decision.model} was not there"
        if not found.role.answers:
            return f"{decision.model} was a {found.role}"
        return "" if found.version == decision.version else f"{decision.model} was version {found.version}"


def always(pipeline: Pipeline) -> Spans:
    """No roster: the file's models for ever."""
    return Spans((Span(ALWAYS, pipeline),))


class History:
    """The history, folded record by record in the order of its log."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.roster: Roster = began(pipeline)
        self.spans = always(pipeline)
        self.entries: list[Entry] = []
        self.refused: list[tuple[int, str]] = []
        self.quarantined: dict[tuple[str, str], Noted] = {}
        """Whose processes were given up, by name and version, and why."""
        self.foreign: list[tuple[int, str]] = []
        """Those of them that would count by another pipeline file."""
        self.beside: list[tuple[float, tuple[Model, ...]]] = []
        """Which versions scored beside the one of their name that was entitled, from which log time on."""
        self.stood: dict[str, list[tuple[int, Member]]] = {}
        """By name, what each model came to be, and by which record."""
        self.position = -1
        """Of the last record."""
        self._pipeline = pipeline
        self._read = 0

    @property
    def begun(self) -> bool:
        """Whether the roster is kept in the history; before, the pipeline file's models are all there is."""
        return any(isinstance(entry.record, Began) for entry in self.entries)

    def take(self, value: bytes | None, position: int, log_ms: float) -> str:
        """Take the next record; returns why it does not count, empty when it does. It is passed over then."""
        self._read += 1
        self.position = position
        self.spans = Spans(self.spans.spans, self._read)
        try:
            self._take(decode_roster(value), position, log_ms)
        except UnreadableRecord as error:
            self.refused.append((position, str(error)))
            if isinstance(error, NotOfThisFile):
                self.foreign.append((position, str(error)))
            return str(error)
        return ""

    def _take(self, record: Began | Moved | Noted, position: int, log_ms: float) -> None:
        from_ms = log_ms
        if isinstance(record, Noted):
            self.quarantined.pop((record.model, record.version), None)
            if record.quarantined:
                self.quarantined[record.model, record.version] = record
        elif isinstance(record, Began):
            if self.begun:
                raise UnreadableRecord("the roster has begun before")
            self.roster = began(self._pipeline, record)
            self._stand(position)
            from_ms = ALWAYS
            self.spans = Spans((Span(from_ms, self.roster.entitled(self._pipeline)),), self._read)
        else:
            if not self.begun:
                raise UnreadableRecord("the roster has not begun: its first record says who is there")
            self.roster = after(self.roster, record, self._pipeline, log_ms, position)
            self._stand(position)
            if record.after is State.RETIRED or record.before is State.WARMING:  # it has arrived, at whose host ever
                self.quarantined.pop((record.model, record.version), None)
            # In the order of the log, whatever leads they name.
            from_ms = max(self.spans.spans[-1].from_ms, log_ms + record.lead_ms)
            pipeline = self.roster.entitled(self._pipeline)
            if pipeline.models != self.spans.spans[-1].pipeline.models:
                champion = self.roster.champion
                over = champion if self.roster.state(champion) is State.PASSED_OVER else ""
                self.spans = Spans((*self.spans.spans, Span(from_ms, pipeline, over)), self._read)
            beside = tuple(one.model for one in self.roster.beside.values() if one.state is State.SHADOW)
            if beside != (self.beside[-1][1] if self.beside else ()):
                self.beside.append((from_ms, beside))
        self.entries.append(Entry(position, log_ms, from_ms, record))

    def _stand(self, position: int) -> None:
        """Keep what this record has changed."""
        for name, member in self.roster.members.items():
            known = self.stood.setdefault(name, [])
            if not known or known[-1][1] is not member:
                known.append((position, member))


Made = TypeVar("Made")


class PerSpan(Generic[Made]):
    """What is made of each span's pipeline, once, when the first request of that span comes."""

    def __init__(self, spans: Spans, make: Callable[[Pipeline], Made]) -> None:
        self._spans = spans
        self._make = make
        self._made: dict[int, Made] = {}
        self._ends_ms = ALWAYS
        self._begins_ms = ALWAYS
        self._current: Made | None = None

    def follow(self, spans: Spans) -> None:
        """More of the history is known. What was known stays as it was: histories only grow."""
        if spans.read > self._spans.read:
            if spans.spans[: len(self._spans.spans)] != self._spans.spans:
                self._made.clear()  # the file's models were all that was known
            self._spans, self._current = spans, None

    def at(self, at_ms: float) -> Made:
        """What belongs to a request of this log time."""
        if self._current is None or not self._begins_ms <= at_ms < self._ends_ms:
            spans = self._spans.spans
            place = self._spans.place(at_ms)
            self._begins_ms = spans[place].from_ms if place else ALWAYS
            self._ends_ms = spans[place + 1].from_ms if place + 1 < len(spans) else float("inf")
            if place not in self._made:
                self._made[place] = self._make(spans[place].pipeline)
            self._current = self._made[place]
        return self._current

    @property
    def versions(self) -> frozenset[tuple[str, str]]:
        """Every model and version that is in any span: a score may be there before its request was read."""
        return frozenset((model.name, model.version) for span in self._spans.spans for model in span.pipeline.models)


def _begin(span: Span) -> float:
    return span.from_ms
