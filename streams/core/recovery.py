"""The time a rendezvous missed: its core is run through raw and scores again, in the order of their log times.

A request that is overdue is decided as of its deadline, with what was in the log by then: taking the best
score there is now would give another answer than the live run when a step of the schedule was satisfied
before. Beside a twin (owner and standby are each other's), what it must have said meanwhile is kept back until
its record could be read: else each restart would say a second or two of traffic twice. Reads no clock and sends
nothing.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from schemas.requests import Rejection, Request
from streams.core.log_order import LogOrder, Offer
from streams.core.patience import grace_of
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous

NEAR_MS = 50.0
"""A recovery is over when it has read to ends that are no older than this: what came since is read live."""

ROUNDS = 8
"""How often the ends are asked for: a member that cannot catch up works on as well as it can."""


class Recovery:
    """Merges raw and scores of one partition until both have reached their ends of now.

    They were asked for at `asked_ms` (ms, broker's clock), and are asked for again when so much came meanwhile that a
    timer could fire before a score was read that is in the log: the twin, which has read it, says something else.
    `twin_grace_ms` is what owner and standby leave each other; 0 without a standby.
    """

    def __init__(
        self,
        core: Rendezvous,
        raw_end: int,
        scores_end: int,
        twin_grace_ms: float = 0.0,
        asked_ms: float = float("inf"),
    ) -> None:
        self.core = core
        self._twin_grace_ms = twin_grace_ms
        start = core.checkpoint()
        self._next = {"raw": start.raw, "scores": start.scores}
        self._ends = {"raw": raw_end, "scores": scores_end}
        self._asked_ms = asked_ms
        self._rounds = ROUNDS
        missed = not self.has_read_all
        self._order = LogOrder(core, raw=missed, scores=missed)

    @property
    def done(self) -> bool:
        """Whether everything that was missed was run through."""
        return self._order.done

    @property
    def has_read_all(self) -> bool:
        """Whether both logs were read to their ends, as of when these were asked for."""
        return all(self._next[log] >= end for log, end in self._ends.items())

    def grown(self, raw_end: int, scores_end: int, asked_ms: float) -> None:
        """The ends were asked for again. Where nothing came meanwhile, it is over when all is run through."""
        self._ends = {"raw": raw_end, "scores": scores_end}
        self._rounds -= 1
        again = self._rounds > 0 and not self.has_read_all
        self._asked_ms = asked_ms if again else float("inf")

    def requests_seen(self, requests: Iterable[Request | Rejection]) -> None:
        """Take raw records, in offset order."""
        taken = list(requests)
        self._order.requests_seen(taken)
        if taken:
            self._next["raw"] = taken[-1].offset + 1

    def scores_offered(self, position: int, log_ms: int, offer: Offer) -> None:
        """Take a block of scores that lies at `position` and was appended at `log_ms`."""
        self._order.scores_offered(log_ms, offer)
        self._next["scores"] = position + 1

    def close(self) -> None:
        """Nothing more will come: the last offsets are a transaction's, which no reader is shown."""
        self._order.close("raw", "scores")

    def run(self, now_ms: float) -> list[Reply]:
        """Go on through time as far as both sides are known; the replies are marked."""
        if self.has_read_all and now_ms - self._asked_ms <= NEAR_MS:
            self.close()
        replies = self._order.run()
        if self.done:
            replies += self._order.through(now_ms)
        said: list[Reply] = []
        for found in replies:
            leave_ms = self._leave_ms(found, now_ms)
            reply = _marked(found, leave_ms)
            if leave_ms > now_ms:
                self.core.keep_back(reply, leave_ms)
            elif reply.decision.final or _in_time(reply, now_ms):
                said.append(reply)
        return said

    def _leave_ms(self, reply: Reply, now_ms: float) -> float:
        """Now, or a grace later when a twin that lives has said it by now."""
        request, decision = reply.request, reply.decision
        if not (self._twin_grace_ms and decision.final):
            return now_ms
        budget_ms = decision.budget_ms
        grace_ms = grace_of(self._twin_grace_ms, budget_ms)
        twin_ms = request.at_ms + min(decision.used_ms + grace_ms, budget_ms)
        return now_ms + grace_ms if twin_ms <= now_ms else now_ms


def _in_time(reply: Reply, now_ms: float) -> bool:
    """An answer that is to be followed by a better one is of no use after its deadline."""
    return now_ms < reply.request.at_ms + reply.decision.budget_ms


def _marked(reply: Reply, leave_ms: float) -> Reply:
    decision = reply.decision
    late_by_ms = max(0.0, leave_ms - reply.request.at_ms - decision.budget_ms)
    return Reply(replace(decision, recovered=True, late_by_ms=round(late_by_ms, 1)), reply.request)
