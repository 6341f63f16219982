"""Sources that have fallen silent become a verdict: who, since when, how many of its requests are missing.

Traffic, and a notice, where nothing else is wrong. Where the mix of that very field has changed this is why, and the
verdict names it; beside anything else it is a second cause.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from schemas.verdicts import Also, Severity, Statistic, Verdict, Word
from streams.core.sources import Silence

SILENT = "silence of a source"


def with_silences(verdict: Verdict, found: Sequence[Silence], field: str) -> Verdict:
    """The verdict with the sources that are silent, which are values of this field."""
    if not found:
        return verdict
    segment = f"{field} is {' or '.join(sorted(one.source for one in found))}"
    of_it = verdict.verdict is Word.DATA and field in (verdict.field or "").split(", ")
    if not verdict.quiet and not of_it:
        more = [Also(Word.TRAFFIC, f"{field} {one.source}") for one in found]
        return replace(verdict, also=[*verdict.also, *more])
    effect = "; ".join(map(_effect, found))
    who = " and ".join(one.source for one in found)
    said = f"{field} {who} {'is' if len(found) == 1 else 'are'} silent: {effect}"
    moved = [Statistic(SILENT, one.source, one.of_threshold) for one in found]
    evidence = replace(verdict.evidence, moved=[*verdict.evidence.moved, *moved])
    if of_it:
        return replace(
            verdict, segment=segment, confined=True, sentence=f"{verdict.sentence} {said}.", evidence=evidence
        )
    return replace(
        verdict,
        verdict=Word.TRAFFIC,
        severity=Severity.NOTICE,
        segment=segment,
        confined=True,
        effect=effect,
        since_event=min(one.since_event for one in found),
        since_ms=min(one.since_ms for one in found),
        sentence=f"{said}. Look at that producer and at what is before it; others send as ever.",
        evidence=evidence,
    )


def _effect(one: Silence) -> str:
    return (
        f"none of the last {one.events:,} requests ({one.gap_ms / 1e3:,.0f} s), where about {one.expected:,.0f} were "
        f"to be its own and it never was away for more than {one.usual_events:,} ({one.usual_ms / 1e3:,.0f} s)"
    )
