"""A field's values in decoded events, whatever producers put there: a number, a word, or nothing."""

from math import nan

LARGEST = 1e300
LONGEST = 60
OTHERS = "(others)"
"""The name of all values together that are not told apart: words, segments, sources."""


def value_at(event: object, parts: tuple[str, ...]) -> object:
    """What stands at a path of an event; None when nothing does."""
    for part in parts:
        event = event.get(part) if isinstance(event, dict) else None
    return event


def as_number(value: object) -> float:
    """A number; NaN for anything else, and for what no float64 holds.

    >>> [as_number(2), as_number("2"), as_number(True), as_number(10**400)]
    [2.0, nan, nan, nan]
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return nan
    return float(value)


def as_word(value: object) -> str | None:
    """A word; what is of another type is named by it.

    >>> [as_word("UA"), as_word(True), as_word([]), as_word(None)]
    ['UA', 'true', '(list)', None]
    """
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"({type(value).__name__})"


def printable(text: str) -> str:
    """What a producer or a model said, in one line: an escape sequence in it is no command to a terminal.

    >>> printable("a\\tb\\x1b[2J")
    'a?b?[2J'
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def as_segment(given: object) -> str:
    """A value as the name of a segment or a source.

    It comes from a producer, and goes to people's terminals: what is not printable is not passed on.

    >>> [as_segment(one) for one in ("UA", 1000001, 2.5, True, None, ["a"], "a\\tb", 10**400)]
    ['UA', '1000001', '2.5', 'true', '(none)', '(list)', 'a?b', '(int)']
    """
    if isinstance(given, str):
        return printable(given[:LONGEST])
    if given is None:
        return "(none)"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int) and abs(given) < 10**LONGEST:
        return str(given)
    return f"{given:.15g}" if isinstance(given, float) else f"({type(given).__name__})"
