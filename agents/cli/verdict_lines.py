"""A verdict as a person reads it: one line."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from schemas.verdicts import FieldFigures, ModelFigures, Reported, Verdict

SHOWN = 3
"""Fields that differ from training, the largest first, and of software as many; JSON has all."""


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
        + "".join(
            f" Not as in training of {', '.join(one.models)}: {one.what} is {one.production}, was {one.training}."
            for one in verdict.evidence.software[:SHOWN]
        )
    )
    proof = f" Replayed: {verdict.evidence.replayed}." if verdict.evidence.replayed else ""
    alarm = f" [{verdict.alarm}]" if isinstance(verdict, Reported) and verdict.alarm else ""
    said = f"{verdict.sentence}{since}{also}{other}{proof}{notes}{alarm}"
    return f"{verdict.window:>5} {at} {verdict.verdict}{severity}: {said}"


def lines_of_models(models: Mapping[str, ModelFigures], indent: int = 6) -> list[str]:
    """What each model did since the record before."""
    return [f"{' ' * indent}{name}: {_of_model(one)}" for name, one in models.items()]


def lines_of_segments(verdict: Reported, field: str) -> list[str]:
    """The same by the values of a declared field, the most frequent first."""
    found = []
    for value, one in verdict.segments.get(field, {}).items():
        shares = ", ".join(f"{count / one.requests:.1%} {outcome}" for outcome, count in one.answers.items())
        found += [f"      {field} {value}: {one.requests:,} requests, {shares}", *lines_of_models(one.models, 8)]
    return found


def lines_of_fields(fields: Mapping[str, FieldFigures]) -> list[str]:
    """What each watched field of the newest requests was."""
    return [f"      {name}: {_of_field(one)}" for name, one in fields.items()]


def _of_field(one: FieldFigures) -> str:
    strange = (
        ("missing", one.nulls),
        ("of another type", one.other_type),
        ("new", one.new),
        ("far outside", one.outside),
    )
    said = [f"{share:.1%} {what}" for what, share in strange if share]
    if one.quantiles:
        of = one.quantiles
        said.append(f"{of['p5']:.4g} to {of['p95']:.4g}, median {of['p50']:.4g}")
    said += [", ".join(f"{word} {share:.1%}" for word, share in one.words.items())] if one.words else []
    return f"{'; '.join(said) or 'nothing'} ({one.requests:,} requests)"


def _of_model(one: ModelFigures) -> str:
    said = [f"scored {one.scored:.1%} of {one.asked:,}"]
    said += [f"{what} {share:.1%}" for what in ("late", "errors", "skipped") if (share := getattr(one, what))]
    if one.scores:
        said.append(f"scores {one.scores['p5']:.4g} to {one.scores['p95']:.4g}, median {one.scores['p50']:.4g}")
    if one.latency_ms:
        said.append(", ".join(f"{name} {ms:.0f}" for name, ms in one.latency_ms.items()) + " ms")
    said += [f"won {share:.1%} {why}" for why, share in one.wins.items()]
    for what, share in (("champion", one.with_champion), ("canary", one.with_canary)):
        said += [f"with the {what} on {share:.1%}"] if share is not None else []
    said += [f"{one.guarded:,} outside its bounds"] if one.guarded else []
    return "; ".join(said)


def _dated(verdict: Verdict) -> bool:
    return math.isfinite(verdict.said_at_ms) and 0 <= verdict.said_at_ms < 253_402_300_800_000
