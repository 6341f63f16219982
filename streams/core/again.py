"""One partition through the live core once more, its clock the log's: who runs the past again asks here.

Raw and scores are given in their own orders; what comes back are decisions as of the log times. Reads no clock and
sends nothing.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from schemas.blocks import ScoresBlock
from schemas.decisions import Decision
from schemas.pipeline import Pipeline
from schemas.requests import Rejection, Request
from streams.core.entitlement import Spans
from streams.core.learned import NOTHING, Learned
from streams.core.log_order import LogOrder
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint

DIAGNOSTICS = ("diagnostics", b"1")


class Again:
    """Requests from offset `start` on, decided as the live core decides them.

    `traced` tells the steps of the policy for every request, whoever asked for them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        partition: int,
        start: int,
        lead_ms: float,
        *,
        spans: Spans | None = None,
        learned: Learned = NOTHING,
        traced: bool = False,
    ) -> None:
        self._core = Rendezvous(pipeline, partition, Checkpoint(start, 0), lead_ms, spans=spans, learned=learned)
        self._order = LogOrder(self._core)
        self._traced = traced

    @property
    def untrusted(self) -> int:
        """Blocks of a model or version that the pipeline does not name."""
        return self._core.counts.untrusted

    def requests_seen(self, requests: Iterable[Request | Rejection]) -> None:
        """Take raw records, in offset order."""
        self._order.requests_seen(map(_asking, requests) if self._traced else requests)

    def scores_offered(self, block: ScoresBlock, position: int, log_ms: int) -> None:
        """Take what lies on `scores`, in the order of the log."""
        core = self._core
        self._order.scores_offered(log_ms, lambda as_of_ms: core.scores_offered(block, position, log_ms, as_of_ms))

    def scores_known(self, until_ms: float) -> None:
        """No score up to this log time is still to come, whether there was any or not."""
        self._order.scores_offered(until_ms, lambda _: [])

    def close(self, *logs: str) -> None:
        """Nothing more comes of these logs (`raw`, `scores`); without both, every timer fires."""
        self._order.close(*logs)

    def decided(self) -> list[Decision]:
        """Go on through time as far as both logs are known; what was decided on the way."""
        replies = self._order.run()
        if self._order.done:
            replies += self._order.through(float("inf"))
        self._core.published([reply.request.offset for reply in replies if reply.decision.final])
        self._core.checkpoint()  # lets go of what is published
        return [reply.decision for reply in replies]


def _asking(request: Request | Rejection) -> Request | Rejection:
    """The same request with the header that asks for the trace."""
    return replace(request, headers=[*(request.headers or ()), DIAGNOSTICS])
