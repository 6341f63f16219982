"""Nothing lost, no second record, one answer per repeat: crashes and a standby over the pure core.

A seeded explorer plays broker: logs of raw, scores and decisions, a rendezvous that is killed anywhere and
starts again from its last commit. The explorer itself is explored: without the low watermark, the read-back
or the horizon it must find the failure.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from schemas.blocks import ScoreBlock
from schemas.decisions import Decision, Outcome
from schemas.pipeline import RequestShape
from schemas.requests import Request
from streams.core.pending import Reply
from streams.core.recovery import Recovery
from streams.core.rendezvous import Checkpoint, Rendezvous
from tests.unit.small import pipeline, request, scores

PIPELINE = pipeline(request=RequestShape(budget_ms=100, repeat_s=1.0))
HORIZON_MS = 1_000
GRACE_MS = 500.0


def named(offset: int, name: str, at_ms: int = 1_000, value: bytes = b"{}", key: bytes | None = None) -> Request:
    return Request(offset, name, at_ms, 100, key, None, None, value)


def desk(lead_ms: float = 0.0, grace_ms: float = 0.0) -> Rendezvous:
    return Rendezvous(PIPELINE, 0, lead_ms=lead_ms, grace_ms=grace_ms)


def test_a_repeat_is_given_the_first_ones_answer():
    core = desk()
    core.requests_seen([named(0, "a")], 1_000)
    (first,) = core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    (again,) = core.requests_seen([named(1, "a", 1_500)], 1_501)
    assert (again.decision.model, again.decision.score) == (first.decision.model, first.decision.score)
    assert again.decision.duplicate_of == first.decision.ticket
    assert again.decision.ticket.offset == 1
    assert core.undecided == 0


def test_a_repeat_of_what_is_not_decided_waits_for_it():
    core = desk()
    assert core.requests_seen([named(0, "a"), named(1, "a", 1_010)], 1_010) == []
    assert core.scores_offered(scores("first", 1, score=0.2), 0, 1_020, 1_020) == []
    both = core.scores_offered(scores("first", 0), 1, 1_021, 1_021)
    assert [(r.decision.ticket.offset, r.decision.score) for r in both] == [(0, 0.7), (1, 0.7)]


@pytest.mark.parametrize(
    "other",
    [
        named(1, "a", 1_010, b'{"x": 1}'),
        named(1, "a", 1_010, key=b"k"),
        named(1, "b", 1_010),
        replace(named(1, "a", 1_010), budget_ms=90),
        named(1, "a", 2_001),
    ],
    ids=["payload", "key", "id", "budget", "beyond the horizon"],
)
def test_anything_else_is_a_new_request(other: Request):
    core = desk()
    core.requests_seen([named(0, "a")], 1_000)
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    assert core.requests_seen([other], other.at_ms) == []
    (reply,) = core.scores_offered(scores("first", 1, score=0.2), 1, other.at_ms + 1, other.at_ms + 1)
    assert reply.decision.duplicate_of is None
    assert reply.decision.score == 0.2


def test_a_standby_says_nothing_when_the_owner_does():
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0)], 1_000)
    assert core.scores_offered(scores("first", 0), 0, 1_004, 1_005) == []
    assert core.next_due_ms == 1_030
    assert core.decided(decision_of(0), 1_010) == []
    assert core.due(2_000) == []
    assert core.checkpoint().raw == 1


def test_a_standby_gives_the_owners_answer_a_grace_later():
    core = desk(lead_ms=4, grace_ms=GRACE_MS)
    core.requests_seen([request(0), request(1)], 1_000)
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    assert core.due(1_029.9) == []
    (reply,) = core.due(1_030)
    assert (reply.decision.model, reply.decision.standby, reply.decision.used_ms) == ("first", True, 5.0)
    assert core.due(1_096) == []
    assert core.scores_offered(scores("first", 1), 1, 1_098, 1_098) == []
    assert core.due(1_103.9) == []
    (default,) = core.due(1_104)
    assert (default.decision.outcome, default.decision.ticket.offset) == (Outcome.DEFAULT, 1)


def test_what_is_held_for_a_decided_request_does_not_hold_the_score_position():
    core = desk()
    core.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    core.decided(decision_of(0), 1_006)
    assert core.requests_seen([request(0)], 1_010) == []
    assert core.checkpoint() == Checkpoint(1, 1, 1_000)


def decision_of(offset: int) -> Decision:
    core = desk()
    core.requests_seen([request(offset)], 1_000)
    (reply,) = core.scores_offered(scores("first", offset), 0, 1_004, 1_005)
    return reply.decision


def test_what_is_overdue_is_decided_as_of_its_deadline():
    """`second` was acceptable from 60 % on; the champion's score came later, though before the deadline."""
    core = desk()
    recovery = Recovery(core, 2, 2)
    recovery.requests_seen([request(0), request(1, at_ms=1_200)])
    assert recovery.run(9_000) == []
    recovery.scores_offered(0, 1_010, lambda at: core.scores_offered(scores("second", 0), 0, 1_010, at))
    recovery.scores_offered(1, 1_080, lambda at: core.scores_offered(scores("first", 0), 1, 1_080, at))
    early, late = recovery.run(9_000)
    assert (early.decision.model, early.decision.decided_at_ms) == ("second", 1_060)
    assert (early.decision.recovered, early.decision.late_by_ms) == (True, 7_900)
    assert (late.decision.outcome, late.decision.used_ms) == (Outcome.DEFAULT, 100)
    assert recovery.done


