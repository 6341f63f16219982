"""A small pipeline as values, and requests for it."""

import tomllib
from functools import cache

import msgspec
import numpy as np

from schemas.blocks import RowError, ScoreBlock, score_block
from schemas.pipeline import Pipeline
from schemas.requests import Headers, Rejection, Request
from streams.core.pipeline_checks import mistakes_of
from streams.core.validator import Validator

TEXT = """
name = "small"

[request]
budget_ms = 100
budget = "limits.ms"

[[features]]
name = "x"
type = "number"

[[features]]
name = "colour"
type = "category"
vocabulary = ["red", "green"]
default = "green"

[[features]]
name = "late"
path = "box.late"
type = "boolean"
default = false

[[models]]
name = "first"
version = "1"
kind = "constant"
value = 0.9
role = "champion"

[[models]]
name = "second"
version = "1"
kind = "constant"
value = 0.5
role = "challenger"
features = ["late", "x"]

[[models]]
name = "mirror"
version = "1"
kind = "constant"
value = 0.4
role = "shadow"

[[models]]
name = "yardstick"
version = "1"
kind = "constant"
value = 0.3
role = "canary"
expired = "score"

[default]
score = 0.1
"""


def pipeline(text: str = TEXT, **changes: object) -> Pipeline:
    if not changes:
        return _whole(text)
    found = msgspec.structs.replace(_written(text), **changes)
    assert not mistakes_of(found)
    return found


@cache
def _written(text: str) -> Pipeline:
    return msgspec.convert(tomllib.loads(text), Pipeline)


@cache
def _whole(text: str) -> Pipeline:
    found = _written(text)
    assert not mistakes_of(found)
    return found


def read(
    value: bytes | None,
    headers: Headers | None = None,
    offset: int = 0,
    at_ms: int = 1_000,
    of: Pipeline | None = None,
) -> Request | Rejection:
    return Validator(of or pipeline()).read(value, headers, b"key", 0, offset, at_ms)


def request(offset: int, at_ms: int = 1_000, budget_ms: int = 100) -> Request:
    return Request(offset, f"r{offset}", at_ms, budget_ms, None, None, None, b"{}")


def scores(model: str, *offsets: int, version: str = "1", score: float = 0.7) -> ScoreBlock:
    return score_block(model, version, np.array(offsets, dtype=np.int64), np.full(len(offsets), score))


def errors(model: str, *offsets: int) -> ScoreBlock:
    return ScoreBlock(model, "1", b"", b"", tuple(RowError(offset, "raised") for offset in offsets))
