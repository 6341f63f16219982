"""Each word of `policy.kind`, as its sentence says; and the laws that all of them keep."""

import json
from itertools import permutations
from statistics import median as plain_median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.decisions import Decision, Outcome, ScoreSeen
from schemas.pipeline import Cohort, Condition, Guard, Member, Pipeline, Policy, PolicyKind, Rule, Step
from schemas.requests import Request
from streams.core.log_order import LogOrder
from streams.core.policy_branches import Weighted, branches_of, holds, plan_of
from streams.core.policy_combine import COMBINED, Combine
from streams.core.rendezvous import Rendezvous
from tests.unit.small import errors, pipeline, request, scores

WEIGHTED = Policy(
    kind=PolicyKind.WEIGHTED,
    by="customer.id",
    cohorts=(Cohort(model="first", weight=75), Cohort(model="second", weight=25)),
)
LARGE = Rule(
    name="large",
    when=(Condition(field="payment.amount", op=">", value=100), Condition(field="kind", op="in", value=("a", "b"))),
    steps=(Step(until=1.0, accept=("second",)),),
)
RULES = Policy(kind=PolicyKind.RULES, rules=(LARGE,))
KINDS = {
    "schedule": Policy(),
    "all": Policy(answer="all"),
    "first": Policy(kind=PolicyKind.FIRST),
    "best": Policy(kind=PolicyKind.BEST, order=("second", "first")),
    "weighted": WEIGHTED,
    "mean": Policy(kind=PolicyKind.COMBINE, least=1),
    "median": Policy(kind=PolicyKind.COMBINE, how="median", least=2, until=0.5),
    "vote": Policy(kind=PolicyKind.COMBINE, how="vote", members=(Member(model="second", weight=3),)),
    "rules": RULES,
}


SMALL = pipeline()


def of(policy: Policy) -> Pipeline:
    return replace(SMALL, policy=policy)


def desk(policy: Policy, *requests: Request) -> Rendezvous:
    found = Rendezvous(of(policy), 0)
    assert found.requests_seen(requests or [request(0)], 1_000) == []
    return found


def event(offset: int, value: object, key: bytes | None = None) -> Request:
    return Request(offset, f"r{offset}", 1_000, 100, key, None, None, json.dumps(value).encode())


def only(replies: list) -> Decision:
    (reply,) = replies
    return reply.decision


# Each kind


def test_first_means_whoever_is_first():
    decision = only(desk(KINDS["first"]).scores_offered(scores("second", 0), 0, 1_003, 1_003))
    assert (decision.model, decision.outcome) == ("second", Outcome.FALLBACK)
    decision = only(desk(KINDS["first"]).scores_offered(scores("first", 0), 0, 1_003, 1_003))
    assert (decision.model, decision.outcome) == ("first", Outcome.PREFERRED)


def test_best_waits_for_the_most_wanted_until_the_deadline():
    waiting = desk(KINDS["best"])
    assert waiting.scores_offered(scores("first", 0), 0, 1_003, 1_003) == []
    assert waiting.next_due_ms == 1_100
    decision = only(waiting.due(1_100))
    assert (decision.model, decision.outcome) == ("first", Outcome.FALLBACK)
    assert decision.reason == (
        "the most wanted second had not answered by 100 % of the budget; first answered after 3 ms"
    )
    assert only(desk(KINDS["best"]).scores_offered(scores("second", 0), 0, 1_003, 1_003)).outcome == "preferred"


def test_best_answers_at_once_when_nobody_better_can_come():
    waiting = desk(KINDS["best"])
    waiting.scores_offered(scores("first", 0), 0, 1_003, 1_003)
    assert only(waiting.scores_offered(errors("second", 0), 1, 1_004, 1_004)).model == "first"


def test_a_cohorts_model_answers_its_users_and_without_it_the_schedule_goes_on():
    branches = branches_of(of(WEIGHTED))
    assert branches is not None
    ours = next(n for n in range(99) if branches.of(event(0, {"customer": {"id": n}}))[0] == "second")
    mine = event(0, {"customer": {"id": ours}})
    waiting = desk(WEIGHTED, mine)
    assert waiting.scores_offered(scores("first", 0), 0, 1_001, 1_001) == []
    decision = only(waiting.scores_offered(scores("second", 0), 1, 1_002, 1_002))
    assert (decision.model, decision.outcome, decision.branch) == ("second", Outcome.PREFERRED, "second")
    waiting = desk(WEIGHTED, mine)
    waiting.scores_offered(scores("first", 0), 0, 1_001, 1_001)
    decision = only(waiting.due(1_060))
    assert (decision.model, decision.outcome, decision.branch) == ("first", Outcome.FALLBACK, "second")
    assert "its cohort's model second had not answered by 60 %" in decision.reason
    waiting = desk(WEIGHTED, mine)
    waiting.scores_offered(scores("first", 0), 0, 1_001, 1_001)
    assert only(waiting.scores_offered(errors("second", 0), 1, 1_002, 1_002)).model == "first"


