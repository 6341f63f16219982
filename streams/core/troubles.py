"""The monitor's verdicts of a range, as one tells them afterwards: what was wrong, from when until when.

A trouble is a state that people were told of: it begins with the verdict that raised it, and lasts until another one
takes its place or all is well. Everything in it is said by one of the records on `verdicts`. Reads no clock.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise, takewhile

from msgspec import Struct

from schemas.verdicts import Alarm, Reported, Word

MOST_SPANS = 1_000
"""Spans of equal words that are told apart; in a longer range each is a stretch with the gravest of its words."""

TOLD = (Alarm.RAISED, Alarm.CHANGED)
"""What begins a state."""

GRAVEST = (
    Word.CODE,
    Word.UPSTREAM,
    Word.DATA,
    Word.CANARY,
    Word.TRAFFIC,
    Word.UNSURE,
    Word.HEALTHY,
    Word.TOO_FEW,
)
"""Words that page somebody first."""


class Span(Struct, frozen=True):
    """Windows in a row that have the same word, by the log times of their requests (ms)."""

    from_ms: int
    to_ms: int
    word: Word
    windows: int


class Trouble(Struct, frozen=True, kw_only=True):
    """One state. `shown` is the verdict in which it showed most; times are log times of requests (ms).

    `told_ms` is when people heard of it, as far as that lies in the range; `windows` say its word, the last of them
    up to `last_ms`; it still `lasts` when nothing has taken its place in the range.
    """

    shown: Reported
    told_ms: int | None
    windows: int
    last_ms: int
    lasts: bool


def spans_of(verdicts: Sequence[Reported], most: int = MOST_SPANS) -> list[Span]:
    """What was said over time: runs of equal words, at most so many. One run ends where the next window begins."""
    ends = [_end(one, following) for one, following in pairwise([*verdicts, None]) if one is not None]
    told = list(zip(verdicts, ends, strict=True))
    runs = [list(run) for _, run in groupby(told, key=lambda pair: pair[0].verdict)]
    if len(runs) > most:
        size = -(-len(told) // most)
        runs = [told[start : start + size] for start in range(0, len(told), size)]
    return [
        Span(run[0][0].from_ms, run[-1][1], min((one.verdict for one, _ in run), key=GRAVEST.index), len(run))
        for run in runs
    ]


def _end(verdict: Reported, following: Reported | None) -> int:
    """A window that was judged early reaches to the next one of its watch."""
    if following is None or following.watch != verdict.watch:
        return verdict.to_ms
    return max(verdict.to_ms, following.from_ms)


def troubles_of(verdicts: Sequence[Reported]) -> list[Trouble]:
    """Every state that people were told of, in the order in which they were."""
    states: list[list[Reported]] = []
    before: Reported | None = None
    for place, one in enumerate(verdicts):
        if one.alarmed is not None:
            if before is None or before.alarmed is None or one.alarm in TOLD:
                states.append(_said_before(verdicts[:place], one))
            states[-1].append(one)
        before = one
    found = [_trouble(state, lasts=state[-1] is verdicts[-1]) for state in states]
    return [one for one in found if one is not None]


def _said_before(verdicts: Sequence[Reported], told: Reported) -> list[Reported]:
    """The windows just before that said the same already, and were not confirmed yet."""
    same = list(takewhile(lambda one: (one.verdict, one.model) == (told.verdict, told.model), reversed(verdicts)))
    return same[::-1] if told.alarm in TOLD else []


def _trouble(state: Sequence[Reported], *, lasts: bool) -> Trouble | None:
    """None when all windows of its word lie before the range."""
    word = state[-1].alarmed
    told = next((one for one in state if one.alarm in TOLD and one.alarmed == word), None)
    own = [one for one in state if one.verdict == word and (told is None or one.model == told.model)]
    if not own:
        return None
    return Trouble(
        shown=max(own, key=_weight),
        told_ms=None if told is None else told.said_at_ms,
        windows=len(own),
        last_ms=own[-1].to_ms,
        lasts=lasts,
    )


def _weight(verdict: Reported) -> tuple[bool, bool, float]:
    """What has been confirmed before what was not, what probes speak of before what they do not, the largest last."""
    evidence = verdict.evidence
    size = max((abs(one.of_threshold) for one in evidence.moved), default=0.0)
    return verdict.alarmed == verdict.verdict, evidence.probes != "none", size


def worst_of(troubles: Sequence[Trouble]) -> Trouble | None:
    """The one to speak of first: by its word, then the longest."""
    return max(troubles, key=gravity, default=None)


def gravity(trouble: Trouble) -> tuple[int, int]:
    """By what troubles are compared."""
    return -GRAVEST.index(trouble.shown.verdict), trouble.windows


def unconfirmed(verdicts: Sequence[Reported]) -> Counter[Word]:
    """Windows that say something is wrong while people know of nothing: doubts that the next ones did not confirm."""
    return Counter(one.verdict for one in verdicts if not one.quiet and one.alarmed is None)
