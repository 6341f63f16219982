"""Thompson sampling: the same tallies and requests give the same arms, live and again, and the better one wins."""

import json
from pathlib import Path
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.cli.golden import golden_check
from agents.cli.taught import taught
from schemas.decisions import Decision, Outcome, ScoreSeen, Ticket, encode_decision
from schemas.errors import UnreadableRecord
from schemas.labels import MAX_WEIGHT, Label, encode_label
from schemas.pipeline import Pipeline, Policy, PolicyKind, Role
from schemas.tallies import LEAD_MS, Counted, Tally, decode_tally, encode_tally
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.learned import NOTHING, Learned
from streams.core.learning import Learning
from streams.core.past import Way
from streams.core.pipeline_checks import mistakes_of
from streams.core.policy import schedule_of
from streams.core.policy_bandit import EXACT, Bandit, _share, drawn
from streams.core.policy_branches import branches_of
from streams.core.rendezvous import Rendezvous
from tests.unit.lived import START_MS, play
from tests.unit.small import pipeline, request, scores

BANDIT = Policy(kind=PolicyKind.BANDIT)
ARMS = (("first", "1"), ("second", "1"))
counts = st.integers(0, 500)


def tally(log_ms: float = 0, learned: Learned = NOTHING, **right_wrong: tuple[int, int]) -> Learned:
    counted = tuple(Counted(model, "1", *both) for model, both in right_wrong.items())
    return learned.after(encode_tally(Tally(counted=counted, labels={0: 1})), log_ms)


def branches(learned: Learned, numbers: range, of: Pipeline | None = None) -> list[str]:
    deals = branches_of(of or pipeline(policy=BANDIT))
    assert deals is not None
    return [deals.of(request(number, at_ms=10_000), learned)[0] for number in numbers]


# The draw ---------------------------------------------------------------------------------------------------


def test_these_requests_have_these_arms_on_every_machine():
    arms = [("first", 5, 3), ("second", 4, 4), ("third", 300, 200)]
    assert "".join(drawn(arms, f"r{number}")[0] for number in range(32)) == "ftffftstfffftftfffssfsstftffftft"


@given(first=st.tuples(counts, counts), second=st.tuples(counts, counts), number=st.integers(0, 1_000))
def test_the_same_tallies_give_the_same_arm(first: tuple[int, int], second: tuple[int, int], number: int):
    schedule = schedule_of(pipeline())
    model, plan = Bandit(ARMS, schedule).of(request(number, at_ms=10_000), tally(first=first, second=second))
    assert (model, plan) == Bandit(ARMS, schedule).of(
        request(number, at_ms=10_000), tally(second=second, first=first)
    )
    assert plan.wanted == model
    assert plan.choose(0.1, {"first", "second"}, ()) == model
    assert plan.choose(0.7, {"first", "second"} - {model}, ()) in {"first", "second"}, "the compromise goes on"


def test_the_better_arm_is_soon_drawn_nearly_always_and_the_other_never_quite_forgotten():
    chosen: list[str] = []
    known = {"first": [0, 0], "second": [0, 0]}
    for number in range(2_000):
        chosen.append(drawn([(model, *both) for model, both in known.items()], f"r{number}"))
        known["first"][number % 10 >= 6] += 1
        known["second"][number % 10 >= 8] += 1
    assert chosen[:20].count("first") > 0
    assert chosen[-1_000:].count("second") > 990


