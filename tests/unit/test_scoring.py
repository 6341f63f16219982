"""Rows to scores: no row without a finite score or a reason."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import Matrix, Rows, offsets_of, scores_of
from streams.core.scoring import Scoring
from streams.models.checked import score_rows
from tests.unit.small import pipeline

MODEL = pipeline().model("first")


def rows(start: int, count: int, deadline_ms: int = 100, width: int = 2) -> Rows:
    matrix = np.full((count, width), float(start)) + np.arange(count)[:, None]
    return Rows("first", np.arange(start, start + count), np.full(count, deadline_ms), matrix)


def scoring(score=lambda matrix: matrix[:, 0]) -> Scoring:
    return Scoring(MODEL, 2, lambda matrix: score_rows(score, matrix))


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
    eager = Scoring(replace(MODEL, expired="score"), 2, lambda matrix: score_rows(lambda m: m[:, 0], matrix))
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
