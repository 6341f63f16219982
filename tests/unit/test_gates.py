"""The gates before a promotion say no with their figures."""

import pytest
from msgspec.structs import replace

from schemas.pipeline import Promotion
from streams.core.gates import Shown, figures_of, in_words, refusals
from streams.core.pipeline_checks import mistakes_of
from tests.unit.small import pipeline

GATES = Promotion(shadow_s=60, requests=10, agreement=0.9, latency_share=0.5, error_rate=0.1, min=0, max=1)


def shown(count: int = 20, **changes: object) -> list[Shown]:
    return [Shown(**{"budget_ms": 100, "score": 0.7, "age_ms": 20.0, "champion": 0.6, **changes})] * count  # type: ignore[arg-type]


def errors(count: int) -> list[Shown]:
    return shown(count, score=None, age_ms=None, failed=True)


def said(every: list[Shown], shadow_s: float = 100, gates: Promotion = GATES) -> list[str]:
    return [line.split(":")[0] for line in refusals(figures_of(every, gates, shadow_s), gates)]


def test_a_model_that_has_shown_all_goes_through():
    assert said(shown()) == []


@pytest.mark.parametrize(
    ("every", "gate"),
    [
        (shown(9), "requests"),
        (shown(champion=0.3), "agreement"),
        (shown(champion=None), "agreement"),
        (shown(age_ms=60.0), "latency_share"),
        (shown() + shown(1, score=None, age_ms=None), "latency_share"),
        (errors(2) + shown(), ""),
        (errors(4) + shown(), "error_rate"),
        (shown() + shown(1, score=1.5), "min, max"),
        (shown() + shown(1, score=-0.1, champion=0.1), "min, max"),
        (shown(label=True), ""),
        (shown(label=False, champion=0.6), ""),
        (shown(19, label=True) + shown(1, score=0.3, label=True), "accuracy_loss"),
    ],
)
def test_each_gate_says_no_by_itself(every: list[Shown], gate: str):
    assert said(every) == ([gate] if gate else [])


def test_a_model_has_to_run_beside_the_champion_for_some_time():
    assert said(shown(), shadow_s=59) == ["shadow_s"]


def test_one_slow_score_in_a_hundred_is_forgiven_and_two_are_not():
    assert said(shown(99) + shown(1, score=None, age_ms=None)) == []
    assert said(shown(98) + shown(2, score=None, age_ms=None)) == ["latency_share"]
    assert said(shown(98) + errors(2)) == [], "an error is no slow score"


def test_a_refusal_names_the_figures():
    found = figures_of(shown(4, age_ms=90.0, champion=0.1), GATES, 7)
    assert refusals(found, GATES) == [
        "shadow_s: it has run beside the champion for 7 s, not 60",
        "requests: it was seen on 4, not 10",
        "agreement: 0.00% with the champion, not 90.00%",
        "latency_share: the slowest scores in 100 took 90% of the budget, not 50%",
    ]


def test_what_it_has_shown_is_one_line_for_people():
    found = figures_of(shown(4, label=True) + errors(1), GATES, 7)
    assert in_words(found) == (
        "beside the champion for 7 s, last seen on 5 requests; on its side of the threshold for 100.00%; "
        "99 in 100 scores by 20% of the budget; errors 20.00%; right on 100.00% of 4 labelled, the champion on 100.00%; "
        "there are labels for 100.00% of what both scored"
    )


def test_a_refusal_by_labels_says_how_many_and_of_which_share_of_the_requests():
    found = figures_of(shown(9, label=True) + shown(1, score=0.3, label=True) + shown(15), GATES, 100)
    (line,) = refusals(found, GATES)
    assert line == (
        "accuracy_loss: right on 90.00% of 10 labelled requests, the champion 100.00%; "
        "there are labels for 40.00% of what both scored"
    )


def test_without_a_label_that_is_said():
    assert in_words(figures_of(shown(4), GATES, 7)).endswith("; none of them has a label")


def test_labels_that_were_drawn_speak_for_all_they_stand_for():
    disputed = shown(10, score=0.3, label=True)  # the champion is right, one label for each request
    others = shown(2, champion=0.3, label=True, weight=45.0)  # it is not, each label for 45
    found = figures_of(disputed + others, GATES, 100)
    assert (found.labelled, found.accuracy, found.champion_accuracy) == (12, 0.9, 0.1)
    assert said(disputed + others) == ["agreement"]
    plain = [replace(one, weight=1.0) for one in disputed + others]
    assert said(plain) == ["agreement", "accuracy_loss"]


def test_gates_that_make_no_sense_are_mistakes_of_the_file():
    wrong = Promotion(shadow_s=-1, agreement=2, latency_share=0, min=2, max=1)
    keys = [mistake.key for mistake in mistakes_of(replace(pipeline(), promotion=wrong))]
    assert keys == ["promotion.shadow_s", "promotion.agreement", "promotion.latency_share", "promotion"]
