"""What a desk is told beside its records: the roster, a bandit's tallies, the monitor's tokens.

Each is read to its end before the desk takes partitions over, and followed from then on; what it says counts for what
is read afterwards, in every partition.
"""

import logging
from collections.abc import Callable, Iterable

from agents.passing_over import PassingOver
from agents.roster_watch import RosterWatch, TallyWatch, TokenWatch
from schemas.pipeline import Pipeline, PolicyKind
from schemas.probes import NO_TOKENS, Tokens
from streams.core.entitlement import Spans, always
from streams.core.learned import NOTHING, Learned
from streams.core.rendezvous import Rendezvous
from streams.kafka.clients import Cluster
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)


class Followed:
    """Of one desk. `cores` are those it has now; `passing` watches the champion that the roster names."""

    _app: BatchApp
    _roster: RosterWatch
    _tallies: TallyWatch | None = None
    _probes: TokenWatch | None = None

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        cores: Callable[[], Iterable[Rendezvous]],
        passing: PassingOver | None,
    ) -> None:
        self.spans = always(pipeline)
        self.learned = NOTHING
        self.tokens = NO_TOKENS
        self._pipeline = pipeline
        self._cluster = cluster
        self._cores = cores
        self._passing = passing
        self._begun = False

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app

        def died(error: Exception) -> None:
            app.add_future(app.crash(error))

        self._roster = RosterWatch(self._pipeline, self._cluster, self.entitle, died)
        if self._pipeline.policy.kind is PolicyKind.BANDIT:
            self._tallies = TallyWatch(self._pipeline, self._cluster, self.learn, died)
        if self._pipeline.monitor:
            self._probes = TokenWatch(self._pipeline, self._cluster, self.announced, died)

    async def begin(self) -> None:
        """Read each to its end."""
        for log in (self._roster, self._tallies, self._probes):
            if log is not None:
                await log.begin()
        self._begun = True

    def entitle(self, spans: Spans) -> None:
        """More of the roster is known."""
        late_ms = self._app.producer.now_ms() - spans.spans[-1].from_ms
        if self._begun and spans.spans != self.spans.spans and late_ms > 0:
            logger.warning("a move of the roster was read %.0f ms after it began to count", late_ms)
        self.spans = spans
        if self._passing:
            self._passing.entitle(spans, self._app.producer.now_ms())
        for core in self._cores():
            core.entitle(spans)

    def learn(self, learned: Learned) -> None:
        """More of the tallies is known."""
        late_ms = self._app.producer.now_ms() - (learned.begins_ms[-1] if learned.begins_ms else float("inf"))
        if self._begun and late_ms > 0:
            logger.warning("a tally was read %.0f ms after it began to count", late_ms)
        self.learned = learned
        for core in self._cores():
            core.learn(learned)

    def announced(self, tokens: Tokens) -> None:
        """More of the monitor's tokens are known: their requests' answers are marked."""
        self.tokens = tokens
