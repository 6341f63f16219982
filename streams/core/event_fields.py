"""A field's values in decoded events, whatever producers put there: a number, a word, or nothing."""

from math import nan


def value_at(event: object, parts: tuple[str, ...]) -> object:
    """What stands at a path of an event; None when nothing does."""
    for part in parts:
        event = event.get(part) if isinstance(event, dict) else None
    return event


def as_number(value: object) -> float:
    """A number; NaN for anything else.

    >>> [as_number(2), as_number("2"), as_number(True)]
    [2.0, nan, nan]
    """
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan


def as_word(value: object) -> str | None:
    """A word; what is of another type is named by it.

    >>> [as_word("UA"), as_word(True), as_word([]), as_word(None)]
    ['UA', 'true', '(list)', None]
    """
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"({type(value).__name__})"
