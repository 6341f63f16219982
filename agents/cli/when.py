"""Instants and ranges as they are written on the command line."""

import re
import time
from datetime import UTC, datetime

import click

from streams.core.replay_order import Span

AGO = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)").fullmatch
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SPAN = re.compile(r"(\d+):(\d*)-(\d*)").fullmatch
FORMS = "2013-07-01T05:00 (UTC unless it says otherwise), milliseconds since 1970, or 2h before now (s, m, h, d, w)"


def instant(text: str, option: str) -> int:
    """Milliseconds since 1970 of a time as people write it; raises UsageError."""
    if text.isdecimal() and len(text) > 8:
        return int(text)
    if found := AGO(text):
        return int(time.time() * 1e3 - float(found[1]) * UNIT_MS[found[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r}: no instant; write {FORMS}") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e3)


def span(text: str) -> Span:
    """Offsets of one partition, `P:START-END`, both included, either left out; raises UsageError."""
    found = SPAN(text)
    if not found:
        raise click.UsageError(f"--offsets {text!r}: write PARTITION:START-END, as 0:100-199, 0:100- or 0:-199")
    return Span(int(found[1]), int(found[2] or 0), int(found[3]) if found[3] else None)
