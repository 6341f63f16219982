"""One row that ends a process costs itself and two ends, wherever it stands and whatever else is read again."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.blocks import offsets_of
from streams.core.scoring import Scoring
from streams.core.suspects import FORGET_S, KEPT, Suspects
from tests.unit.test_scoring import EAGER, MODEL, errors_of, rows


def lives(deadly: set[int], count: int, committed: int) -> tuple[int, dict[int, str], set[int]]:
    """Ends, reasons and scored rows of a model that dies of some rows; each life reads again from `committed`."""
    suspects, ends = Suspects(), 0
    while ends <= 2 * len(deadly):
        reasons: dict[int, str] = {}
        scored: set[int] = set()
        scoring = Scoring(EAGER, 2, lambda given: (given.matrix[:, 0], {}), suspects=suspects)
        work = scoring.work([rows(committed, count - committed)], partition=3)
        for block in work.refused:
            reasons |= errors_of(block)
        assert {int(row.offsets[0]) for row, _ in work.condemned} == set(reasons)
        while (chosen := work.take(0)) is not None:
            offsets = chosen.offsets.tolist()
            if deadly & set(offsets):
                suspects, ends = suspects.after_end(3, offsets, float(ends), "SIGSEGV"), ends + 1
                break
            scored |= set(offsets_of(scoring.block(chosen, 0).offsets))
        else:
            return ends, reasons, scored
    raise AssertionError(f"{ends} ends of {len(deadly)} rows")


@given(st.sets(st.integers(0, 299), max_size=4), st.integers(0, 100))
def test_each_deadly_row_costs_itself_and_at_most_two_ends(deadly: set[int], committed: int):
    deadly = {row for row in deadly if row >= committed}
    ends, reasons, scored = lives(deadly, 300, committed)
    assert set(reasons) == deadly
    assert scored == set(range(committed, 300)) - deadly
    assert ends <= 2 * len(deadly)
    assert all("ended 2 times with it, the last time alone (SIGSEGV)" in reason for reason in reasons.values())


def test_a_row_that_was_in_hand_with_others_twice_is_tried_alone_and_another_partitions_is_not_it():
    suspects = Suspects().after_end(0, [1, 2], 0.0).after_end(0, [1, 2], 1.0)
    assert not any(suspect.condemned for suspect in suspects)
    assert set(suspects.of(0, [0, 1, 2])) == {1, 2}
    assert suspects.of(1, [1, 2]) == {}
    assert [suspect.offset for suspect in suspects.after_end(0, [2], 2.0) if suspect.condemned] == [2]


def test_suspects_are_forgotten_in_time_and_never_too_many():
    old = Suspects().after_end(0, [1], 0.0)
    assert len(old.after_end(0, [2], FORGET_S - 1)) == 2
    assert len(old.after_end(0, [2], FORGET_S)) == 1
    many = old
    for block in range(6):
        many = many.after_end(0, list(range(256 * block, 256 * (block + 1))), 1.0)
    assert len(many) == KEPT
    assert 6 * 256 - 1 in {suspect.offset for suspect in many}


def test_a_model_that_skips_late_rows_is_not_tried_with_them_again():
    scoring = Scoring(MODEL, 2, lambda given: (given.matrix[:, 0], {}), suspects=Suspects().after_end(0, [0, 1], 0.0))
    work = scoring.work([rows(0, 2, 100), rows(2, 2, 900)])
    taken = [chosen.offsets.tolist() for chosen in iter(lambda: work.take(500), None)]
    assert taken == [[2, 3]]
    assert scoring.skipped == 2
