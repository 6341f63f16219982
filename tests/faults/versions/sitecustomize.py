"""Loaded by Python at its start: another version of this program, in the roles that a file names.

`NEXT_VERSION` names the file; each of its lines is a role (`router`, `scorer.good`) and what it writes: `more`, blocks
and decisions with a field that the present version does not know, or `other`, blocks of another version. A role
takes it up when it starts.
"""

import os
import sys
from pathlib import Path

_file = Path(os.environ.get("NEXT_VERSION", os.devnull))


def _role() -> str:
    """The role of this process, "" when it is none."""
    words = sys.orig_argv
    if "run" not in words:
        return ""
    name = words[words.index("run") + 1]
    return f"{name}.{words[words.index('--model') + 1]}" if "--model" in words else name


def _wanted() -> str:
    lines = _file.read_text().splitlines() if _file.is_file() else []
    return dict(line.split() for line in lines).get(_role(), "")


if _how := _wanted():
    from msgspec import json, msgpack

    from schemas import blocks, decisions

    def _next(value: bytes) -> bytes:
        fields = msgpack.decode(value)
        if _how == "other" and fields[0] != "tick/1":
            return msgpack.encode([fields[0].replace("/1", "/2"), {"columns": fields[1:]}])
        return msgpack.encode([*fields, "a field of the next version"])

    _rows, _scores, _decision = blocks.encode_rows, blocks.encode_scores, decisions.encode_decision
    blocks.encode_rows = lambda rows: _next(_rows(rows))
    blocks.encode_scores = lambda block: _next(_scores(block))
    decisions.encode_decision = lambda decision: json.encode(json.decode(_decision(decision)) | {"next": [1, 2]})