def test_these_users_are_in_these_cohorts_on_every_machine():
    branches = branches_of(of(WEIGHTED))
    assert branches is not None
    found = "".join(branches.of(event(0, {"customer": {"id": f"c{n}"}}))[0][0] for n in range(24))
    assert found == "fffssfsfsfsfsfsffssfffff"


def test_without_the_field_the_key_and_without_a_key_the_request_id_says_the_cohort():
    branches = branches_of(of(replace(WEIGHTED, by="")))
    assert branches is not None
    by_key = {branches.of(event(n, {}, key=b"k")) for n in range(50)}
    assert len(by_key) == 1
    assert len({branches.of(event(n, {"customer": {"id": "c"}}))[0] for n in range(50)}) == 2
    by_field = branches_of(of(WEIGHTED))
    assert by_field is not None
    assert {by_field.of(event(n, {"customer": {"id": None}}, key=b"k"))[0] for n in range(50)} == {
        next(iter(by_key))[0]
    }


def test_a_rule_whose_conditions_all_hold_picks_the_schedule():
    large = event(0, {"payment": {"amount": 100.5}, "kind": "b"})
    decision = only(desk(RULES, large).scores_offered(scores("second", 0), 0, 1_001, 1_001))
    assert (decision.model, decision.branch) == ("second", "large")
    small = event(0, {"payment": {"amount": 100}, "kind": "b"})
    assert desk(RULES, small).scores_offered(scores("second", 0), 0, 1_001, 1_001) == []
    decision = only(desk(RULES, small).scores_offered(scores("first", 0), 0, 1_001, 1_001))
    assert (decision.model, decision.branch) == ("first", "otherwise")


@pytest.mark.parametrize(
    ("op", "value", "fulfils", "fails"),
    [
        ("==", "a", ["a"], ["b", None, 1]),
        ("!=", "a", ["b"], ["a", None, 1]),
        ("<", 2, [1, 1.9, -5], [2, 3, "1", None, True]),
        ("<=", 2, [1, 2, 2.0], [2.1, "2"]),
        (">", 2, [3, 2.5], [2, 1, None]),
        (">=", 2, [2, 3], [1.9, [3]]),
        ("==", True, [True], [1, "true", False]),
        ("in", (1, "x"), [1, 1.0, "x"], [True, 2, "y", None, {}]),
    ],
)
def test_a_condition_holds_for_values_of_its_own_type(op, value, fulfils: list, fails: list):
    condition = Condition(field="f", op=op, value=value)
    assert all(holds(condition, found) for found in fulfils)
    assert not any(holds(condition, found) for found in fails)


def test_a_combination_waits_for_all_then_takes_what_is_enough():
    waiting = desk(KINDS["mean"])
    assert waiting.scores_offered(scores("second", 0, score=0.2), 0, 1_001, 1_001) == []
    decision = only(waiting.scores_offered(scores("first", 0, score=0.6), 1, 1_002, 1_002))
    assert (decision.model, decision.version, decision.score) == (COMBINED, "mean", 0.4)
    assert (decision.outcome, decision.combined) == (Outcome.PREFERRED, {"first": 1.0, "second": 1.0})
    waiting = desk(KINDS["mean"])
    waiting.scores_offered(scores("second", 0, score=0.2), 0, 1_001, 1_001)
    assert waiting.next_due_ms == 1_080
    decision = only(waiting.due(1_080))
    assert (decision.outcome, decision.score, decision.combined) == (Outcome.FALLBACK, 0.2, {"second": 1.0})
    assert decision.reason == "the mean of second, without first"


def test_with_fewer_than_enough_the_default_answers_at_once_if_no_more_can_come():
    waiting = desk(KINDS["median"])
    waiting.scores_offered(scores("second", 0), 0, 1_001, 1_001)
    assert only(waiting.scores_offered(errors("first", 0), 1, 1_002, 1_002)).outcome == Outcome.DEFAULT
    waiting = desk(KINDS["median"])
    waiting.scores_offered(scores("second", 0), 0, 1_001, 1_001)
    assert waiting.due(1_099) == []
    assert only(waiting.due(1_100)).outcome == Outcome.DEFAULT


