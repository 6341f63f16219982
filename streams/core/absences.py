"""Models that no longer answer become a verdict: whom it names, how urgent, what to do.

As a page it stands in the place of any verdict but one that probes have given: it is counted, no guess. A notice
stands beside what is no quiet verdict.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from schemas.pipeline import Role
from schemas.verdicts import Also, Severity, Statistic, Verdict, Word
from streams.core.attendance import KINDS, Absence

ERRORS, OUT_OF_BOUNDS, LATENESS, SILENCE = "errors", "scores out of bounds", "lateness", "silence"
COUNTED = frozenset((ERRORS, OUT_OF_BOUNDS, LATENESS, SILENCE))
"""What evidence of this kind is called: it is counted, no statistic that chance may have moved."""

WHAT = {"failed": ERRORS, "guarded": OUT_OF_BOUNDS, "late": LATENESS}
DOES = {
    ERRORS: ("fails", "fail"),
    OUT_OF_BOUNDS: ("scores out of its bounds", "score out of their bounds"),
    LATENESS: ("is late", "are late"),
    SILENCE: ("is silent", "are silent"),
}
"""One model, and several."""

LOOK = {
    ERRORS: "Look at its log: the reason stands in each error",
    OUT_OF_BOUNDS: "Compare its file and its own feature code with the version before",
    LATENESS: "Look at the load, and at what it waits for",
    SILENCE: "Look whether its process runs, and at its log",
}
SHARED = "Look first at what they share: rows, features, machine, load"


def nowhere(_model: str, _kind: str) -> None:
    """Nobody knows."""


def with_absences(
    verdict: Verdict,
    found: Sequence[Absence],
    roles: Mapping[str, Role],
    where: Callable[[str, str], str | None] = nowhere,
) -> Verdict:
    """The verdict with those that no longer answer, by the roles that they have now.

    `where` says in which segment alone answers of a model are missing, by the kind of absence.
    """
    if not found:
        return verdict
    every = sorted(found, key=lambda one: (_severity(one, roles) is not Severity.PAGE, KINDS.index(one.kind)))
    first = every[0]
    told = [one for one in every if _what(one) == _what(first)]
    word = _word(told, roles)
    severity = min((_severity(one, roles) for one in told), key=lambda one: one is not Severity.PAGE)
    also = [Also(_word([one], roles), one.model) for one in every if one not in told]
    known = Also(verdict.verdict, verdict.model or verdict.field or "")
    if not verdict.quiet and (severity is not Severity.PAGE or verdict.evidence.probes.startswith("changed")):
        more = [*(Also(word, one.model) for one in told), *also]
        return replace(verdict, also=[*verdict.also, *(one for one in more if one != known)])
    if not verdict.quiet:
        also = [known, *also]
    what, who = _what(first), " and ".join(one.model for one in told)
    moved = [Statistic(_what(one), one.model, one.of_threshold) for one in told]
    effect = "; ".join(_effect(one, alone=len(told) == 1) for one in told)
    segment = where(first.model, first.kind) if len(told) == 1 else None
    does = DOES[what][len(told) > 1] + (f" only where {segment}" if segment else "")
    over = ", and it is over by now" if all(one.over for one in told) else ""
    return replace(
        verdict,
        verdict=word,
        severity=severity,
        model=", ".join(one.model for one in told),
        field=None,
        segment=segment,
        confined=segment is not None,
        rescaled=False,
        since_event=min(one.since_event for one in told),
        since_ms=min(one.since_ms for one in told),
        effect=effect,
        sentence=f"{who} {does}: {effect}{over}. {LOOK[what] if len(told) == 1 else SHARED}.",
        evidence=replace(verdict.evidence, moved=[*moved, *verdict.evidence.moved]),
        also=also,
        deploys=[],
    )


def _what(one: Absence) -> str:
    return SILENCE if one.silent else WHAT[one.kind]


def _word(told: Sequence[Absence], roles: Mapping[str, Role]) -> Word:
    """Several models that fail at once share the cause; several that are late or silent, or one late, is traffic."""
    if _what(told[0]) == LATENESS or (len(told) > 1 and told[0].silent):
        return Word.TRAFFIC
    if len(told) > 1:
        return Word.UPSTREAM
    return Word.CANARY if roles.get(told[0].model) is Role.CANARY else Word.CODE


def _severity(one: Absence, roles: Mapping[str, Role]) -> Severity:
    """A shadow's trouble is nobody's tonight, and what is over is no reason to get up."""
    return Severity.NOTICE if one.over or roles.get(one.model) is Role.SHADOW else Severity.PAGE


def _effect(one: Absence, *, alone: bool) -> str:
    name = "" if alone else f"{one.model} "
    what = {ERRORS: "an error for", LATENESS: "late or without an answer for", SILENCE: "no answer in time for"}
    said = what.get(_what(one), "out of bounds for")
    usual = f"at most {100 * one.usual:.1f} % of a thousand in the reference"
    return f"{name}{said} {one.count:,} of {one.asked:,} requests it was asked ({100 * one.share:.1f} %; {usual})"
