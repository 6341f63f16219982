"""A window that is closed by time: too few requests for an answer, or so few that this is the news."""

from msgspec.structs import replace

from schemas.verdicts import Severity, Verdict, Word

MANY = 500.0
HALF = 0.5
"""As with the rate of requests that come: less is nobody's trouble."""


def span_of(window_ms: float) -> str:
    """A time as a person says it."""
    return f"{window_ms / 1e3:,.0f} s"


def thin(verdict: Verdict, requests: int, window_ms: float, slowest: tuple[int, float]) -> Verdict:
    """The same, or `traffic` where the slowest stretch of the reference, (requests, ms), lets expect twice as many.

    It has to let expect 500 at least: of fewer, chance may leave half away.
    """
    count, took_ms = slowest
    if verdict.verdict is not Word.TOO_FEW or not took_ms:
        return verdict
    expected = count * window_ms / took_ms
    if expected < MANY or requests > HALF * expected:
        return verdict
    effect = (
        f"{requests:,} requests in {span_of(window_ms)}, where the reference never had fewer than {expected:,.0f}"
    )
    return replace(
        verdict,
        verdict=Word.TRAFFIC,
        severity=Severity.NOTICE,
        effect=effect,
        since_event=verdict.from_event,
        since_ms=verdict.from_ms,
        sentence=f"Hardly anything comes: {effect}. Look at the producers and at what is before them.",
    )
