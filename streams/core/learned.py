"""What the labels had taught by when: the tallies as spans of log time, as the roster's history is.

A tally counts for requests whose log time is at least its own plus its lead. So what a bandit knows of a request is a
question of its log time alone, the same for owner and standby, after any crash, and in a backtest.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import UnreadableRecord
from schemas.tallies import Tally, decode_tally

Counts = Mapping[tuple[str, str], tuple[int, int]]
"""How often a model and version was right, and wrong."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Tallies in the order of their log; `read` is how many records there were, those that were none included."""

    begins_ms: tuple[float, ...] = ()
    counts: tuple[Counts, ...] = ()
    last: Tally | None = None
    read: int = 0

    def at(self, at_ms: float) -> Counts:
        """What was known for a request of this log time; nothing before the first tally."""
        place = bisect_right(self.begins_ms, at_ms)
        return self.counts[place - 1] if place else {}

    def after(self, value: bytes | None, log_ms: float) -> "Learned":
        """The same with the log's next record. One that is no tally, as a stranger may send it, changes nothing."""
        try:
            tally = decode_tally(value)
        except UnreadableRecord:
            return Learned(self.begins_ms, self.counts, self.last, self.read + 1)
        # In the order of the log, whatever leads they name.
        begins_ms = max((log_ms + tally.lead_ms, *self.begins_ms[-1:]))
        counts = {(one.model, one.version): (one.right, one.wrong) for one in tally.counted}
        return Learned((*self.begins_ms, begins_ms), (*self.counts, counts), tally, self.read + 1)


NOTHING = Learned()
