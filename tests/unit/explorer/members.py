"""Members: an owner or a standby, one life of it, at every partition."""

from dataclasses import dataclass
from random import Random

from streams.core.lead import LEAD_MS
from streams.core.pending import Reply
from streams.core.recovery import Recovery
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint
from tests.unit.explorer.logs import HORIZON_MS, PIPELINE, REFINED, Partition

GRACE_MS = 500.0
SKEW_MS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """Who takes part, and which protections stand."""

    twins: bool = True
    watermark: bool = True
    read_back: bool = True
    horizon: bool = True
    hears: bool = True
    """The owner reads decisions too, and answers a repeat from the log."""
    pause_noticed: bool = True
    """A member that stood still says nothing but what it had queued before."""
    kept_back: bool = True
    """What a twin must have said while a member was away is kept back for a grace."""
    looks: bool = True
    """The standby asks where decisions end before it takes its owner for silent."""
    first_wins: bool = True
    refine: bool = False
    """Answers get better before they are final."""


class Seat:
    """One life of one member at one partition."""

    __slots__ = (
        "asked",
        "core",
        "decisions_at",
        "flight",
        "kind",
        "logs",
        "looks",
        "queue",
        "raw_at",
        "recovery",
        "scores_at",
    )

    def __init__(
        self, dice: Random, variant: Variant, logs: Partition, commit: Checkpoint, kind: str, now_ms: float
    ) -> None:
        self.logs, self.kind = logs, kind
        self.queue: list[Reply] = []
        self.flight: list[int] = []
        start = self._start(dice, commit)
        grace_ms = GRACE_MS if kind == "standby" else 0.0
        hears = kind == "standby" or (variant.twins and variant.hears)
        pipeline = REFINED if variant.refine else PIPELINE
        self.looks = kind == "standby" and variant.looks
        self.asked: tuple[int, float] | None = None
        self.core = Rendezvous(pipeline, logs.number, start, LEAD_MS, grace_ms, from_log=hears, looks=self.looks)
        if variant.read_back:
            self._read_back(commit, now_ms, horizon=variant.horizon)
        twin_grace_ms = GRACE_MS if hears and variant.kept_back else 0.0
        self.recovery: Recovery | None = Recovery(self.core, logs.raw.end, logs.scores.end, twin_grace_ms, now_ms)
        self.raw_at, self.scores_at = logs.raw.place(start.raw), logs.scores.place(start.scores)
        self.decisions_at = len(logs.decisions) if hears else -1

    def _start(self, dice: Random, commit: Checkpoint) -> Checkpoint:
        """Where the commit says; now and then its note on scores is gone, and they are found by log time."""
        raw, scores = self.logs.raw, self.logs.scores
        if dice.random() < 0.8:
            return commit
        at = raw.place(commit.raw)
        place = scores.place_at(raw.times[at]) if at < len(raw) else len(scores)
        return Checkpoint(commit.raw, scores.offsets[place] if place < len(scores) else scores.end, commit.at_ms)

    def _read_back(self, commit: Checkpoint, now_ms: float, *, horizon: bool) -> None:
        decisions = self.logs.decisions
        for decision in decisions.values[decisions.place_at(commit.at_ms - HORIZON_MS) :]:
            if horizon or decision.ticket.offset >= commit.raw:
                self.core.decided(decision, now_ms)

    def read(self, dice: Random, now_ms: float, most: int) -> None:
        """Take some of what is new, topic by topic in any order, and see what time decides."""
        takes = [self._take_raw, self._take_scores, self._take_decisions]
        if dice.random() < 0.5:
            takes.reverse()
        for take in takes:
            take(now_ms, most)
        if self.looks:
            self._look(dice, now_ms)
        if self.recovery is None:
            self.queue += self.core.due(now_ms)
        else:
            self._recover(self.recovery, now_ms)

    def _look(self, dice: Random, now_ms: float) -> None:
        """Ask where decisions end; the answer counts when they were read up to there."""
        if self.asked is None and dice.random() < 0.7:
            self.asked = len(self.logs.decisions), now_ms
        if self.asked is not None and self.decisions_at >= self.asked[0]:
            self.queue += self.core.read_to(self.asked[1], now_ms)
            self.asked = None

    def _take_raw(self, now_ms: float, most: int) -> None:
        requests = self.logs.raw.values[self.raw_at : self.raw_at + most]
        if requests:
            self.raw_at += len(requests)
            if self.recovery:
                self.recovery.requests_seen(requests)
            else:
                self.queue += self.core.requests_seen(requests, now_ms)

    def _take_scores(self, now_ms: float, most: int) -> None:
        scores, core = self.logs.scores, self.core
        first, self.scores_at = self.scores_at, min(len(scores), self.scores_at + most)
        for place in range(first, self.scores_at):
            block, offset, log_ms = scores.values[place], scores.offsets[place], scores.times[place]
            if self.recovery:
                self.recovery.scores_offered(
                    offset, log_ms, lambda at, b=block, o=offset, t=log_ms: core.scores_offered(b, o, t, at)
                )
            else:
                self.queue += core.scores_offered(block, offset, log_ms, now_ms)

    def _take_decisions(self, now_ms: float, most: int) -> None:
        if self.decisions_at < 0:
            return
        decisions = self.logs.decisions.values[self.decisions_at : self.decisions_at + most]
        self.decisions_at += len(decisions)
        for decision in decisions:
            self.queue += self.core.decided(decision, now_ms)

    def _recover(self, recovery: Recovery, now_ms: float) -> None:
        if self.raw_at == len(self.logs.raw) and self.scores_at == len(self.logs.scores):
            recovery.close()  # a hole at the end is shown to nobody
        elif recovery.has_read_all:
            recovery.grown(self.logs.raw.end, self.logs.scores.end, now_ms)
        self.queue += recovery.run(now_ms)
        if recovery.done:
            self.recovery = None

    def write(self, count: int, now: int) -> int:
        """So many of the queue reach the log, unconfirmed."""
        sent, self.queue = self.queue[:count], self.queue[count:]
        for reply in sent:
            self.logs.decisions.append(reply.decision, now)
            if reply.decision.final:
                self.flight.append(reply.request.offset)
        return len(sent)

    def confirm(self) -> None:
        """The broker's word for everything written."""
        self.core.published(self.flight)
        self.flight = []


class Member:
    """One process: a seat at every partition, one clock."""

    __slots__ = ("asleep_until", "ends_at", "seats", "skew_ms")

    def __init__(
        self,
        dice: Random,
        variant: Variant,
        partitions: list[Partition],
        commits: dict[int, Checkpoint],
        kind: str,
        now: int,
    ) -> None:
        self.skew_ms = dice.uniform(-SKEW_MS, SKEW_MS)
        self.asleep_until = 0
        self.ends_at = 1 << 60
        self.seats = [
            Seat(dice, variant, logs, commits[logs.number], kind, now + self.skew_ms) for logs in partitions
        ]

    @property
    def recovering(self) -> bool:
        return any(seat.recovery for seat in self.seats)

    def step(self, dice: Random, now: int, *, prompt: bool = False) -> None:
        """Read, decide, write and hear back, as far as the dice let it."""
        for seat in self.seats:
            seat.read(dice, now + self.skew_ms, 1_000 if prompt or dice.random() < 0.7 else dice.randint(1, 5))
            if seat.queue and (prompt or dice.random() < 0.6):
                seat.write(len(seat.queue) if prompt or dice.random() < 0.7 else 1, now)
            if seat.flight and (prompt or dice.random() < 0.6):
                seat.confirm()
