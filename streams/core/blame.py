"""Why a model has no score of a row that it was asked for: its own fault, that of one it needs, or no time.

An error's reason is text, written by the coupler, the endpoint of a model server, or a program of somebody else. Only
what cannot be the model's own doing is told apart here; every other error is its own.
"""

import re

ERROR, NEEDED, TIMED_OUT, SKIPPED = "error", "needed", "timed out", "skipped"
"""Raised, or answered nonsense; lacks a score that it needs; its server took too long; was not asked."""

FAILED = (ERROR, NEEDED, TIMED_OUT)
"""What lies on `scores` as an error."""

_LACKS_A_SCORE = re.compile(
    r"needs .+?, (which (has no score|was not asked): |whose score did not come in time$)", re.DOTALL
)
_TOO_LATE = ("the server did not answer within ", "no time was left to ask for it")


def blame(reason: str) -> str:
    """Which of the words above an error of a row is.

    >>> blame("raised ValueError('x')"), blame("needs first, which has no score: raised ValueError('x')")
    ('error', 'needed')
    """
    if _LACKS_A_SCORE.match(reason):
        return NEEDED
    return TIMED_OUT if reason.startswith(_TOO_LATE) else ERROR
