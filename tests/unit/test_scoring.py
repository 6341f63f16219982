"""Rows to scores: no row without a finite score or a reason."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.blocks import Matrix, Rows, ScoreBlock, decode_rows, encode_rows, offsets_of, scores_of
from schemas.pipeline import Role
from streams.core.entitlement import ALWAYS, Span, Spans
from streams.core.given import Given
from streams.core.scoring import Scoring
from streams.models.checked import Unanswered, score_rows
from tests.unit.small import pipeline

MODEL = pipeline().model("first")
MIRROR = pipeline().model("mirror")
EAGER = replace(MODEL, expired="score")


def rows(start: int, count: int, deadline_ms: int = 100, width: int = 2) -> Rows:
    matrix = np.full((count, width), float(start)) + np.arange(count)[:, None]
    return Rows("first", np.arange(start, start + count), np.full(count, deadline_ms), matrix)


def scoring(score=lambda matrix: matrix[:, 0]) -> Scoring:
    return Scoring(MODEL, 2, lambda given: score_rows(lambda g: score(g.matrix), given))


def scored(scoring: Scoring, blocks, now_ms: float) -> list[ScoreBlock]:
    return scoring.score(blocks, now_ms)


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
    blocks = scored(scoring(), [rows(int(start), size) for start, size in zip(starts, sizes, strict=False)], 0)
    assert all(len(offsets_of(block.offsets)) <= 256 for block in blocks)
    assert seen(blocks) == {offset: float(offset) for offset in range(sum(sizes))}


def test_rows_past_their_deadline_are_skipped_and_counted_unless_wanted():
    lazy = scoring()
    assert seen(scored(lazy, [rows(0, 3, 100), rows(3, 2, 300)], 200)) == {3: 3.0, 4: 4.0}
    assert (lazy.skipped, lazy.scored) == (3, 2)
    eager = Scoring(EAGER, 2, lambda given: score_rows(lambda g: g.matrix[:, 0], given))
    assert len(seen(scored(eager, [rows(0, 3, 100)], 200))) == 3


def test_a_number_that_is_not_finite_is_that_rows_error():
    found = seen(scored(scoring(lambda m: np.where(m[:, 0] == 1, np.nan, m[:, 0])), [rows(0, 3)], 0))
    assert found == {0: 0.0, 1: "returned nan", 2: 2.0}


def test_one_poisonous_row_costs_that_row_only():
    def touchy(matrix: Matrix) -> Matrix:
        if 5 in matrix[:, 0]:
            raise ValueError("five")
        return matrix[:, 0]

    found = seen(scored(scoring(touchy), [rows(0, 10)], 0))
    assert found.pop(5) == "raised ValueError('five')"
    assert found == {offset: float(offset) for offset in range(10) if offset != 5}


def test_a_model_that_returns_too_little_or_rows_too_wide_are_errors_with_a_reason():
    assert set(seen(scored(scoring(lambda m: m), [rows(0, 2)], 0)).values()) == {
        "returned (2, 2) for 2 rows: one score per row is needed"
    }
    wide = scoring()
    found = seen(scored(wide, [rows(0, 1, width=3), rows(1, 1)], 0))
    assert found == {0: "a row of 3 features; the model takes 2", 1: 1.0}
    assert (wide.failed, wide.scored) == (1, 1)


def test_a_model_is_told_what_its_last_row_has_left_and_the_halves_have_less():
    asked: list[tuple[int, float]] = []

    def touchy(given: Given) -> Matrix:
        asked.append((len(given.matrix), given.left_ms))
        if len(given.matrix) > 1:
            time.sleep(0.002)
            raise ValueError("too many")
        return given.matrix[:, 0]

    waiting = Scoring(MODEL, 2, lambda given: score_rows(touchy, given))
    assert seen(scored(waiting, [rows(0, 1, 250), rows(1, 1, 300)], 200)) == {0: 0.0, 1: 1.0}
    (both, first_ms), (one, left_ms), (other, last_ms) = asked
    assert (both, one, other) == (2, 1, 1)
    assert first_ms == 100
    assert left_ms <= 98
    assert last_ms <= left_ms


def test_a_late_row_that_is_scored_all_the_same_has_a_budgets_time():
    asked: list[float] = []

    def watching(given: Given) -> Matrix:
        asked.append(given.left_ms)
        return given.matrix[:, 0]

    eager = Scoring(EAGER, 2, lambda given: score_rows(watching, given), budget_ms=70)
    assert seen(scored(eager, [rows(0, 1, 100)], 200)) == {0: 0.0}
    assert asked == [70.0]


def test_events_stay_with_their_rows_whatever_is_joined_cut_or_skipped():
    def echo(given: Given) -> list[float]:
        assert [int(event) for event in given.events] == given.matrix[:, 0].astype(int).tolist()
        return [float(event) for event in given.events]

    reader = Scoring(replace(MODEL, takes="events"), 2, lambda given: score_rows(echo, given))
    blocks = [with_events(rows(0, 200, 100)), with_events(rows(200, 200, 300))]
    assert seen(scored(reader, blocks, 0)) == {offset: float(offset) for offset in range(400)}
    assert seen(scored(reader, blocks, 200)) == {offset: float(offset) for offset in range(200, 400)}
    assert "start the router again" in str(seen(scored(reader, [rows(0, 1)], 0))[0])


def with_events(block: Rows) -> Rows:
    return replace(block, events=tuple(str(offset).encode() for offset in block.offsets))


@pytest.mark.parametrize(
    ("returned", "first", "second"),
    [
        ([0.5], "returned (1,) for 2 rows: one score per row is needed", None),
        ([0.5, 0.5, 0.5], "returned (3,) for 2 rows: one score per row is needed", None),
        (None, "returned () for 2 rows: one score per row is needed", None),
        ([[0.5], [0.5, 1.0]], "no list of numbers: ValueError", None),
        ([float("nan"), 0.5], "returned nan", 0.5),
        ([float("inf"), 0.5], "returned inf", 0.5),
        (["0.25", 0.5], "returned '0.25': a number is needed", 0.5),
        (np.array(["0.25", "0.5"]), "returned '0.25': a number is needed", "returned '0.5': a number is needed"),
        ([None, 0.5], "returned None: a number is needed", 0.5),
        ([1j, 0.5], "returned 1j: a number is needed", 0.5),
        (["x" * 1_000_000, 0.5], "a number is needed", 0.5),
        ([10**400, 0.5], "returned inf", 0.5),
        ([True, np.float32(0.5)], 1.0, 0.5),
    ],
)
def test_what_is_no_score_is_an_error_of_its_row(returned: object, first: object, second: object):
    found = seen(scored(scoring(lambda m: returned), [rows(0, 2)], 0))
    for offset, wanted in enumerate((first, second if second is not None else first)):
        if isinstance(wanted, str):
            assert wanted in str(found[offset])
            assert len(str(found[offset])) <= 300
        else:
            assert found[offset] == wanted


def test_a_call_that_no_row_is_to_blame_for_is_not_made_again():
    calls: list[int] = []

    def nobody(given: Given) -> Matrix:
        calls.append(len(given.matrix))
        raise Unanswered("nobody there")

    alone = Scoring(MODEL, 2, lambda given: score_rows(nobody, given))
    assert seen(scored(alone, [rows(0, 100)], 0)) == dict.fromkeys(range(100), "nobody there")
    assert calls == [100]


def test_a_model_may_work_in_place():
    def in_place(matrix: Matrix) -> Matrix:
        matrix[:, 0] += 1
        return matrix[:, 0]

    (block,) = [decode_rows(encode_rows(rows(5, 1)))]
    assert seen(scored(scoring(in_place), [block], 0)) == {5: 6.0}


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
        scorer = Scoring(model, 2, lambda given: (given.matrix[:, 0], {}))
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
    watcher = Scoring(MIRROR, 2, lambda given: (given.matrix[:, 0], {}), budget_ms=100)
    watcher.row_ms = 0.1
    blocks = [rows(0, 3, 100), rows(3, 2, 900)]
    assert taken(watcher.work(blocks), 500) == [[3, 4], [0, 1, 2]]
    assert taken(watcher.work(blocks, waiting=400), 500) == [[3, 4], [0, 1, 2]]
    assert taken(watcher.work(blocks, waiting=600), 500) == [[3, 4]]
    assert watcher.skipped == 3


def spans_of(*roles: tuple[float, Role]) -> Spans:
    """The mirror's roles, each from its time on."""
    found = [Span(at_ms, replace(pipeline(), models=(replace(MIRROR, role=role),))) for at_ms, role in roles]
    return Spans(tuple(found), len(found))