def test_a_draw_has_the_mean_and_the_variance_of_its_beta_distribution_near_or_far():
    for a, b in ((1, 1), (3, 9), (EXACT // 2 + 1, EXACT // 2 + 1), (EXACT, 3), (400, 100)):
        draws = [_share(a, b, f"{number}") for number in range(3_000)]
        mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
        assert abs(fmean(draws) - mean) < 4 * (variance / 3_000) ** 0.5
        assert 0.88 < pvariance(draws) / variance < 1.12


# Who is drawn, and by which tally -----------------------------------------------------------------------------


def test_a_tally_counts_from_its_lead_on_in_the_order_of_the_log():
    learned = tally(1_000, first=(1, 0))
    learned = tally(1_100, learned, first=(2, 0))
    hasty = Tally(counted=(Counted("first", "1", 3, 0),), labels={}, lead_ms=0)
    learned = learned.after(encode_tally(hasty), 1_200).after(b"nonsense", 1_300)
    assert learned.read == 4
    found = [learned.at(at_ms).get(("first", "1")) for at_ms in (2_999, 3_000, 3_099, 3_100)]
    assert found == [None, (1, 0), (1, 0), (3, 0)]
    assert learned.begins_ms == (3_000, 3_100, 3_100), "the third may not overtake the second"


def test_of_two_tallies_a_request_meets_that_of_its_log_time_whenever_it_is_read():
    learned = tally(9_000, tally(0, first=(0, 200), second=(200, 0)), first=(2_000, 0), second=(0, 2_000))
    of = pipeline(policy=BANDIT)

    def desk(now_ms: float) -> list[str | None]:
        core = Rendezvous(of, 0)
        core.learn(learned)
        replies = core.requests_seen([request(n, 10_000 + n * 20, 5_000) for n in range(100)], now_ms)
        replies += core.scores_offered(scores("first", *range(100)), 0, 12_000, now_ms)
        replies += core.scores_offered(scores("second", *range(100)), 1, 12_000, now_ms)
        assert len(replies) == 100
        return [reply.decision.branch for reply in sorted(replies, key=lambda one: one.request.offset)]

    assert desk(12_000) == desk(99_000) == ["second"] * 50 + ["first"] * 50


def test_another_version_of_a_model_has_everything_to_learn():
    learned = tally(first=(900, 100), second=(0, 1_000))
    newer = replace(pipeline().models[1], version="2")
    of = pipeline(policy=BANDIT, models=(pipeline().models[0], newer))
    assert set(branches(learned, range(200))) == {"first"}
    assert set(branches(learned, range(200), of)) == {"first", "second"}


def test_the_arms_are_those_named_and_of_these_those_that_may_answer():
    third = replace(pipeline().models[1], name="third")
    models = (*pipeline().models, third)
    assert set(branches(NOTHING, range(50), pipeline(policy=BANDIT, models=models))) == {"first", "second", "third"}
    named = pipeline(policy=replace(BANDIT, arms=("first", "third")), models=models)
    assert set(branches(NOTHING, range(50), named)) == {"first", "third"}
    gone = replace(named, models=(models[0], models[1], replace(third, role=Role.SHADOW)))
    assert set(branches(NOTHING, range(50), gone)) == {"first"}
    nobody = replace(gone, models=(replace(models[0], role=Role.SHADOW), models[1]))
    assert set(branches(NOTHING, range(50), nobody)) == {"second"}, "the roster has taken out all that are named"


def test_every_mistake_of_a_bandit_is_told_at_once():
    policy = replace(BANDIT, arms=("first", "first", "nobody", "mirror"), remember=0, by="a")
    found = [str(mistake) for mistake in mistakes_of(replace(pipeline(), policy=policy))]
    for wanted in ("policy.by", "policy.arms", "'nobody' is no model", "'mirror' never answers", "policy.remember"):
        assert any(wanted in line for line in found), (wanted, found)
    alone = replace(pipeline(), policy=replace(BANDIT, arms=("first",)))
    assert [mistake.key for mistake in mistakes_of(alone)] == ["policy.arms"]


@pytest.mark.parametrize("value", [None, b"{}", b'{"counted": [{"model": "a"}], "labels": {}}', b"[]"])
def test_what_is_no_tally_says_so(value: bytes | None):
    with pytest.raises(UnreadableRecord, match="not a tally"):
        decode_tally(value)


# Learning -----------------------------------------------------------------------------------------------------


def decision(offset: int, first: float | None, second: float | None, **more: object) -> bytes:
    found = {"first": first, "second": second}
    fields: dict[str, object] = {
        "request_id": f"r{offset}",
        "ticket": Ticket(0, offset),
        "outcome": Outcome.PREFERRED,
        "final": True,
        "revision": 0,
        "model": "first",
        "version": "1",
        "score": 0.5,
        "scores": {model: ScoreSeen(score, "1", 5) for model, score in found.items() if score is not None},
        "missing": [],
        "failed": {},
        "not_asked": {},
        "budget_ms": 100,
        "used_ms": 1.0,
        "decided_at_ms": 1,
        "reason": "",
    }
    return encode_decision(Decision(**(fields | more)))  # type: ignore[arg-type]


def label(truth: bool, offset: int | None = None, ticket: Ticket | None = None, weight: float = 1.0) -> bytes:
    request_id = None if offset is None else f"r{offset}"
    return encode_label(Label(truth=truth, request_id=request_id, ticket=ticket, weight=weight))


def told(learning: Learning) -> dict[str, tuple[int, int]]:
    found = learning.due()
    assert found is not None
    return {one.model: (one.right, one.wrong) for one in found.counted}


def test_every_model_that_had_scored_learns_from_a_label():
    learning = Learning(0.5, 100)
    learning.decided(decision(0, 0.9, 0.2))
    learning.decided(decision(1, 0.9, None))
    learning.labelled(0, 0, label(True, 0))
    learning.labelled(0, 1, label(False, ticket=Ticket(0, 1)))
    assert told(learning) == {"first": (1, 1), "second": (0, 1)}
    assert learning.labels == {0: 2}


def test_the_last_label_of_a_request_counts_and_the_same_twice_counts_once():
    learning = Learning(0.5, 100)
    learning.decided(decision(0, 0.9, 0.2))
    for offset, truth in enumerate([True, True, False]):
        learning.labelled(0, offset, label(truth, 0))
    learning.labelled(0, 1, label(True, 0))  # read again after an error
    assert told(learning) == {"first": (0, 1), "second": (1, 0)}


def test_labels_weigh_what_they_stand_for_and_count_for_as_many_as_they_are_worth():
    learning = Learning(0.5, 100)
    for offset in range(30):
        learning.decided(decision(offset, 0.9, 0.2))
    for offset in range(30):  # disputed requests, where second is better, are asked for more often than they occur
        asked = offset >= 10
        learning.labelled(0, offset, label(not asked, offset, weight=2.0 if asked else 50.0))
    assert told(learning) == {"first": (11, 1), "second": (1, 11)}, "unweighted, second would be right 20 times of 30"
    for offset in range(10):
        learning.labelled(0, 30 + offset, label(False, offset, weight=2.0))
    assert told(learning) == {"first": (0, 30), "second": (30, 0)}, (
        "equal ones are worth what they are, corrected too"
    )


@pytest.mark.parametrize(
    "value",
    [b"nonsense", None, label(True, 7), label(True, ticket=Ticket(1, 0)), label(True, 7, Ticket(0, 0))],
    ids=["unreadable", "none", "nobody's", "another partition's", "its ticket is another's"],
)
def test_a_label_for_nobody_teaches_nothing_and_stops_nothing(value: bytes | None):
    learning = Learning(0.5, 100)
    learning.decided(decision(0, 0.9, 0.2))
    learning.labelled(0, 0, value)
    assert learning.due() is None
    learning.labelled(0, 1, label(True, 0))
    assert told(learning) == {"first": (1, 0), "second": (0, 1)}


def test_a_label_that_outweighs_the_world_stops_no_learner_nor_does_what_it_once_made_of_a_tally():
    first = Learning(0.5, 100)
    first.decided(decision(0, 0.9, 0.2))
    first.labelled(0, 0, label(True, 0))
    before = first.due()
    assert before is not None
    unreadable = encode_tally(replace(before, counted=(Counted("first", "1", 1, 0, (1e200, 0.0, float("inf"))),)))
    known = NOTHING.after(encode_tally(before), 1_000).after(unreadable, 2_000)
    assert known.last == before
    learning = Learning(0.5, 100, known.last)
    for offset in range(3):
        learning.decided(decision(offset, 0.9, 0.2))
    learning.recalled(label(True, 0))
    huge = b'{"request_id": "r1", "truth": true, "weight": 1e200}'
    for offset, value in enumerate([huge, label(True, 2, weight=MAX_WEIGHT)], 1):
        learning.labelled(0, offset, value)
    tally = learning.due()
    assert tally is not None
    assert decode_tally(encode_tally(tally)) == tally
    assert tally.labels == {0: 3}
    assert known.after(encode_tally(tally), 3_000).last == tally


def test_a_request_teaches_by_its_first_final_decision_and_a_repeat_does_not_teach():
    learning = Learning(0.5, 100)
    learning.decided(decision(0, 0.1, 0.1, final=False))
    learning.decided(decision(0, 0.9, 0.9))
    learning.decided(decision(0, 0.1, 0.1, standby=True))
    learning.decided(decision(1, 0.9, 0.9, duplicate_of=Ticket(0, 0)))
    learning.decided(b"nonsense")
    learning.labelled(0, 0, label(True, 0))
    learning.labelled(0, 1, label(True, 1))
    assert told(learning) == {"first": (1, 0), "second": (1, 0)}


def test_a_probe_teaches_nothing_and_takes_no_requests_place():
    learning = Learning(0.5, 10)
    for offset in range(10):
        learning.decided(decision(offset, 0.9, 0.1))
    for offset in range(10, 30):
        learning.decided(decision(offset, 0.1, 0.9, probe=True))
    for offset in range(30):
        learning.labelled(0, offset, label(True, offset))
    assert told(learning) == {"first": (10, 0), "second": (0, 10)}


def test_only_the_last_requests_are_remembered():
    learning = Learning(0.5, 10)
    for offset in range(25):
        learning.decided(decision(offset, 0.9, 0.1))
    assert len(learning) == 10
    for offset in range(25):
        learning.labelled(0, offset, label(True, offset))
    assert told(learning) == {"first": (10, 0), "second": (0, 10)}


def test_tallies_are_told_by_the_hundredth_so_that_their_log_stays_short():
    learning, log = Learning(0.5, 20_000), 0
    for offset in range(20_000):
        learning.decided(decision(offset, 0.9, 0.1))
        learning.labelled(0, offset, label(offset % 3 > 0, offset))
        log += learning.due() is not None
    assert 400 < log < 800


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.sampled_from([1.0, 1.0, 3.7, 50.0])), max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_a_learner_that_is_killed_anywhere_counts_every_label_once(
    labels: list[tuple[int, bool, float]], kills: list[int]
):
    """What is told is all that outlives it; the rest is read again."""
    decisions = [decision(offset, 0.9, 0.1) for offset in range(10)]

    def begun(before: Tally | None) -> Learning:
        learning = Learning(0.5, 100, before)
        for one in decisions:
            learning.decided(one)
        for which, truth, weight in labels[: before.labels[0] if before else 0]:
            learning.recalled(label(truth, which, weight=weight))
        return learning

    last: Tally | None = None
    learning = begun(None)
    for place in [*sorted(kills), len(labels)]:
        for offset in range(place):
            if offset < len(labels):
                which, truth, weight = labels[offset]
                learning.labelled(0, offset, label(truth, which, weight=weight))
            if tally := learning.due():
                last = decode_tally(encode_tally(tally))
        if place < len(labels):
            learning = begun(last)
    truths = {which: (truth, weight) for which, truth, weight in labels}
    right, wrong = (sum(weight for truth, weight in truths.values() if truth is yes) for yes in (True, False))
    squares = sum(weight * weight for _, weight in truths.values())
    assert learning._sums.get(("first", "1"), [0, 0, 0]) == pytest.approx([right, wrong, squares], abs=1e-6)
    assert learning._sums.get(("second", "1"), [0, 0, 0]) == pytest.approx([wrong, right, squares], abs=1e-6)


# The past run again -------------------------------------------------------------------------------------------


def written(root: Path, topic: str, records: list[Record]) -> None:
    writer = PartitionWriter(Layout(root, topic, 0), Limits(1_000, 1 << 26, 60.0), "id", "w")
    writer.append(records, 0.0)
    writer.close_segment()


VALUES = [json.dumps({"request_id": f"r{n}", "x": 0.5}).encode() for n in range(400)]


def test_the_past_is_answered_by_the_archived_tallies(tmp_path: Path):
    of = pipeline(policy=BANDIT)
    learned = tally(START_MS + 300 - LEAD_MS, first=(1, 300), second=(300, 1))
    lived = play(of, VALUES, latency_ms=lambda dice, _: dice.uniform(1, 20), learned=learned)
    lived.write(tmp_path, of.name)
    assert not golden_check(tmp_path, of, Period()).ok, "what was known is not there"
    value = encode_tally(learned.last or Tally(counted=(), labels={}))
    written(tmp_path, Topics(of.name).tallies, [Record(0, START_MS + 300 - LEAD_MS, 1, None, value, None)])
    found = golden_check(tmp_path, of, Period())
    assert found.ok
    assert found.compared > 200


def test_a_bandit_that_is_tried_learns_by_the_archived_labels(tmp_path: Path):
    base = pipeline(policy=Policy(answer="all"))
    of = replace(base, policy=BANDIT)
    lived = play(base, VALUES, latency_ms=lambda dice, _: dice.uniform(1, 20), score=lambda m, _: float(m == "first"))
    lived.write(tmp_path, base.name)
    labels = [
        Record(n, START_MS + 5_000 + n * 10, 1, None, label(truth=False, offset=n), None) for n in range(len(VALUES))
    ]
    written(tmp_path, Topics(base.name).labels, labels)
    unchanged, tried = taught(tmp_path, base, [Way("unchanged", base), Way("bandit", of)], Period())
    assert unchanged.learned is NOTHING
    known = tried.learned.at(START_MS + 60_000)
    assert known["second", "1"] == (400, 0)
    assert known["first", "1"] == (0, 400)
    assert tried.learned.at(START_MS + 5_000) == {}
    assert 4 <= tried.learned.read <= 6, "told once a second, as the learner does"
