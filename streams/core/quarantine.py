"""When a scorer is not started again: its model has made it end too often within a window.

Pure: the time (s, of any steady clock) is an argument.
"""

from collections import deque

from schemas.pipeline import Quarantine


class Ends:
    """The ends of one process for which its model is to blame."""

    def __init__(self, rule: Quarantine) -> None:
        self._rule = rule
        self._at_s: deque[float] = deque(maxlen=rule.failures)

    def another(self, at_s: float) -> bool:
        """One more; whether that is enough."""
        self._at_s.append(at_s)
        return len(self._at_s) == self._rule.failures and at_s - self._at_s[0] <= self._rule.within_s
