"""A verdict as a person reads it: one line."""

import math
from datetime import UTC, datetime

from schemas.verdicts import Reported, Verdict

SHOWN = 3
"""Fields that differ from training, the largest first; JSON has all."""


def line_of(verdict: Verdict) -> str:
    """A verdict as a person reads it."""
    at = (
        datetime.fromtimestamp(verdict.said_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        if _dated(verdict)
        else "-"
    )
    severity = f" {verdict.severity}" if verdict.severity else ""
    since = ""
    if isinstance(verdict, Reported) and verdict.since_ticket is not None:
        since = f" Since {verdict.since_ticket}."
    elif verdict.since_event is not None:
        since = f" Since event {verdict.since_event:,}."
    also = "".join(f" Also {one.verdict}: {one.subject}." for one in verdict.also)
    notes = f" ({'; '.join(verdict.notes)})" if verdict.notes else ""
    other = (
        ""
        if verdict.quiet
        else "".join(
            f" Not as in training of {', '.join(one.models)}: {one.field} ({one.effect:.0%} of requests apart)."
            for one in verdict.evidence.training[:SHOWN]
        )
    )
    alarm = f" [{verdict.alarm}]" if isinstance(verdict, Reported) and verdict.alarm else ""
    return (
        f"{verdict.window:>5} {at} {verdict.verdict}{severity}: {verdict.sentence}{since}{also}{other}{notes}{alarm}"
    )


def _dated(verdict: Verdict) -> bool:
    return math.isfinite(verdict.said_at_ms) and 0 <= verdict.said_at_ms < 253_402_300_800_000