def test_late_rows_go_by_the_role_that_the_roster_gives_at_this_time():
    roles = [(ALWAYS, Role.SHADOW), (1_000, Role.CHAMPION), (2_000, Role.SHADOW), (3_000, Role.CHALLENGER)]
    mirror = Scoring(MIRROR, 2, lambda given: (given.matrix[:, 0], {}))
    for known in ((), roles[:1], roles):
        if known:
            mirror.entitle(spans_of(*known))
        assert taken(mirror.work([rows(0, 3)]), 999) == [[0, 1, 2]]
    assert [taken(mirror.work([rows(0, 3)]), now_ms) for now_ms in (1_000, 1_999)] == [[], []]
    assert taken(mirror.work([rows(0, 3)]), 2_000) == [[0, 1, 2]]
    assert taken(mirror.work([rows(0, 3)]), 3_000) == []
    assert mirror.skipped == 9


def test_who_is_beside_its_name_or_said_what_it_wants_goes_by_no_role():
    for model in (replace(MIRROR, version="2"), replace(MIRROR, expired="spare"), replace(MIRROR, expired="score")):
        scorer = Scoring(replace(model, role=Role.CHAMPION), 2, lambda given: (given.matrix[:, 0], {}))
        scorer.entitle(spans_of((ALWAYS, Role.CHAMPION)))
        assert taken(scorer.work([rows(0, 3)]), 500) == [[0, 1, 2]]
    skips = Scoring(replace(MIRROR, expired="skip"), 2, lambda given: (given.matrix[:, 0], {}))
    skips.entitle(spans_of((ALWAYS, Role.SHADOW)))
    assert taken(skips.work([rows(0, 3)]), 500) == []
