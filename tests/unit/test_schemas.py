"""The schemas in the repository are those of the types."""

from pathlib import Path

import pytest

import schemas
from schemas.json_schemas import json_schemas, rendered

HERE = Path(schemas.__file__).parent


@pytest.mark.parametrize("name", json_schemas())
def test_the_schema_file_is_what_the_types_say(name: str):
    assert (HERE / name).read_text() == rendered(json_schemas()[name]), "run `make schemas`"


def test_no_schema_file_is_left_over():
    assert {path.name for path in HERE.glob("*.json")} == set(json_schemas())
