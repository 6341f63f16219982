"""Answers that get better: at once, then better, then final; and the trace of how it came to that."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.decisions import Decision, Outcome, TraceStep
from schemas.pipeline import Guard, Policy, PolicyKind
from schemas.requests import Headers, Request
from streams.core.policy_branches import branches_of, plan_of
from streams.core.recovery import Recovery
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint
from tests.unit.small import errors, pipeline, request, scores
from tests.unit.test_policies import KINDS, events, happenings, lived, of

REFINED = replace(Policy(), refine=True)
BEST = Policy(kind=PolicyKind.BEST, refine=True)


def desk(policy: Policy = REFINED, scores_from: int = 0, grace_ms: float = 0.0) -> Rendezvous:
    return Rendezvous(of(policy), 0, Checkpoint(0, scores_from), grace_ms=grace_ms)


def asking(headers: Headers) -> Request:
    return Request(0, "r0", 1_000, 100, None, headers, None, b"{}")


def said(replies: list) -> list[tuple[int, bool, str | None]]:
    return [(one.decision.revision, one.decision.final, one.decision.model) for one in replies]


def test_the_first_acceptable_answer_leaves_at_once_a_better_one_is_final():
    found = desk(BEST)
    found.requests_seen([request(0)], 1_000)
    assert said(found.scores_offered(scores("second", 0), 0, 1_005, 1_005)) == [(0, False, "second")]
    assert found.undecided == 1
    assert said(found.scores_offered(scores("first", 0), 1, 1_050, 1_050)) == [(1, True, "first")]
    assert found.undecided == 0


def test_when_nobody_better_comes_the_same_answer_is_final_at_the_deadline():
    found = desk(BEST)
    found.requests_seen([request(0)], 1_000)
    found.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    assert found.due(1_099) == []
    assert said(found.due(1_100)) == [(1, True, "second")]


def test_or_at_once_when_nobody_better_can_come_any_more():
    found = desk(BEST)
    found.requests_seen([request(0)], 1_000)
    found.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    assert said(found.scores_offered(errors("first", 0), 1, 1_006, 1_006)) == [(1, True, "second")]


def test_the_schedule_says_what_is_acceptable_and_time_alone_may_make_it_so():
    found = desk()
    found.requests_seen([request(0)], 1_000)
    assert found.scores_offered(scores("second", 0), 0, 1_005, 1_005) == []
    assert said(found.due(1_060)) == [(0, False, "second")]
    assert found.next_due_ms == 1_100
    assert said(found.scores_offered(scores("first", 0), 1, 1_090, 1_090)) == [(1, True, "first")]


def test_with_answer_all_what_has_come_is_offered_and_the_final_one_waits_for_everybody():
    found = desk(replace(REFINED, answer="all"))
    found.requests_seen([request(0)], 1_000)
    assert said(found.scores_offered(scores("first", 0), 0, 1_005, 1_005)) == [(0, False, "first")]
    assert found.scores_offered(scores("second", 0), 1, 1_006, 1_006) == []
    assert found.scores_offered(scores("mirror", 0), 2, 1_007, 1_007) == []
    assert said(found.scores_offered(scores("yardstick", 0), 3, 1_008, 1_008)) == [(1, True, "first")]


def test_a_combination_gets_better_with_each_member():
    found = desk(Policy(kind=PolicyKind.COMBINE, refine=True))
    found.requests_seen([request(0)], 1_000)
    (first,) = found.scores_offered(scores("second", 0, score=0.2), 0, 1_005, 1_005)
    (final,) = found.scores_offered(scores("first", 0, score=0.6), 1, 1_006, 1_006)
    assert (first.decision.score, first.decision.final, first.decision.combined) == (0.2, False, {"second": 1.0})
    assert (final.decision.score, final.decision.final) == (0.4, True)


def test_a_header_wants_it_or_does_not():
    for policy, header, offered in ((replace(BEST, refine=False), b"1", 1), (BEST, b"0", 0)):
        found = desk(policy)
        found.requests_seen([asking([("refine", header)])], 1_000)
        assert len(found.scores_offered(scores("second", 0), 0, 1_005, 1_005)) == offered


def test_what_was_offered_says_what_was_known_then_and_no_more():
    found = desk(BEST)
    found.requests_seen([request(0)], 1_000)
    (offer,) = found.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    found.scores_offered(errors("mirror", 0), 1, 1_006, 1_006)
    found.scores_offered(scores("first", 0), 2, 1_007, 1_007)
    assert set(offer.decision.scores) == {"second"}
    assert offer.decision.failed == {}


def test_the_watermark_waits_for_the_final_record():
    found = desk(BEST)
    found.requests_seen([request(0)], 1_000)
    found.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    assert found.checkpoint().raw == 0
    found.due(1_100)
    assert found.checkpoint().raw == 0
    found.published([0])
    assert found.checkpoint().raw == 1


def test_another_life_goes_on_after_the_last_revision_and_offers_nothing_twice():
    before = desk(BEST)
    before.requests_seen([request(0)], 1_000)
    (offer,) = before.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    found = desk(BEST)
    found.decided(offer.decision, 1_020)
    assert found.requests_seen([request(0)], 1_020) == []
    assert found.scores_offered(scores("second", 0), 0, 1_005, 1_021) == [], "it is known, and was offered"
    assert said(found.scores_offered(scores("first", 0), 1, 1_030, 1_030)) == [(1, True, "first")]


def test_what_was_offered_is_the_least_that_is_final_although_its_score_is_not_read_again():
    before = desk(BEST)
    before.requests_seen([request(0)], 1_000)
    (offer,) = before.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    found = desk(BEST, scores_from=1)
    found.decided(offer.decision, 1_020)
    found.requests_seen([request(0)], 1_020)
    (final,) = found.due(1_100)
    assert (final.decision.model, final.decision.score, final.decision.revision) == ("second", 0.7, 1)


def test_a_changed_pipeline_forgets_scores_of_versions_it_does_not_have():
    before = desk(BEST)
    before.requests_seen([request(0)], 1_000)
    (offer,) = before.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    changed = replace(of(BEST), models=tuple(replace(model, version="2") for model in of(BEST).models))
    found = Rendezvous(changed, 0)
    found.decided(replace(offer.decision, model="gone"), 1_020)
    found.requests_seen([request(0)], 1_020)
    (final,) = found.due(1_100)
    assert (final.decision.outcome, final.decision.revision) == (Outcome.DEFAULT, 1)


def test_a_pipeline_that_refines_no_more_still_counts_on():
    before = desk(BEST)
    before.requests_seen([request(0)], 1_000)
    (offer,) = before.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    found = desk(Policy())
    found.decided(offer.decision, 1_020)
    found.requests_seen([request(0)], 1_020)
    assert said(found.due(1_060)) == [(1, True, "second")]


def test_a_recovery_offers_nothing_whose_deadline_is_over():
    for now_ms, offered in ((1_050, [(0, False, "second")]), (2_000, [(1, True, "second")])):
        found = desk(BEST)
        recovery = Recovery(found, 1, 1)
        recovery.requests_seen([request(0)])
        recovery.scores_offered(
            0, 1_005, lambda at, core=found: core.scores_offered(scores("second", 0), 0, 1_005, at)
        )
        assert said(recovery.run(now_ms)) == offered


def test_a_standby_offers_nothing_and_says_the_final_answer_with_the_next_number():
    found = desk(BEST, grace_ms=500)
    found.requests_seen([request(0)], 1_000)
    assert found.scores_offered(scores("second", 0), 0, 1_005, 1_005) == []
    owner = desk(BEST)
    owner.requests_seen([request(0)], 1_000)
    (offer,) = owner.scores_offered(scores("second", 0), 0, 1_005, 1_005)
    assert found.scores_offered(errors("first", 0), 1, 1_006, 1_006) == []
    assert found.decided(offer.decision, 1_007) == []
    (final,) = found.due(1_056)
    assert (final.decision.final, final.decision.standby, final.decision.revision) == (True, True, 1)


def test_a_guarded_score_is_not_offered():
    found = desk(replace(BEST, guards=(Guard(model="second", max=0.5),)))
    found.requests_seen([request(0)], 1_000)
    assert found.scores_offered(scores("second", 0), 0, 1_005, 1_005) == []
    assert said(found.scores_offered(scores("first", 0), 1, 1_006, 1_006)) == [(0, True, "first")]


def test_diagnostics_tell_every_step_and_only_to_who_asks():
    found = desk(replace(Policy(), guards=(Guard(model="mirror", max=0.5),)))
    found.requests_seen([asking([("diagnostics", b"1")])], 1_001)
    found.scores_offered(scores("second", 0), 0, 1_004, 1_005)
    found.scores_offered(errors("yardstick", 0), 1, 1_006, 1_006)
    found.scores_offered(scores("mirror", 0), 2, 1_009, 1_010)
    (final,) = found.due(1_060)
    assert final.decision.trace == [
        TraceStep(1.0, "read"),
        TraceStep(5.0, "second scores 0.7"),
        TraceStep(6.0, "yardstick fails: raised"),
        TraceStep(10.0, "mirror scores 0.7, guarded: 0.7 is above 0.5"),
        TraceStep(60.0, "60% of the budget is used"),
        TraceStep(60.0, "final", "second"),
    ]
    found.requests_seen([replace(request(1), headers=[("diagnostics", b"0")])], 1_061)
    (plain,) = found.scores_offered(scores("first", 1), 3, 1_062, 1_062)
    assert plain.decision.trace is None


@given(
    kind=st.sampled_from(sorted(KINDS)),
    of_event=events,
    happened=happenings,
    low=st.floats(-2, 2),
    traced=st.booleans(),
)
def test_revisions_grow_each_is_better_and_the_one_final_is_at_least_as_good(
    kind: str, of_event: dict, happened: list, low: float, traced: bool
):
    policy = replace(KINDS[kind], refine=True, guards=(Guard(model="first", min=low),))
    headers: Headers = [("diagnostics", b"1")] if traced else []
    decisions = lived(policy, of_event, happened, headers)
    assert [decision.revision for decision in decisions] == list(range(len(decisions)))
    assert [decision.final for decision in decisions] == [False] * (len(decisions) - 1) + [True]
    branches = branches_of(of(policy))
    plan = plan_of(of(policy))
    if branches:
        _, plan = branches.of(Request(0, "r0", 1_000, 100, b"k", None, None, json.dumps(of_event).encode()))
    ranks = [plan.rank(one.model, one.combined or ()) for one in decisions if one.model is not None]
    assert all(later < earlier for earlier, later in pairwise(ranks[:-1]))
    assert ranks == sorted(ranks, reverse=True)
    if len(decisions) > 1:
        assert decisions[-1].model is not None, "what was offered is not taken back"
    for decision in decisions:
        assert bool(decision.trace) is traced


@given(kind=st.sampled_from(sorted(KINDS)), of_event=events, happened=happenings)
def test_refined_or_not_the_last_word_is_never_worse(kind: str, of_event: dict, happened: list):
    (plain,) = lived(KINDS[kind], of_event, happened)
    refined = lived(replace(KINDS[kind], refine=True), of_event, happened)[-1]
    assert (plain.model is None) <= (refined.model is None)
    if plain.model == "first" and kind in {"schedule", "all", "first"}:
        assert refined.model == "first"


def test_a_repeat_of_a_refined_request_is_told_the_final_answer():
    found = Rendezvous(pipeline(policy=BEST), 0)
    found.requests_seen([request(0), replace(request(1), request_id="r0")], 1_000)
    assert said(found.scores_offered(scores("second", 0), 0, 1_005, 1_005)) == [(0, False, "second")]
    final, repeat = found.scores_offered(scores("first", 0), 1, 1_006, 1_006)
    assert isinstance(final.decision, Decision)
    assert (repeat.decision.model, repeat.decision.final, repeat.decision.revision) == ("first", True, 0)
