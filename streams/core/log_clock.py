"""The broker's clock, as far as this process can know it.

A waiting time is measured on the monotonic clock; what ties it to the broker's log times is an offset, kept
inside the bounds that each confirmed record gives: it was appended after it was sent and before its delivery
was reported.
"""


class LogClock:
    """Turns monotonic milliseconds into broker milliseconds. Reads no clock."""

    def __init__(self, wall_ms: float, monotonic_ms: float) -> None:
        self._offset_ms = wall_ms - monotonic_ms
        self._wall_offset_ms = self._offset_ms

    def at_ms(self, monotonic_ms: float) -> float:
        """The broker's time at this moment of the monotonic clock."""
        return monotonic_ms + self._offset_ms

    def confirmed(self, sent_ms: float, reported_ms: float, log_ms: int) -> None:
        """A record sent and reported at these monotonic times was appended at this log time.

        Log times are whole milliseconds, cut off, so the true time is up to 1 ms later.
        """
        lowest, highest = log_ms - reported_ms, log_ms + 1 - sent_ms
        self._offset_ms = min(max(self._offset_ms, lowest), highest)

    @property
    def skew_ms(self) -> float:
        """How far the broker's clock is ahead of this host's wall clock, as it was at the start."""
        return self._offset_ms - self._wall_offset_ms
