"""Models that came after a reference was set: they are held against one that is learnt, beside the one that was set.

What a person has set never moves by itself: it goes on judging the models that it has. The watch that has learnt all
of them meanwhile speaks of newcomers only.
"""

import re

from msgspec.structs import replace

from schemas.verdicts import Also, Severity, Verdict
from streams.core.watched import Watched

NUMBERED = re.compile(r"(?<=at event )\d+")


def with_newcomers(verdict: Verdict, judging: Watched, beside: Watched | None, heard: Verdict | None) -> Verdict:
    """The verdict by the reference that was set, with what the watch beside has said last of models that it lacks."""
    if beside is None:
        return verdict
    names = sorted(beside.watch.setting.models.keys() - judging.watch.setting.models.keys())
    verdict = replace(verdict, notes=[*verdict.notes, _held(names, beside)])
    if heard is None or heard.quiet or heard.model is None or not set(heard.model.split(", ")) <= set(names):
        return verdict
    if not verdict.quiet and (verdict.severity is Severity.PAGE or heard.severity is not Severity.PAGE):
        return replace(verdict, also=[*verdict.also, Also(heard.verdict, heard.model)])
    ahead = judging.watch.place - beside.watch.place
    also = [] if verdict.quiet else [Also(verdict.verdict, verdict.model or verdict.field or "")]
    return replace(
        verdict,
        verdict=heard.verdict,
        severity=heard.severity,
        sentence=_counted_on(heard.sentence, ahead),
        model=heard.model,
        field=None,
        segment=heard.segment,
        confined=heard.confined,
        rescaled=heard.rescaled,
        effect=heard.effect,
        since_event=None if heard.since_event is None else heard.since_event + ahead,
        since_ms=heard.since_ms,
        evidence=heard.evidence,
        also=[*also, *heard.also],
        deploys=[_counted_on(one, ahead) for one in heard.deploys],
    )


def _held(names: list[str], beside: Watched) -> str:
    rows = f"{beside.watch.setting.reference_rows:,} requests from {beside.name} on"
    learnt = "learnt" if beside.watch.reference is not None else "which are being learnt"
    return f"{', '.join(names)}: not in the reference that was set; held against {rows}, {learnt}"


def _counted_on(text: str, ahead: int) -> str:
    """Events by the numbers of the watch that judges."""
    return NUMBERED.sub(lambda found: str(int(found[0]) + ahead), text)