def combined(how: str, *members: tuple[float, float]) -> float:
    plan = Combine(tuple((f"m{n}", weight) for n, (_, weight) in enumerate(members)), how)  # type: ignore[arg-type]
    seen = {f"m{n}": ScoreSeen(score, "1", 0) for n, (score, _) in enumerate(members)}
    return plan.combined(seen)[0]


def test_mean_median_and_vote_by_hand():
    assert combined("mean", (0.0, 1), (1.0, 3)) == 0.75
    assert combined("median", (0.1, 1), (0.9, 1), (0.2, 1)) == 0.2
    assert combined("median", (0.1, 1), (0.3, 1)) == 0.2
    assert combined("median", (0.1, 5), (0.2, 1), (0.3, 1)) == 0.1
    assert combined("vote", (0.5, 1), (0.49, 1), (0.9, 2)) == 0.75
    assert combined("mean", (1.7e308, 1), (1.7e308, 1)) == 1.7e308


# Guards


def test_a_guarded_score_cannot_win_and_nobody_waits_for_that_model():
    guarded = replace(Policy(), guards=(Guard(model="first", min=0.0, max=0.95),))
    waiting = desk(guarded)
    waiting.scores_offered(scores("second", 0, score=0.3), 0, 1_001, 1_001)
    decision = only(waiting.scores_offered(scores("first", 0, score=1.7), 1, 1_002, 1_002))
    assert (decision.model, decision.guarded) == ("second", {"first": "1.7 is above 0.95"})
    assert decision.scores["first"].score == 1.7, "it is told all the same"
    assert "the champion first was guarded: 1.7 is above 0.95" in decision.reason
    assert only(desk(guarded).scores_offered(scores("first", 0, score=0.95), 0, 1_001, 1_001)).guarded is None


def test_when_everybody_is_guarded_the_default_answers_at_once():
    guarded = replace(Policy(), guards=(Guard(model="first", max=0), Guard(model="second", min=1)))
    waiting = desk(guarded)
    assert waiting.scores_offered(scores("second", 0, score=0.3), 0, 1_001, 1_001) == []
    assert only(waiting.scores_offered(scores("first", 0, score=0.3), 1, 1_002, 1_002)).outcome == "default"


def test_a_guarded_score_that_overtook_its_request_cannot_win_either():
    found = Rendezvous(of(replace(Policy(), guards=(Guard(model="first", max=0.5),))), 0)
    found.scores_offered(scores("first", 0, score=0.7), 0, 1_000, 1_000)
    assert found.requests_seen([request(0)], 1_001) == []


# Laws

MODELS = ("first", "second", "mirror", "yardstick")
values = st.floats(-2, 2).map(lambda value: round(value, 3))
happenings = st.lists(
    st.tuples(st.sampled_from(MODELS), st.sampled_from(["score", "fail"]), values, st.integers(0, 30)),
    max_size=6,
    unique_by=lambda one: one[0],
)
kinds = st.sampled_from(sorted(KINDS))
events = st.fixed_dictionaries(
    {"customer": st.fixed_dictionaries({"id": st.integers(0, 50)}), "kind": st.sampled_from(["a", "c"])},
    optional={"payment": st.fixed_dictionaries({"amount": st.integers(0, 200)})},
)


def lived(policy: Policy, of_event: dict, happened: list, headers=None) -> list[Decision]:
    """One request's life: what came when, and every decision about it."""
    found = Rendezvous(of(policy), 0)
    one = Request(0, "r0", 1_000, 100, b"k", headers, None, json.dumps(of_event).encode())
    replies, now_ms = found.requests_seen([one], 1_000.0), 1_000.0

    def wait(ms: int) -> None:
        nonlocal now_ms
        for _ in range(ms):
            now_ms += 1
            replies.extend(found.due(now_ms))

    for position, (model, what, score, ms) in enumerate(happened):
        wait(ms)
        block = scores(model, 0, score=score) if what == "score" else errors(model, 0)
        replies += found.scores_offered(block, position, int(now_ms), now_ms)
    wait(101)
    assert found.undecided == 0
    assert found.next_due_ms is None
    return [reply.decision for reply in replies]


@given(kind=kinds, of_event=events, happened=happenings)
def test_every_policy_decides_once_and_the_same_again(kind: str, of_event: dict, happened: list):
    (decision,) = lived(KINDS[kind], of_event, happened)
    backwards = {key: of_event[key] for key in reversed(of_event)}
    (again,) = lived(KINDS[kind], backwards, happened)
    assert replace(again, fingerprint="") == replace(decision, fingerprint="")
    assert decision.final
    assert decision.model in {"first", "second", COMBINED, None}
    assert (decision.model is None) is (decision.outcome is Outcome.DEFAULT)


