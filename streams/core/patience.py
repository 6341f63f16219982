"""What a standby leaves its owner: a grace, and a little longer while the owner is heard.

The standby reads decisions a few times a budget, so what its owner has said is news to it some 20 ms later. When a
grace has passed and decisions were not read up to that moment, it waits until they are, as long as the owner was
heard within the last grace and for one more at most: only silence is a reason to answer in its place. What the owner
says of one request after it went by is not waited for. Without this, each default is said twice (measured: 1,200 to
2,300 of 20,000 requests while a router started again).

Where a host is short of processors the standby may be deaf itself, and takes that for silence. So it asks where
decisions end (`agents/looks.py`), and as long as the budget lasts it answers only what is not in them up to there.
"""

from schemas.decisions import Decision

LOOK_SHARE = 0.5
"""The owner was silent if nothing of a request was in the log this share of the grace before its answer leaves."""

GRACE_SHARE = 0.25
"""A standby leaves the owner no more than this share of a request's budget."""


def grace_of(grace_ms: float, budget_ms: float) -> float:
    """What owner and standby leave each other, of a request with this budget; ms."""
    return min(grace_ms, GRACE_SHARE * budget_ms)


class Patience:
    """A standby's with its owner, in one partition; with a grace of 0 ms it has none.

    `looks` when somebody asks where decisions end, and says (`read_to`) up to when they were read.
    """

    __slots__ = ("_grace_ms", "_looks", "_read_to_ms", "_said_ms", "heard_at_ms")

    def __init__(self, grace_ms: float, *, looks: bool = False) -> None:
        self._grace_ms = grace_ms
        self._looks = looks
        self._said_ms = self.heard_at_ms = self._read_to_ms = float("-inf")

    def heard(self, decision: Decision, now_ms: float) -> None:
        """A decision was read; one of the standby's own is no sign of the owner."""
        if not decision.standby:
            self._said_ms = max(self._said_ms, decision.decided_at_ms)
            self.heard_at_ms = now_ms

    def read_to(self, as_of_ms: float) -> None:
        """What decisions held at this moment was read."""
        self._read_to_ms = max(self._read_to_ms, as_of_ms)

    def until_ms(self, leave_ms: float, last_ms: float, budget_ms: float, now_ms: float) -> float:
        """When an answer that was to leave at `leave_ms` is to be looked at again: now, if it should leave.

        It leaves at `last_ms` although it is not known whether the owner is silent.
        """
        grace_ms = grace_of(self._grace_ms, budget_ms)
        if self._said_ms >= leave_ms:
            return now_ms
        until_ms = min(leave_ms, self.heard_at_ms) + grace_ms
        if self._looks and self._read_to_ms < leave_ms - LOOK_SHARE * grace_ms:
            return max(until_ms, min(leave_ms + grace_ms, last_ms))
        return until_ms
