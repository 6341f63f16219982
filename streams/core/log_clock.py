"""The broker's clock, as far as this process can know it.

A waiting time is measured on the monotonic clock; what ties it to the broker's log times is an offset, kept
inside the bounds that each confirmed record gives: it was appended after it was sent and before its delivery
was reported. A host's wall clock is only ever a first guess; when it is wrong, or jumps, people are told.
"""

ALARM_MS = 1000.0


class LogClock:
    """Turns monotonic milliseconds into broker milliseconds. Reads no clock."""

    def __init__(self, wall_ms: float, monotonic_ms: float) -> None:
        self._offset_ms = wall_ms - monotonic_ms
        self.within_ms = float("inf")
        """How far apart the last record's bounds were: a first guess may be off by so much still."""

    def at_ms(self, monotonic_ms: float) -> float:
        """The broker's time at this moment of the monotonic clock."""
        return monotonic_ms + self._offset_ms

    def confirmed(self, sent_ms: float, reported_ms: float, log_ms: int) -> None:
        """A record sent and reported at these monotonic times was appended at this log time.

        Log times are whole milliseconds, cut off, so the true time is up to 1 ms later.
        """
        lowest, highest = log_ms - reported_ms, log_ms + 1 - sent_ms
        self.within_ms = highest - lowest
        self._offset_ms = min(max(self._offset_ms, lowest), highest)


class ClockAlarm:
    """Compares this host's wall clock with its monotonic clock and with the broker's. Reads no clock."""

    def __init__(self, wall_ms: float, monotonic_ms: float) -> None:
        self._offset_ms = wall_ms - monotonic_ms
        self._skewed = False

    def looked(self, wall_ms: float, monotonic_ms: float, broker_ms: float) -> str:
        """What is to be said now, once for each jump and each beginning of a skew; mostly nothing."""
        jump_ms = wall_ms - monotonic_ms - self._offset_ms
        self._offset_ms += jump_ms
        skew_ms = wall_ms - broker_ms
        before, self._skewed = self._skewed, abs(skew_ms) >= ALARM_MS
        if abs(jump_ms) >= ALARM_MS:
            return f"this host's clock jumped by {jump_ms / 1e3:+,.1f} s: no waiting time depends on it, but mend it"
        if self._skewed and not before:
            return f"this host's clock is {skew_ms / 1e3:+,.1f} s off the broker's: decisions follow the broker's"
        return ""
