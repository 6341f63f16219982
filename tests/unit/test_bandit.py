"""Thompson sampling as a pure value: the same labels and requests give the same arms, and the better one wins."""

from statistics import fmean, pvariance

from hypothesis import given
from hypothesis import strategies as st

from streams.core.policy import schedule_of
from streams.core.policy_bandit import EXACT, Arms, Bandit, _share
from tests.unit.small import pipeline, request

NEW = Arms((("first", 0, 0), ("second", 0, 0)))
labels = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=20)


def learned(what: list[tuple[float, float, bool]]) -> Arms:
    arms = NEW
    for first, second, label in what:
        arms = arms.labelled({"first": first, "second": second}, label)
    return arms


def test_every_model_that_had_scored_learns_from_a_label():
    arms = NEW.labelled({"first": 0.9, "second": 0.2, "mirror": 0.9}, True).labelled({"first": 0.9}, False)
    assert arms.counts == (("first", 1, 1), ("second", 0, 1))


def test_these_requests_have_these_arms_on_every_machine():
    arms = Arms((("first", 5, 3), ("second", 4, 4), ("third", 300, 200)))
    assert "".join(arms.drawn(f"r{number}")[0] for number in range(32)) == "ftffftstfffftftfffssfsstftffftft"


@given(what=labels, number=st.integers(0, 1_000))
def test_the_same_labels_give_the_same_arm(what: list[tuple[float, float, bool]], number: int):
    schedule = schedule_of(pipeline())
    model, plan = Bandit(learned(what), schedule).of(request(number))
    assert (model, plan) == Bandit(learned(list(what)), schedule).of(request(number))
    assert plan.wanted == model
    assert plan.choose(0.1, {"first", "second"}, ()) == model
    assert plan.choose(0.7, {"first", "second"} - {model}, ()) in {"first", "second"}, "the compromise goes on"


def test_the_better_arm_is_soon_drawn_nearly_always_and_the_other_never_quite_forgotten():
    arms, drawn = NEW, []
    for number in range(2_000):
        drawn.append(arms.drawn(f"r{number}"))
        right = number % 10
        arms = arms.labelled({"first": right < 6, "second": right < 8}, True)
    assert drawn[:20].count("first") > 0
    assert drawn[-1_000:].count("second") > 990


def test_a_draw_has_the_mean_and_the_variance_of_its_beta_distribution_near_or_far():
    for a, b in ((1, 1), (3, 9), (EXACT // 2 + 1, EXACT // 2 + 1), (EXACT, 3), (400, 100)):
        draws = [_share(a, b, f"{number}") for number in range(3_000)]
        mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
        assert abs(fmean(draws) - mean) < 4 * (variance / 3_000) ** 0.5
        assert 0.88 < pvariance(draws) / variance < 1.12
