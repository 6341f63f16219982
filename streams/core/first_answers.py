"""The probes and each model's first answers to them, in a form that another program can read.

A monitor's state is of one program: after an upgrade everything is learnt anew from the log. What models answered
first may be there no more, and a change of code that came with the upgrade would be acquitted: so it is kept beside
the state. Fields may be added here, with defaults; none may change its meaning.
"""

from msgspec import Struct, msgpack

from schemas.errors import UNREADABLE, UnreadableRecord
from streams.core.probing import Probe


class OfModel(Struct, frozen=True):
    """One model's first answer to each probe that it answered.

    In the reference its answers differed by `noise` (root mean square), and were errors now and then if it `fails`.
    """

    first: dict[str, float]
    noise: float = 0.0
    fails: bool = False


class FirstAnswers(Struct, frozen=True):
    """The probes, of which so many were asked for, what they are called, and each model's answers by their keys."""

    count: int
    name: str
    probes: list[Probe]
    models: dict[str, OfModel]


def encode_first(found: FirstAnswers | None) -> bytes:
    """MessagePack; empty when there are none."""
    return b"" if found is None else msgpack.encode(found)


def decode_first(value: bytes) -> FirstAnswers | None:
    """Read them; None when there are none. Raises UnreadableRecord."""
    try:
        return msgpack.decode(value, type=FirstAnswers) if value else None
    except UNREADABLE as error:
        raise UnreadableRecord(f"no first answers: {error}") from error
