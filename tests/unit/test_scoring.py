"""Rows to scores: no row without a finite score or a reason."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import Matrix, Rows, ScoreBlock, offsets_of, scores_of
from streams.core.scoring import Scoring
from streams.models.checked import score_rows
from tests.unit.small import pipeline

MODEL = pipeline().model("first")
MIRROR = pipeline().model("mirror")
EAGER = replace(MODEL, expired="score")


def rows(start: int, count: int, deadline_ms: int = 100, width: int = 2) -> Rows:
    matrix = np.full((count, width), float(start)) + np.arange(count)[:, None]
    return Rows("first", np.arange(start, start + count), np.full(count, deadline_ms), matrix)


def scoring(score=lambda matrix: matrix[:, 0]) -> Scoring:
    return Scoring(MODEL, 2, lambda matrix: score_rows(score, matrix))


def errors_of(block: ScoreBlock) -> dict[int, str]:
    return {error.offset: error.reason for error in block.errors}


def seen(blocks) -> dict[int, float | str]:
    found: dict[int, float | str] = {}
    for block in blocks:
        pairs = [
            *zip(offsets_of(block.offsets), scores_of(block.scores), strict=True),
            *((error.offset, error.reason) for error in block.errors),
        ]
        for offset, what in pairs:
            assert offset not in found
            found[offset] = what
    return found


@given(st.lists(st.integers(0, 400), max_size=4))
def test_every_row_is_scored_once_in_blocks_of_at_most_256(sizes: list[int]):
    starts = np.cumsum([0, *sizes])
    blocks = scoring().score([rows(int(start), size) for start, size in zip(starts, sizes, strict=False)], 0)
    assert all(len(offsets_of(block.offsets)) <= 256 for block in blocks)
    assert seen(blocks) == {offset: float(offset) for offset in range(sum(sizes))}


def test_rows_past_their_deadline_are_skipped_and_counted_unless_wanted():
    lazy = scoring()
    assert seen(lazy.score([rows(0, 3, 100), rows(3, 2, 300)], 200)) == {3: 3.0, 4: 4.0}
    assert (lazy.skipped, lazy.scored) == (3, 2)
    eager = Scoring(EAGER, 2, lambda matrix: score_rows(lambda m: m[:, 0], matrix))
    assert len(seen(eager.score([rows(0, 3, 100)], 200))) == 3


def test_a_number_that_is_not_finite_is_that_rows_error():
    found = seen(scoring(lambda m: np.where(m[:, 0] == 1, np.nan, m[:, 0])).score([rows(0, 3)], 0))
    assert found == {0: 0.0, 1: "returned nan", 2: 2.0}


def test_one_poisonous_row_costs_that_row_only():
    def touchy(matrix: Matrix) -> Matrix:
        if 5 in matrix[:, 0]:
            raise ValueError("five")
        return matrix[:, 0]

    found = seen(scoring(touchy).score([rows(0, 10)], 0))
    assert found.pop(5) == "raised ValueError('five')"
    assert found == {offset: float(offset) for offset in range(10) if offset != 5}


def test_a_model_that_returns_too_little_or_rows_too_wide_are_errors_with_a_reason():
    assert set(seen(scoring(lambda m: m).score([rows(0, 2)], 0)).values()) == {
        "returned (2, 2) for 2 rows: one score per row is needed"
    }
    wide = scoring()
    found = seen(wide.score([rows(0, 1, width=3), rows(1, 1)], 0))
    assert found == {0: "a row of 3 features; the model takes 2", 1: 1.0}
    assert (wide.failed, wide.scored) == (1, 1)


def taken(work, now_ms: float = 0) -> list[list[int]]:
    found: list[list[int]] = []
    while (chosen := work.take(now_ms)) is not None:
        assert len(found) < 1_000, "it ends"
        found.append(chosen.offsets.tolist())
    return found


@given(
    st.lists(st.tuples(st.integers(1, 80), st.integers(0, 400)), max_size=5), st.floats(0, 20), st.integers(0, 300)
)
def test_no_row_is_taken_twice_or_forgotten_and_the_most_urgent_comes_first(
    sizes: list[tuple[int, int]], row_ms: float, now_ms: int
):
    blocks = [rows(100 * place, size, deadline) for place, (size, deadline) in enumerate(sizes)]
    deadlines = {100 * place + row: deadline for place, (size, deadline) in enumerate(sizes) for row in range(size)}
    for model in (MODEL, MIRROR, EAGER):
        scorer = Scoring(model, 2, lambda matrix: (matrix[:, 0], {}))
        scorer.row_ms = row_ms
        found = [offset for rows in taken(scorer.work(blocks), now_ms) for offset in rows]
        assert len(found) == len(set(found))
        assert len(found) + scorer.skipped == len(deadlines)
        if model is EAGER:
            assert found == list(deadlines)
            continue
        in_time = [offset for offset in found if deadlines[offset] > now_ms + min(row_ms, 50)]
        assert found[: len(in_time)] == in_time, "late rows come last"
        assert in_time == sorted(in_time, key=deadlines.__getitem__)
        if model is MODEL:
            assert found == in_time


def test_a_slow_model_is_given_as_many_rows_as_it_can_score_in_time_and_the_rest_is_late():
    slow = scoring()
    slow.took(500, 100)
    slow.row_ms = 5
    work, now_ms, in_time = slow.work([rows(0, 256, 200)]), 0.0, 0
    while (chosen := work.take(now_ms)) is not None:
        now_ms += 5 * len(chosen.offsets)
        assert now_ms <= 200
        in_time += len(chosen.offsets)
    assert in_time >= 30
    assert slow.skipped == 256 - in_time


def test_one_slow_call_does_not_end_all_others_untried():
    slow = scoring()
    slow.took(60_000, 1)
    assert taken(slow.work([rows(0, 1, 200)]), 0) == [[0]]


def test_who_only_watches_scores_late_rows_in_its_spare_time():
    watcher = Scoring(MIRROR, 2, lambda matrix: (matrix[:, 0], {}), budget_ms=100)
    watcher.row_ms = 0.1
    blocks = [rows(0, 3, 100), rows(3, 2, 900)]
    assert taken(watcher.work(blocks), 500) == [[3, 4], [0, 1, 2]]
    assert taken(watcher.work(blocks, waiting=400), 500) == [[3, 4], [0, 1, 2]]
    assert taken(watcher.work(blocks, waiting=600), 500) == [[3, 4]]
    assert watcher.skipped == 3
