"""Requests become the matrix that models were trained on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.requests import Request
from streams.core.features import FeatureTable
from tests.unit.small import TEXT, pipeline, read


def matrix(*events: dict[str, object]) -> list[list[float]]:
    requests = [read(json.dumps(event).encode()) for event in events]
    assert all(isinstance(request, Request) for request in requests), requests
    return FeatureTable(pipeline().features).matrix(requests).tolist()  # type: ignore[arg-type]


def test_numbers_words_and_truths_each_in_their_column():
    assert matrix({"x": 2, "colour": "red", "box": {"late": True}}) == [[2.0, 0.0, 1.0]]


def test_absent_null_and_unknown_take_the_default():
    assert (
        matrix({"x": 1}, {"x": 1, "colour": None, "box": {"late": None}}, {"x": 1, "colour": "mauve"})
        == [[1.0, 1.0, 0.0]] * 3
    )


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=30))
def test_a_batch_is_its_rows(numbers: list[float]):
    rows = [{"x": number, "colour": "red"} for number in numbers]
    assert matrix(*rows) == [row for event in rows for row in matrix(event)]


def test_a_derived_feature_is_computed_from_the_whole_event():
    text = TEXT.replace(
        'name = "x"\ntype = "number"', 'name = "x"\ntype = "number"\nderive = "tests.unit.test_features:double"'
    )
    described = pipeline(text)
    found = read(b'{"colour": "red", "amount": 21}', of=described)
    table = FeatureTable(described.features, {"x": lambda event: event["amount"] * 2})
    assert table.matrix([found])[0, 0] == 42.0  # type: ignore[list-item]


def test_models_are_given_their_columns_in_their_order():
    table = FeatureTable(pipeline().features)
    assert table.indices(("late", "x")) == [2, 0]
    with pytest.raises(ValueError, match="not in"):
        table.indices(("nothing",))


def test_an_empty_batch_is_an_empty_matrix():
    assert FeatureTable(pipeline().features).matrix([]).shape == (0, 3)
    assert FeatureTable(pipeline().features).matrix([]).dtype == np.float64
    assert FeatureTable((replace(pipeline().features[0], default=3.0),)).names == ("x",)
