"""What the monitor said of a range, from the archived `verdicts`, and the moves of models beside it.

The archive alone is read, as by all of a report: it opens where no cluster is, and is the same each time.
"""

from collections import Counter
from pathlib import Path

from msgspec import Struct

from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.roster import Moved, Noted
from schemas.topics import Topics
from schemas.verdicts import Reported, Word, decode_verdict
from streams.archive.ranges import Period, read_period
from streams.core.entitlement import History
from streams.core.overview import Overview
from streams.core.troubles import Span, Trouble, gravity, spans_of, troubles_of, unconfirmed, worst_of

BEFORE_MS = 60_000
"""So far brokers' clocks may be apart: a record is in its log after the requests that it speaks of, by one clock."""

MOST_TROUBLES = 40
"""States that are told one by one, the gravest first."""


class Move(Struct, frozen=True):
    """A change of the roster that counted, by its log time (ms)."""

    at_ms: int
    model: str
    what: str
    who: str
    why: str


class Verdicts(Struct, frozen=True, kw_only=True):
    """All that was said of a range; `words` counts its windows, `doubts` those that nothing confirmed.

    `quiet` is the sentence of the last window that says nothing is wrong, or that there is no answer.
    """

    windows: int
    from_ms: int
    to_ms: int
    words: dict[Word, int]
    doubts: dict[Word, int]
    quiet: str
    spans: list[Span]
    troubles: list[Trouble]
    more_troubles: int
    moves: list[Move]

    @property
    def worst(self) -> Trouble | None:
        """The state to speak of first."""
        return worst_of(self.troubles)


def verdicts_of(root: Path, pipeline: Pipeline, all_: Overview, counts: Counter[str]) -> Verdicts | None:
    """What was said of the requests of an overview; None where no monitor is. What is no verdict is counted."""
    if pipeline.monitor is None:
        return None
    said = _said(root, pipeline, all_, counts)
    troubles = troubles_of(said)
    kept = sorted(troubles, key=gravity, reverse=True)[:MOST_TROUBLES]
    quiet = [one.sentence for one in said if one.quiet]
    return Verdicts(
        windows=len(said),
        from_ms=said[0].from_ms if said else 0,
        to_ms=said[-1].to_ms if said else 0,
        words=dict(Counter(one.verdict for one in said)),
        doubts=dict(unconfirmed(said)),
        quiet=quiet[-1] if quiet else "",
        spans=spans_of(said),
        troubles=[one for one in troubles if one in kept],
        more_troubles=len(troubles) - len(kept),
        moves=_moves(root, pipeline, all_),
    )


def _said(root: Path, pipeline: Pipeline, all_: Overview, counts: Counter[str]) -> list[Reported]:
    """The records on windows that hold requests of the range, in the order of their log."""
    found = []
    for record in read_period(root, Topics(pipeline.name).verdicts, 0, Period(all_.first_ms), BEFORE_MS):
        try:
            one = decode_verdict(record.value)
        except UnreadableRecord:
            counts["records on verdicts that are none"] += 1
            continue
        if one.from_ms <= all_.last_ms and one.to_ms >= all_.first_ms:
            found.append(one)
    return found


def _moves(root: Path, pipeline: Pipeline, all_: Overview) -> list[Move]:
    """Moves of the range; whether one counts, its whole history says."""
    history, found = History(pipeline), list[Move]()
    for record in read_period(root, Topics(pipeline.name).roster_history, 0, Period()):
        refused = history.take(record.value, record.offset, record.timestamp_ms)
        if refused or not all_.first_ms <= record.timestamp_ms <= all_.last_ms:
            continue
        one = history.entries[-1].record
        if isinstance(one, Moved):
            over = f", {one.displaced} -> {one.displaced_to}" if one.displaced else ""
            what = f"{one.before or 'new'} -> {one.after}{over}"
            found.append(Move(record.timestamp_ms, f"{one.model} {one.version}", what, one.who, one.why))
        elif isinstance(one, Noted):
            what = "given up by its supervisor" if one.quarantined else "started again"
            found.append(Move(record.timestamp_ms, f"{one.model} {one.version}", what, one.who, one.why))
    return found
