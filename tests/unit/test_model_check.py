"""Nothing lost, one answer for every ticket, whoever dies, sleeps or wakes, wherever: the core, explored by dice.

The explorer itself is explored: with a protection taken out it finds the harm, and it has met enough of everything.
"""

import pytest

from tests.unit.explorer.members import Variant
from tests.unit.explorer.world import explored

REQUESTS = 400
"""Of one world: some 2.5 s of its time, over two partitions."""

FEW = 20
"""Worlds in which each harm is found many times over."""

ALONE, TWINS, REFINED, REFINED_TWINS = 100, 200, 80, 40
"""Worlds in which nothing is lost or contradicted."""

AT_ONCE, UNASKED = 80, 40
"""Worlds beside as many of the twins': what a habit saves is seen in each dozen of them."""


def test_it_is_hundreds_of_thousands_of_requests():
    whole = ALONE + TWINS + REFINED + REFINED_TWINS + AT_ONCE + UNASKED
    without = 10 * FEW  # one kind of world for each protection or habit that is taken out
    assert (whole + without) * REQUESTS > 290_000
    assert whole * REQUESTS > 200_000, "with all that protects"


def test_an_owner_that_dies_anywhere_loses_nothing_and_says_nothing_twice():
    counts = explored(ALONE, REQUESTS, Variant(twins=False))
    assert counts["requests"] >= 40_000
    assert counts["crashes of owner"] > 200
    assert counts["crashes in recovery"] > 25
    assert counts["repeats"] > 5_000
    assert counts["recovered"] > 10_000
    assert (counts["lost"], counts["second"], counts["conflicting"]) == (0, 0, 0)


def test_twins_say_things_twice_and_every_ticket_has_one_answer():
    counts = explored(TWINS, REQUESTS, Variant())
    assert counts["requests"] >= 80_000
    assert min(counts["crashes of owner"], counts["crashes of standby"]) > 400
    assert counts["crashes in recovery"] > 120
    assert counts["zombies"] > 400
    assert counts["zombie records"] > 400
    assert counts["by standby"] > 17_000
    assert counts["repeats"] > 10_000
    assert counts["second"] > 3_000
    assert counts["contradicting"] > 700  # second records with another answer: what first-wins is for
    assert (counts["lost"], counts["conflicting"]) == (0, 0)


@pytest.mark.parametrize("twins", [False, True], ids=["alone", "twins"])
@pytest.mark.parametrize(
    ("protection", "harm"), [("watermark", "lost"), ("read_back", "second"), ("horizon", "conflicting")]
)
def test_without_a_protection_the_explorer_finds_the_harm(protection: str, harm: str, twins: bool):
    whole = explored(FEW, REQUESTS, Variant(twins=twins))
    without = explored(FEW, REQUESTS, Variant(twins=twins, **{protection: False}))
    assert without[harm] > 3 * whole[harm]


def test_a_reader_that_takes_the_last_record_meets_repeats_with_another_answer():
    assert explored(FEW, REQUESTS, Variant(first_wins=False))["conflicting"] > 0


def test_an_owner_that_does_not_read_decisions_repeats_what_the_log_does_not_say():
    """Only after its twin was first with another answer: the repeat is told the owner's own, second one."""
    counts = explored(FEW, REQUESTS, Variant(hears=False))
    assert counts["lost"] == 0
    assert 0 < counts["conflicting"] < counts["contradicting"]


def test_a_zombie_that_does_not_notice_its_pause_says_far_more_and_still_harms_nobody():
    noticed = explored(FEW, REQUESTS, Variant())
    unnoticed = explored(FEW, REQUESTS, Variant(pause_noticed=False))
    assert unnoticed["zombie records"] > 5 * noticed["zombie records"] > 0
    assert unnoticed["contradicting"] > noticed["contradicting"]
    assert (unnoticed["lost"], unnoticed["conflicting"]) == (0, 0)


def test_who_keeps_back_what_its_twin_must_have_said_says_far_less_twice():
    kept, at_once = explored(AT_ONCE, REQUESTS, Variant()), explored(AT_ONCE, REQUESTS, Variant(kept_back=False))
    assert kept["second"] < 0.9 * at_once["second"]
    assert kept["contradicting"] < 0.9 * at_once["contradicting"]
    assert (at_once["lost"], at_once["conflicting"]) == (0, 0)


def test_a_standby_that_asks_where_decisions_end_says_far_less_twice():
    asked, guessed = explored(UNASKED, REQUESTS, Variant()), explored(UNASKED, REQUESTS, Variant(looks=False))
    assert asked["second"] < 0.8 * guessed["second"]
    assert asked["contradicting"] < 0.7 * guessed["contradicting"]
    assert (guessed["lost"], guessed["conflicting"]) == (0, 0)


def test_answers_that_get_better_grow_in_number_and_are_never_taken_back():
    counts = explored(REFINED, REQUESTS, Variant(twins=False, refine=True))
    assert counts["offers"] > 1_500
    assert counts["refined"] > 1_000
    assert counts["crashes of owner"] > 150
    assert (counts["lost"], counts["second"], counts["conflicting"]) == (0, 0, 0)
    assert (counts["offers after the final"], counts["revisions that do not grow"], counts["taken back"]) == (0, 0, 0)


def test_without_the_read_back_a_revision_is_said_twice():
    counts = explored(FEW, REQUESTS, Variant(twins=False, refine=True, read_back=False))
    assert counts["revisions that do not grow"] > 0


def test_twins_that_refine_still_give_every_ticket_one_answer():
    counts = explored(REFINED_TWINS, REQUESTS, Variant(refine=True))
    assert counts["offers"] > 1_000
    assert counts["by standby"] > 1_000
    assert (counts["lost"], counts["conflicting"]) == (0, 0)
