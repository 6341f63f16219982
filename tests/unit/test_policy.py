"""The schedule of growing compromise, step by step."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.pipeline import Policy, Step
from streams.core.policy import schedule_of
from tests.unit.small import pipeline

DEFAULT = schedule_of(pipeline())
ALL = schedule_of(pipeline(policy=replace(Policy(), answer="all")))
names = st.sets(st.sampled_from(["first", "second", "mirror", "yardstick"]))


def test_the_champion_alone_may_answer_until_its_time_then_the_challenger_too():
    assert DEFAULT.choose(0.1, {"second"}, ()) is None
    assert DEFAULT.choose(0.1, {"first", "second"}, ()) == "first"
    assert DEFAULT.choose(0.6, {"second"}, ()) == "second"
    assert DEFAULT.choose(0.9, {"first", "second"}, ()) == "first", "the champion stays the first choice"
    assert DEFAULT.choose(0.9, (), ()) is None


def test_a_step_whose_models_are_all_out_is_not_waited_for():
    assert DEFAULT.choose(0.1, {"second"}, {"first"}) == "second"
    assert DEFAULT.choose(0.1, (), {"first"}) is None
    assert DEFAULT.hopeless({"first", "second"})
    assert not DEFAULT.hopeless({"first"})
    assert not DEFAULT.hopeless(())


def test_shadow_and_canary_never_answer():
    assert DEFAULT.choose(1.0, {"mirror", "yardstick"}, {"first", "second"}) is None


def test_with_answer_all_a_decision_waits_for_every_model_asked():
    assert ALL.choose(0.9, {"first", "second", "mirror"}, ()) is None
    assert ALL.choose(0.2, {"first", "second", "mirror"}, {"yardstick"}) == "first"
    assert ALL.choose(1.0, {"first"}, ()) == "first"
    assert ALL.next_change(0.0) == 1.0


def test_names_and_roles_stand_for_models_in_the_order_of_the_file():
    steps = (Step(until=0.5, accept=("second",)), Step(until=1.0, accept=("challenger", "champion")))
    schedule = schedule_of(pipeline(policy=Policy(steps=steps)))
    assert [step.order for step in schedule.steps] == [("second",), ("second", "first")]
    assert [schedule.next_change(share) for share in (0, 0.49, 0.5, 0.9)] == [0.5, 0.5, 1.0, 1.0]


@given(scores=names, out=names, share=st.floats(0, 1.5), later=st.floats(0, 1.5))
def test_who_may_answer_may_still_answer_later(scores: set[str], out: set[str], share: float, later: float):
    chosen = DEFAULT.choose(share, scores, out - scores)
    assert chosen is None or chosen in scores & {"first", "second"}
    if chosen is not None and later >= share:
        assert DEFAULT.choose(later, scores, out - scores) is not None


@given(scores=names, out=names, share=st.floats(0, 1))
def test_between_two_changes_time_changes_nothing(scores: set[str], out: set[str], share: float):
    end = DEFAULT.next_change(share)
    for between in (share, (share + end) / 2):
        if between < end:
            assert DEFAULT.choose(between, scores, out) == DEFAULT.choose(share, scores, out)
