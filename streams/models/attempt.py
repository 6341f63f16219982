"""What a process that may die of a model is told to load and score, and what it answers."""

from msgspec import Struct

from schemas.pipeline import Model

TRIAL_S = 60.0
"""Who tries longer would add a model that its scorer then refuses: that tries it for so long."""

CPU_S = 60
"""Processor time, of all threads together."""


class Attempt(Struct, frozen=True):
    """What a child process is told to load; `tried` are the bytes it need not hand on to another child.

    `rows` are scored then: float64, one row of the features after the other; `events` are theirs (JSON), for a model
    that takes them. All of it may take `within_s`.
    """

    folder: str
    model: Model
    features: tuple[str, ...]
    tried: tuple[str, ...] = ()
    rows: bytes = b""
    events: tuple[bytes, ...] = ()
    within_s: float = TRIAL_S


class Found(Struct, frozen=True):
    """What a child process answers: the scores of the rows, and the reason of each that has none, by its place."""

    scores: list[float | None]
    errors: dict[int, str]


class Order(Struct, frozen=True):
    """One trial, where and with which environment."""

    attempt: Attempt
    folder: str
    environment: dict[str, str]


class Done(Struct, frozen=True):
    """How a trial ended: -N by signal N, None when its time was over; and what it said."""

    code: int | None
    out: bytes
    err: bytes
