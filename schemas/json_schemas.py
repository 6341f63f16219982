"""JSON Schemas of the records at the edge, generated from the types: `make schemas` writes them.

`python -m schemas.json_schemas NAME` prints one.
"""

import sys
from inspect import cleandoc
from typing import Any

import msgspec

from schemas.blocks import JsonRow, JsonScore
from schemas.decisions import Decision
from schemas.labels import Label
from schemas.minutes import Minute
from schemas.pipeline import Pipeline
from schemas.verdicts import Reported

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema: records at the edge, rows and scores for other languages, pipeline files."""
    return {
        "decision.schema.json": _schema(Decision),
        "label.schema.json": _schema(Label),
        "minute.schema.json": _schema(Minute),
        "pipeline.schema.json": _schema(Pipeline),
        "row.schema.json": _schema(JsonRow),
        "score.schema.json": _schema(JsonScore),
        "verdict.schema.json": _schema(Reported),
    }


def rendered(schema: dict[str, Any]) -> str:
    """As the file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _schema(kind: type) -> dict[str, Any]:
    return {"$schema": DRAFT, **_dedented(msgspec.json.schema(kind))}


def _dedented(schema: Any) -> Any:
    """The same without the indentation of docstrings, which Python takes away itself from 3.13 on."""
    if isinstance(schema, dict):
        return {
            name: cleandoc(value) if name == "description" and isinstance(value, str) else _dedented(value)
            for name, value in schema.items()
        }
    return [_dedented(value) for value in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    # Named on the command line: this package itself knows no disk.
    for name, schema in json_schemas().items():
        if name == sys.argv[1]:
            sys.stdout.write(rendered(schema))