def test_a_hole_at_the_end_is_not_waited_for_for_ever():
    core = desk()
    recovery = Recovery(core, 2, 0)
    recovery.requests_seen([request(0)])
    assert not recovery.done
    recovery.close()
    assert len(recovery.run(9_000)) == 1
    assert recovery.done


@dataclass
class World:
    """One partition: three logs, and what a process that dies leaves behind."""

    dice: random.Random
    watermark: bool = True
    read_back: bool = True
    horizon: bool = True
    raw: list[Request] = field(default_factory=list)
    scores: list[tuple[int, ScoreBlock]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    commit: Checkpoint = field(default_factory=lambda: Checkpoint(0, 0))
    crashes: int = 0
    now: int = 1_000

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """From the last commit: read back, then run through what was missed."""
        core = self.core = Rendezvous(PIPELINE, 0, self.commit)
        self.queue: list[Reply] = []
        if self.read_back:
            for decision in self.decisions:
                if self.horizon or decision.ticket.offset >= self.commit.raw:
                    core.decided(decision, self.now)
        recovery = Recovery(core, len(self.raw), len(self.scores))
        recovery.requests_seen(self.raw[self.commit.raw :])
        for place in range(self.commit.scores, len(self.scores)):
            log_ms, block = self.scores[place]
            recovery.scores_offered(
                place, log_ms, lambda at, b=block, p=place, t=log_ms: self.core.scores_offered(b, p, t, at)
            )
        self.queue += recovery.run(self.now)
        assert recovery.done

    def deliver(self) -> None:
        self.decisions += [reply.decision for reply in self.queue]
        self.core.published([reply.request.offset for reply in self.queue])
        self.queue = []

    def keep(self) -> None:
        """Commit; the variant without a watermark commits what was read."""
        self.commit = self.core.checkpoint() if self.watermark else Checkpoint(len(self.raw), len(self.scores))

    def crash(self) -> None:
        """Some of the queue has reached the log, unconfirmed."""
        sent = self.dice.randint(0, len(self.queue))
        self.decisions += [reply.decision for reply in self.queue[:sent]]
        self.crashes += 1
        self.now += self.dice.randint(0, 150)
        self.start()

    def step(self) -> None:
        """One tick: something arrives, time goes on, and now and then the process dies."""
        dice = self.dice
        self.now += dice.randint(0, 12)
        what = dice.random()
        if what < 0.4:
            again = dice.random() < 0.2
            name = f"r{dice.randrange(6)}" if again else f"n{len(self.raw)}"
            value = b"%d" % dice.randrange(2) if again else b"{}"
            self.raw.append(named(len(self.raw), name, self.now, value))
            self.queue += self.core.requests_seen(self.raw[-1:], self.now)
        elif what < 0.85 and self.raw:
            offset = max(0, len(self.raw) - 1 - int(dice.expovariate(0.3)))
            block = scores(dice.choice(("first", "second", "mirror")), offset, score=round(dice.random(), 3))
            self.scores.append((self.now, block))
            self.queue += self.core.scores_offered(block, len(self.scores) - 1, self.now, self.now)
        self.queue += self.core.due(self.now)
        if dice.random() < 0.3:
            self.deliver()
        if dice.random() < 0.1:
            self.keep()
        if dice.random() < 0.02:
            self.crash()

    def end(self) -> None:
        self.now += 1_000
        self.queue += self.core.due(self.now)
        self.deliver()

    def judge(self) -> Counter[str]:
        """By the law alone, from the logs: who should have repeated whom, and what was answered."""
        final: dict[int, Decision] = {}
        for decision in self.decisions:
            final.setdefault(decision.ticket.offset, decision)
        counts = Counter(
            requests=len(self.raw),
            crashes=self.crashes,
            lost=len(self.raw) - len(final),
            second=len(self.decisions) - len(final),
        )
        origin: dict[tuple[str, bytes], Request] = {}
        for found in self.raw:
            first = origin.get((found.request_id, found.value))
            if first is None or first.at_ms < found.at_ms - HORIZON_MS:
                origin[found.request_id, found.value] = found
                first = None
            if found.offset in final:
                counts["repeats"] += first is not None
                counts["conflicting"] += _conflict(final, found, first)
        return counts


def _conflict(final: dict[int, Decision], found: Request, first: Request | None) -> bool:
    decision = final[found.offset]
    if first is None:
        return decision.duplicate_of is not None
    if first.offset not in final:
        return False
    answer = final[first.offset]
    same = (decision.model, decision.score, decision.outcome) == (answer.model, answer.score, answer.outcome)
    return decision.duplicate_of is None or decision.duplicate_of.offset != first.offset or not same


def explored(worlds: int, requests: int, **protections: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in range(worlds):
        world = World(random.Random(seed), **protections)
        while len(world.raw) < requests:
            world.step()
        world.end()
        counts += world.judge()
    return counts


def test_nothing_is_lost_or_said_twice_wherever_it_dies():
    counts = explored(150, 200)
    assert counts["crashes"] > 500
    assert counts["repeats"] > 500
    assert (counts["lost"], counts["second"], counts["conflicting"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("protection", "harm"), [("watermark", "lost"), ("read_back", "second"), ("horizon", "conflicting")]
)
def test_without_a_protection_the_explorer_finds_the_harm(protection: str, harm: str):
    assert explored(40, 200, **{protection: False})[harm] > 0
