"""JSON Schemas of the records at the edge, generated from the types: `make schemas` writes them.

`python -m schemas.json_schemas NAME` prints one.
"""

import sys
from typing import Any

import msgspec

from schemas.decisions import Decision
from schemas.pipeline import Pipeline

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema: the decision, and the pipeline file (for editors)."""
    return {
        "decision.schema.json": _schema(Decision),
        "pipeline.schema.json": _schema(Pipeline),
    }


def rendered(schema: dict[str, Any]) -> str:
    """As the file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _schema(kind: type) -> dict[str, Any]:
    return {"$schema": DRAFT, **msgspec.json.schema(kind)}


if __name__ == "__main__":
    # Named on the command line: this package itself knows no disk.
    for name, schema in json_schemas().items():
        if name == sys.argv[1]:
            sys.stdout.write(rendered(schema))
