"""Laws of the join: one decision per request, by its deadline, whatever comes in whatever order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import NotAskedBlock, RejectionBlock, RowError, pack_offsets
from schemas.decisions import Outcome
from schemas.pipeline import Policy, Step
from schemas.requests import Rejection
from streams.core.held import LIMIT
from streams.core.lead import LEAD_MS, lead_of, leads_of
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint
from tests.unit.small import errors, pipeline, request, scores

LONG_STEP = Policy(steps=(Step(until=0.85, accept=("champion",)), Step(until=1.0, accept=("challenger",))))
ALL = pipeline(policy=replace(Policy(), answer="all"))


@pytest.fixture
def desk() -> Rendezvous:
    return Rendezvous(pipeline(), 0)


def only(replies: list[Reply]):
    (reply,) = replies
    return reply.decision


def test_the_champion_answers_at_once(desk: Rendezvous):
    assert desk.requests_seen([request(0, 1_000)], 1_002) == []
    decision = only(desk.scores_offered(scores("first", 0), 0, 1_004, 1_006))
    assert (decision.outcome, decision.model, decision.score) == (Outcome.PREFERRED, "first", 0.7)
    assert (decision.scores["first"].age_ms, decision.used_ms) == (4, 6.0)
    assert decision.missing == ["second", "mirror", "yardstick"]
    assert decision.final
    assert desk.undecided == 0


def test_another_waits_for_its_time_and_the_timer_knows_when(desk: Rendezvous):
    desk.requests_seen([request(0, 1_000)], 1_000)
    assert desk.scores_offered(scores("second", 0), 0, 1_010, 1_010) == []
    assert desk.next_due_ms == 1_060
    assert desk.due(1_059.9) == []
    decision = only(desk.due(1_060))
    assert (decision.outcome, decision.model) == (Outcome.FALLBACK, "second")
    assert "had not answered by 60 % of the budget" in decision.reason
    assert desk.next_due_ms is None


def test_nobody_means_the_default_at_the_deadline(desk: Rendezvous):
    desk.requests_seen([request(0, 1_000)], 1_000)
    assert desk.due(1_099.9) == []
    decision = only(desk.due(1_100))
    assert (decision.outcome, decision.score, decision.model) == (Outcome.DEFAULT, 0.1, None)
    assert desk.scores_offered(scores("first", 0), 0, 1_101, 1_101) == []
    assert desk.counts.late == 1


def test_the_lead_moves_the_deadline_and_nothing_else():
    desk = Rendezvous(pipeline(), 0, lead_ms=5)
    desk.requests_seen([request(0, 1_000)], 1_000)
    desk.scores_offered(scores("second", 0), 0, 1_010, 1_010)
    assert desk.next_due_ms == 1_060
    desk = Rendezvous(pipeline(), 0, lead_ms=5)
    desk.requests_seen([request(0, 1_000)], 1_061)
    assert desk.next_due_ms == 1_095
    assert only(desk.due(1_095)).outcome == Outcome.DEFAULT


def test_models_that_failed_or_were_not_asked_are_not_waited_for(desk: Rendezvous):
    desk.requests_seen([request(0), request(1), request(2)], 1_000)
    assert desk.scores_offered(scores("second", 0, 1), 0, 1_010, 1_010) == []
    failed = only(desk.scores_offered(errors("first", 0), 1, 1_011, 1_011))
    assert (failed.model, failed.failed) == ("second", {"first": "raised"})
    assert "the champion first failed" in failed.reason
    passed = only(desk.scores_offered(NotAskedBlock(("first",), pack_offsets([1]), "busy"), 2, 1_012, 1_012))
    assert (passed.model, passed.not_asked) == ("second", {"first": "busy"})
    assert desk.scores_offered(NotAskedBlock(("second",), pack_offsets([2]), "busy"), 3, 1_013, 1_013) == []
    assert only(desk.scores_offered(errors("first", 2), 4, 1_014, 1_014)).outcome == Outcome.DEFAULT


def test_a_rejection_is_answered_at_once_by_either_way(desk: Rendezvous):
    own = Rejection(0, "r0", 1_000, 100, None, None, "empty", "the value is empty")
    assert only(desk.requests_seen([own], 1_001)).reason == "the value is empty"
    desk.requests_seen([request(1)], 1_001)
    decision = only(desk.scores_offered(RejectionBlock((RowError(1, "no derivation"),)), 0, 1_002, 1_002))
    assert (decision.outcome, decision.reason) == (Outcome.REJECTED, "no derivation")
    assert desk.due(9_999) == []


def test_a_score_may_overtake_its_request_but_not_size_anything(desk: Rendezvous):
    assert desk.scores_offered(scores("first", 1, LIMIT + 9), 0, 1_010, 1_010) == []
    assert desk.counts.refused == 1
    assert [reply.decision.ticket.offset for reply in desk.requests_seen([request(0), request(1)], 1_011)] == [1]


def test_what_the_router_says_may_overtake_the_request_it_speaks_of(desk: Rendezvous):
    desk.scores_offered(RejectionBlock((RowError(0, "none either"), RowError(1, "no derivation"))), 0, 1_001, 1_001)
    desk.scores_offered(NotAskedBlock(("first", "second"), pack_offsets([2, 3]), "busy"), 1, 1_001, 1_001)
    replies = desk.requests_seen([request(0), request(1), request(2)], 1_002)
    assert [reply.decision.reason for reply in replies] == ["none either", "no derivation"]
    assert desk.checkpoint().scores == 0, "what is kept must be read again after a crash"
    decisions = [reply.decision for reply in desk.requests_seen([request(3)], 1_003)]
    assert [(one.ticket.offset, one.outcome, set(one.not_asked)) for one in decisions] == [
        (2, Outcome.DEFAULT, {"first", "second"}),
        (3, Outcome.DEFAULT, {"first", "second"}),
    ]


def test_a_request_read_too_late_is_answered_with_the_scores_that_were_there(desk: Rendezvous):
    desk.scores_offered(scores("first", 0, 1), 0, 1_005, 1_005)
    replies = desk.requests_seen([request(0), request(1), request(2)], 5_000)
    assert [reply.decision.outcome for reply in replies] == [Outcome.PREFERRED, Outcome.PREFERRED, Outcome.DEFAULT]


def test_scores_of_strangers_and_repeated_scores_change_nothing(desk: Rendezvous):
    desk.requests_seen([request(0)], 1_000)
    assert desk.scores_offered(scores("first", 0, version="2"), 0, 1_001, 1_001) == []
    assert desk.scores_offered(scores("nobody", 0), 1, 1_001, 1_001) == []
    assert desk.counts.untrusted == 2
    for position in (2, 3):
        assert desk.scores_offered(scores("mirror", 0), position, 1_001, 1_001) == []
    assert desk.counts.repeated == 1


def test_what_is_held_for_a_hole_in_raw_is_let_go(desk: Rendezvous):
    desk.scores_offered(scores("first", 1), 0, 1_000, 1_000)
    desk.scores_offered(scores("first", 0, 3), 1, 1_000, 1_000)
    desk.scores_offered(errors("first", 2), 2, 1_000, 1_000)
    assert len(desk.requests_seen([request(0), request(5)], 1_001)) == 1
    assert (desk.counts.late, desk.counts.refused) == (2, 1)
    assert len(desk.due(2_000)) == 1
    desk.published([0, 5])
    assert desk.checkpoint() == Checkpoint(6, 3, 1_000)


def test_a_batch_that_is_tried_again_asks_nothing_twice(desk: Rendezvous):
    batch = [request(0, 1_000), request(1, 1_000)]
    desk.requests_seen(batch, 1_000)
    only(desk.scores_offered(scores("first", 0), 0, 1_004, 1_006))
    assert desk.requests_seen(batch, 1_007) == []
    assert desk.undecided == 1
    desk.published([0])
    assert desk.checkpoint().raw == 1


@pytest.mark.parametrize("to", [6, 600], ids=["a short hole", "a long one"])
def test_what_was_decided_ahead_of_a_hole_in_raw_is_forgotten_with_it(to: int):
    elsewhere, desk = Rendezvous(pipeline(), 0), Rendezvous(pipeline(), 0)
    elsewhere.requests_seen([request(number, 1_000) for number in range(10)], 1_000)
    for reply in elsewhere.due(1_100):
        desk.decided(reply.decision, 1_101)
    assert len(desk._decided) == 10
    desk.requests_seen([request(to, 1_200)], 1_201)
    assert set(desk._decided) == {offset for offset in range(10) if offset > to}


def test_what_was_decided_of_requests_that_raw_does_not_have_is_forgotten(desk: Rendezvous):
    elsewhere = Rendezvous(pipeline(), 0)
    elsewhere.requests_seen([request(number, 1_000) for number in range(10)], 1_000)
    for reply in elsewhere.due(1_100):
        final = reply.request.offset % 2 == 1
        desk.decided(replace(reply.decision, final=final), 1_101)
    assert desk.ahead == 10
    desk.raw_ends(7)
    assert desk.ahead == 7
    desk.requests_seen([request(number, 1_000) for number in range(10)], 1_050)
    answered = {reply.request.offset for reply in desk.due(1_200)}
    assert answered == {0, 2, 4, 6, 7, 8, 9}, "what is there and has a final decision is answered already"
    assert desk.ahead == 0


def test_a_log_time_from_the_future_does_not_lengthen_the_wait(desk: Rendezvous):
    desk.requests_seen([request(0, at_ms=50_000)], 1_000)
    assert only(desk.due(1_100)).outcome == Outcome.DEFAULT


def test_the_checkpoint_waits_for_publishing_not_for_deciding(desk: Rendezvous):
    assert desk.checkpoint() == Checkpoint(0, 0)
    desk.requests_seen([request(0), request(1)], 1_000)
    desk.scores_offered(scores("first", 1), 0, 1_000, 1_000)
    desk.published([1])
    assert desk.checkpoint() == Checkpoint(0, 0, 1_000)
    desk.scores_offered(scores("first", 0), 1, 1_000, 1_000)
    assert desk.checkpoint() == Checkpoint(0, 0, 1_000)
    desk.published([0])
    assert desk.checkpoint() == Checkpoint(2, 2, 1_000)


MODELS = ("first", "second", "mirror", "yardstick")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 3)),
        st.tuples(st.just("score"), st.tuples(st.sampled_from(MODELS), st.integers(0, 14))),
        st.tuples(st.just("fail"), st.tuples(st.sampled_from(MODELS), st.integers(0, 14))),
        st.tuples(st.just("pass"), st.tuples(st.sampled_from(MODELS), st.integers(0, 14))),
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.just("publish"), st.integers(0, 3)),
    ),
    max_size=60,
)


class World:
    """Drives one rendezvous as the agent does, and keeps what a careful observer would."""

    def __init__(self, desk: Rendezvous) -> None:
        self.desk = desk
        self.now_ms = 1_000.0
        self.read = self.position = 0
        self.at_ms: dict[int, float] = {}
        self.decided: dict[int, Reply] = {}
        self.unpublished: list[int] = []
        self.first_score: dict[int, int] = {}

    def take(self, replies: list[Reply]) -> None:
        for reply in replies:
            offset = reply.decision.ticket.offset
            assert offset not in self.decided, "decided twice"
            self.decided[offset] = reply
            self.unpublished.append(offset)
            assert self.now_ms <= self.at_ms[offset] + 100, "later than the deadline"

    def step(self, kind: str, what) -> None:
        desk, now_ms = self.desk, self.now_ms
        if kind == "read":
            new = [request(self.read + place, int(now_ms)) for place in range(what)]
            self.read += what
            self.at_ms |= {one.offset: now_ms for one in new}
            self.take(desk.requests_seen(new, now_ms))
        elif kind == "wait":
            for _ in range(what):  # the agent wakes when something is due, so never later than a millisecond
                self.now_ms += 1
                self.take(desk.due(self.now_ms))
        elif kind == "publish":
            done, self.unpublished = self.unpublished[:what], self.unpublished[what:]
            desk.published(done)
        else:
            model, offset = what
            self.first_score.setdefault(offset, self.position)
            if kind == "pass":
                block = NotAskedBlock((model,), pack_offsets([offset]), "busy")
            else:
                block = scores(model, offset) if kind == "score" else errors(model, offset)
            replies = desk.scores_offered(block, self.position, int(now_ms), now_ms)
            self.position += 1
            self.take(replies)
        self.check()

    def check(self) -> None:
        """What is read again from the checkpoint holds everything that is not published."""
        checkpoint = self.desk.checkpoint()
        waiting = [offset for offset in range(self.read) if offset not in self.decided] + self.unpublished
        assert checkpoint.raw == min(waiting, default=self.read)
        for offset in waiting:
            if offset in self.first_score:
                assert checkpoint.scores <= self.first_score[offset]


def test_a_default_leaves_the_lead_before_the_deadline_though_a_step_of_the_schedule_ends_later():
    desk = Rendezvous(pipeline(policy=LONG_STEP), 0, lead_ms=4)
    desk.requests_seen([request(0, 1_000, budget_ms=7)], 1_000)
    assert desk.next_due_ms == 1_003
    assert only(desk.due(1_003)).outcome == Outcome.DEFAULT


@pytest.mark.parametrize(
    ("budget_ms", "lead_ms", "twin_ms"), [(40, 4, 4), (100, 5, 4), (200, 10, 2), (400, 20, 0), (60_000, 20, 0)]
)
def test_the_lead_is_a_share_of_the_budget_and_a_standby_leaves_the_owner_as_much_time(
    budget_ms: int, lead_ms: int, twin_ms: int
):
    owner, standby = (Rendezvous(pipeline(), 0, lead_ms=LEAD_MS, grace_ms=grace_ms) for grace_ms in (0, 500))
    deadline_ms = 1_000 + budget_ms
    for desk in (owner, standby):
        desk.requests_seen([request(0, 1_000, budget_ms=budget_ms)], 1_000)
        desk.due(1_000 + 0.9 * (budget_ms - lead_ms))  # steps of the schedule that end before
    assert owner.next_due_ms == standby.next_due_ms == deadline_ms - lead_ms
    assert only(owner.due(deadline_ms - lead_ms)).outcome == Outcome.DEFAULT
    assert standby.due(deadline_ms - lead_ms) == []
    assert standby.next_due_ms == deadline_ms + twin_ms
    assert only(standby.due(deadline_ms + twin_ms)).standby
    budgets = np.array([budget_ms], dtype=np.float64)
    assert leads_of(LEAD_MS, budgets).tolist() == [lead_of(LEAD_MS, budget_ms)] == [lead_ms]


@given(steps=steps, waits=st.booleans(), lead_ms=st.sampled_from([0.0, 5.0]))
def test_every_request_is_decided_once_and_by_its_deadline(steps, waits: bool, lead_ms: float):
    world = World(Rendezvous(ALL if waits else pipeline(), 0, lead_ms=lead_ms))
    for kind, what in steps:
        world.step(kind, what)
    world.step("wait", 101)
    assert set(world.decided) == set(range(world.read))
    assert world.desk.undecided == 0
    assert world.desk.next_due_ms is None
    for reply in world.decided.values():
        decision = reply.decision
        known = {*decision.scores, *decision.missing, *decision.failed, *decision.not_asked}
        assert known == set(MODELS), "every model asked is accounted for"
        if decision.model is None:
            assert (decision.outcome, decision.score) == (Outcome.DEFAULT, 0.1)
        else:
            assert decision.score == decision.scores[decision.model].score
            assert decision.outcome == (Outcome.PREFERRED if decision.model == "first" else Outcome.FALLBACK)
    world.step("publish", len(world.unpublished))
    assert world.desk.checkpoint().raw == world.read


@given(steps=steps)
def test_a_score_that_was_there_in_time_is_never_passed_over_for_a_worse_one(steps):
    world = World(Rendezvous(pipeline(), 0))
    for kind, what in steps:
        world.step(kind, what)
    world.step("wait", 101)
    for reply in world.decided.values():
        if "first" in reply.decision.scores:
            assert reply.decision.model == "first"
        elif "second" in reply.decision.scores:
            assert reply.decision.model == "second"
