"""Pace: wake at once when idle; when busy, at most once every few milliseconds.

A broker's CPU goes per request, not per record, and a loop that wakes for every record makes one request for
each. The pause grows with the load by itself: it is proportional to the rate, up to a bound.
"""


class Pace:
    """How long to wait before the next pass. Reads no clock."""

    def __init__(self, per_thousand_ms: float = 1.0, max_ms: float = 4.0, memory_s: float = 0.2) -> None:
        self._per_record_s2 = per_thousand_ms / 1e6
        self._max_s = max_ms / 1e3
        self._memory_s = memory_s
        self._rate = 0.0
        self._last_s: float | None = None

    @property
    def rate(self) -> float:
        """Records per second, smoothed over the memory."""
        return self._rate

    def pause_s(self, records: int, now_s: float) -> float:
        """After a pass that gave so many records: seconds to leave the broker alone, from the pass's start."""
        last_s, self._last_s = self._last_s, now_s
        if last_s is None:
            return 0.0
        elapsed_s = max(now_s - last_s, 1e-4)
        weight = min(1.0, elapsed_s / self._memory_s)
        self._rate += weight * (records / elapsed_s - self._rate)
        return min(self._max_s, self._rate * self._per_record_s2)