@given(kind=kinds, of_event=events, happened=happenings, refine=st.booleans())
def test_the_log_run_through_again_gives_the_same_decisions_as_life(
    kind: str, of_event: dict, happened: list, refine: bool
):
    policy = replace(KINDS[kind], refine=refine, guards=(Guard(model="second", max=1.5),))
    again = Rendezvous(of(policy), 0)
    order = LogOrder(again)
    order.requests_seen([Request(0, "r0", 1_000, 100, b"k", None, None, json.dumps(of_event).encode())])
    now_ms = 1_000
    for position, (model, what, score, ms) in enumerate(happened):
        now_ms += ms
        block = scores(model, 0, score=score) if what == "score" else errors(model, 0)
        order.scores_offered(now_ms, lambda at, b=block, p=position, t=now_ms: again.scores_offered(b, p, t, at))
    order.close("raw", "scores")
    replies = order.run() + order.through(2_000)
    assert [reply.decision for reply in replies] == lived(policy, of_event, happened)


@given(kind=kinds, of_event=events, happened=happenings, low=values, high=values, refine=st.booleans())
def test_a_score_outside_its_guard_never_wins(kind, of_event: dict, happened: list, low, high, refine: bool):
    guards = (Guard(model="first", min=min(low, high), max=max(low, high)), Guard(model="second", max=high))
    policy = replace(KINDS[kind], guards=guards, refine=refine)
    for decision in lived(policy, of_event, happened):
        bad = {
            guard.model
            for guard in guards
            if (seen := decision.scores.get(guard.model))
            and not (guard.min if guard.min is not None else -9) <= seen.score <= guard.max  # type: ignore[operator]
        }
        assert set(decision.guarded or ()) == bad
        assert decision.model not in bad
        assert not bad & set(decision.combined or ())


@given(user=st.text(), others=st.lists(st.text(), max_size=3), weight=st.floats(0.1, 99))
def test_a_user_stays_in_the_cohort_whatever_else_the_event_says(user: str, others: list[str], weight: float):
    policy = replace(WEIGHTED, cohorts=(Cohort(model="first", weight=weight), Cohort(model="second", weight=1)))
    found = set()
    for place, other in enumerate(["", *others]):
        branches = branches_of(of(policy))
        assert isinstance(branches, Weighted)
        found.add(branches.of(event(place, {"more": other, "customer": {"id": user}}, key=b"same"))[0])
    assert len(found) == 1


def test_cohorts_have_their_weights_and_another_salt_deals_anew():
    def dealt(salt: str) -> list[bool]:
        branches = branches_of(of(replace(WEIGHTED, salt=salt)))
        assert branches is not None
        return [branches.of(event(0, {"customer": {"id": n}}))[0] == "second" for n in range(4_000)]

    before, after = dealt(""), dealt("2")
    assert 900 < sum(before) < 1_100
    assert 900 < sum(after) < 1_100
    assert 180 < sum(a and b for a, b in zip(before, after, strict=True)) < 320, "independent: a quarter of a quarter"


@given(st.lists(st.tuples(values, st.integers(1, 3)), min_size=1, max_size=4), st.sampled_from(["mean", "median"]))
def test_a_combination_lies_between_its_scores_and_is_the_plain_one_for_equal_weights(members: list, how: str):
    plain = [score for score, _ in members]
    assert min(plain) <= combined(how, *members) <= max(plain)
    if how == "median":
        assert combined(how, *((score, 1) for score in plain)) == pytest.approx(plain_median(plain))


def test_a_combination_does_not_depend_on_who_came_first():
    given_scores = {"first": 0.1, "second": 0.7}
    for how in ("mean", "median", "vote"):
        found = set()
        for order in permutations(given_scores):
            waiting = desk(Policy(kind=PolicyKind.COMBINE, how=how))  # type: ignore[arg-type]
            replies = [
                reply
                for place, model in enumerate(order)
                for reply in waiting.scores_offered(scores(model, 0, score=given_scores[model]), place, 1_001, 1_001)
            ]
            found.add(only(replies).score)
        assert len(found) == 1


def test_each_of_these_policies_is_consistent_and_wants_somebody_who_answers():
    for policy in KINDS.values():
        plan = plan_of(pipeline(policy=policy))
        assert plan.wanted in {"first", "second", COMBINED}
